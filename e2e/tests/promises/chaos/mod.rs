//! Chaos: hosts die, hang, reset, speak garbage and move, the configuration is reloaded every 100 ms, and clients of
//! every kind ask on. Every answer is right or an honest error, nothing is sent twice that must not be, nothing panics,
//! and in the end everything is back to where it was.
//!
//! `PORTCULLIS_CHAOS_SECONDS` says how long (30), `PORTCULLIS_CHAOS_SEED` which chaos: the seed gives the schedule, the
//! machine the timing.

mod clients;
mod judge;
mod world;

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures_util::future::join_all;
use portcullis_e2e::{Client, Gateway, Setup, bounded, certs::Authority, grpc::Caller, wait::LONG, within};
use tokio::time::sleep;

use self::{
    clients::Asker,
    judge::Judge,
    world::{Host, Kind},
};

const CLIENTS: [&str; 6] = ["kept", "once", "streams", "quic", "calls", "sockets"];
/// Of the certificate for HTTP/3.
const NAME: &str = "chaos.example";

/// How much more memory a debug build may hold in the end than after the warm-up, KiB.
const MORE_MEMORY: u64 = 40 * 1024;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Where everybody is now, and settings that change with each round.
fn configuration(hosts: &[Host], rng: &mut Rng) -> String {
    let mut text = format!(
        r#"
[timeouts]
total = "8s"

[listeners.safe]
address = "127.0.0.1:{{port2}}"
http3 = true
tls = {{ cert = "cert.pem", key = "cert.key" }}

[[routes]]
name = "ws"
path = "/ws"
service = "echo"

[[routes]]
name = "raw"
path = "/raw/*"
service = "raw"
middlewares = [{{ headers = {{ response = {{ set = {{ X-Round = "{}" }} }} }} }}]

[[routes]]
name = "two"
path = "/*"
service = "two"
"#,
        rng.u32(..)
    );
    for (kind, name, scheme) in
        [(Kind::Raw, "raw", "http"), (Kind::Two, "two", "h2c"), (Kind::Echo, "echo", "http")]
    {
        let endpoints: Vec<String> = hosts
            .iter()
            .filter(|host| host.kind == kind)
            .map(|host| format!("{{ url = \"{scheme}://{}\", weight = {} }}", host.addr, rng.u8(1..5)))
            .collect();
        let strategy = rng.choice(["round_robin", "p2c", "least_connections", "random"]).expect("one");
        let passive = match rng.u8(0..3) {
            0 => "",
            _ => "passive_health = { failures = 5, window = \"1s\", ejection = \"1s\" }\n",
        };
        write!(
            text,
            r#"
[services.{name}]
endpoints = [{}]
strategy = "{strategy}"
timeouts = {{ connect = "1s", response_header = "1s", body_idle = "1s" }}
pool = {{ idle_timeout = "1s", max_idle = {} }}
{passive}"#,
            endpoints.join(", "),
            rng.u8(1..64),
        )
        .expect("a text");
    }
    text
}

