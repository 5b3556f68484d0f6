//! Who is there: one file or folder per method. Each finds out who a client is, or refuses it, and tells the rest by
//! [`Exchange::identify`](portcullis_core::Exchange::identify): limits, cache keys and the log go by that.

pub mod jwt;
mod trailers;
