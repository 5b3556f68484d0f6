//! The data plane: listeners, routing, forwarding. [`serve::serve`] is the life of a request; start reading there.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod arrive;
pub mod balance;
pub mod buffers;
pub mod by_worker;
pub mod clock;
pub mod data;
pub mod date;
pub mod dns;
pub mod forward;
pub mod h1;
pub mod h2;
pub mod h3;
pub mod health;
pub mod io;
pub mod limit;
pub mod listen;
pub mod observe;
pub mod pages;
pub mod proxy_protocol;
pub mod refused;
pub mod rounds;
pub mod route;
pub mod runtime;
pub mod serve;
pub mod shed;
mod streams;
pub mod ticket;
pub mod tls;
pub mod trailers;
pub mod worker;

pub use data::{ApplyError, Data, Inherited, worker_count};
