//! `portcullis run`: the gateway from a file.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use portcullis::gateway::folder_of;
use portcullis_providers::File;

use super::{ConfigFile, serve};

/// What `run` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// File to keep the id of the process in, also over upgrades
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

impl Arguments {
    /// Runs until told to end.
    pub fn run(&self) -> ExitCode {
        let file = match self.file.find() {
            Ok(file) => file,
            Err(code) => return code,
        };
        let folder = folder_of(&file);
        serve::serve(vec![Arc::new(File::new(file))], folder, self.pid_file.clone())
    }
}
