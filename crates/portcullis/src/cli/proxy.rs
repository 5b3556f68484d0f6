//! `portcullis proxy`: a gateway without a file.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use portcullis_providers::Fixed;
use serde_json::{Value, json};

use super::{UNUSABLE, complain, serve};

/// What `proxy` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Address to listen on: `8080`, `:8080`, `127.0.0.1:8080`
    #[arg(long, value_name = "ADDRESS", default_value = ":8080")]
    from: String,
    /// Endpoint to forward to; several share the requests in turn
    #[arg(long, value_name = "URL", required = true)]
    to: Vec<String>,
    /// Send the endpoint's own name as `Host`, not the one that the client sent
    #[arg(long)]
    change_host: bool,
    /// Write a line for every request to standard output
    #[arg(long)]
    access_log: bool,
    /// Address of the admin listener; without it there is none
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

impl Arguments {
    /// Runs until told to end.
    pub fn run(&self) -> ExitCode {
        let address = match address(&self.from) {
            Ok(address) => address,
            Err(problem) => {
                complain(&problem);
                return ExitCode::from(UNUSABLE);
            }
        };
        let provider = Fixed::value("command-line", self.document(address));
        serve::serve(vec![Arc::new(provider)], PathBuf::from("."), |_| {})
    }

    /// The configuration that the command line is.
    fn document(&self, address: SocketAddr) -> Value {
        json!({
            "listeners": { "web": { "address": address.to_string() } },
            "admin": self.admin.map_or(json!(false), |admin| json!(admin.to_string())),
            "access_log": if self.access_log { json!("short") } else { json!(false) },
            "routes": [{ "name": "all", "path": "/*", "service": "endpoints" }],
            "services": { "endpoints": {
                "endpoints": self.to.iter().map(|url| json!({ "url": with_scheme(url) })).collect::<Vec<_>>(),
                "pass_host": !self.change_host,
            } },
        })
    }
}

/// An address as people shorten it: without a host, all addresses are meant.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok(SocketAddr::from(([0, 0, 0, 0], port)));
    }
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let parsed = named.as_deref().unwrap_or(text).parse();
    parsed.map_err(|_| format!("`{text}` is no address to listen on; write :8080 or 127.0.0.1:8080"))
}

/// `localhost:3000` is understood too.
fn with_scheme(url: &str) -> String {
    if url.contains("://") || url.starts_with("unix:") { url.to_owned() } else { format!("http://{url}") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use portcullis::load;
    use portcullis_core::provider::Snapshot;

    use super::*;

    #[test]
    fn addresses_as_people_shorten_them() {
        let text = |from: &str| address(from).map(|address| address.to_string());
        assert_eq!(text(":8080").as_deref(), Ok("0.0.0.0:8080"));
        assert_eq!(text("80").as_deref(), Ok("0.0.0.0:80"));
        assert_eq!(text("localhost:1").as_deref(), Ok("127.0.0.1:1"));
        assert_eq!(text("[::1]:2").as_deref(), Ok("[::1]:2"));
        assert!(address("example.com:80").is_err() && address(":99999").is_err());
    }

    #[test]
    fn the_document_is_a_configuration() {
        let arguments = Arguments {
            from: ":0".into(),
            to: vec!["localhost:3000".into(), "https://b.example/base".into()],
            change_host: true,
            access_log: true,
            admin: None,
        };
        let document = arguments.document(address(":0").unwrap());
        let snapshot = Snapshot::Value { source: "command-line".into(), value: Arc::new(document) };
        let loaded = load::load("command-line", &snapshot, Path::new("."));
        let model = loaded.model.as_ref().unwrap_or_else(|| panic!("{}", loaded.text(false)));
        let service = &model.services["endpoints@command-line"];
        let urls: Vec<&str> = service.endpoints.iter().map(|endpoint| &*endpoint.url).collect();
        assert_eq!(urls, ["http://localhost:3000", "https://b.example:443/base"]);
        assert!(!service.pass_host && model.admin.is_none() && model.access_log.is_some());
    }
}
