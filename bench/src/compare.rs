//! The conductor: who takes part, which scenarios with how many workers, and what came of it.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, thread::available_parallelism};

use anyhow::{Context, Result, ensure};

use crate::{
    Options,
    document::Document,
    load::Load,
    machine::Machine,
    peers::{PEERS, Peer},
    report,
    scenario::{SCENARIOS, Scenario},
    stage::Stage,
};

/// One run of one proxy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    /// What the load generator counted.
    pub load: Load,
    /// CPU time of the proxy, seconds.
    pub cpu: f64,
    /// Peak memory of the proxy since its start, MB.
    pub memory: f64,
    /// Memory before the first connection, MB; measured with idle connections only.
    pub resting: f64,
    /// Memory for each connection, KiB; measured with idle connections only.
    pub per_connection: f64,
    /// Requests that left no line in the access log, where one is written.
    pub unlogged: u64,
    /// Connections that the endpoints accepted during the run.
    pub opened: u64,
    /// Share of the proxy's cores that went to neither the proxy nor idleness: other programs, the hypervisor.
    pub noise_proxy: f64,
    /// The same for the cores of load and endpoints.
    pub noise_load: f64,
}

impl Run {
    /// CPU time of the proxy per request, in microseconds.
    pub fn cpu_per_request(&self) -> f64 {
        self.cpu * 1e6 / self.load.requests as f64
    }

    /// Requests answered per second.
    pub fn rate(&self) -> f64 {
        self.load.requests as f64 / self.load.seconds
    }
}

/// A proxy that takes part, and what it showed.
pub struct Entry {
    /// Its row.
    pub peer: &'static Peer,
    /// Its version.
    pub version: String,
    /// A request's head as it reached an endpoint through it.
    pub received: String,
}

/// One scenario with the runs of every proxy (by index into the entries; none where it did not take part).
pub struct Outcome {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// Workers of each.
    pub workers: usize,
    /// Requests per second, where the rate was fixed.
    pub pace: Option<u64>,
    /// Runs in time order.
    pub runs: Vec<Vec<Run>>,
    /// Who cannot take part, and why.
    pub left_out: Vec<(&'static str, &'static str)>,
    /// Who did not come to the end, and why.
    pub failures: Vec<(&'static str, String)>,
}

/// All that was found out.
pub struct Results {
    /// Where.
    pub machine: Machine,
    /// Who.
    pub entries: Vec<Entry>,
    /// What.
    pub outcomes: Vec<Outcome>,
    /// Seconds of a run.
    pub seconds: u64,
    /// Runs of each.
    pub rounds: usize,
}

/// Which cores do what, as `taskset -c` takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores {
    /// The proxy under test.
    pub proxy: String,
    /// Load and endpoints.
    pub load: String,
}

impl Cores {
    /// As asked for; else a core for each worker, and the others for the load. Where none is left they share all.
    fn of(options: &Options, workers: usize, all: usize) -> Cores {
        let (proxy, load) = if workers < all {
            (range(0, workers), range(workers, all))
        } else {
            (range(0, all), range(0, all))
        };
        Cores {
            proxy: options.proxy_cores.clone().unwrap_or(proxy),
            load: options.load_cores.clone().unwrap_or(load),
        }
    }
}

fn range(from: usize, to: usize) -> String {
    if to - from == 1 { from.to_string() } else { format!("{from}-{}", to - 1) }
}

