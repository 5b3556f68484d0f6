//! The scenarios, one row each: what the load sends, what is asked of the proxies, what was promised for the answer, and
//! what the project set itself to reach.

use crate::{
    endpoint::{ONE_MIB, SMALL, TEN_KIB, grpc},
    measure::Measure,
    peers::{Peer, Role, Wire, Work},
};

/// What makes the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// wrk: as many requests as the answers let it send, over HTTP/1.1.
    Wrk,
    /// h2load: the same over HTTP/2, with so many streams on each connection.
    H2load {
        /// Streams on each connection.
        streams: usize,
    },
    /// Our own client of HTTP/3.
    Http3 {
        /// Streams on each connection; `None` where each request is on a connection of its own.
        streams: Option<usize>,
    },
    /// TLS handshakes of our own client.
    Handshakes {
        /// By a ticket of the handshake before.
        resumed: bool,
    },
    /// Our own client at a fixed rate.
    Pace,
    /// Connections held open, without requests.
    Idle,
}

/// What a target is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The better of nginx and HAProxy in the same runs.
    Better,
    /// The best of all peers, where neither of those takes part.
    Best,
    /// The relay.
    Floor,
    /// Nobody: a figure of its own.
    Itself,
}

/// What the project set itself: our figure (or its ratio) at most this, or at least where more is better.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Which figure.
    pub measure: Measure,
    /// Against what.
    pub against: Against,
    /// The bound.
    pub bound: f64,
}

/// One kind of load.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Short name, for `--only` and the raw data.
    pub name: &'static str,
    /// One line for people.
    pub what: &'static str,
    /// What makes the load.
    pub tool: Tool,
    /// What is asked of the proxies.
    pub work: Work,
    /// Path asked of the endpoint.
    pub path: &'static str,
    /// Fields sent beside `Host`.
    pub headers: &'static [&'static str],
    /// Bytes sent with POST; 0 = GET without a body.
    pub upload: usize,
    /// Least bytes of an answer's body: an answer that is cut short must not look fast.
    pub answer: usize,
    /// Every request on a connection of its own. A relay cannot reuse connections to the endpoint then, so it
    /// is no floor and does not take part.
    pub new_connections: bool,
    /// Large bodies: the sizes of buffers decide, so the peers also run with larger ones than their own.
    pub bulk: bool,
    /// Runs with more than one worker too.
    pub scales: bool,
    /// What is to be reached (with one worker).
    pub targets: &'static [Target],
}

/// What most rows share.
const PLAIN: Scenario = Scenario {
    name: "",
    what: "",
    tool: Tool::Wrk,
    work: HTTP,
    path: "/small",
    headers: &[],
    upload: 0,
    answer: SMALL,
    new_connections: false,
    bulk: false,
    scales: true,
    targets: &[],
};

const HTTP: Work = Work { wire: Wire::Plain, hosts: 0, everything: false, cached: false, connections: 64 };
const TLS: Work = Work { wire: Wire::Tls, ..HTTP };
const QUIC: Work = Work { wire: Wire::Quic, ..HTTP };

/// What a browser sends with a page's own requests.
const BROWSER: &[&str] = &[
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://shop.example/catalogue/shoes?page=2",
    "Cookie: session=4f1c9e0a7b2d4d86a3c5e1f09b8a7d62; theme=dark; consent=1",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Cache-Control: max-age=0",
];

/// The same for a request to another origin, with a field that is to be removed.
const CROSS_ORIGIN: &[&str] = &[
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: application/json",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://shop.example/catalogue/shoes?page=2",
    "Origin: https://shop.example",
    "Authorization: Bearer 4f1c9e0a7b2d4d86a3c5e1f09b8a7d62",
    "Sec-Fetch-Dest: empty",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Site: same-site",
    "X-Debug: 1",
];

/// Fields of a gRPC call.
const GRPC: &[&str] = &["content-type: application/grpc", "te: trailers", "user-agent: grpc-bench/1"];

const fn cpu(bound: f64) -> Target {
    better(Measure::Cpu, bound)
}

const fn rate(bound: f64) -> Target {
    better(Measure::Rate, bound)
}

