//! What people write and what it means: the configuration as pure data. No async, no sockets.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod defaults;
pub mod diagnostic;
pub mod document;
pub mod model;
pub mod read;
pub mod rule;
pub mod scalar;
pub mod written;
