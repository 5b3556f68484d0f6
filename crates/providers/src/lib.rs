//! The providers of Portcullis: where routes, services and middlewares come from. One file (or folder) each.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod file;
mod fixed;

pub use file::{File, Follow};
pub use fixed::Fixed;
