//! The scenarios, one row each: what the load sends, and what was promised for the answer.

use crate::{
    endpoint::{ONE_MIB, SMALL, TEN_KIB},
    peers::Role,
};

/// One kind of load.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Short name, for `--only` and the raw data.
    pub name: &'static str,
    /// One line for people.
    pub what: &'static str,
    /// Path asked of the endpoint.
    pub path: &'static str,
    /// Connections kept open by the load generator.
    pub connections: usize,
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
    /// What the project set itself: CPU per request, at most this share of the better peer's.
    pub cpu_target: Option<f64>,
    /// What the project set itself: peak memory, MB.
    pub memory_target: Option<f64>,
}

/// What most rows share.
const PLAIN: Scenario = Scenario {
    name: "",
    what: "",
    path: "/small",
    connections: 64,
    headers: &[],
    upload: 0,
    answer: SMALL,
    new_connections: false,
    bulk: false,
    cpu_target: None,
    memory_target: None,
};

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

impl Scenario {
    /// Whether a proxy of this role has something to show here.
    pub fn concerns(&self, role: Role) -> bool {
        match role {
            Role::Ours | Role::Reference => true,
            Role::Tuned => self.bulk,
            Role::Floor => !self.new_connections,
        }
    }
}

/// All scenarios, in the order they run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "small", what: "small body, 64 connections", cpu_target: Some(0.90), ..PLAIN },
    Scenario {
        name: "browser",
        what: "small body, 64 connections, 11 browser headers",
        headers: BROWSER,
        ..PLAIN
    },
    Scenario {
        name: "10k",
        what: "10 KiB body, 64 connections",
        path: "/10k",
        answer: TEN_KIB,
        cpu_target: Some(0.90),
        ..PLAIN
    },
    Scenario {
        name: "1m",
        what: "1 MiB body, 64 connections",
        path: "/1m",
        answer: ONE_MIB,
        bulk: true,
        cpu_target: Some(0.80),
        ..PLAIN
    },
    Scenario {
        name: "conns1000",
        what: "small body, 1,000 connections",
        connections: 1000,
        cpu_target: Some(0.70),
        memory_target: Some(60.0),
        ..PLAIN
    },
    Scenario {
        name: "upload",
        what: "upload of 1 MiB, 64 connections",
        path: "/upload",
        upload: ONE_MIB,
        answer: 1,
        bulk: true,
        ..PLAIN
    },
    Scenario {
        name: "new-connection",
        what: "small body, a new connection for each request, 64 at a time",
        headers: &["Connection: close"],
        new_connections: true,
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_named_once_and_described() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|s| s.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(SCENARIOS.iter().all(|s| !s.name.is_empty() && !s.what.is_empty()));
        assert_eq!(BROWSER.len(), 11);
    }
}
