//! The conductor: endpoints up, proxies up, work compared, then runs in turn, scenario by scenario.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    Options,
    load::{self, Load},
    machine::Machine,
    peers::{PEERS, Peer, Role, Site},
    preflight,
    process::{Launch, Process, free_ports},
    procfs, report,
    scenario::{SCENARIOS, Scenario},
};

/// One run of one proxy.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// What the load generator counted.
    pub load: Load,
    /// CPU time of the proxy, seconds.
    pub cpu: f64,
    /// Peak memory of the proxy since its start, MB.
    pub memory: f64,
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
    /// Runs in time order.
    pub runs: Vec<Vec<Run>>,
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
    /// Workers of each.
    pub workers: usize,
}

/// What stays the same over all scenarios.
struct Stage<'a> {
    options: &'a Options,
    dir: PathBuf,
    endpoint: Process,
    endpoints: [SocketAddr; 2],
    seconds: u64,
    rounds: usize,
}

/// A proxy that is running.
struct Running {
    process: Process,
    address: SocketAddr,
}

/// Runs the whole comparison and prints it.
pub fn run(options: &Options) -> Result<()> {
    let scenarios = chosen(options)?;
    let scratch = tempfile::Builder::new().prefix("portcullis-bench-").tempdir()?;
    let dir = match &options.keep {
        Some(dir) => {
            fs::create_dir_all(dir)?;
            dir.canonicalize()?
        }
        None => scratch.path().to_owned(),
    };
    // nginx started by root gives its workers to another user, who must be able to enter.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    let stage = Stage::set(options, dir)?;
    let mut entries = stage.entries()?;
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        eprintln!("{}: {}", scenario.name, scenario.what);
        outcomes.push(stage.play(scenario, &mut entries)?);
    }
    let results = Results {
        machine: Machine::look(),
        entries,
        outcomes,
        seconds: stage.seconds,
        rounds: stage.rounds,
        workers: options.workers,
    };
    let text = report::markdown(&results);
    println!("{text}");
    if let Some(path) = &options.markdown {
        fs::write(path, &text).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &options.json {
        fs::write(path, report::json(&results)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The scenarios asked for, all without a choice.
fn chosen(options: &Options) -> Result<Vec<&'static Scenario>> {
    for name in &options.only {
        ensure!(SCENARIOS.iter().any(|s| s.name == name), "no scenario {name:?}; see --list");
    }
    for name in &options.peers {
        ensure!(
            PEERS.iter().any(|p| p.name == name),
            "no peer {name:?}; known: nginx, haproxy, nginx-tuned, haproxy-tuned, relay"
        );
    }
    Ok(SCENARIOS
        .iter()
        .filter(|s| options.only.is_empty() || options.only.iter().any(|n| n == s.name))
        .collect())
}

impl<'a> Stage<'a> {
    fn set(options: &'a Options, dir: PathBuf) -> Result<Stage<'a>> {
        let ports = free_ports(2)?;
        let &[a, b] = ports.as_slice() else { bail!("two ports") };
        let mut launch = Launch::new(std::env::current_exe()?, ["endpoint"]);
        for address in [a, b] {
            launch.args.extend(["--listen".into(), address.to_string().into()]);
        }
        let endpoint = Process::start("endpoint", &launch, &options.load_cores, &dir, b)?;
        let (seconds, rounds) = if options.quick { (2, 3) } else { (5, 5) };
        Ok(Stage {
            options,
            dir,
            endpoint,
            endpoints: [a, b],
            seconds: options.seconds.unwrap_or(seconds).max(1),
            rounds: options.rounds.unwrap_or(rounds).max(1),
        })
    }

    /// Who takes part. A peer that is missing is left out, loudly; that nobody is left is an error.
    fn entries(&self) -> Result<Vec<Entry>> {
        let site = self.site(&self.dir)?;
        let mut out = Vec::new();
        for peer in PEERS {
            if peer.role != Role::Ours && !self.options.peers.iter().any(|n| n == peer.name) {
                continue;
            }
            match (peer.version)(&site) {
                Ok(version) => out.push(Entry { peer, version, received: String::new() }),
                Err(why) => eprintln!("LEFT OUT: {}: {why:#}", peer.name),
            }
        }
        ensure!(!out.is_empty(), "nothing to compare");
        Ok(out)
    }

    /// Fresh addresses for one proxy.
    fn site(&self, dir: &Path) -> Result<Site> {
        let ports = free_ports(2)?;
        let &[listen, admin] = ports.as_slice() else { bail!("two ports") };
        let beside = std::env::current_exe()?.with_file_name("portcullis");
        Ok(Site {
            dir: dir.to_owned(),
            listen,
            admin,
            endpoints: self.endpoints,
            workers: self.options.workers,
            portcullis: self.options.portcullis.clone().unwrap_or(beside),
        })
    }

    /// One scenario: every proxy is started afresh (so that memory is this scenario's), checked, warmed up;
    /// then they take turns, each round beginning with another, so that a slow minute of the machine hits all.
    fn play(&self, scenario: &'static Scenario, entries: &mut [Entry]) -> Result<Outcome> {
        let mut running: Vec<Option<Running>> = Vec::new();
        for entry in entries.iter_mut() {
            running.push(if scenario.concerns(entry.peer.role) {
                Some(self.start(scenario, entry)?)
            } else {
                None
            });
        }
        let mut runs = vec![Vec::new(); entries.len()];
        for (round, turn) in (0..self.rounds).flat_map(|r| (0..entries.len()).map(move |t| (r, t))) {
            let index = (round + turn) % entries.len();
            let (Some(entry), Some(Some(proxy)), Some(runs)) =
                (entries.get(index), running.get_mut(index), runs.get_mut(index))
            else {
                continue;
            };
            let run = self.measure(scenario, entry, proxy)?;
            eprintln!(
                "  {}/{} {:<13} {:>8.0} requests/s  {:>8.2} us CPU each  {} errors{}",
                round + 1,
                self.rounds,
                entry.peer.name,
                run.rate(),
                run.cpu_per_request(),
                run.load.errors.total(),
                if run.noise_proxy.max(run.noise_load) > report::NOISY { "  (noisy)" } else { "" },
            );
            runs.push(run);
        }
        Ok(Outcome { scenario, runs })
    }

    fn start(&self, scenario: &Scenario, entry: &mut Entry) -> Result<Running> {
        let name = entry.peer.name;
        let dir = self.dir.join(scenario.name).join(name);
        fs::create_dir_all(&dir)?;
        let site = self.site(&dir)?;
        let launch = (entry.peer.launch)(&site).with_context(|| format!("configuring {name}"))?;
        let process = Process::start(name, &launch, &self.options.proxy_cores, &dir, site.listen)?;
        entry.received = preflight::check(entry.peer, site.listen)
            .with_context(|| format!("{name} does not do the work that is compared"))?;
        load::run(scenario, site.listen, 1, &self.options.load_cores, &self.dir)?;
        Ok(Running { process, address: site.listen })
    }

    fn measure(&self, scenario: &Scenario, entry: &Entry, proxy: &mut Running) -> Result<Run> {
        self.quiesce()?;
        let pids = procfs::tree(proxy.process.pid());
        let (ours, theirs) = (&self.options.proxy_cores, &self.options.load_cores);
        let look = || {
            let behind = procfs::cpu_seconds(&[self.endpoint.pid()]) + procfs::ended_children_cpu_seconds();
            (procfs::cpu_seconds(&pids), behind, procfs::busy_seconds(ours), procfs::busy_seconds(theirs))
        };
        let (seen, began, before) = (preflight::seen(self.endpoints[0])?, Instant::now(), look());
        let load = load::run(scenario, proxy.address, self.seconds, theirs, &self.dir)?;
        let (after, elapsed) = (look(), began.elapsed().as_secs_f64());
        let now = preflight::seen(self.endpoints[0])?;
        if let Some(why) = proxy.process.ended() {
            bail!(why);
        }
        honest(scenario, &load, now.requests - seen.requests)
            .with_context(|| format!("{} in {}", entry.peer.name, scenario.name))?;
        let (cpu, behind) = (after.0 - before.0, after.1 - before.1);
        let share = |busy: f64, known: f64, cores: &str| {
            (busy - known).max(0.0) / (elapsed * procfs::parse_cores(cores).len().max(1) as f64)
        };
        let workers = if entry.peer.supervised { pids.get(1..).unwrap_or_default() } else { &pids };
        Ok(Run {
            load,
            cpu,
            memory: procfs::peak_memory_mb(workers),
            // The second look at the counters is a connection of ours.
            opened: (now.connections - seen.connections).saturating_sub(1),
            noise_proxy: share(after.2 - before.2, cpu, ours),
            noise_load: share(after.3 - before.3, behind, theirs),
        })
    }

    /// Waits until the endpoints have nothing more to do: the end of one run must not be paid by the next.
    fn quiesce(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut last = procfs::cpu_seconds(&[self.endpoint.pid()]);
        loop {
            sleep(Duration::from_millis(100));
            let now = procfs::cpu_seconds(&[self.endpoint.pid()]);
            if now <= last {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the endpoints do not come to rest");
            last = now;
        }
    }
}

/// Every answer that was counted came whole, and from an endpoint.
fn honest(scenario: &Scenario, load: &Load, reached: u64) -> Result<()> {
    ensure!(load.requests > 0, "nothing was answered");
    let good = load.requests.saturating_sub(load.errors.status);
    let least = good * scenario.answer as u64;
    ensure!(load.bytes >= least, "answers were cut short: {} of at least {least} bytes", load.bytes);
    ensure!(reached >= good, "{good} requests were answered well, but only {reached} reached an endpoint");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_invented_answers_are_found() {
        let load = Load { requests: 10, bytes: 10_000, ..Load::default() };
        honest(&SCENARIOS[0], &load, 11).unwrap();
        honest(&SCENARIOS[0], &load, 9).unwrap_err();
        honest(&SCENARIOS[0], &Load { bytes: 100, ..load }, 11).unwrap_err();
        honest(&SCENARIOS[0], &Load { requests: 0, ..load }, 11).unwrap_err();
    }
}
