//! What people write and what it means: the configuration as pure data. No async, no sockets.

pub mod model;
pub mod rule;
