//! What people write and what it means: the configuration as pure data. No async, no sockets.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod check;
pub mod diagnostic;
pub mod document;
pub mod expression;
mod human;
mod kinds;
mod load;
mod log_filter;
mod merge;
pub mod model;
mod quarantine;
pub mod read;
pub mod rule;
pub mod scalar;
mod schema;
mod source;
pub mod written;

pub use diagnostic::{Code, Finding, Severity, render_all};
pub use document::{Env, Format, NoEnv, ProcessEnv};
pub use kinds::{AnyKind, KindProblem, Kinds};
pub use load::{Around, Failure, Loaded, Outcome, load, load_file, load_text};
pub use merge::Fragment;
pub use model::Model;
pub use quarantine::Quarantine;
pub use schema::{reference_markdown, schema, schema_of};
pub use source::{Disk, Files};
