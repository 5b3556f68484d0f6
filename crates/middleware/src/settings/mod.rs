//! How values of settings are written: sizes, times, lists, field lines. Each type reads strictly and describes itself
//! in the schema.

mod lines;
mod lists;
mod scalar;

pub use lines::{line, lines, name, settable, value};
pub use lists::{Strings, Words};
pub use scalar::{Size, Time};
