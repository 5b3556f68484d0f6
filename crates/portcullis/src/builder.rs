//! Building a gateway in a program: what is called here becomes the same document that a file would be.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use portcullis_providers::Fixed;
use serde_json::{Map, Value, json};

use crate::gateway::{Error, Gateway};

/// A gateway to be built. What is wrong in it is told by [`Builder::build`].
#[derive(Debug, Clone, Default)]
#[must_use = "nothing runs before `build` and `serve`"]
pub struct Builder {
    routes: Vec<Value>,
    server: Map<String, Value>,
    switches: Map<String, Value>,
    rest: Map<String, Value>,
}

impl Builder {
    /// A route to one endpoint: `/users` exactly, `/users/{id}` with a parameter, `/users/*` with everything below. The
    /// same path again adds an endpoint to the first, and requests are shared between them in turn.
    pub fn route(mut self, path: &str, url: &str) -> Builder {
        let same = self.routes.iter_mut().find(|route| route.get("path").is_some_and(|known| known == path));
        let urls = same.and_then(|route| route.pointer_mut("/upstream/urls")).and_then(Value::as_array_mut);
        match urls {
            Some(urls) => urls.push(json!(url)),
            None => self.routes.push(json!({ "path": path, "upstream": { "urls": [url] } })),
        }
        self
    }

    /// A route as it would stand in a file, under `[[routes]]`.
    pub fn with_route(mut self, route: Value) -> Builder {
        self.routes.push(route);
        self
    }

    /// The port to listen on; 0 for one that the system chooses. Default 8080.
    pub fn with_port(mut self, port: u16) -> Builder {
        self.server.insert("port".into(), json!(port));
        self
    }

    /// The address to listen on. Default `0.0.0.0`, which is all.
    pub fn with_host(mut self, host: &str) -> Builder {
        self.server.insert("host".into(), json!(host));
        self
    }

    /// Worker threads. Default: one per available core.
    pub fn with_workers(mut self, workers: usize) -> Builder {
        self.server.insert("workers".into(), json!(workers));
        self
    }

    /// Requests per second that each client may make, with as many at once.
    pub fn with_rate_limit(mut self, requests_per_second: u32) -> Builder {
        self.switches.insert("enable_rate_limiting".into(), json!(true));
        self.rest.insert("rate_limiting".into(), json!({ "requests_per_second": requests_per_second }));
        self
    }

    /// Answers preflight requests and adds the CORS headers; every origin may read.
    pub fn with_cors(mut self, enabled: bool) -> Builder {
        self.switches.insert("enable_cors".into(), json!(enabled));
        self
    }

    /// How long a request may take, from its arrival to the last byte of its answer.
    pub fn with_timeout(mut self, timeout: Duration) -> Builder {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        self.server.insert("timeout_ms".into(), json!(milliseconds));
        self
    }

    /// Opens the admin listener. Without this a gateway in a program has none.
    pub fn with_admin(mut self, address: SocketAddr) -> Builder {
        self.rest.insert("admin".into(), json!({ "address": address.to_string() }));
        self
    }

    /// Any other key at the top of the document, as it would stand in a file: `services`, `middlewares`, `log` …
    pub fn with(mut self, key: &str, value: Value) -> Builder {
        self.rest.insert(key.into(), value);
        self
    }

    /// The document that all of this is.
    pub fn document(&self) -> Value {
        let mut document = self.rest.clone();
        document.entry("admin").or_insert(json!(false));
        document.insert("routes".into(), json!(self.routes));
        if !self.server.is_empty() || !document.contains_key("listeners") {
            document.insert("server".into(), json!(self.server));
        }
        if !self.switches.is_empty() {
            document.insert("middleware".into(), json!(self.switches));
        }
        Value::Object(document)
    }

    /// Checks it, opens its listeners and serves from then on.
    ///
    /// # Errors
    /// What is wrong with it, or an address that cannot be listened on.
    pub async fn build(self) -> Result<Gateway, Error> {
        let provider = Fixed::value("program", self.document());
        let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        Gateway::start(vec![Arc::new(provider)], folder).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn becomes_the_document_that_a_file_would_be() {
        let document = Gateway::builder()
            .route("/a/*", "http://127.0.0.1:1")
            .route("/a/*", "http://127.0.0.1:2")
            .route("/b", "http://127.0.0.1:3")
            .with_port(0)
            .with_rate_limit(100)
            .with_cors(true)
            .with_timeout(Duration::from_secs(30))
            .document();
        let expected = json!({
            "rate_limiting": { "requests_per_second": 100 },
            "admin": false,
            "routes": [
                { "path": "/a/*", "upstream": { "urls": ["http://127.0.0.1:1", "http://127.0.0.1:2"] } },
                { "path": "/b", "upstream": { "urls": ["http://127.0.0.1:3"] } },
            ],
            "server": { "port": 0, "timeout_ms": 30_000 },
            "middleware": { "enable_rate_limiting": true, "enable_cors": true },
        });
        assert_eq!(document, expected);
    }
}
