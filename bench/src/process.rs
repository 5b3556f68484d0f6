//! Processes that the benchmark starts: pinned to cores, logged to a file, waited for until they listen, and
//! stopped by their process id whatever happens.

use std::{
    ffi::OsString,
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::procfs;

/// How long a started program may take until it listens.
const START: Duration = Duration::from_secs(10);
/// How long a stopped one may take to leave before it is killed.
const STOP: Duration = Duration::from_secs(3);

/// A program and its arguments.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables beside those of the benchmark's own environment.
    pub variables: Vec<(&'static str, OsString)>,
}

impl Launch {
    /// A program with arguments.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<OsString>>) -> Launch {
        Launch {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            variables: Vec::new(),
        }
    }

    /// Sets a variable.
    pub fn environment(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.variables.push((name, value.into()));
    }

    /// The same, pinned to cores. `setpriv` sees to it that it ends when the benchmark is killed; both it and
    /// `taskset` replace themselves by the program, so the process id stays the child's.
    pub fn command(&self, cores: &str) -> Command {
        let mut out = Command::new("setpriv");
        out.args(["--pdeathsig", "TERM", "taskset", "-c", cores]).arg(&self.program).args(&self.args);
        out.envs(self.variables.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        out
    }
}

/// A running program; dropping it stops it and all it started.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it and waits until it accepts connections at `address`.
    pub fn start(
        name: &str,
        launch: &Launch,
        cores: &str,
        dir: &Path,
        address: SocketAddr,
    ) -> Result<Process> {
        let log = dir.join(format!("{name}.log"));
        // Appended to, so that it can be emptied while it is written to.
        let file = File::options().create(true).append(true).open(&log)?;
        let child = launch
            .command(cores)
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("starting setpriv and taskset (Debian package util-linux)")?;
        let mut process = Process { name: name.into(), child, log };
        process.await_address(address)?;
        Ok(process)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `Some(why)` when it has ended although nobody stopped it.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("{} ended by itself ({status}); its last words:\n{}", self.name, self.last_words()))
    }

    /// Stops it and all it started; one that has been stopped stays so.
    pub fn stop(&mut self) {
        let pids = procfs::tree(self.pid());
        if matches!(self.child.try_wait(), Ok(None)) {
            signal("-TERM", &pids[..1]);
            let deadline = Instant::now() + STOP;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                sleep(Duration::from_millis(10));
            }
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            signal("-KILL", &pids);
            let _ = self.child.wait();
        }
    }

    fn await_address(&mut self, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if let Some(why) = self.ended() {
                bail!(why);
            }
            if Instant::now() > deadline {
                bail!("{} does not listen on {address}; its last words:\n{}", self.name, self.last_words());
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends a signal to processes of ours. The standard library knows only SIGKILL, which would leave nginx's
/// workers behind.
fn signal(signal: &str, pids: &[u32]) {
    let _ =
        Command::new("kill").arg(signal).args(pids.iter().map(u32::to_string)).stderr(Stdio::null()).status();
}

/// Runs to the end within a deadline, else kills it. Answers what it wrote.
pub fn run(launch: &Launch, cores: &str, within: Duration) -> Result<String> {
    let mut child = launch.command(cores).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + within;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("{} did not end within {within:?}", launch.program.display());
        }
        sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}):\n{text}{error}", launch.program.display(), output.status);
    }
    Ok(text)
}

/// Finds a program in PATH and in the folders of administrators, which PATH often lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}

/// Free ports on loopback, below the range that the kernel takes for outgoing connections, so that none of the
/// many connections of a run can take one before it is listened on.
pub fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let below: u16 = range.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(32768);
    let (first, last) = if below > 11_000 { (10_000, below) } else { (61_000, 65_535) };
    let width = u32::from(last - first);
    let start = std::process::id().wrapping_mul(97) % width;
    let free: Vec<SocketAddr> = (0..width)
        .filter_map(|i| u16::try_from((start + i) % width).ok())
        .map(|offset| SocketAddr::from(([127, 0, 0, 1], first + offset)))
        .filter(|address| TcpListener::bind(address).is_ok())
        .take(count)
        .collect();
    if free.len() < count {
        bail!("no {count} free ports on loopback");
    }
    Ok(free)
}
