//! `proxy` and `demo`: a gateway without a file.

use std::process::{Child, Stdio};

use http::Request;
use portcullis_e2e::{
    Client, Endpoint, client::full, gateway::command, ports::free_port, wait::LONG, within,
};
use rustix::process::{Pid, Signal, kill_process};

/// A process that is stopped with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// `portcullis proxy --from :PORT --to URL --to URL`.
#[tokio::test]
async fn proxy() {
    let [a, b] = [Endpoint::named("a").await, Endpoint::named("b").await];
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = command(dir.path());
    command.args(["proxy", "--from", &format!("127.0.0.1:{port}"), "--to", &a.url(), "--to", &b.url()]);
    let _running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    within(LONG, "it to listen", || async { Client::try_h1(addr).await.is_ok() }).await;
    let mut client = Client::h1(addr).await;
    let answers = [client.get("/x").await, client.get("/x").await].map(|reply| reply.endpoint().to_owned());
    assert_ne!(answers[0], answers[1]);
    assert_eq!(a.last().target, "/x");
}

/// `portcullis demo`: three endpoints, balancing, one that fails is taken out and comes back; what to try is printed.
#[tokio::test]
async fn demo() {
    let dir = tempfile::tempdir().unwrap();
    let [port, admin] = [free_port(), free_port()];
    let out = dir.path().join("out");
    let mut command = command(dir.path());
    command.args(["demo", "--port", &port.to_string(), "--admin-port", &admin.to_string()]);
    command.stdout(std::fs::File::create(&out).unwrap()).stderr(Stdio::null());
    let _running = Running(command.spawn().unwrap());
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let seen = || async {
        let mut names = std::collections::BTreeSet::new();
        if let Ok(mut client) = Client::try_h1(addr).await {
            for _ in 0..6 {
                let reply = client.get("/").await;
                if let (200, Some(name)) = (reply.status, reply.text().trim().strip_prefix("hello from ")) {
                    names.insert(name.to_owned());
                }
            }
        }
        names.into_iter().collect::<Vec<_>>().join(" ")
    };
    within(LONG, "all three to answer", || async { seen().await == "a b c" }).await;
    let mut client = Client::h1(addr).await;
    let post = |path: &str| Request::post(path).body(full("")).unwrap();
    assert_eq!(client.fetch(post("/endpoints/b/fail")).await.status, 200);
    within(LONG, "b to be taken out", || async { seen().await == "a c" }).await;
    assert_eq!(client.fetch(post("/endpoints/b/heal")).await.status, 200);
    within(LONG, "b to come back", || async { seen().await == "a b c" }).await;
    let said = std::fs::read_to_string(&out).unwrap();
    for part in
        [format!("http://127.0.0.1:{port}"), format!("127.0.0.1:{admin}"), "[services.samples]".into()]
    {
        assert!(said.contains(&part), "{part} in {said}");
    }
    assert!(said.matches("curl ").count() >= 3, "{said}");
}
