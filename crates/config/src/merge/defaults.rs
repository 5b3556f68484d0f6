//! Every default, in one place. They are the recommended row of the survey of limits in other gateways: bounded
//! where a client could hold something for ever, unbounded where only the owner can know.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    model::{
        Doubtful, Http3, Listener, ListenerLimits, ListenerTimeouts, ListenerTls, PathPolicy, Pool,
        ServiceTimeouts,
    },
    written::{self, Lit},
};

/// Upper bounds of the duration histograms, seconds: up to 60 s, the longest that an endpoint is waited for by default.
pub(super) const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// How long a drain may take.
pub(super) const DNS_TIMEOUT: Duration = Duration::from_secs(2);
pub(super) const DNS_MIN_TTL: Duration = Duration::from_secs(1);
pub(super) const DNS_MAX_TTL: Duration = Duration::from_secs(300);
pub(super) const STORE_CONNECT: Duration = Duration::from_secs(2);
pub(super) const STORE_TIMEOUT: Duration = Duration::from_millis(100);
pub(super) const STORE_PREFIX: &str = "portcullis:";
pub(super) const STORE_DISK: u64 = 1 << 30;
pub(super) const SHED_LATENESS: Duration = Duration::from_millis(100);
pub(super) const SHED_RETRY_AFTER: Duration = Duration::from_secs(5);
pub(super) const DRAIN: Duration = Duration::from_secs(30);
pub(super) const UPGRADE: Duration = Duration::from_secs(30);
/// How the gateway calls itself.
pub(super) const GATEWAY_NAME: &str = "portcullis";
/// Port of the listener that nobody wrote.
pub(super) const PORT: u16 = 8080;
/// Port of the admin listener, on the loopback address.
pub(super) const ADMIN_PORT: u16 = 9090;
/// How far above the average a hash may load an endpoint.
pub(super) const LOAD_BOUND: f64 = 1.25;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The first that is written, or the default.
pub(super) fn first<T, const N: usize>(written: [&Option<Lit<T>>; N], default: T) -> T
where
    T: Copy,
{
    written.into_iter().flatten().next().map_or(default, |lit| lit.0)
}

/// The first that is written, or the default.
pub(super) fn plain<T: Copy, const N: usize>(written: [Option<T>; N], default: T) -> T {
    written.into_iter().flatten().next().unwrap_or(default)
}

pub(super) fn listener_limits(own: &written::Limits, all: &written::Limits) -> ListenerLimits {
    use written::literal::{MaybeSize, Size};
    let bytes =
        |own, all, default: u64| usize::try_from(first([own, all], Size(default)).0).unwrap_or(usize::MAX);
    let header_bytes = bytes(&own.header_bytes, &all.header_bytes, 32 * 1024);
    ListenerLimits {
        header_bytes,
        header_count: plain([own.header_count, all.header_count], 100),
        // Whoever allows only a small head need not say so twice.
        uri_bytes: bytes(&own.uri_bytes, &all.uri_bytes, header_bytes.min(8 * 1024) as u64),
        body_bytes: first([&own.body_bytes, &all.body_bytes], MaybeSize(None)).0,
        connections: plain([own.connections, all.connections], 0),
        connections_per_client: plain([own.connections_per_client, all.connections_per_client], 0),
        requests_per_connection: plain([own.requests_per_connection, all.requests_per_connection], 10_000),
        h2_streams: plain([own.h2_streams, all.h2_streams], 100),
    }
}

pub(super) fn listener_timeouts(
    own: &written::ListenerTimeouts,
    all: &written::Timeouts,
) -> ListenerTimeouts {
    use written::literal::Size;
    ListenerTimeouts {
        handshake: first([&own.handshake, &all.handshake], seconds(10)),
        request_header: first([&own.request_header, &all.request_header], seconds(10)),
        body_idle: first([&own.body_idle, &all.body_idle], seconds(30)),
        body_min_rate: first([&own.body_min_rate, &all.body_min_rate], Size(240)).0,
        body_grace: first([&own.body_grace, &all.body_grace], seconds(20)),
        write_idle: first([&own.write_idle, &all.write_idle], seconds(30)),
        keep_alive: first([&own.keep_alive, &all.keep_alive], seconds(75)),
        max_age: first([&own.max_age, &all.max_age], seconds(3600)),
    }
}

pub(super) fn service_timeouts(own: &written::ServiceTimeouts, all: &written::Timeouts) -> ServiceTimeouts {
    ServiceTimeouts {
        connect: first([&own.connect, &all.connect], seconds(3)),
        response_header: first([&own.response_header, &all.response_header], seconds(60)),
        body_idle: first([&own.body_idle, &all.body_idle], seconds(60)),
        write_idle: first([&own.write_idle, &all.write_idle], seconds(30)),
        stream_idle: first([&own.stream_idle, &all.stream_idle], seconds(3600)),
        tunnel_idle: first([&own.tunnel_idle, &all.tunnel_idle], seconds(3600)),
    }
}

pub(super) fn pool(own: &written::Pool) -> Pool {
    Pool {
        max_idle: own.max_idle.unwrap_or(256),
        max_connections: own.max_connections.unwrap_or(0),
        idle_timeout: first([&own.idle_timeout], seconds(60)),
        max_age: first([&own.max_age], seconds(300)),
    }
}

pub(super) fn path_policy(own: &written::PathPolicy) -> PathPolicy {
    PathPolicy {
        merge_slashes: own.merge_slashes.unwrap_or(true),
        encoded_delimiters: first([&own.encoded_delimiters], Doubtful::Reject),
    }
}

/// Nobody proves who they are before the handshake is complete: with client certificates nothing is served before.
pub(super) fn http3(own: &written::Http3, tls: Option<&ListenerTls>) -> Option<Http3> {
    let knows_clients = tls.is_some_and(|tls| !tls.client_ca.is_empty());
    own.enabled.unwrap_or(true).then(|| Http3 {
        max_age: first([&own.max_age], seconds(24 * 3600)),
        advertised_port: own.advertised_port,
        early_data: own.early_data.unwrap_or(false) && !knows_clients,
    })
}

impl Listener {
    /// A plaintext listener with every default: what the gateway opens for itself.
    pub fn plain(name: impl Into<Arc<str>>, address: SocketAddr) -> Listener {
        Listener {
            name: name.into(),
            address,
            tls: None,
            http2: true,
            http3: None,
            proxy_protocol: None,
            trusted_proxies: Vec::new(),
            middlewares: Vec::new(),
            limits: listener_limits(&written::Limits::default(), &written::Limits::default()),
            timeouts: listener_timeouts(&written::ListenerTimeouts::default(), &written::Timeouts::default()),
            path: path_policy(&written::PathPolicy::default()),
            allow_odd_header_names: false,
        }
    }
}
