//! The benchmark (under construction).
fn main() {}
