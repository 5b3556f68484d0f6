//! Under a service manager: sockets from outside (sd_listen_fds), and what it is told (sd_notify).

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use portcullis_e2e::{
    Client, Endpoint, Lineage, RawClient, Setup, gateway::binary, lineage, wait::LONG, within,
};
use rustix::process::{Pid, Signal, kill_process};

/// A child that ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the gateway as systemd does: with these sockets as descriptors 3 and 4, and its own id in the environment.
fn activated(config: &Path, web: TcpListener, admin: TcpListener) -> Child {
    let script = "exec 3<&0 4>&1 0</dev/null 1>&2; LISTEN_PID=$$ exec \"$0\" run -c \"$1\"";
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg(binary()).arg(config).env_clear();
    command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "web:unknown");
    command.stdin(Stdio::from(OwnedFd::from(web))).stdout(Stdio::from(OwnedFd::from(admin)));
    command.stderr(Stdio::piped()).spawn().expect("start the gateway")
}

/// Sockets are taken by the listener's name and by address; whoever connected before there was a process is served; the
/// socket is that of the process after an upgrade, too.
#[tokio::test]
async fn sockets_come_from_outside() {
    let endpoint = Endpoint::named("a").await;
    let dir = tempfile::tempdir().unwrap();
    let (web, admin) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (at, admin_at) = (web.local_addr().unwrap(), admin.local_addr().unwrap());
    // The name alone leads the first socket to its listener: the address here is another one.
    let text = format!(
        "workers = 2\n[listeners.web]\naddress = \"127.0.0.1:1\"\n[admin]\naddress = \"{admin_at}\"\n{}",
        crate::one("").replace("{app}", &endpoint.url())
    );
    let config = dir.path().join("gateway.toml");
    std::fs::write(&config, text).unwrap();
    let mut early = RawClient::connect(at).await;
    early.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let held = web.try_clone().unwrap();
    let mut child = Ending(activated(&config, web, admin));
    // Kept, that the gateway may go on writing.
    let log = BufReader::new(child.0.stderr.take().unwrap());
    std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| eprintln!("{line}")));
    assert_eq!(early.reply().await.status, 200);
    for _ in 0..20 {
        assert_eq!(Client::h1(at).await.get("/").await.status, 200);
    }
    let reply = Client::h1(admin_at).await.fetch(post("/upgrade")).await;
    let mut lineage = Lineage::default();
    lineage.follow_reply(&reply);
    drop(early);
    let old = child.0.id();
    within(LONG, "the old process to end", || async { !lineage::runs(old) }).await;
    for _ in 0..20 {
        assert_eq!(Client::h1(at).await.get("/").await.status, 200);
    }
    // More workers share the sockets that there are.
    let text = std::fs::read_to_string(&config).unwrap().replace("workers = 2", "workers = 3");
    std::fs::write(&config, text).unwrap();
    assert_eq!(Client::h1(admin_at).await.fetch(post("/reload")).await.status, 200);
    assert_eq!(Client::h1(at).await.get("/").await.status, 200);
    drop(held);
}

fn post(path: &str) -> http::Request<portcullis_e2e::client::Body> {
    http::Request::post(path).body(portcullis_e2e::client::full("")).unwrap()
}

/// A service manager that listens.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Manager(socket)
    }

    /// The next message but those for the watchdog.
    fn next(&self) -> Vec<String> {
        loop {
            let lines = self.any();
            if lines != ["WATCHDOG=1"] {
                return lines;
            }
        }
    }

    fn any(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).lines().map(ToOwned::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_is_told() {
    let endpoint = Endpoint::named("a").await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = Manager::at(&path);
    let setup = Setup::new(&crate::one("")).set("app", endpoint.url());
    let setup = setup.env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", "200000");
    let gateway = setup.start().await;
    let first = manager.next();
    assert_eq!(first[0], "READY=1");
    assert!(first[1].starts_with("STATUS=serving"), "{first:?}");
    // Twice within the time, as it should be.
    let began = std::time::Instant::now();
    for _ in 0..4 {
        while manager.any() != ["WATCHDOG=1"] {}
    }
    assert!(began.elapsed() < Duration::from_secs(5));

    gateway.signal(Signal::HUP);
    let reloading = manager.next();
    assert_eq!(reloading[0], "RELOADING=1");
    let usec = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    assert!((usec as f64 / 1e6 - uptime).abs() < 60.0, "the clock of CLOCK_MONOTONIC: {usec} {uptime}");
    let ready = manager.next();
    assert_eq!(ready[..], ["READY=1", "STATUS=configuration 2 is in force"]);

    // An upgrade that fails, and one that does not.
    let good = std::fs::read_to_string(&gateway.config).unwrap();
    std::fs::write(&gateway.config, "nonsense").unwrap();
    gateway.signal(Signal::USR2);
    assert_eq!(manager.next()[0], "RELOADING=1");
    let failed = manager.next();
    assert!(
        failed[0] == "READY=1" && failed[1].starts_with("STATUS=the last upgrade failed: "),
        "{failed:?}"
    );
    std::fs::write(&gateway.config, good).unwrap();
    let reply = gateway.admin_post("/upgrade").await;
    let mut lineage = Lineage::default();
    let pid = lineage.follow_reply(&reply);
    // The new process says that it is ready as well, before or after.
    let mut messages: Vec<_> = (0..3).map(|_| manager.next()).collect();
    assert_eq!(messages.remove(0)[0], "RELOADING=1");
    let handed = messages.iter().position(|lines| lines[0] == format!("MAINPID={pid}")).expect("its heir");
    assert_eq!(messages.remove(handed)[1], "READY=1");
    assert_eq!(messages[0][0], "READY=1");
    let old = gateway.pid();
    within(LONG, "the old process to end", || async { !lineage::runs(old) }).await;
    while manager.any() != ["WATCHDOG=1"] {}

    let id = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert_eq!(manager.next()[..], ["STOPPING=1", "STATUS=draining"], "the old process did not say so");
}

/// A process that hears nothing of a service manager that would take its end for the service's does not hand over.
#[tokio::test]
async fn handing_over_would_be_the_end_of_the_service() {
    let endpoint = Endpoint::named("a").await;
    let dir = tempfile::tempdir().unwrap();
    let ports = [portcullis_e2e::ports::free_port(), portcullis_e2e::ports::free_port()];
    let text = format!(
        "[listeners.web]\naddress = \"127.0.0.1:{}\"\n[admin]\naddress = \"127.0.0.1:{}\"\n{}",
        ports[0],
        ports[1],
        crate::one("").replace("{app}", &endpoint.url())
    );
    let config = dir.path().join("gateway.toml");
    std::fs::write(&config, text).unwrap();
    let script = "SYSTEMD_EXEC_PID=$$ exec \"$0\" run -c \"$1\"";
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg(binary()).arg(&config).env_clear().stdin(Stdio::null());
    let _child = Ending(command.spawn().unwrap());
    let admin: SocketAddr = ([127, 0, 0, 1], ports[1]).into();
    within(LONG, "the gateway", || async { Client::try_h1(admin).await.is_ok() }).await;
    let reply = Client::h1(admin).await.fetch(post("/upgrade")).await;
    assert_eq!(reply.status, 422);
    assert!(reply.text().contains("Type=notify"), "{}", reply.text());
}