/// By the admin API, or by the file alone.
async fn reload(gateway: &mut Gateway, text: &str, ask: bool) {
    let text = format!("workers = 2\n{}", gateway.render(text));
    let next = gateway.dir.path().join("next");
    std::fs::write(&next, text).expect("write");
    std::fs::rename(&next, &gateway.config).expect("rename");
    if ask {
        let reply = gateway.admin_post("/reload").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

async fn shake(gateway: &mut Gateway, hosts: &mut [Host], rng: &mut Rng, until: Instant) -> usize {
    let mut rounds = 0;
    while Instant::now() < until {
        let next = Instant::now() + Duration::from_millis(100);
        for _ in 0..rng.u8(1..4) {
            let which = rng.usize(0..hosts.len());
            hosts[which].chance(rng).await;
        }
        let text = configuration(hosts, rng);
        reload(gateway, &text, rng.bool()).await;
        rounds += 1;
        sleep(next.saturating_duration_since(Instant::now())).await;
    }
    rounds
}

/// Asked some time after the last fault, everybody gets what is right, each time.
async fn all_is_well(asker: &mut Asker) {
    let right = |asker: &Asker| CLIENTS.map(|name| asker.judge.counted(name, "right"));
    let mut caller = Caller::connect(asker.addr).await;
    let end = Instant::now() + LONG;
    loop {
        let before = right(asker);
        for _ in 0..5 {
            // Those who leave early are not what is asked here, and one more round does no harm.
            asker.ask("once", &mut Client::h1(asker.addr).await).await;
            asker.ask("streams", &mut Client::h2(asker.addr).await).await;
            asker.ask_quic(&asker.clone().quic_client().await).await;
            asker.call(&mut caller).await;
            asker.socket().await;
        }
        let gained: u64 = right(asker).iter().zip(before).map(|(now, before)| now - before).sum();
        if gained == 25 {
            return;
        }
        assert!(Instant::now() < end, "still errors {LONG:?} after the last fault: {}", asker.judge.counts());
    }
}

/// Descriptors and threads.
async fn holdings(gateway: &Gateway) -> (f64, f64) {
    let page = gateway.metrics().await;
    (page.sum("process_open_fds", &[]), page.sum("process_threads", &[]))
}

async fn nothing_is_left(gateway: &Gateway, before: (f64, f64)) {
    let mut last = String::new();
    let end = Instant::now() + LONG;
    loop {
        let page = gateway.metrics().await;
        let sum = |name: &str| page.sum(name, &[]);
        let open: f64 = ["web", "safe"]
            .map(|name| page.sum("gateway_connections_open", &[("listener", name)]))
            .iter()
            .sum();
        // All but this question.
        let own = page.sum("gateway_http_requests_in_progress", &[("path", "_admin")]);
        let requests = sum("gateway_http_requests_in_progress") - own;
        let at_hosts = sum("gateway_endpoint_requests_in_progress");
        let pool = sum("gateway_pool_connections_open");
        let now = holdings(gateway).await;
        // A descriptor or two come and go with the admin connection and the watch.
        if open + requests + at_hosts + pool == 0.0 && now.0 <= before.0 + 4.0 && now.1 <= before.1 + 2.0 {
            return;
        }
        let left = page.samples.iter().filter(|sample| {
            sample.value > 0.0 && (sample.name.contains("in_progress") || sample.name.ends_with("_open"))
        });
        let left: Vec<_> = left.map(|sample| (&sample.name, sample.labels.values(), sample.value)).collect();
        let said = format!("{left:?}, descriptors and threads {now:?} after {before:?}");
        assert!(Instant::now() < end, "left behind: {said} (before: {last})");
        last = said;
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_right_or_an_honest_error() {
    let seed = number("PORTCULLIS_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seconds = number("PORTCULLIS_CHAOS_SECONDS").unwrap_or(30);
    eprintln!("PORTCULLIS_CHAOS_SEED={seed} PORTCULLIS_CHAOS_SECONDS={seconds}");
    let mut rng = Rng::with_seed(seed);
    let judge = Arc::new(Judge::default());
    let mut hosts = Vec::new();
    for (kind, many) in [(Kind::Raw, 5), (Kind::Two, 4), (Kind::Echo, 3)] {
        for _ in 0..many {
            hosts.push(Host::born(kind, &judge).await);
        }
    }
    let authority = Authority::new("chaos");
    let pair = authority.issue(&[NAME]);
    let setup = Setup::new(&configuration(&hosts, &mut rng)).top("workers = 2");
    let mut gateway = setup.file("cert.pem", &pair.cert).file("cert.key", &pair.key).start().await;
    reload(&mut gateway, &configuration(&hosts, &mut rng), true).await;
    let before = holdings(&gateway).await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut asker = Asker {
        addr: gateway.addr(),
        quic: gateway.at("port2"),
        trust: authority.client(&["h3"]),
        judge: Arc::clone(&judge),
        stop: Arc::clone(&stop),
        rng: Rng::with_seed(seed),
    };
    let clients = clients::start(&mut asker);
    within(LONG, "everybody to have been served", || async {
        CLIENTS.iter().all(|name| judge.counted(name, "right") >= 10)
    })
    .await;
    let until = |share: u64| Instant::now() + Duration::from_millis(seconds * 10 * share);
    let mut rounds = shake(&mut gateway, &mut hosts, &mut rng, until(20)).await;
    let (memory, _) = gateway.memory_kib();
    rounds += shake(&mut gateway, &mut hosts, &mut rng, until(80)).await;

    join_all(hosts.iter_mut().map(Host::heal)).await;
    reload(&mut gateway, &configuration(&hosts, &mut rng), true).await;
    stop.store(true, SeqCst);
    for client in clients {
        bounded(LONG * 2, "the clients to end", client).await.expect("no client fails");
    }
    all_is_well(&mut asker).await;

    println!("{rounds} rounds, {}", judge.counts());
    assert_eq!(judge.wrongs(), "", "PORTCULLIS_CHAOS_SEED={seed}");
    nothing_is_left(&gateway, before).await;
    let (now, highest) = gateway.memory_kib();
    println!("memory: {memory} KiB warm, {now} KiB in the end, {highest} KiB at most");
    assert!(now < memory + MORE_MEMORY, "memory grew from {memory} to {now} KiB");
    let said = format!("{}{}", gateway.stdout(), gateway.stderr());
    assert!(!said.contains("panicked"), "a panic: {said}");
    assert!(gateway.runs());
    for name in CLIENTS {
        // Tunnels that are open outlive what happens to their endpoint's port, so theirs may all be right.
        assert!(judge.counted(name, "right") > 0, "{name}: nothing right in {}", judge.counts());
        let errors = judge.counted(name, "honest error");
        assert!(errors > 0 || name == "sockets", "{name}: no chaos in {}", judge.counts());
    }
}
