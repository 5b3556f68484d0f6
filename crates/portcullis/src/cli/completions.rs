//! `portcullis completions`: scripts for shells, from the same definition as the parser.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::print;

/// What `completions` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

impl Arguments {
    /// Prints the script.
    pub fn run(&self, command: &mut clap::Command) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "portcullis", &mut script);
        print(&String::from_utf8_lossy(&script));
        ExitCode::SUCCESS
    }
}
