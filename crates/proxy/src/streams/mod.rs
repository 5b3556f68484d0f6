//! What HTTP/2 and HTTP/3 have in common: requests on streams of one connection, each served by a task of its own.
//!
//! What is written here once cannot be understood differently by the two: which heads become requests, how a body's pace
//! is watched, what is sent of an answer, and which deadline each wait has.
//!
//! ```text
//! shared.rs    what the streams of a connection share       arrive.rs    head → request
//! turn.rs      request → serve → answer                     incoming.rs  the request's body
//! head.rs      fields, both ways                            outgoing.rs  the answer's body
//! spent.rs     budgets of a connection                      side.rs      a tunnel's side
//! ```

pub(crate) mod arrive;
pub(crate) mod head;
pub(crate) mod incoming;
pub(crate) mod outgoing;
pub(crate) mod shared;
pub(crate) mod side;
pub(crate) mod spent;
pub(crate) mod turn;

/// Flow-control window of one stream: what a peer may send ahead of its reader.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// Flow-control window of a whole connection from a client.
pub(crate) const CONNECTION_WINDOW: u32 = 1024 * 1024;
