//! Load shedding: when the gateway itself is short of memory or CPU, the least important requests are refused first, and
//! built-in services never.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup,
    client::empty,
    wait::{LONG, within},
};
use tokio::task::JoinSet;

fn text(shedding: &str) -> String {
    format!(
        "{shedding}\n\
        [[routes]]\npath = \"/background\"\nservice = \"app\"\nimportance = \"background\"\n\
        [[routes]]\npath = \"/normal\"\nservice = \"app\"\n\
        [[routes]]\npath = \"/critical\"\nservice = \"app\"\nimportance = \"critical\"\n\
        [[routes]]\npath = \"/renamed\"\nservice = \"app\"\nerrors = {{ shed = 429 }}\n\
        [[routes]]\npath = \"/health\"\nservice = \"@health\"\n\
        [services.app]\nendpoints = [\"{{app}}\"]\n"
    )
}

async fn start(app: &Endpoint, shedding: &str) -> Gateway {
    Setup::new(&text(shedding)).set("app", app.url()).start().await
}

async fn statuses(gateway: &Gateway) -> Vec<u16> {
    let mut statuses = Vec::new();
    for path in ["/background", "/normal", "/critical"] {
        statuses.push(gateway.get(path).await.status);
    }
    statuses
}

/// Less than any process takes: everything is refused but what is built in; a reload with room serves again.
#[tokio::test]
async fn without_memory_only_what_is_built_in_is_answered() {
    let app = Endpoint::named("app").await;
    let tiny = "[shedding]\nmemory = \"1MB\"\nretry_after = \"3s\"";
    let mut gateway = start(&app, tiny).await;
    within(LONG, "the first look at the memory", || async { statuses(&gateway).await == [503; 3] }).await;
    let before = app.count();
    let refused = gateway.get("/critical").await;
    assert_eq!(refused.status, 503);
    assert!(refused.json()["type"].as_str().is_some_and(|kind| kind.ends_with("/shed")));
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((3..=6).contains(&wait), "{wait}");
    assert_eq!(gateway.get("/renamed").await.status, 429);
    assert_eq!(app.count(), before, "the endpoint is not asked");
    assert_eq!(gateway.get("/health").await.status, 200);
    let page = gateway.metrics().await;
    assert_eq!(page.sum("gateway_shedding_level", &[("signal", "memory")]), 1.0);
    assert_eq!(page.sum("gateway_shedding_memory_limit_bytes", &[]), 1e6);
    for importance in ["background", "normal", "critical"] {
        let labels = [("importance", importance), ("signal", "memory")];
        assert!(page.sum("gateway_shed_total", &labels) >= 1.0, "{importance}");
    }
    gateway.rewrite(&text("[shedding]\nmemory = \"100GB\""));
    within(LONG, "there is room", || async { statuses(&gateway).await == [200; 3] }).await;
}

/// What the process takes is between 85 and 90 % of the limit: some of the background, and nothing else.
#[tokio::test]
async fn with_little_memory_left_the_background_goes_first() {
    let app = Endpoint::named("app").await;
    let mut gateway = start(&app, "[shedding]\nmemory = \"100GB\"").await;
    assert_eq!(statuses(&gateway).await, [200; 3]);
    let (used, _) = gateway.memory_kib();
    let bytes = used as f64 * 1024.0 / 0.885;
    gateway.rewrite(&text(&format!("[shedding]\nmemory = {}", bytes as u64)));
    within(LONG, "some of the background is refused", || async {
        gateway.get("/background").await.status == 503
    })
    .await;
    let page = gateway.metrics().await;
    let labels = [("importance", "background"), ("signal", "memory")];
    assert!(page.sum("gateway_shed_total", &labels) >= 1.0);
    // The process may have given memory back since: then there is no shortage any longer.
    let level = page.sum("gateway_shedding_level", &[("signal", "memory")]);
    if level < 0.33 {
        assert_eq!((gateway.get("/normal").await.status, gateway.get("/critical").await.status), (200, 200));
    }
}

/// Answers that cost the worker much and its clients nothing: text that is hard to compress, compressed.
fn costly() -> String {
    let mut random = fastrand::Rng::with_seed(3);
    let body: String = (0..LENGTH).map(|_| random.alphanumeric()).collect();
    let route = |name: &str, more: &str| {
        format!(
            "[[routes]]\npath = \"/{name}\"\n{more}middlewares = [\"compress\", \"answer\"]\nservice = \"app\"\n"
        )
    };
    format!(
        "[shedding]\nmemory = \"unlimited\"\nlateness = \"100ms\"\nretry_after = \"3s\"\n\
        [middlewares.compress.compress]\nencodings = [\"gzip\"]\ngzip_level = 9\n\
        [middlewares.answer.static_response]\nbody = \"{body}\"\n\
        {}{}{}\
        [services.app]\nendpoints = [\"http://127.0.0.1:1\"]\n",
        route("background", "importance = \"background\"\n"),
        route("normal", ""),
        route("critical", "importance = \"critical\"\n"),
    )
}

