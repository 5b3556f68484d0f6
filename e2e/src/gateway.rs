//! The gateway as a process: configuration in a folder of its own, ports from the OS, stopped by its process id.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use http::Request;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    captured::Captured,
    client::{Body, Client, Reply, empty, full},
    ports::free_port,
    wait::{LONG, within},
};

/// What most tests start from: one listener called `web` and the admin listener.
const BASE: &str = r#"
[listeners.web]
address = "127.0.0.1:{port}"

[admin]
address = "127.0.0.1:{admin}"
"#;

/// How long a gateway may take to become ready.
const READY: Duration = Duration::from_secs(20);

/// How long it may take to leave after SIGTERM when a test is over, before it is killed. Short: the clients of a test
/// that is over close nothing any more, and the promises about leaving are `shutdown`'s.
const LEAVE: Duration = Duration::from_millis(300);

/// A gateway to be started.
///
/// `{port}`, `{port2}` …, `{admin}` in the configuration become free ports, `{dir}` the folder of the configuration,
/// and what `set` names becomes what it says.
pub struct Setup {
    top: String,
    text: String,
    base: bool,
    name: String,
    dir: TempDir,
    values: Vec<(String, String)>,
    env: Vec<(String, String)>,
    arguments: Vec<String>,
    called: Option<PathBuf>,
    wait_ready: bool,
}

/// A running gateway.
pub struct Gateway {
    child: Child,
    /// Its folder.
    pub dir: TempDir,
    /// Its configuration file.
    pub config: PathBuf,
    ports: HashMap<String, u16>,
    values: Vec<(String, String)>,
    stdout: Captured,
    stderr: Captured,
}

impl Setup {
    /// A configuration on top of the one listener and the admin listener.
    pub fn new(text: &str) -> Setup {
        Setup {
            top: String::new(),
            text: text.to_owned(),
            base: true,
            name: "gateway.toml".to_owned(),
            dir: tempfile::Builder::new().prefix("portcullis-e2e-").tempdir().expect("a temporary folder"),
            values: Vec::new(),
            env: Vec::new(),
            arguments: Vec::new(),
            called: None,
            wait_ready: true,
        }
    }

    /// The configuration is the whole of it, in a file of this name.
    pub fn whole(name: &str, text: &str) -> Setup {
        Setup { base: false, name: name.to_owned(), ..Setup::new(text) }
    }

    /// Keys at the top of the document, before its tables.
    pub fn top(mut self, text: &str) -> Setup {
        self.top.push_str(text);
        self.top.push('\n');
        self
    }

    /// `{name}` in the configuration becomes this.
    pub fn set(mut self, name: &str, value: impl ToString) -> Setup {
        self.values.push((format!("{{{name}}}"), value.to_string()));
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An argument of `run`, beside the configuration.
    pub fn argument(mut self, argument: &str) -> Setup {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Runs the binary by this path, a symbolic link that [`install`] makes.
    pub fn called(mut self, path: &Path) -> Setup {
        self.called = Some(path.to_owned());
        self
    }

    /// A file beside the configuration.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Setup {
        std::fs::write(self.dir.path().join(name), content).expect("write a file");
        self
    }

    /// Does not wait for `/ready` on the admin listener (which the configuration may not have).
    pub fn without_waiting(mut self) -> Setup {
        self.wait_ready = false;
        self
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it, and waits until it is ready.
    pub async fn start(mut self) -> Gateway {
        let mut last = String::new();
        for _ in 0..5 {
            match self.attempt().await {
                Ok(gateway) => return gateway,
                // Somebody took a port between our finding it free and the gateway's binding it.
                Err((dir, said)) if said.contains("in use") => {
                    self.dir = dir;
                    last = said;
                }
                Err((_, said)) => panic!("the gateway did not start:\n{said}"),
            }
        }
        panic!("the gateway found its ports taken five times:\n{last}");
    }

    async fn attempt(&mut self) -> Result<Gateway, (TempDir, String)> {
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a temporary folder"));
        let text = format!("{}{}{}", self.top, if self.base { BASE } else { "" }, self.text);
        let mut ports = HashMap::new();
        let text = fill(&text, &mut ports, &self.values, dir.path());
        let config = dir.path().join(&self.name);
        std::fs::write(&config, text).expect("write the configuration");
        let mut command = command_of(self.called.clone().unwrap_or_else(binary), dir.path());
        command.arg("run").arg("-c").arg(&config).args(&self.arguments);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start the gateway");
        let stdout = Captured::from(child.stdout.take());
        let stderr = Captured::from(child.stderr.take());
        let mut gateway = Gateway { child, dir, config, ports, values: self.values.clone(), stdout, stderr };
        if !self.wait_ready {
            return Ok(gateway);
        }
        let end = Instant::now() + READY;
        loop {
            if let Ok(Some(status)) = gateway.child.try_wait() {
                gateway.stderr.settle();
                let said = format!("{status}\n{}{}", gateway.stdout(), gateway.stderr());
                return Err((gateway.into_dir(), said));
            }
            if is_ready(gateway.admin()).await {
                return Ok(gateway);
            }
            if Instant::now() > end {
                let said = format!("not ready within {READY:?}\n{}{}", gateway.stdout(), gateway.stderr());
                return Err((gateway.into_dir(), said));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let Ok(mut client) = Client::try_h1(admin).await else { return false };
    let request = Request::get("/ready").body(empty()).expect("a request");
    matches!(client.try_fetch(request).await, Ok(reply) if reply.status == 200)
}

impl Gateway {
    /// Starts a gateway with this configuration on top of the one listener and the admin listener.
    pub async fn start(text: &str) -> Gateway {
        Setup::new(text).start().await
    }

    /// Where the listener `web` is.
    pub fn addr(&self) -> SocketAddr {
        self.at("port")
    }

    /// Where the admin listener is.
    pub fn admin(&self) -> SocketAddr {
        self.at("admin")
    }

    /// The address behind a port's name in the configuration.
    pub fn at(&self, port: &str) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[port]))
    }

    /// GET over a connection of its own.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(empty()).expect("a request")).await
    }

    /// Any request over a connection of its own.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        Client::h1(self.addr()).await.fetch(request).await
    }

