//! The command line: one file per subcommand.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand};

mod address;
mod ask;
mod check;
mod completions;
mod demo;
mod explain;
mod man;
mod proxy;
mod purge;
mod reload;
mod run;
mod schema;
mod serve;
mod show;
mod upgrade;

/// Exit code: something is wrong with the configuration, or what was asked for failed.
const FAILED: u8 = 1;
/// Exit code: the file cannot be read, or the command line not understood.
const UNUSABLE: u8 = 2;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; nothing wrong
  1  the configuration has errors, or what was asked for failed
  2  the file cannot be read, or the command line not understood";

/// An API gateway and reverse proxy.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about = "An API gateway and reverse proxy", after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway from a configuration file
    Run(run::Arguments),
    /// Run a gateway without a file: everything to these endpoints
    Proxy(proxy::Arguments),
    /// Run a gateway with three sample endpoints of its own, to try things out
    Demo(demo::Arguments),
    /// Check a configuration file and print every finding
    Check(check::Arguments),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print the configuration as written, as it is meant, or as it runs
    Show(show::Arguments),
    /// Tell which route takes a request and why, and what becomes of it
    Explain(explain::Arguments),
    /// Ask a running gateway to read its configuration again
    Reload(reload::Arguments),
    /// Ask a running gateway to take answers out of its cache
    Purge(purge::Arguments),
    /// Ask a running gateway to hand over to the binary installed now
    Upgrade(upgrade::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Print the man page
    Man,
}

/// Which configuration file.
#[derive(Debug, Clone, Args)]
struct ConfigFile {
    /// Configuration file: TOML, YAML or JSON by its name [default: gateway.toml, .yaml, .yml or .json here]
    #[arg(short, long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
}

/// Where a file is looked for when none is named.
const DEFAULT_FILES: [&str; 4] = ["gateway.toml", "gateway.yaml", "gateway.yml", "gateway.json"];

impl ConfigFile {
    /// The file named, or the first of the default ones that is there; says so when there is none.
    fn find(&self) -> Result<PathBuf, ExitCode> {
        if let Some(file) = &self.config {
            return Ok(file.clone());
        }
        let found = DEFAULT_FILES.iter().map(Path::new).find(|file| file.exists());
        found.map(Path::to_owned).ok_or_else(|| {
            complain(&format!(
                "there is no {} here; name a file with `-c FILE`, or try `portcullis demo`",
                DEFAULT_FILES.join(", ")
            ));
            ExitCode::from(UNUSABLE)
        })
    }
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OutputFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(arguments) => arguments.run(),
        Command::Proxy(arguments) => arguments.run(),
        Command::Demo(arguments) => arguments.run(),
        Command::Check(arguments) => arguments.run(),
        Command::Schema => schema::run(),
        Command::Show(arguments) => arguments.run(),
        Command::Explain(arguments) => arguments.run(),
        Command::Reload(arguments) => arguments.run(),
        Command::Purge(arguments) => arguments.run(),
        Command::Upgrade(arguments) => arguments.run(),
        Command::Completions(arguments) => arguments.run(&mut Cli::command()),
        Command::Man => man::run(Cli::command()),
    }
}

/// Prints to standard output. A reader that has gone (`| head`) is no error.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        complain(&format!("cannot write: {error}"));
    }
}

/// Prints a document as JSON.
fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&format!("{text}\n")),
        Err(error) => complain(&format!("cannot print: {error}")),
    }
}

/// Says on standard error what went wrong.
fn complain(text: &str) {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(io::stderr(), "portcullis: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
