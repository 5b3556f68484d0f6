//! What is refused when the gateway itself is short of CPU or memory.

use std::time::Duration;

use serde::Serialize;

use crate::human;

/// When requests are refused for the sake of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shedding {
    /// What the process may take.
    pub memory: MemoryLimit,
    /// How late the event loops of the workers may be; `None` = not looked at. Default 100 ms.
    #[serde(serialize_with = "human::maybe_time")]
    pub lateness: Option<Duration>,
    /// What `Retry-After` says at least. Default 5 s.
    #[serde(serialize_with = "human::time")]
    pub retry_after: Duration,
}

/// What the process may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryLimit {
    /// So many bytes.
    Bytes(u64),
    /// 90 % of what the control group may take; where there is no such limit, memory is not looked at.
    Cgroup,
    /// Memory is not looked at.
    Unlimited,
}

/// How important the requests of a route are; the least important are refused first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Importance {
    /// Refused first.
    Background,
    /// Refused once nothing of the background is served.
    #[default]
    Normal,
    /// Refused last.
    Critical,
}

impl Importance {
    /// Every one, the least important first.
    pub const ALL: [Importance; 3] = [Importance::Background, Importance::Normal, Importance::Critical];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Importance::Background => "background",
            Importance::Normal => "normal",
            Importance::Critical => "critical",
        }
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Importance::default()
    }
}
