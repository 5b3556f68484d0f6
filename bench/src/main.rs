//! The benchmark: Portcullis beside nginx and HAProxy, on the same machine, doing the same work.
//!
//! One program plays three parts. Without a subcommand it is the conductor: it starts the endpoints, every
//! proxy, and the load, and prints the comparison. The conductor starts itself again as `endpoint` (the server
//! behind the proxies) and as `relay` (a raw TCP relay, the floor below which no proxy can come).
//! How fairness is kept is written in `bench/README.md`.

mod compare;
mod endpoint;
mod load;
mod machine;
mod peers;
mod preflight;
mod process;
mod procfs;
mod relay;
mod report;
mod scenario;
mod stats;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// Compares Portcullis with its peers.
#[derive(Parser)]
#[command(name = "portcullis-bench", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    options: Options,
}

/// The parts that the conductor starts as processes of their own.
#[derive(Subcommand)]
enum Part {
    /// The HTTP/1.1 server behind the proxies.
    Endpoint {
        /// An address to listen on; repeatable.
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
    },
    /// A raw TCP relay: the floor.
    Relay {
        /// The address to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// An address to relay to, taken in turn for each connection; repeatable.
        #[arg(long, required = true)]
        to: Vec<SocketAddr>,
    },
}

/// What to compare, and how long.
#[derive(Args, Debug, Clone)]
pub struct Options {
    /// Short runs (2 s, 3 rounds): to see that everything works, not to quote.
    #[arg(long)]
    pub quick: bool,
    /// Only these scenarios (see --list).
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Beside Portcullis. Known: nginx, haproxy, nginx-tuned, haproxy-tuned, relay.
    #[arg(long, value_delimiter = ',', default_value = "nginx,haproxy,nginx-tuned,haproxy-tuned,relay")]
    pub peers: Vec<String>,
    /// The gateway's binary. Default: `portcullis` beside this program.
    #[arg(long)]
    pub portcullis: Option<PathBuf>,
    /// Seconds of each run (default 5, with --quick 2).
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Runs of each proxy in each scenario (default 5, with --quick 3).
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Worker threads (or processes) of every proxy.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Cores for the proxy under test, as `taskset -c` takes them.
    #[arg(long, default_value = "0")]
    pub proxy_cores: String,
    /// Cores for load and endpoints.
    #[arg(long, default_value = "1")]
    pub load_cores: String,
    /// Writes the tables, with machine, versions and date, to this file.
    #[arg(long)]
    pub markdown: Option<PathBuf>,
    /// Writes every single run to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Lists the scenarios and leaves.
    #[arg(long)]
    pub list: bool,
    /// Keeps the generated configurations and logs in this directory.
    #[arg(long)]
    pub keep: Option<PathBuf>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.part {
        Some(Part::Endpoint { listen }) => endpoint::run(&listen),
        Some(Part::Relay { listen, to }) => relay::run(listen, to),
        None if cli.options.list => {
            for s in scenario::SCENARIOS {
                println!("{:<16} {}", s.name, s.what);
            }
            Ok(())
        }
        None => compare::run(&cli.options),
    }
}
