//! Where the proxies meet: endpoints up, proxies up, work compared, then runs in turn.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    Options,
    certificate::Certificate,
    compare::{Cores, Entry, Outcome, Run},
    load::{self, Errors, Load, Order, idle},
    peers::{PEERS, Role, Site, Work},
    preflight,
    process::{Launch, Process, free_ports},
    procfs,
    report::NOISY,
    scenario::{SCENARIOS, Scenario, Tool},
};

/// What stays the same over all scenarios.
pub struct Stage<'a> {
    options: &'a Options,
    cores: Cores,
    dir: PathBuf,
    endpoint: Process,
    endpoints: [SocketAddr; 2],
    certificate: Certificate,
    workers: usize,
    /// Length of a run.
    pub seconds: u64,
    /// Runs of each proxy in each scenario.
    pub rounds: usize,
}

/// A proxy that is running.
struct Running {
    process: Process,
    site: Site,
}

impl<'a> Stage<'a> {
    /// Starts the endpoints.
    pub fn set(options: &'a Options, workers: usize, cores: Cores, dir: PathBuf) -> Result<Stage<'a>> {
        let ports = free_ports(2)?;
        let &[a, b] = ports.as_slice() else { bail!("two ports") };
        let mut launch = Launch::new(std::env::current_exe()?, ["endpoint"]);
        for address in [a, b] {
            launch.args.extend(["--listen".into(), address.to_string().into()]);
        }
        let endpoint = Process::start("endpoint", &launch, &cores.load, &dir, b)?;
        let (seconds, rounds) = if options.quick { (1, 2) } else { (4, 5) };
        Ok(Stage {
            options,
            cores,
            certificate: Certificate::make(&dir)?,
            dir,
            endpoint,
            endpoints: [a, b],
            workers,
            seconds: options.seconds.unwrap_or(seconds).max(1),
            rounds: options.rounds.unwrap_or(rounds).max(1),
        })
    }

    /// Who takes part. A peer that is missing is left out, loudly; that nobody is left is an error.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let site = self.site(&self.dir, SCENARIOS.first().context("a scenario")?.work)?;
        let asked = |name: &str| self.options.peers.as_ref().is_none_or(|all| all.iter().any(|n| n == name));
        let mut out = Vec::new();
        for peer in PEERS.iter().filter(|p| p.role == Role::Ours || asked(p.name)) {
            match (peer.version)(&site) {
                Ok(version) => out.push(Entry { peer, version, received: String::new() }),
                Err(why) => eprintln!("LEFT OUT: {}: {why:#}", peer.name),
            }
        }
        ensure!(!out.is_empty(), "nothing to compare");
        Ok(out)
    }

    /// Fresh addresses for one proxy.
    fn site(&self, dir: &Path, work: Work) -> Result<Site> {
        let ports = free_ports(2)?;
        let &[listen, admin] = ports.as_slice() else { bail!("two ports") };
        let beside = std::env::current_exe()?.with_file_name("portcullis");
        Ok(Site {
            dir: dir.to_owned(),
            listen,
            admin,
            endpoints: self.endpoints,
            workers: self.workers,
            portcullis: self.options.portcullis.clone().unwrap_or(beside),
            certificate: self.certificate.clone(),
            work,
        })
    }

    /// One scenario: every proxy is started afresh (so that memory is this scenario's), checked, warmed up;
    /// then they take turns, each round beginning with another, so that a slow minute of the machine hits all. One that
    /// does not start or does not do the work is out of this scenario.
    pub fn play(&self, scenario: &'static Scenario, entries: &mut [Entry]) -> Result<Outcome> {
        let mut out = Outcome {
            scenario,
            workers: self.workers,
            pace: None,
            runs: vec![Vec::new(); entries.len()],
            left_out: Vec::new(),
            failures: Vec::new(),
        };
        let mut running: Vec<Option<Running>> = Vec::new();
        for entry in entries.iter_mut() {
            let mut started = None;
            let concerned = scenario.concerns(entry.peer.role, self.workers);
            if let Some(why) = scenario.cannot(entry.peer).filter(|_| concerned) {
                out.left_out.push((entry.peer.name, why));
            } else if concerned {
                match self.start(scenario, entry) {
                    Ok(proxy) => started = Some(proxy),
                    Err(why) => out.failures.push((entry.peer.name, said(&why))),
                }
            }
            running.push(started);
        }
        if scenario.tool == Tool::Pace {
            out.pace = Some(self.pace(scenario, entries, &running)?);
        }
        let count = entries.len();
        for (round, turn) in (0..self.rounds).flat_map(|r| (0..count).map(move |t| (r, t))) {
            let index = (round + turn) % count;
            let (Some(entry), Some(slot), Some(runs)) =
                (entries.get_mut(index), running.get_mut(index), out.runs.get_mut(index))
            else {
                continue;
            };
            let Some(proxy) = slot else { continue };
            let name = entry.peer.name;
            match self.turn(scenario, entry, proxy, out.pace) {
                Ok(run) => {
                    self.tell(round, name, scenario, &run);
                    runs.push(run);
                }
                Err(why) => {
                    out.failures.push((name, said(&why)));
                    // A bad minute may pass; what has ended does not come back (where it is started each time, it does).
                    if scenario.tool != Tool::Idle && proxy.process.ended().is_some() {
                        *slot = None;
                    }
                }
            }
        }
        Ok(out)
    }

