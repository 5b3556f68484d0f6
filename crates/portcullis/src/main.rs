//! The Portcullis gateway: the binary.

mod cli;

use std::process::ExitCode;

/// Half the time of the system's allocator in the life of a request; hands out first what was freed last, and so is still
/// in the processor's cache; and a thread of its own gives memory back when a burst is over.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main()
}
