//! The defaults of the model, in one place. Each is said in the doc comment of its field; why it is so, in `docs/`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::model::{
    Doubtful, Listener, ListenerLimits, ListenerTimeouts, PathPolicy, Pool, ServiceTimeouts, UpstreamTls,
};

impl Default for ListenerLimits {
    fn default() -> ListenerLimits {
        ListenerLimits {
            header_bytes: 32 * 1024,
            header_count: 100,
            uri_bytes: 8 * 1024,
            body_bytes: None,
            connections: 0,
            connections_per_client: 0,
            requests_per_connection: 10_000,
            h2_streams: 100,
        }
    }
}

impl Default for ListenerTimeouts {
    fn default() -> ListenerTimeouts {
        ListenerTimeouts {
            handshake: Duration::from_secs(10),
            request_header: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            body_min_rate: 240,
            body_grace: Duration::from_secs(20),
            write_idle: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            max_age: Duration::from_secs(3600),
        }
    }
}

impl Default for PathPolicy {
    fn default() -> PathPolicy {
        PathPolicy { merge_slashes: true, encoded_delimiters: Doubtful::Reject }
    }
}

impl Default for ServiceTimeouts {
    fn default() -> ServiceTimeouts {
        ServiceTimeouts {
            connect: Duration::from_secs(3),
            response_header: Duration::from_secs(60),
            body_idle: Duration::from_secs(60),
            write_idle: Duration::from_secs(30),
            tunnel_idle: Duration::from_secs(3600),
        }
    }
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            max_idle: 256,
            max_connections: 0,
            idle_timeout: Duration::from_secs(60),
            max_age: Duration::from_secs(300),
        }
    }
}

impl Default for UpstreamTls {
    fn default() -> UpstreamTls {
        UpstreamTls { ca: Vec::new(), server_name: None, client_certificate: None, insecure_skip_verify: false }
    }
}

impl Listener {
    /// A plaintext listener with every default.
    pub fn plain(name: impl Into<Arc<str>>, address: SocketAddr) -> Listener {
        Listener {
            name: name.into(),
            address,
            tls: None,
            http2: true,
            trusted_proxies: Vec::new(),
            middlewares: Vec::new(),
            limits: ListenerLimits::default(),
            timeouts: ListenerTimeouts::default(),
            path: PathPolicy::default(),
            allow_odd_header_names: false,
        }
    }
}
