//! What a client may spend on everything that is no request: one that spends more is an attacker. The budgets grow with
//! honest work, so that a busy connection is never mistaken for a hostile one.

/// Budgets are counted anew after this time.
const WINDOW_MS: u64 = 30_000;
/// Resets in one window that are always forgiven; more must be fewer than half of the streams begun.
const RESETS: u64 = 100;
/// Control frames in one window that are always forgiven.
const CONTROL: u64 = 1000;
/// And so many more for each stream begun.
const CONTROL_PER_STREAM: u64 = 20;
/// Heads in one window that are no request and always forgiven, beside one for each request (its trailers) and as many as
/// may be open at once (which may have been read and not looked at).
pub(crate) const UNSERVED: u64 = 100;
/// And one more control frame for so many bytes written: receivers give windows back.
const WRITTEN_PER_CONTROL: u64 = 512;

/// What was spent in one window.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    since_ms: u64,
    /// Bytes written before it.
    written: u64,
    /// Requests taken before it.
    requests: u64,
    /// Heads.
    pub(crate) streams: u64,
    /// Streams that the client reset.
    pub(crate) resets: u64,
    /// Frames that carry neither heads nor bodies.
    pub(crate) control: u64,
}

impl Spent {
    pub(crate) fn new(now_ms: u64) -> Spent {
        Spent { since_ms: now_ms, ..Spent::default() }
    }

    /// Begins a new window when it is time, with what was written and requested ever.
    pub(crate) fn renew(&mut self, now_ms: u64, written: u64, requests: u64) {
        if now_ms.saturating_sub(self.since_ms) > WINDOW_MS {
            *self = Spent { written, requests, ..Spent::new(now_ms) };
        }
    }

    /// Heads that were neither a request's nor its trailers.
    pub(crate) fn unserved(&self, requests: u64) -> u64 {
        self.streams.saturating_sub(2 * requests.saturating_sub(self.requests))
    }

    /// Was more spent on resets and control frames than that much work excuses?
    pub(crate) fn is_over(&self, written: u64) -> bool {
        let bytes = written.saturating_sub(self.written);
        (self.resets > RESETS && self.resets > self.streams / 2)
            || self.control > CONTROL + CONTROL_PER_STREAM * self.streams + bytes / WRITTEN_PER_CONTROL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_grow_with_honest_work() {
        let spent = |streams, resets, control| Spent { streams, resets, control, ..Spent::default() };
        assert_eq!(spent(300, 0, 0).unserved(150), 0, "each with trailers");
        assert_eq!(Spent { requests: 10, ..spent(300, 0, 0) }.unserved(20), 280, "an HPACK bomb each");
        assert!(!spent(100, 100, 0).is_over(0), "a hundred are forgiven");
        assert!(spent(101, 101, 0).is_over(0), "rapid reset");
        assert!(!spent(1000, 499, 0).is_over(0), "half of a busy connection's may be cancelled");
        assert!(!spent(1, 0, 1020).is_over(0));
        assert!(spent(1, 0, 1021).is_over(0), "a flood of pings");
        assert!(!spent(1, 0, 100_000).is_over(1 << 30), "window updates of a large download");
    }
}
