//! An upgrade as the old process sees it: it starts the new one, gives it what it needs, and waits until it is ready.

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use portcullis_proxy::Inherited;
use rustix::process::{Pid, Signal, kill_process};

use super::{
    predecessor::VARIABLE,
    wire::{self, Answer, Estate},
};

/// How long a process that has closed its end may take to end itself.
const GRACE: Duration = Duration::from_secs(2);
/// What our own start left in the environment, and what means nobody but us.
const OURS_ALONE: [&str; 5] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_FDS_FIRST_FD", "WATCHDOG_PID"];

/// How this process was started, and so how the next one is.
#[derive(Debug, Clone)]
pub struct Program {
    /// As it was called. Not what that was at the time: an upgrade means what is there now.
    called: PathBuf,
    /// The file that this process runs.
    running: Option<PathBuf>,
    arguments: Vec<OsString>,
}

impl Program {
    /// Of this process. To be asked early: the path of a file that was replaced is not what it was.
    pub fn of_this_process() -> Program {
        let mut arguments = std::env::args_os();
        let called = arguments.next().map(PathBuf::from).unwrap_or_default();
        let called = match called.components().count() {
            // A name alone is looked for in PATH.
            0 | 1 if !called.has_root() && !called.starts_with(".") => called,
            _ => std::path::absolute(&called).unwrap_or(called),
        };
        Program { called, running: std::env::current_exe().ok(), arguments: arguments.collect() }
    }

    /// Where the binary is now.
    fn path(&self) -> PathBuf {
        let called = if self.called.is_absolute() {
            Some(self.called.clone())
        } else {
            let folders = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&folders)
                .map(|folder| folder.join(&self.called))
                .find(|path| path.is_file())
        };
        // Whoever started us may have called us anything.
        let called = called.filter(|path| path.is_file());
        called.or_else(|| self.running.clone()).unwrap_or_else(|| self.called.clone())
    }
}

/// A process that was started.
pub struct Successor {
    path: PathBuf,
    child: Child,
    stream: UnixStream,
    limit: Duration,
    end: Instant,
}

/// One that serves.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    /// Its version.
    pub version: String,
    /// Our listeners of which it took the sockets.
    pub taken: Vec<Arc<str>>,
}

impl Serving {
    /// Asks it to end after all.
    pub fn end(&self) {
        // It may have ended by itself meanwhile.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }
}

impl Successor {
    /// Starts it. It has so much time to become ready.
    pub fn start(program: &Program, limit: Duration) -> Result<Successor, String> {
        let path = program.path();
        let cannot = |error: io::Error| format!("cannot start {}: {error}", path.display());
        let (stream, theirs) = UnixStream::pair().map_err(cannot)?;
        let mut command = Command::new(&path);
        command.args(&program.arguments).env(VARIABLE, "stdin").stdin(Stdio::from(OwnedFd::from(theirs)));
        OURS_ALONE.iter().for_each(|name| {
            command.env_remove(name);
        });
        let child = command.spawn().map_err(cannot)?;
        // The command holds their end of the socket, and as long as anybody does we would not see the process's end.
        drop(command);
        Ok(Successor { path, child, stream, limit, end: Instant::now() + limit })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The way to it. Whoever shuts it down calls the upgrade off.
    pub fn way(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Hands over, and waits until it serves. If it does not, it has ended when this returns.
    pub fn serves(mut self, estate: Estate, sockets: &[Inherited]) -> Result<Serving, String> {
        let answer = self.ask(estate, sockets);
        let path = self.path.display().to_string();
        match answer {
            Ok(Some(Answer::Ready { version, taken })) => Ok(Serving { child: self.child, version, taken }),
            Ok(Some(Answer::Failed(why))) => {
                self.ended();
                Err(format!("{path} does not start: {why}"))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                self.kill();
                Err(format!("{path} was not ready within {:?}", self.limit))
            }
            // It has closed its end; why, only its end tells.
            Ok(None) | Err(_) => Err(match self.ended() {
                Some(status) => format!("{path} ended before it was ready ({status}); the log may tell why"),
                None => format!("{path} is no gateway that can take over, or was called off"),
            }),
        }
    }

    fn ask(&mut self, estate: Estate, sockets: &[Inherited]) -> io::Result<Option<Answer>> {
        self.stream.set_write_timeout(Some(self.left()))?;
        wire::send(&mut self.stream, estate, sockets)?;
        self.stream.set_read_timeout(Some(self.left()))?;
        wire::answered(&self.stream)
    }

    /// Never zero, which would mean for ever.
    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    /// How it ended by itself; one that does not is ended.
    fn ended(&mut self) -> Option<ExitStatus> {
        let end = Instant::now() + GRACE.min(self.left());
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
                _ => {
                    self.kill();
                    return None;
                }
            }
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself meanwhile.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why the end of this process would be the end of the service, whoever serves by then.
pub fn obstacle() -> Option<String> {
    let ours = std::process::id();
    if ours == 1 {
        return Some(
            "this is process 1, with whose end the container ends; replace the container instead".into(),
        );
    }
    let variable = |name| std::env::var(name).ok();
    let of_systemd = variable("SYSTEMD_EXEC_PID").and_then(|pid| pid.parse().ok()) == Some(ours);
    (of_systemd && variable("NOTIFY_SOCKET").is_none()).then(|| {
        "systemd would take the end of this process for the end of the service; write Type=notify in its unit".into()
    })
}
