//! The Portcullis gateway.

fn main() {}