const fn better(measure: Measure, bound: f64) -> Target {
    Target { measure, against: Against::Better, bound }
}

const fn best(measure: Measure, bound: f64) -> Target {
    Target { measure, against: Against::Best, bound }
}

const fn itself(measure: Measure, bound: f64) -> Target {
    Target { measure, against: Against::Itself, bound }
}

impl Scenario {
    /// Why a proxy cannot take part although its role has something to show here, if so.
    pub fn cannot(&self, peer: &Peer) -> Option<&'static str> {
        match self.work {
            Work { wire: Wire::Quic, .. } => peer.no_http3,
            Work { cached: true, .. } if !peer.caches => Some("its cache is not compared"),
            _ => None,
        }
    }

    /// Whether a proxy of this role has something to show here.
    pub fn concerns(&self, role: Role, workers: usize) -> bool {
        match role {
            Role::Ours | Role::Reference | Role::Other => true,
            Role::Tuned => self.bulk,
            Role::Cache => self.work.cached,
            // It knows neither TLS nor routes, and has one worker.
            Role::Floor => {
                let Work { wire, hosts, everything, cached, .. } = self.work;
                let plain = wire == Wire::Plain && hosts == 0 && !everything && !cached;
                workers == 1 && plain && !self.new_connections && self.tool != Tool::Idle
            }
        }
    }
}

