//! HTTP/1.1, both sides: our own over `httparse`, because strict framing and one write per message are what the
//! product lives by (RFC 9112).

pub mod arrived;
pub mod arriving;
pub mod chunked;
pub mod client;
mod closing;
pub mod framing;
pub mod head;
pub mod incoming;
pub mod outgoing;
pub mod server;
pub mod upgrade;
pub mod upload;
pub mod writer;
