//! What is right: the body that belongs to a request's id, or an error that says so.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use fastrand::Rng;
use portcullis_e2e::Reply;

use super::world::{Sightings, sight};

/// How often a request that may be repeated can reach hosts: three attempts, each but the last of which may have gone
/// out over a connection that was just being closed before it was refused, and the last one twice.
const MOST: u32 = 4;

/// Collects what was wrong, and counts what was not.
#[derive(Default)]
pub struct Judge {
    next: AtomicU64,
    sightings: Mutex<Sightings>,
    /// Whose answers hosts began and did not end.
    broken: Mutex<HashSet<u64>>,
    wrongs: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Judge {
    /// An id for a request.
    pub fn id(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    /// A host saw a request.
    pub fn seen(&self, id: u64, post: bool) {
        let times = sight(&self.sightings, id);
        if times > if post { 1 } else { MOST } {
            self.wrong(format!("request {id} (POST: {post}) reached hosts {times} times"));
        }
    }

    /// A host is about to begin an answer that it will not end.
    pub fn breaks(&self, id: u64) {
        self.broken.lock().expect("the broken").insert(id);
    }

    /// The client got not even a head. Over HTTP/2 a reset may overtake the head before it (RFC 9113 §5.1: what is
    /// queued for a stream that is reset need not be sent); so it may be when a host broke off its answer, and only then.
    pub fn headless(&self, client: &'static str, id: u64, h2: bool, error: &anyhow::Error) {
        if h2 && self.broken.lock().expect("the broken").contains(&id) {
            return self.count(client, "broken body");
        }
        // A connection may end between two requests: after an answer that says so (RFC 9112 §9.6), or after its 10,000
        // requests, in runs of minutes. What waited for it in the client was never sent, and what was on its way over HTTP/2
        // then is beyond the last stream that was served (RFC 9113 §6.8): so the client says, and the hosts confirm it.
        let is_unsent = |cause: &(dyn std::error::Error + 'static)| {
            let is_late =
                |error: &h2::Error| error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            let never_left = |error: &hyper::Error| error.is_canceled() || error.is_closed();
            cause.downcast_ref::<hyper::Error>().is_some_and(never_left)
                || cause.downcast_ref::<h2::Error>().is_some_and(is_late)
        };
        let was_seen = self.sightings.lock().expect("the sightings").contains_key(&id);
        if !was_seen && error.chain().any(is_unsent) {
            return self.count(client, "not sent");
        }
        self.wrong(format!("{client}: request {id} got no answer: {error:#}"));
    }

    /// The client could not even send it.
    pub fn unsent(&self, client: &'static str, id: u64, error: &anyhow::Error) {
        match self.sightings.lock().expect("the sightings").contains_key(&id) {
            false => self.count(client, "not sent"),
            true => self.wrong(format!("{client}: request {id} could not be sent, and was seen: {error:#}")),
        }
    }

    /// Something that must not be.
    pub fn wrong(&self, what: String) {
        let mut wrongs = self.wrongs.lock().expect("the wrongs");
        if wrongs.len() < 100 {
            wrongs.push(what);
        }
    }

    /// Something that may be.
    pub fn count(&self, client: &'static str, outcome: &'static str) {
        *self.counts.lock().expect("the counts").entry((client, outcome)).or_insert(0) += 1;
    }

    /// How often it was.
    pub fn counted(&self, client: &'static str, outcome: &'static str) -> u64 {
        self.counts.lock().expect("the counts").get(&(client, outcome)).copied().unwrap_or(0)
    }

    /// What was wrong, one line each.
    pub fn wrongs(&self) -> String {
        self.wrongs.lock().expect("the wrongs").join("\n")
    }

    /// What was counted, for people.
    pub fn counts(&self) -> String {
        format!("{:?}", self.counts.lock().expect("the counts"))
    }

    /// A whole answer to a request over HTTP.
    pub fn answer(&self, client: &'static str, id: u64, expected: &[u8], reply: &Reply) {
        if reply.status == 200 {
            if reply.body == expected {
                return self.count(client, "right");
            }
            let (got, due) = (reply.body.len(), expected.len());
            let start = String::from_utf8_lossy(&reply.body[..got.min(80)]).into_owned();
            let fields = &reply.headers;
            let what = format!("{client}: request {id} got {got} bytes for {due}: {start:?} {fields:?}");
            return self.wrong(what);
        }
        if reply.status == 413 && reply.header("x-own") == id.to_string() {
            return self.count(client, "refused by the host");
        }
        let page: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let honest = matches!(reply.status, 502..=504)
            && reply.header("proxy-status").contains("error=")
            && reply.header("content-type") == "application/problem+json"
            && page["status"] == reply.status;
        match honest {
            true => self.count(client, "honest error"),
            false => self.wrong(format!("{client}: request {id} got {reply:?}")),
        }
    }

    /// A gRPC call that failed.
    pub fn failed(&self, client: &'static str, id: u64, status: &tonic::Status) {
        use tonic::Code::{Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
        match status.code() {
            Cancelled | DeadlineExceeded | Internal | Unavailable | Unknown => {
                self.count(client, "honest error");
            }
            _ => self.wrong(format!("{client}: call {id} failed with {status:?}")),
        }
    }
}

/// The body that belongs to an id: mostly small, sometimes large, never that of another.
pub fn whole(id: u64) -> Bytes {
    let mut rng = Rng::with_seed(id);
    let length = if rng.u8(0..10) == 0 { rng.usize(0..300_000) } else { rng.usize(0..4_000) };
    let mut body = format!("{id} ").into_bytes();
    // A block again and again, with its number: quick in a debug build, and a piece lost or moved shows.
    let block: String = (0..240).map(|_| rng.alphanumeric()).collect();
    for number in 0..=length / 256 {
        body.extend_from_slice(format!("{number} {block}\n").as_bytes());
    }
    body.into()
}

/// What a host answers to an upload.
pub fn upload_receipt(id: u64, upload: &[u8]) -> String {
    // FNV-1a
    let sum = upload
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{id}: {} bytes, {sum:x}", upload.len())
}