/// Runs the whole comparison and prints it.
pub fn run(options: &Options) -> Result<()> {
    let scenarios = chosen(options)?;
    // Looked at first: a run of an hour must not end with a file that cannot be written.
    let document = options.markdown.as_deref().map(Document::open).transpose()?;
    let results = match &options.from {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            report::parse(&text).with_context(|| path.display().to_string())?
        }
        None => measure(options, &scenarios)?,
    };
    let text = report::markdown(&results);
    println!("{text}");
    if let Some(document) = document {
        document.write(&results)?;
    }
    if let Some(path) = &options.json {
        fs::write(path, report::json(&results)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// In a folder that is gone afterwards, unless it is to be kept.
fn measure(options: &Options, scenarios: &[&'static Scenario]) -> Result<Results> {
    let scratch = tempfile::Builder::new().prefix("portcullis-bench-").tempdir()?;
    let dir: PathBuf = match &options.keep {
        Some(dir) => {
            fs::create_dir_all(dir)?;
            dir.canonicalize()?
        }
        None => scratch.path().to_owned(),
    };
    // nginx started by root gives its workers to another user, who must be able to enter.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    compare(options, scenarios, dir)
}

/// Every scenario with one worker first, then those that scale with more.
fn compare(options: &Options, scenarios: &[&'static Scenario], dir: PathBuf) -> Result<Results> {
    let all = available_parallelism().map_or(1, usize::from);
    let (mut outcomes, mut entries, mut length) = (Vec::new(), Vec::new(), (0, 0));
    for &workers in &options.workers {
        let dir = dir.join(format!("workers-{workers}"));
        fs::create_dir_all(&dir)?;
        let stage = Stage::set(options, workers, Cores::of(options, workers, all), dir)?;
        if entries.is_empty() {
            entries = stage.entries()?;
        }
        length = (stage.seconds, stage.rounds);
        for &scenario in scenarios.iter().filter(|s| takes_part(options, s, workers)) {
            eprintln!("{}, {workers} worker(s): {}", scenario.name, scenario.what);
            let outcome = stage.play(scenario, &mut entries)?;
            for (name, why) in &outcome.left_out {
                eprintln!("  left out: {name}: {why}");
            }
            for (name, why) in &outcome.failures {
                eprintln!("  FAILED: {name}: {why}");
            }
            outcomes.push(outcome);
        }
    }
    let failed = outcomes.iter().all(|o| o.runs.iter().all(Vec::is_empty));
    ensure!(!failed, "not one run came to its end");
    Ok(Results { machine: Machine::look(), entries, outcomes, seconds: length.0, rounds: length.1 })
}

/// With more than one worker, only what scales with them; a quick comparison is content with one scenario of it.
fn takes_part(options: &Options, scenario: &Scenario, workers: usize) -> bool {
    let named = !options.only.is_empty();
    workers == 1 || (scenario.scales && (!options.quick || named || scenario.name == "small"))
}

/// The scenarios asked for, all without a choice.
fn chosen(options: &Options) -> Result<Vec<&'static Scenario>> {
    for name in &options.only {
        ensure!(SCENARIOS.iter().any(|s| s.name == name), "no scenario {name:?}; see --list");
    }
    for name in options.peers.iter().flatten() {
        let known: Vec<&str> = PEERS.iter().skip(1).map(|p| p.name).collect();
        ensure!(known.contains(&name.as_str()), "no peer {name:?}; known: {}", known.join(", "));
    }
    ensure!(!options.workers.contains(&0), "a proxy has at least one worker");
    Ok(SCENARIOS
        .iter()
        .filter(|s| options.only.is_empty() || options.only.iter().any(|n| n == s.name))
        .collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        Line::parse_from(line.split(' ')).options
    }

    #[test]
    fn cores_are_divided_while_there_are_enough() {
        let cores = |line: &str, workers, all| {
            let Cores { proxy, load } = Cores::of(&options(line), workers, all);
            (proxy, load)
        };
        let own = |proxy: &str, load: &str| (proxy.to_owned(), load.to_owned());
        assert_eq!(cores("bench", 1, 2), own("0", "1"));
        assert_eq!(cores("bench", 2, 2), own("0-1", "0-1"));
        assert_eq!(cores("bench", 2, 8), own("0-1", "2-7"));
        assert_eq!(cores("bench", 1, 1), own("0", "0"));
        assert_eq!(cores("bench --proxy-cores 4 --load-cores 5-6", 1, 8), own("4", "5-6"));
    }

    #[test]
    fn what_is_asked_for_is_chosen() {
        let names = |line: &str| chosen(&options(line)).map(|s| s.iter().map(|s| s.name).collect::<Vec<_>>());
        assert_eq!(names("bench --only h2,small").unwrap(), ["small", "h2"]);
        assert_eq!(names("bench").unwrap().len(), SCENARIOS.len());
        names("bench --only fast").unwrap_err();
        names("bench --peers apache").unwrap_err();
        names("bench --workers 0").unwrap_err();
    }
}
