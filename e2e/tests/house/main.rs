//! Promises about the house itself: its crates, its dependencies, its files, and the harness of the other tests.

mod arrows;
mod dependencies;
mod harness;
mod metadata;