/// How long such an answer is before it is compressed.
const LENGTH: usize = 100_000;

/// What clients of one importance were told.
#[derive(Default)]
struct Told {
    served: AtomicUsize,
    refused: AtomicUsize,
    slow: AtomicUsize,
}

impl Told {
    fn refused(&self) -> f64 {
        let (served, refused) = (self.served.load(Relaxed) as f64, self.refused.load(Relaxed) as f64);
        refused / (served + refused).max(1.0)
    }
}

/// Asks again and again until then, with a rest after each answer; what it is told from the beginning named on counts.
async fn ask(
    addr: SocketAddr,
    path: &'static str,
    rest: Duration,
    (begin, end): (Instant, Instant),
    told: Arc<Told>,
) {
    let mut client = Client::h1(addr).await;
    while Instant::now() < end {
        let asked = Instant::now();
        let request = http::Request::get(path).header("accept-encoding", "gzip").body(empty()).unwrap();
        let reply = client.fetch(request).await;
        match reply.status {
            200 if asked < begin => {}
            200 => {
                assert_eq!(reply.header("content-encoding"), "gzip");
                told.served.fetch_add(1, Relaxed);
                told.slow.fetch_add(usize::from(asked.elapsed() > Duration::from_secs(2)), Relaxed);
            }
            503 => {
                assert!(reply.json()["type"].as_str().is_some_and(|kind| kind.ends_with("/shed")));
                let wait: u64 = reply.header("retry-after").parse().expect("seconds");
                assert!((3..=6).contains(&wait), "{wait}");
                told.refused.fetch_add(usize::from(asked >= begin), Relaxed);
            }
            other => panic!("{other}"),
        }
        tokio::time::sleep(rest).await;
    }
}

/// More comes than one worker can do, most of it unimportant: what is critical is answered as if nothing were, what else
/// there is time for as well, and the rest is refused; afterwards everything is served again.
#[tokio::test]
async fn a_worker_that_cannot_do_it_all_does_what_matters() {
    let gateway = Setup::new(&costly()).top("workers = 1\naccess_log = true").start().await;
    let addr = gateway.addr();
    let begin = Instant::now() + Duration::from_secs(3);
    let end = begin + Duration::from_secs(5);
    let told: [Arc<Told>; 3] = Default::default();
    let mut tasks = JoinSet::new();
    for (path, of, clients, rest) in
        [("/background", 0, 120, 300), ("/normal", 1, 20, 200), ("/critical", 2, 2, 200)]
    {
        for _ in 0..clients {
            let rest = Duration::from_millis(rest);
            tasks.spawn(ask(addr, path, rest, (begin, end), told[of].clone()));
        }
    }
    tokio::time::sleep_until((begin + Duration::from_secs(2)).into()).await;
    let level = gateway.metrics().await.sum("gateway_shedding_level", &[("signal", "lateness")]);
    assert!(level > 0.0, "{level}");
    tasks.join_all().await;
    let [background, normal, critical] = &told;
    let shares = [background.refused(), normal.refused(), critical.refused()];
    assert!(shares[0] > 0.3 && shares[0] + 0.05 >= shares[1] && shares[2] < 0.1, "refused {shares:?}");
    let (served, slow) = (critical.served.load(Relaxed), critical.slow.load(Relaxed));
    assert!(served >= 10 && slow * 10 <= served, "{slow} of {served} were slow");
    let page = gateway.metrics().await;
    for (of, importance) in ["background", "normal", "critical"].into_iter().enumerate() {
        let labels = [("importance", importance), ("signal", "lateness")];
        assert!(
            page.sum("gateway_shed_total", &labels) >= told[of].refused.load(Relaxed) as f64,
            "{importance}"
        );
    }
    assert!(gateway.stdout().contains("shed"), "the reason in the access log");
    within(LONG, "the shortage is over", || async {
        gateway.metrics().await.sum("gateway_shedding_level", &[]) == 0.0
    })
    .await;
    for path in ["/background", "/normal", "/critical"] {
        assert_eq!(gateway.get(path).await.status, 200);
    }
}
