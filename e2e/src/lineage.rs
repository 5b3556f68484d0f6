//! Processes that follow the one that a test started. They are no children of the test's, so it must see to it that they
//! end with it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Reply;

/// How long one may take to leave after SIGTERM.
const LEAVE: Duration = Duration::from_millis(300);

/// The processes that served one after the other, without the first. They end when this is dropped.
#[derive(Debug, Default)]
pub struct Lineage(Vec<u32>);

impl Lineage {
    /// One more, by its id.
    pub fn follow(&mut self, pid: u32) {
        self.0.push(pid);
    }

    /// The one that an answer of `POST /upgrade` tells of.
    pub fn follow_reply(&mut self, reply: &Reply) -> u32 {
        assert_eq!(reply.status, 200, "{}", reply.text());
        let pid = reply.json()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("its id");
        self.follow(pid);
        pid
    }
}

/// Is there a gateway with this id, that has not ended?
pub fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // `123 (name) S …`
    let (name, rest) = stat.split_once(" (").and_then(|(_, rest)| rest.rsplit_once(") ")).unwrap_or_default();
    name.starts_with("portcullis") && !rest.starts_with('Z')
}

/// Sends it a signal.
pub fn signal(pid: u32, signal: Signal) {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(id) = id.filter(|_| runs(pid)) {
        let _ = kill_process(id, signal);
    }
}

impl Drop for Lineage {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal(*pid, Signal::TERM));
        let end = Instant::now() + LEAVE;
        while self.0.iter().any(|pid| runs(*pid)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.0.iter().for_each(|pid| signal(*pid, Signal::KILL));
    }
}
