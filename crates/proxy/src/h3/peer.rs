//! The client of one connection: what it has spent, and how the connection ends.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use quinn::{Connection, VarInt};

use super::{code, scan::Fault};
use crate::streams::{
    shared::Shared,
    spent::{Spent, UNSERVED},
};

/// The client of one connection.
pub(super) struct Peer {
    pub(super) conn: Connection,
    pub(super) shared: Arc<Shared>,
    spent: Mutex<Spent>,
    /// Requests taken, ever.
    requests: AtomicU64,
    /// Heads that may be no request.
    unserved: u64,
    is_condemned: AtomicBool,
}

impl Peer {
    /// `streams` may be open at once.
    pub(super) fn new(conn: Connection, shared: Arc<Shared>, streams: u32) -> Arc<Peer> {
        let spent = Mutex::new(Spent::new(shared.worker.clock.now_ms()));
        Arc::new(Peer {
            conn,
            shared,
            spent,
            requests: AtomicU64::new(0),
            unserved: UNSERVED + u64::from(streams),
            is_condemned: AtomicBool::new(false),
        })
    }

    /// A stream begins.
    pub(super) fn began(&self) {
        self.spend(|spent| spent.streams += 1);
    }

    /// A head became a request.
    pub(super) fn took_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Requests taken, ever.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// The client gave up a stream.
    pub(super) fn gave_up(&self) {
        self.spend(|spent| spent.resets += 1);
    }

    /// A frame, or a stream, that carries neither a head nor a body.
    pub(super) fn sent_control(&self) {
        self.spend(|spent| spent.control += 1);
    }

    fn spend(&self, spend: impl FnOnce(&mut Spent)) {
        let (now, requests) = (self.shared.worker.clock.now_ms(), self.requests());
        let is_over = {
            let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
            spent.renew(now, 0, requests);
            spend(&mut spent);
            spent.is_over(0) || spent.unserved(requests) > self.unserved
        };
        if is_over && !self.is_condemned.swap(true, Relaxed) {
            self.shared.attacked("http3-flood");
            self.close(code::EXCESSIVE_LOAD, "too much that is no request");
        }
    }

    /// Ends the connection.
    pub(super) fn close(&self, why: VarInt, text: &str) {
        self.conn.close(why, text.as_bytes());
    }

    /// Ends the connection when that is what a fault demands.
    pub(super) fn judge(&self, fault: Fault) {
        if let Fault::Connection(why, text) = fault {
            tracing::debug!(peer = %self.shared.connection.peer, text, "HTTP/3 connection");
            self.close(why, text);
        }
    }
}