/// All scenarios, in the order they run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "small",
        what: "small body, 64 connections",
        targets: &[
            cpu(0.80),
            rate(1.08),
            Target { measure: Measure::Cpu, against: Against::Floor, bound: 1.10 },
        ],
        ..PLAIN
    },
    Scenario {
        name: "browser",
        what: "small body, 64 connections, 11 browser headers",
        headers: BROWSER,
        scales: false,
        targets: &[cpu(0.82)],
        ..PLAIN
    },
    Scenario {
        name: "10k",
        what: "10 KiB body, 64 connections",
        path: "/10k",
        answer: TEN_KIB,
        targets: &[cpu(0.82)],
        ..PLAIN
    },
    Scenario {
        name: "1m",
        what: "1 MiB body, 64 connections",
        path: "/1m",
        answer: ONE_MIB,
        bulk: true,
        targets: &[cpu(0.70)],
        ..PLAIN
    },
    Scenario {
        name: "upload",
        what: "upload of 1 MiB, 64 connections",
        path: "/upload",
        upload: ONE_MIB,
        answer: 1,
        bulk: true,
        targets: &[cpu(0.90)],
        ..PLAIN
    },
    Scenario {
        name: "conns1000",
        what: "small body, 1,000 connections",
        work: Work { connections: 1000, ..HTTP },
        targets: &[cpu(0.60), itself(Measure::Peak, 40.0)],
        ..PLAIN
    },
    Scenario {
        name: "new-connection",
        what: "small body, a new connection for each request, 64 at a time",
        headers: &["Connection: close"],
        new_connections: true,
        targets: &[cpu(0.95)],
        ..PLAIN
    },
    Scenario {
        name: "tls",
        what: "TLS 1.3, small body, 64 kept connections",
        work: TLS,
        targets: &[cpu(0.90)],
        ..PLAIN
    },
    Scenario {
        name: "tls-full",
        what: "TLS 1.3, full handshakes, 32 at a time",
        tool: Tool::Handshakes { resumed: false },
        work: Work { connections: 32, ..TLS },
        targets: &[rate(1.0)],
        ..PLAIN
    },
    Scenario {
        name: "tls-resumed",
        what: "TLS 1.3, resumed handshakes, 32 at a time",
        tool: Tool::Handshakes { resumed: true },
        work: Work { connections: 32, ..TLS },
        scales: false,
        targets: &[rate(1.0)],
        ..PLAIN
    },
    Scenario {
        name: "h2",
        what: "HTTP/2 over TLS, small body, 8 connections with 100 streams each",
        tool: Tool::H2load { streams: 100 },
        work: Work { connections: 8, ..TLS },
        targets: &[rate(1.2)],
        ..PLAIN
    },
    Scenario {
        name: "h3",
        what: "HTTP/3 over QUIC, small body, 8 connections with 100 streams each",
        tool: Tool::Http3 { streams: Some(100) },
        work: Work { connections: 8, ..QUIC },
        targets: &[best(Measure::Cpu, 1.0)],
        ..PLAIN
    },
    Scenario {
        name: "h3-new",
        what: "HTTP/3 over QUIC, small body, a new connection with a full handshake for each request, 32 at a time",
        tool: Tool::Http3 { streams: None },
        work: Work { connections: 32, ..QUIC },
        new_connections: true,
        scales: false,
        targets: &[best(Measure::Cpu, 1.0)],
        ..PLAIN
    },
    Scenario {
        name: "grpc",
        what: "small gRPC-like calls, HTTP/2 without TLS on both sides, 8 connections with 100 streams each",
        tool: Tool::H2load { streams: 100 },
        work: Work { wire: Wire::H2c, connections: 8, ..HTTP },
        path: "/bench.Bench/Call",
        headers: GRPC,
        answer: grpc::MESSAGE,
        ..PLAIN
    },
    Scenario {
        name: "routes",
        what: "10,000 routes (100 hosts with 100 paths each), small body, 64 connections",
        work: Work { hosts: 100, ..HTTP },
        scales: false,
        ..PLAIN
    },
    Scenario {
        name: "everything",
        what: "access log as JSON to a file, metrics, changes of fields, CORS, body limit; small body, 64 connections",
        work: Work { everything: true, ..HTTP },
        headers: CROSS_ORIGIN,
        targets: &[cpu(0.80)],
        ..PLAIN
    },
    Scenario {
        name: "cache-hit",
        what: "small answer from the cache in memory, 64 connections",
        work: Work { cached: true, ..HTTP },
        path: "/fresh",
        targets: &[cpu(0.90), best(Measure::Cpu, 1.0)],
        ..PLAIN
    },
    Scenario {
        name: "latency",
        what: "latency at a fixed rate, small body, 64 connections",
        tool: Tool::Pace,
        scales: false,
        targets: &[better(Measure::P99, 1.0)],
        ..PLAIN
    },
    Scenario {
        name: "idle",
        what: "10,000 idle connections",
        tool: Tool::Idle,
        work: Work { connections: 10_000, ..HTTP },
        scales: false,
        targets: &[itself(Measure::Connection, 8.0), itself(Measure::Resting, 15.0)],
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::{ORIGIN, PEERS};

    #[test]
    fn every_row_is_named_once_and_described() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|s| s.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(SCENARIOS.iter().all(|s| !s.name.is_empty() && !s.what.is_empty()));
        assert_eq!((BROWSER.len(), CROSS_ORIGIN.len()), (11, 11));
    }

    #[test]
    fn the_requests_with_everything_on_come_from_the_origin_that_may() {
        assert!(CROSS_ORIGIN.contains(&format!("Origin: {ORIGIN}").as_str()));
    }

    #[test]
    fn targets_are_set_for_figures_that_are_shown() {
        for s in SCENARIOS {
            assert!(s.targets.iter().all(|t| Measure::of_tool(s.tool).contains(&t.measure)), "{}", s.name);
        }
    }

    #[test]
    fn who_has_no_http3_is_left_out_of_it_alone() {
        let named = |name: &str| PEERS.iter().find(|p| p.name == name).unwrap();
        let scenario = |name: &str| SCENARIOS.iter().find(|s| s.name == name).unwrap();
        for name in ["nginx", "haproxy"] {
            assert!(scenario("h3").cannot(named(name)).is_some_and(|why| why.contains("no HTTP/3")));
            assert_eq!(scenario("h2").cannot(named(name)), None);
        }
        assert!(["portcullis", "caddy", "envoy"].iter().all(|n| scenario("h3").cannot(named(n)).is_none()));
    }

    #[test]
    fn the_relay_takes_part_where_it_does_the_same() {
        let names = |workers| -> Vec<_> {
            SCENARIOS.iter().filter(|s| s.concerns(Role::Floor, workers)).map(|s| s.name).collect()
        };
        assert_eq!(names(1), ["small", "browser", "10k", "1m", "upload", "conns1000", "latency"]);
        assert!(names(2).is_empty());
    }
}
