//! The vocabulary of Portcullis as types and traits: no sockets, no runtime.
//!
//! `client → listener → route → middlewares → service → endpoint`, and back through the middlewares in reverse.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod answer;
pub mod balance;
pub mod body;
pub mod builtin;
pub mod cookie;
pub mod endpoint;
pub mod error;
pub mod exchange;
pub mod fields;
pub mod forwarded;
pub mod id;
pub mod keep;
pub mod known;
pub mod limit;
pub mod line;
pub mod meter;
pub mod middleware;
pub mod path;
pub mod provider;
pub mod request;
pub mod store;

pub use answer::{Answer, Source};
pub use body::{Appended, Body, Frame, Stream};
pub use error::{Error, Fault, Kind};
pub use exchange::{Connection, Exchange, Protocol};
pub use fields::Fields;
pub use known::Known;
pub use line::Line;
pub use middleware::{Decision, Done, Flow, Middleware};
pub use request::Request;

/// A boxed future that may be sent between threads.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
