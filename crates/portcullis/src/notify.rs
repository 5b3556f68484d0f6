//! Telling the service manager how we are: sd_notify(3). A line or a few in a datagram to the socket that the environment
//! names; whoever does not listen is told nothing, and nothing depends on it.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::Arc,
    time::Duration,
};

use portcullis_proxy::Data;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{interval, timeout};

/// The service manager.
#[derive(Debug, Clone)]
pub struct Notify {
    socket: Arc<UnixDatagram>,
    to: SocketAddr,
}

impl Notify {
    /// The one that the environment names, if any.
    pub fn from_env() -> Option<Notify> {
        let name = env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty())?;
        match Notify::to(&name) {
            Ok(notify) => Some(notify),
            Err(error) => {
                tracing::warn!(socket = name, %error, "cannot tell the service manager anything");
                None
            }
        }
    }

    /// At a path, or with `@` in front at an abstract address.
    fn to(name: &str) -> io::Result<Notify> {
        let to = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // Who does not read must not hold us up.
        socket.set_nonblocking(true)?;
        Ok(Notify { socket: Arc::new(socket), to })
    }

    fn send(&self, text: &str) {
        if let Err(error) = self.socket.send_to_addr(text.as_bytes(), &self.to) {
            tracing::debug!(%error, "cannot tell the service manager");
        }
    }

    /// Everything that was begun is done, and we serve.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// Something else is about to be in force; [`Notify::ready`] follows.
    pub fn reloading(&self, status: &str) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS={}", line(status)));
    }

    /// We are about to end.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}", line(status)));
    }

    /// Another process is the service from now on.
    pub fn handed_over(&self, pid: u32, version: &str) {
        self.send(&format!(
            "MAINPID={pid}\nREADY=1\nSTATUS=serving, version {version}",
            version = line(version)
        ));
    }

    /// Says at every half of the time in which the service manager wants to hear of us that no worker hangs, for as long
    /// as none does and the data plane is there. Returns at once when nobody wants to hear.
    pub async fn watchdog(self, data: std::sync::Weak<Data>) {
        let Some(every) = watchdog_interval(&env::var("WATCHDOG_USEC").ok(), &env::var("WATCHDOG_PID").ok())
        else {
            return;
        };
        let mut ticks = interval(every / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(data) = data.upgrade() else { return };
            if timeout(every / 2, data.all_answer()).await.is_ok() {
                self.send("WATCHDOG=1");
            } else {
                tracing::error!("a worker hangs; the service manager is not told that all is well");
            }
        }
    }
}

/// One line: what follows would be taken for other messages.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], "; ")
}

/// The time within which it wants to hear of this process.
fn watchdog_interval(usec: &Option<String>, pid: &Option<String>) -> Option<Duration> {
    let ours = pid.as_ref().is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let usec: u64 = usec.as_ref().filter(|_| ours)?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec.max(2000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_and_stay_one_line_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(path.to_str().unwrap()).unwrap();
        notify.ready("fine\nMAINPID=1");
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=fine; MAINPID=1");
        notify.reloading("");
        let length = manager.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let usec = text.lines().nth(1).unwrap().strip_prefix("MONOTONIC_USEC=").unwrap();
        assert!(usec.parse::<u64>().unwrap() > 0, "{text}");
    }

    #[test]
    fn the_watchdog_is_ours_or_nobodys() {
        let of = |usec: &str, pid: Option<u32>| {
            watchdog_interval(&Some(usec.to_owned()), &pid.map(|pid| pid.to_string()))
        };
        let ours = std::process::id();
        assert_eq!(of("3000000", Some(ours)), Some(Duration::from_secs(3)));
        assert_eq!(of("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!(of("3000000", Some(ours + 1)), None);
        assert_eq!((of("0", None), of("x", None), watchdog_interval(&None, &None)), (None, None, None));
    }
}
