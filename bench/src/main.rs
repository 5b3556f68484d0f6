//! The benchmark: Portcullis beside nginx, HAProxy, Caddy and Envoy, on the same machine, doing the same work.
//!
//! One program plays all parts. Without a subcommand it is the conductor: it starts the endpoints, every
//! proxy, and the load, and prints the comparison. The conductor starts itself again as `endpoint` (the server
//! behind the proxies), as `relay` (a raw TCP relay, the floor below which no proxy can come), and as the loads that no
//! tool of others makes (`handshakes`, `pace`, `http3`).
//! How fairness is kept is written in `bench/README.md`.

mod certificate;
mod chart;
mod compare;
mod document;
mod endpoint;
mod load;
mod machine;
mod measure;
mod peers;
mod preflight;
mod process;
mod procfs;
mod quic;
mod relay;
mod report;
mod scenario;
mod stage;
mod stats;
mod tls;

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
    /// Load: TLS handshakes.
    Handshakes {
        #[command(flatten)]
        run: load::Run,
        /// Resume the session of the handshake before.
        #[arg(long)]
        resumed: bool,
    },
    /// Load: requests for `/small` at a fixed rate.
    Pace {
        #[command(flatten)]
        run: load::Run,
        /// Requests per second.
        #[arg(long)]
        rate: u64,
    },
    /// Load: requests for `/small` over HTTP/3.
    Http3 {
        #[command(flatten)]
        run: load::Run,
        /// Streams on each connection. Default: every request opens a connection of its own.
        #[arg(long)]
        streams: Option<usize>,
    },
}

/// What to compare, and how long.
#[derive(Args, Debug, Clone)]
pub struct Options {
    /// Short runs (1 s, 2 rounds; with more than one worker only `small`): to see that everything works, not to quote.
    #[arg(long)]
    pub quick: bool,
    /// Only these scenarios (see --list).
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Beside Portcullis. Known: nginx, haproxy, nginx-tuned, haproxy-tuned, caddy, envoy, varnish, relay. Default: all.
    #[arg(long, value_delimiter = ',')]
    pub peers: Option<Vec<String>>,
    /// The gateway's binary. Default: `portcullis` beside this program.
    #[arg(long)]
    pub portcullis: Option<PathBuf>,
    /// Seconds of each run (default 4, with --quick 1).
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Runs of each proxy in each scenario (default 5, with --quick 2).
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Worker threads (or processes) of every proxy; each number is a comparison of its own.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    pub workers: Vec<usize>,
    /// Cores for the proxy under test, as `taskset -c` takes them. Default: the first, as many as there are workers.
    #[arg(long)]
    pub proxy_cores: Option<String>,
    /// Cores for load and endpoints. Default: the others; where none is left, all cores are for both.
    #[arg(long)]
    pub load_cores: Option<String>,
    /// Writes the tables, with machine, versions and date, into this file between its marks, and charts beside it.
    #[arg(long)]
    pub markdown: Option<PathBuf>,
    /// Writes every single run to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Measures nothing: draws the report again from a file that --json wrote.
    #[arg(long, conflicts_with = "json")]
    pub from: Option<PathBuf>,
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
        Some(Part::Handshakes { run, resumed }) => load::handshakes::main(&run, resumed),
        Some(Part::Pace { run, rate }) => load::pace::main(&run, rate, "/small"),
        Some(Part::Http3 { run, streams }) => load::http3::main(&run, streams, "/small"),
        None if cli.options.list => {
            for s in scenario::SCENARIOS {
                println!("{:<16} {}", s.name, s.what);
            }
            Ok(())
        }
        None => compare::run(&cli.options),
    }
}
