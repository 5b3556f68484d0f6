//! `portcullis proxy`: a gateway without a file.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use portcullis_config::written::{EndpointUrl, Literal};
use portcullis_providers::Fixed;
use serde_json::{Value, json};

use super::{address, serve};

/// What `proxy` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Address to listen on: `8080`, `:8080`, `127.0.0.1:8080`
    #[arg(long, value_name = "ADDRESS", default_value = ":8080", value_parser = address::listening)]
    from: SocketAddr,
    /// Endpoint to forward to; several share the requests in turn
    #[arg(long, value_name = "URL", required = true, value_parser = endpoint)]
    to: Vec<String>,
    /// Send the endpoint's own name as `Host`, not the one that the client sent
    #[arg(long)]
    change_host: bool,
    /// Write a line for every request to standard output
    #[arg(long)]
    access_log: bool,
    /// Address of the admin listener; without it there is none
    #[arg(long, value_name = "ADDRESS", value_parser = address::admin)]
    admin: Option<SocketAddr>,
}

impl Arguments {
    /// Runs until told to end.
    pub fn run(&self) -> ExitCode {
        let provider = Fixed::value("command-line", self.document());
        serve::serve(vec![Arc::new(provider)], PathBuf::from("."), None)
    }

    /// The configuration that the command line is.
    fn document(&self) -> Value {
        json!({
            "listeners": { "web": { "address": self.from.to_string() } },
            "admin": self.admin.map_or(json!(false), |admin| json!(admin.to_string())),
            "access_log": if self.access_log { json!("short") } else { json!(false) },
            "routes": [{ "name": "all", "path": "/*", "service": "endpoints" }],
            "services": { "endpoints": {
                "endpoints": self.to.iter().map(|url| json!({ "url": url })).collect::<Vec<_>>(),
                "pass_host": !self.change_host,
            } },
        })
    }
}

/// An endpoint as the configuration takes it; `localhost:3000` is understood too.
fn endpoint(text: &str) -> Result<String, String> {
    let bare = !text.contains("://") && !text.starts_with("unix");
    let url = if bare { format!("http://{text}") } else { text.to_owned() };
    <EndpointUrl as Literal>::text(&url)
        .map_err(|problem| format!("{}; {}", problem.message, problem.help))?;
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use portcullis::load;
    use portcullis_core::provider::Snapshot;

    use super::*;

    #[test]
    fn endpoints_as_people_shorten_them() {
        assert_eq!(endpoint("localhost:3000").as_deref(), Ok("http://localhost:3000"));
        assert_eq!(endpoint("unix:/run/a.sock").as_deref(), Ok("unix:/run/a.sock"));
        for bad in
            ["ftp://x", "", "http://", "http://x:99999", "http://u:p@x", "a b", "http://x/?q", "unix:a"]
        {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
        assert!(endpoint("ftp://x").unwrap_err().contains("write http://host:port"));
    }

    #[test]
    fn the_document_is_a_configuration() {
        let arguments = Arguments {
            from: address::listening(":0").unwrap(),
            to: vec![endpoint("localhost:3000").unwrap(), endpoint("https://b.example/base").unwrap()],
            change_host: true,
            access_log: true,
            admin: None,
        };
        let document = arguments.document();
        let snapshot = Snapshot::Value { source: "command-line".into(), value: Arc::new(document) };
        let loaded = load::load("command-line", &snapshot, Path::new("."));
        let model = loaded.model.as_ref().unwrap_or_else(|| panic!("{}", loaded.text(false)));
        let service = &model.services["endpoints@command-line"];
        let urls: Vec<&str> = service.endpoints.iter().map(|endpoint| &*endpoint.url).collect();
        assert_eq!(urls, ["http://localhost:3000", "https://b.example:443/base"]);
        assert!(!service.pass_host && model.admin.is_none() && model.access_log.is_some());
    }
}