    fn tell(&self, round: usize, name: &str, scenario: &Scenario, run: &Run) {
        let noisy = if run.noise_proxy.max(run.noise_load) > NOISY { "  (noisy)" } else { "" };
        let figures: Vec<String> = crate::measure::Measure::of_tool(scenario.tool)
            .iter()
            .map(|m| format!("{:>9.*} {}", m.digits(m.of(run)), m.of(run), m.title(scenario.tool)))
            .collect();
        let (round, errors) = (round + 1, run.load.errors.total());
        eprintln!("  {round}/{} {name:<13} {}  {errors} errors{noisy}", self.rounds, figures.join("  "));
    }

    fn start(&self, scenario: &Scenario, entry: &mut Entry) -> Result<Running> {
        let proxy = self.begin(scenario, entry)?;
        if scenario.tool != Tool::Idle {
            load::run(&Order { seconds: 1, ..self.order(scenario, &proxy.site, None) })
                .context("warming up")?;
        }
        Ok(proxy)
    }

    /// Starts a proxy and looks whether it does its work.
    fn begin(&self, scenario: &Scenario, entry: &mut Entry) -> Result<Running> {
        let name = entry.peer.name;
        let dir = self.dir.join(scenario.name).join(name);
        fs::create_dir_all(&dir)?;
        let site = self.site(&dir, scenario.work)?;
        let launch = (entry.peer.launch)(&site).with_context(|| format!("configuring {name}"))?;
        let process = Process::start(name, &launch, &self.cores.proxy, &dir, site.listen)?;
        entry.received = preflight::check(entry.peer, &site)
            .with_context(|| format!("{name} does not do the work that is compared"))?;
        Ok(Running { process, site })
    }

    fn order<'o>(&'o self, scenario: &'o Scenario, site: &Site, pace: Option<u64>) -> Order<'o> {
        Order {
            scenario,
            target: site.listen,
            seconds: self.seconds,
            pace,
            cores: &self.cores.load,
            dir: &self.dir,
        }
    }

    /// The fixed rate: 70 % of what the slower of nginx and HAProxy answers at its best; without them, of what the slowest
    /// of all does.
    fn pace(&self, scenario: &Scenario, entries: &[Entry], running: &[Option<Running>]) -> Result<u64> {
        let mut peaks = Vec::new();
        for (entry, proxy) in entries.iter().zip(running) {
            if let Some(proxy) = proxy {
                let peak = load::run(&self.order(scenario, &proxy.site, None))?;
                peaks.push((entry.peer.role, peak.requests as f64 / peak.seconds));
            }
        }
        let reference = peaks.iter().any(|(role, _)| *role == Role::Reference);
        let counts = peaks.iter().filter(|(role, _)| !reference || *role == Role::Reference);
        let slowest = counts.map(|(_, peak)| *peak).reduce(f64::min).context("no proxy runs")?;
        let rate = (0.7 * slowest / 100.0).floor().max(1.0) as u64 * 100;
        eprintln!("  at {rate} requests/s");
        Ok(rate)
    }

    fn turn(
        &self,
        scenario: &Scenario,
        entry: &mut Entry,
        proxy: &mut Running,
        pace: Option<u64>,
    ) -> Result<Run> {
        if scenario.tool == Tool::Idle {
            return self.hold(scenario, entry, proxy);
        }
        let mut run = self.measure(scenario, entry, proxy, pace)?;
        if scenario.work.everything {
            run.unlogged = run.load.requests.saturating_sub(logged(&proxy.site, entry.peer.name)?);
        }
        Ok(run)
    }

    fn measure(
        &self,
        scenario: &Scenario,
        entry: &Entry,
        proxy: &mut Running,
        pace: Option<u64>,
    ) -> Result<Run> {
        self.quiesce()?;
        let pids = procfs::tree(proxy.process.pid());
        let (ours, theirs) = (&self.cores.proxy, &self.cores.load);
        let look = || {
            let behind = procfs::cpu_seconds(&[self.endpoint.pid()]) + procfs::ended_children_cpu_seconds();
            (procfs::cpu_seconds(&pids), behind, procfs::busy_seconds(ours), procfs::busy_seconds(theirs))
        };
        let (seen, began, before) = (preflight::seen(self.endpoints[0])?, Instant::now(), look());
        let load = load::run(&self.order(scenario, &proxy.site, pace))?;
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
        // Cores that are shared have one noise.
        let shared = ours == theirs;
        let (known, other) = if shared { (cpu + behind, cpu + behind) } else { (cpu, behind) };
        let workers = if entry.peer.supervised { pids.get(1..).unwrap_or_default() } else { &pids };
        Ok(Run {
            load,
            cpu,
            memory: procfs::peak_memory_mb(workers),
            // The second look at the counters is a connection of ours.
            opened: (now.connections - seen.connections).saturating_sub(1),
            noise_proxy: share(after.2 - before.2, known, ours),
            noise_load: share(after.3 - before.3, other, theirs),
            ..Run::default()
        })
    }

