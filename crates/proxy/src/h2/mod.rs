//! HTTP/2, both sides, over the `h2` crate directly: one task per client connection that drives the protocol, one per
//! stream that serves its request.
//!
//! `h2` keeps the rules of RFC 9113 (states, HPACK, flow control, malformed heads); what is here is the translation to
//! and from our requests, answers and bodies, the deadlines, and the budgets that a connection may not overspend.
//!
//! ```text
//! server.rs   a connection: accept streams, age, idle, drain, budgets (meter.rs)
//! stream.rs   a stream: its head, then its turn (../streams)
//! client.rs   a connection to an endpoint, and a request on it
//! head.rs     heads          inbound.rs   bodies coming in      gathered.rs  writes
//! link.rs     the client     outbound.rs  bodies going out
//! ```

pub mod client;
mod gathered;
mod head;
mod inbound;
mod link;
pub mod meter;
mod outbound;
pub mod server;
mod stream;

#[cfg(test)]
mod tests;

pub use head::to_header_map;

use crate::streams::STREAM_WINDOW;

/// Streams that we begin on one connection to an endpoint, however many it allows.
const ENDPOINT_STREAMS: usize = 100;
/// Flow-control window of a whole connection to an endpoint: it carries answers for many clients, and those that do not
/// read must not hold up the others.
const ENDPOINT_WINDOW: u32 = STREAM_WINDOW * ENDPOINT_STREAMS as u32;
/// What one stream may hold of an outgoing body that the connection has not taken yet.
const SEND_BUFFER: usize = 128 * 1024;