    /// GET from the admin listener.
    pub async fn admin_get(&self, path: &str) -> Reply {
        let request = Request::get(path).body(empty()).expect("a request");
        Client::h1(self.admin()).await.fetch(request).await
    }

    /// POST to the admin listener.
    pub async fn admin_post(&self, path: &str) -> Reply {
        let request = Request::post(path).body(full("")).expect("a request");
        Client::h1(self.admin()).await.fetch(request).await
    }

    /// The metrics page.
    pub async fn metrics(&self) -> crate::metrics::Page {
        let reply = self.admin_get("/metrics").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        crate::metrics::Page::parse(&reply.text())
    }

    /// The text of a configuration for this gateway: the base, and the same ports and values as at its start.
    pub fn render(&mut self, text: &str) -> String {
        let text = format!("{BASE}{text}");
        fill(&text, &mut self.ports, &self.values, self.dir.path())
    }

    /// Writes a new configuration over the old file, in place.
    pub fn rewrite(&mut self, text: &str) {
        let text = self.render(text);
        std::fs::write(&self.config, text).expect("write the configuration");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal for the gateway");
    }

    /// Waits until it ended.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("the gateway's status") {
                self.stdout.settle();
                self.stderr.settle();
                return status;
            }
            assert!(Instant::now() < end, "the gateway did not end within {limit:?}\n{}", self.stderr());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Is it still there?
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it wrote to its standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it wrote to its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until its standard output or error holds this text.
    pub async fn says(&self, text: &str) {
        let what = format!("the gateway to say {text:?}");
        let said = || async { self.stdout().contains(text) || self.stderr().contains(text) };
        within(LONG, &what, said).await;
    }

    /// Memory in use, KiB: now, and at its highest.
    pub fn memory_kib(&self) -> (u64, u64) {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// How many of its threads have a name that begins so.
    pub fn threads(&self, name: &str) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        // A thread may end while we look.
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|found| found.starts_with(name)).count()
    }

    fn into_dir(mut self) -> TempDir {
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a temporary folder"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let end = Instant::now() + LEAVE;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if std::thread::panicking() {
            eprintln!("--- the gateway said:\n{}{}---", tail(&self.stdout()), tail(&self.stderr()));
        }
    }
}

/// Runs the binary to its end with these arguments, in a folder.
pub fn run(dir: &Path, arguments: &[&str]) -> Output {
    command(dir).args(arguments).stdin(Stdio::null()).output().expect("run the gateway")
}

/// The binary, ready for arguments: in a folder, with a clean environment.
pub fn command(dir: &Path) -> Command {
    command_of(binary(), dir)
}

fn command_of(binary: PathBuf, dir: &Path) -> Command {
    let mut command = Command::new(binary);
    command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", dir).stdin(Stdio::null());
    command
}

/// Makes a path lead to a program, as a package manager does: at once, whatever was there before.
pub fn install(program: &Path, path: &Path) {
    let beside = path.with_extension("new");
    std::os::unix::fs::symlink(program, &beside).expect("a symbolic link");
    std::fs::rename(&beside, path).expect("a new program");
}

/// The gateway's binary: `PORTCULLIS_BIN`, or the one in the folder that this test executable was built into.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PORTCULLIS_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("the path of this test");
    let built =
        test.parent().and_then(Path::parent).map(|dir| dir.join("portcullis")).expect("a target folder");
    assert!(
        built.exists(),
        "{} is not there: `cargo build --workspace --bins` first, or set PORTCULLIS_BIN",
        built.display()
    );
    built
}

fn fill(text: &str, ports: &mut HashMap<String, u16>, values: &[(String, String)], dir: &Path) -> String {
    let mut text = text.replace("{dir}", &dir.display().to_string());
    for (name, value) in values {
        text = text.replace(name, value);
    }
    for name in ["port", "port2", "port3", "port4", "admin"] {
        let token = format!("{{{name}}}");
        if text.contains(&token) {
            let port = *ports.entry(name.to_owned()).or_insert_with(free_port);
            text = text.replace(&token, &port.to_string());
        }
    }
    text
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(60);
    lines[from..].iter().map(|line| format!("{line}\n")).collect()
}