    /// Opens idle connections and looks at the memory before and with them. The proxy is another each time: one that has
    /// had the connections before keeps their memory.
    fn hold(&self, scenario: &Scenario, entry: &mut Entry, proxy: &mut Running) -> Result<Run> {
        // Stopped before: it may watch its configuration, which the next one's is written over.
        proxy.process.stop();
        *proxy = self.begin(scenario, entry)?;
        sleep(Duration::from_millis(300));
        let pids = procfs::tree(proxy.process.pid());
        let workers = if entry.peer.supervised { pids.get(1..).unwrap_or_default() } else { &pids };
        let count = scenario.work.connections;
        let (cpu, began) = (procfs::cpu_seconds(&pids), Instant::now());
        let resting = procfs::memory_mb(workers);
        let held = idle::hold(proxy.site.listen, count)?;
        sleep(Duration::from_millis(500));
        let with = procfs::memory_mb(workers);
        let load = Load {
            requests: count as u64,
            seconds: began.elapsed().as_secs_f64(),
            errors: Errors { read: held.lost()?, ..Errors::default() },
            ..Load::default()
        };
        Ok(Run {
            load,
            cpu: procfs::cpu_seconds(&pids) - cpu,
            memory: procfs::peak_memory_mb(workers),
            resting,
            per_connection: (with - resting) * 1e6 / 1024.0 / count as f64,
            ..Run::default()
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

/// Every answer that was counted came whole, and from an endpoint (or the cache, where that is compared). Handshakes have
/// none.
fn honest(scenario: &Scenario, load: &Load, reached: u64) -> Result<()> {
    ensure!(load.requests > 0, "nothing was answered");
    if matches!(scenario.tool, Tool::Handshakes { .. }) {
        return Ok(());
    }
    let good = load.requests.saturating_sub(load.errors.status);
    let least = good * scenario.answer as u64;
    ensure!(load.bytes >= least, "answers were cut short: {} of at least {least} bytes", load.bytes);
    if scenario.work.cached {
        // Those at the edge of a run, at most.
        ensure!(reached <= 8, "{reached} requests reached an endpoint, which the cache should have answered");
        return Ok(());
    }
    ensure!(reached >= good, "{good} requests were answered well, but only {reached} reached an endpoint");
    Ok(())
}

/// An error in a few lines; a part of this program that failed may have told where in its code, too.
fn said(why: &anyhow::Error) -> String {
    let text = format!("{why:#}");
    let text = text.split("Stack backtrace:").next().unwrap_or_default().trim_end();
    text.chars().take(600).collect()
}

/// Lines of the access log; the last of them is JSON. It is emptied then: those of an hour would fill a disk.
fn logged(site: &Site, name: &str) -> Result<u64> {
    // What is buffered comes within a second.
    sleep(Duration::from_millis(1200));
    let own = site.access_log();
    let path = if own.exists() { own } else { site.dir.join(format!("{name}.log")) };
    let file = File::options().read(true).write(true).open(&path).context("the access log")?;
    let (mut lines, mut line, mut reader) = (0, String::new(), BufReader::new(&file));
    let mut next = String::new();
    while reader.read_line(&mut next)? > 0 {
        // HAProxy's own words are in the same file.
        if next.starts_with('{') {
            lines += 1;
            std::mem::swap(&mut line, &mut next);
        }
        next.clear();
    }
    ensure!(lines > 0, "the access log has no lines");
    let last: Value = serde_json::from_str(&line).with_context(|| format!("the access log says {line:?}"))?;
    ensure!(last.is_object(), "the access log says {last}");
    file.set_len(0)?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_said_without_traces() {
        let why =
            anyhow::anyhow!("it failed:\nError: no\n\nStack backtrace:\n 0: main").context("warming up");
        assert_eq!(said(&why), "warming up: it failed:\nError: no");
    }

    #[test]
    fn short_and_invented_answers_are_found() {
        let load = Load { requests: 10, bytes: 10_000, ..Load::default() };
        honest(&SCENARIOS[0], &load, 11).unwrap();
        honest(&SCENARIOS[0], &load, 9).unwrap_err();
        honest(&SCENARIOS[0], &Load { bytes: 100, ..load }, 11).unwrap_err();
        honest(&SCENARIOS[0], &Load { requests: 0, ..load }, 11).unwrap_err();
        let handshakes = SCENARIOS.iter().find(|s| s.name == "tls-full").unwrap();
        honest(handshakes, &Load { bytes: 0, ..load }, 0).unwrap();
    }
}
