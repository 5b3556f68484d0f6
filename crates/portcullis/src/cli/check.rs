//! `portcullis check`: every finding in a configuration file.

use std::{io, process::ExitCode};

use clap::Args;
use portcullis::{load::Loaded, logging::colours, rehearse::check_file};
use serde_json::json;

use super::{ConfigFile, FAILED, OutputFormat, UNUSABLE, print, print_json};

/// What `check` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    /// Warnings count as errors for the exit code
    #[arg(long)]
    deny_warnings: bool,
}

impl Arguments {
    /// Prints them; errors make the exit code 1, warnings alone do not.
    pub fn run(&self) -> ExitCode {
        let file = match self.file.find() {
            Ok(file) => file,
            Err(code) => return code,
        };
        let loaded = check_file(&file);
        let warnings = loaded.findings.len() - loaded.errors();
        match self.format {
            OutputFormat::Json => print_json(&json!({
                "file": file,
                "ok": loaded.errors() == 0,
                "errors": loaded.errors(),
                "warnings": warnings,
                "findings": loaded.findings,
            })),
            OutputFormat::Text if loaded.findings.is_empty() => {
                print(&format!("{}: nothing wrong{}\n", file.display(), size(&loaded)));
            }
            OutputFormat::Text => print(&loaded.text(colours(&io::stdout()))),
        }
        if self.deny_warnings && warnings > 0 && !loaded.unreadable {
            return ExitCode::from(FAILED);
        }
        code(&loaded)
    }
}

/// What it holds, in a few words.
fn size(loaded: &Loaded) -> String {
    let Some(model) = &loaded.model else { return String::new() };
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let words = [
        count(model.listeners.len(), "listener"),
        count(model.routes.len(), "route"),
        count(model.services.len(), "service"),
        count(model.middlewares.len(), "middleware"),
    ];
    format!(" ({})", words.join(", "))
}

/// The exit code for what was read.
pub fn code(loaded: &Loaded) -> ExitCode {
    if loaded.unreadable {
        ExitCode::from(UNUSABLE)
    } else if loaded.errors() > 0 {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    }
}
