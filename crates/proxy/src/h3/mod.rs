//! HTTP/3 (RFC 9114) over quinn: one task per client connection that accepts its streams, one per stream that serves its
//! request.
//!
//! QUIC, with its handshakes, loss recovery, flow control and limits against amplification, is quinn's. HTTP/3 itself is
//! ours, as HTTP/1.1 is, since it is little and how strictly messages are framed must be in our hands: nothing but one
//! field section of bounded size is ever held of a stream, a body that breaks off is never taken for whole, a GOAWAY names
//! exactly what was not processed. What is done with requests is shared with HTTP/2 ([`crate::streams`]).
//!
//! ```text
//! server.rs   a connection: accept streams, age, idle, drain      peer.rs      its budgets, its end
//! control.rs  the client's other streams: settings                stream.rs    a stream: its head, then its turn
//! frames.rs   frames      head.rs   heads      qpack/  fields     inbound.rs   bodies coming in
//! scan.rs     finds them  code.rs   errors     link.rs the client outbound.rs  bodies going out
//! varint.rs   integers
//! ```

mod code;
mod control;
mod frames;
pub mod head;
mod inbound;
mod link;
mod outbound;
mod peer;
pub mod qpack;
pub mod scan;
pub mod server;
mod stream;
mod varint;
