//! The Portcullis gateway: the binary.

mod cli;

use std::process::ExitCode;

/// Half the time of the system's allocator in the life of a request, and memory that goes back when a burst is over.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
