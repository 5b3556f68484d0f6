//! `portcullis demo`: a gateway with three sample endpoints of its own, all in this process.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use portcullis::app::App;
use portcullis_providers::Fixed;

use super::{
    FAILED, complain, print,
    serve::{self, Start},
};

mod endpoint;

/// What the sample endpoints are called.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// What `demo` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Port of the gateway; 0 for one that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port of the admin listener, on 127.0.0.1; 0 for one that is free
    #[arg(long, default_value_t = 9090)]
    admin_port: u16,
    /// Address that the gateway listens on
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
}

impl Arguments {
    /// Runs until told to end.
    pub fn run(&self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return cannot_start(&error),
        };
        runtime.block_on(async {
            let mut endpoints = Vec::new();
            for name in NAMES {
                match endpoint::start(name).await {
                    Ok(address) => endpoints.push((name, address)),
                    Err(error) => return cannot_start(&error),
                }
            }
            let ports = free(self.port).and_then(|port| Ok((port, free(self.admin_port)?)));
            let (port, admin_port) = match ports {
                Ok(ports) => ports,
                Err(error) => return cannot_start(&error),
            };
            let text = configuration(SocketAddr::new(self.host, port), admin_port, &endpoints);
            let provider = Fixed::text("demo", "demo.toml", &text);
            let hint = "try other ports: `portcullis demo --port 0 --admin-port 0`";
            serve::serve_on(vec![Arc::new(provider)], PathBuf::from("."), hint, Start::default(), |app| {
                print(&introduction(app, &text, &endpoints));
            })
            .await
        })
    }
}

/// The port, or one that is free now: what is printed shall be what runs.
fn free(port: u16) -> std::io::Result<u16> {
    if port > 0 {
        return Ok(port);
    }
    std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr().map(|address| address.port())
}

fn cannot_start(error: &std::io::Error) -> ExitCode {
    complain(&format!("cannot start: {error}"));
    ExitCode::from(FAILED)
}

/// The configuration that the demo runs.
fn configuration(listen: SocketAddr, admin_port: u16, endpoints: &[(&str, SocketAddr)]) -> String {
    let urls: Vec<String> =
        endpoints.iter().map(|(_, address)| format!("{{ url = \"http://{address}\" }}")).collect();
    let mut text = format!(
        r#"# Requests are shared by three endpoints. One that fails its health check gets none until it has healed.

[listeners.web]
address = "{listen}"

[admin]
address = "127.0.0.1:{admin_port}"

[[routes]]
name = "samples"
path = "/*"
middlewares = ["request-id"]
service = "samples"

[[routes]]
name = "gateway-health"
path = "/gateway/health"
service = "@health"

[services.samples]
endpoints = [
  {},
]
strategy = "round_robin"
health_check = {{ path = "/health", interval = "500ms", timeout = "400ms", unhealthy_after = 2 }}

[middlewares.request-id]
request_id = {{}}
"#,
        urls.join(",\n  ")
    );
    for (name, address) in endpoints {
        text.push_str(&format!(
            "
# The switches of endpoint {name}: POST /endpoints/{name}/fail and /endpoints/{name}/heal.
[[routes]]
name = \"endpoint-{name}\"
path = \"/endpoints/{name}/*\"
strip_path = true
upstream = {{ urls = [\"http://{address}\"] }}
"
        ));
    }
    text
}

/// What is printed once everything listens.
fn introduction(app: &App, configuration: &str, endpoints: &[(&str, SocketAddr)]) -> String {
    let addresses = app.addresses();
    let of = |listener: &str| {
        let found = addresses.iter().find(|(name, _)| &**name == listener).map(|(_, address)| *address);
        found.map_or_else(String::new, |address| reachable(address).to_string())
    };
    let (web, admin) = (of("web"), of("admin"));
    let names: Vec<String> = endpoints.iter().map(|(name, address)| format!("{name} on {address}")).collect();
    let indented: String = configuration.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "\
The configuration that runs:

{indented}
The gateway:   http://{web}
The admin API: http://{admin}
The endpoints: {names} (/, /whoami, /slow, /health)

Try:

  # Balancing: six requests, shared by the endpoints in turn.
  curl -s 'http://{web}/?[1-6]'

  # Endpoint b fails and is taken out; it heals and comes back.
  curl -s -X POST http://{web}/endpoints/b/fail; sleep 2; curl -s 'http://{web}/?[1-6]'; \
curl -s -X POST http://{web}/endpoints/b/heal; sleep 2; curl -s 'http://{web}/?[1-6]'

  # What an endpoint sees of your request.
  curl -s http://{web}/whoami

Ctrl-C ends it.
",
        names = names.join(", ")
    )
}

/// The address as somebody on this machine reaches it.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v6.port())),
        other => other,
    }
}

#[cfg(test)]
mod tests;
