//! Health (VK3, PLU4, MUS5): active checks, passive health, and what clients see when nobody is left.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use portcullis_e2e::{
    Client, Endpoint, Script, Setup,
    endpoint::{named, text},
    wait::LONG,
    within,
};

/// An endpoint whose `/api/v1/health` answers with a status that the test may change.
struct Checked {
    endpoint: Endpoint,
    status: Arc<AtomicU16>,
}

impl Checked {
    async fn start(name: &'static str, status: u16) -> Checked {
        let status = Arc::new(AtomicU16::new(status));
        let now = Arc::clone(&status);
        let endpoint = Endpoint::with(move |seen| {
            if seen.target == "/api/v1/health" { text(now.load(SeqCst), "checked") } else { named(name) }
        })
        .await;
        Checked { endpoint, status }
    }

    fn say(&self, status: u16) {
        self.status.store(status, SeqCst);
    }

    fn checks(&self) -> usize {
        self.endpoint.seen().iter().filter(|seen| seen.target == "/api/v1/health").count()
    }

    fn requests(&self) -> usize {
        self.endpoint.count() - self.checks()
    }
}

const TWO: &str = r#"
[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = [{ url = "{a}" }, { url = "{b}" }]
health_check = { path = "/api/v1/health", interval = "40ms", timeout = "1s", unhealthy_after = 3, headers = { X-KV-SECRET = "${VK_SECRET:-}" } }
"#;

/// VK3: three failures in a row take it out, an answer brings it back; the check carries X-KV-SECRET.
#[tokio::test]
async fn three_failures_take_it_out_and_an_answer_brings_it_back() {
    let [a, b] = [Checked::start("a", 200).await, Checked::start("b", 200).await];
    let setup =
        Setup::new(TWO).set("a", a.endpoint.url()).set("b", b.endpoint.url()).env("VK_SECRET", "s3cret");
    let gateway = setup.start().await;
    let mut client = Client::h1(gateway.addr()).await;
    within(LONG, "both to be in service", || async { a.checks() > 0 && b.checks() > 0 }).await;
    within(LONG, "both to answer", || async {
        client_sees(gateway.addr(), "a").await && client_sees(gateway.addr(), "b").await
    })
    .await;
    let check = b.endpoint.seen().into_iter().find(|seen| seen.target == "/api/v1/health").unwrap();
    assert_eq!((check.method.as_str(), check.header("x-kv-secret")), ("GET", "s3cret"));

    b.say(500);
    let failing_from = b.checks();
    let url = b.endpoint.url();
    let metric = || async {
        let page = gateway.metrics().await;
        page.find("gateway_endpoint_up", &[("endpoint", &url)]).iter().any(|sample| sample.value == 0.0)
    };
    within(LONG, "b to be out", || async { metric().await }).await;
    assert!(b.checks() - failing_from >= 3, "not before three failures");
    let before = b.requests();
    for _ in 0..10 {
        assert_eq!(client.get("/").await.endpoint(), "a");
    }
    assert_eq!(b.requests(), before);

    b.say(200);
    within(LONG, "b to be back", || client_sees(gateway.addr(), "b")).await;
}

async fn client_sees(addr: std::net::SocketAddr, name: &str) -> bool {
    let mut client = Client::h1(addr).await;
    for _ in 0..4 {
        if client.get("/").await.endpoint() == name {
            return true;
        }
    }
    false
}

/// An endpoint with a check gets no traffic before its first success; the one that passed gets all of it.
#[tokio::test]
async fn no_traffic_before_the_first_success() {
    let [a, b] = [Checked::start("a", 200).await, Checked::start("b", 503).await];
    let gateway = Setup::new(TWO).set("a", a.endpoint.url()).set("b", b.endpoint.url()).start().await;
    within(LONG, "a to be in service", || client_sees(gateway.addr(), "a")).await;
    let mut client = Client::h1(gateway.addr()).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.endpoint(), "a");
    }
    assert_eq!(b.requests(), 0);
    b.say(204);
    within(LONG, "b to be in service", || client_sees(gateway.addr(), "b")).await;
}

/// All out: 503 with Retry-After, never 404; and service again as soon as one is back.
#[tokio::test]
async fn all_out_is_503_with_retry_after() {
    let [a, b] = [Checked::start("a", 500).await, Checked::start("b", 500).await];
    let gateway = Setup::new(TWO).set("a", a.endpoint.url()).set("b", b.endpoint.url()).start().await;
    within(LONG, "checks", || async { a.checks() > 3 && b.checks() > 3 }).await;
    let reply = gateway.get("/anything").await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(
        reply.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0),
        "{:?}",
        reply.headers
    );
    assert!(reply.header("proxy-status").contains("destination_unavailable"), "{:?}", reply.headers);
    assert_eq!((a.requests(), b.requests()), (0, 0));
    a.say(200);
    within(LONG, "a to be back", || client_sees(gateway.addr(), "a")).await;
}

/// A TCP check: open means healthy, refused means out.
#[tokio::test]
async fn a_tcp_check_follows_the_port() {
    let mut a = Endpoint::named("a").await;
    let text = format!(
        "{}health_check = {{ kind = \"tcp\", interval = \"40ms\", unhealthy_after = 2 }}\n",
        crate::one("")
    );
    let gateway = Setup::new(&text).set("app", a.url()).start().await;
    within(LONG, "it to be in service", || async { gateway.get("/").await.status == 200 }).await;
    a.stop().await;
    within(LONG, "it to be out", || async { gateway.get("/").await.status == 503 }).await;
    a.restart().await;
    within(LONG, "it to be back", || async { gateway.get("/").await.status == 200 }).await;
}

/// The check's expected status is the configuration's, not "any answer".
#[tokio::test]
async fn the_expected_status_decides() {
    let a = Checked::start("a", 200).await;
    let check = r#"health_check = { path = "/api/v1/health", interval = "40ms", expect = [204] }"#;
    let gateway = Setup::new(&crate::one(check)).set("app", a.endpoint.url()).start().await;
    within(LONG, "checks", || async { a.checks() > 3 }).await;
    assert_eq!(gateway.get("/").await.status, 503);
    a.say(204);
    within(LONG, "it to be in service", || async { gateway.get("/").await.status == 200 }).await;
}

/// A check that hangs is a failure after its timeout.
#[tokio::test]
async fn a_hanging_check_fails() {
    let hanging = Script::start(|mut conversation| async move {
        conversation.head().await;
        conversation.hang().await;
    })
    .await;
    let a = Checked::start("a", 200).await;
    let text = TWO.replace("timeout = \"1s\"", "timeout = \"100ms\"");
    let gateway = Setup::new(&text).set("a", a.endpoint.url()).set("b", hanging.url()).start().await;
    within(LONG, "a to be in service", || client_sees(gateway.addr(), "a")).await;
    within(LONG, "several checks of the other", || async { hanging.checks().len() >= 3 }).await;
    let mut client = Client::h1(gateway.addr()).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.endpoint(), "a");
    }
}

/// Passive health (PLU4): failures of real requests within the window take it out for a time, then it is tried again.
#[tokio::test]
async fn passive_health_takes_it_out_for_a_time() {
    let failing = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&failing);
    let bad =
        Endpoint::with(move |_| if now.load(SeqCst) == 1 { text(503, "broken") } else { named("bad") }).await;
    let good = Endpoint::named("good").await;
    let service = r#"
[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = [{ url = "{bad}" }, { url = "{good}" }]
passive_health = { failures = 3, window = "30s", ejection = "1500ms" }
"#;
    let gateway = Setup::new(service).set("bad", bad.url()).set("good", good.url()).start().await;
    let mut client = Client::h1(gateway.addr()).await;
    let mut failed = 0;
    for _ in 0..30 {
        failed += usize::from(client.get("/").await.status == 503);
    }
    assert_eq!(failed, 3, "out after exactly three failures");
    assert_eq!(bad.count(), 3);
    failing.store(0, SeqCst);
    within(Duration::from_secs(15), "it to be tried again", || client_sees(gateway.addr(), "bad")).await;
}

/// Passive health never takes out the last one.
#[tokio::test]
async fn passive_health_leaves_the_last_one() {
    let bad = Endpoint::with(|_| text(503, "broken")).await;
    let passive = "passive_health = { failures = 1, window = \"30s\", ejection = \"60s\" }";
    let gateway = Setup::new(&crate::one(passive)).set("app", bad.url()).start().await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.text(), "broken");
    }
}

/// A change of health is visible in the log.
#[tokio::test]
async fn changes_are_logged() {
    let a = Checked::start("a", 200).await;
    let check = r#"health_check = { path = "/api/v1/health", interval = "40ms", unhealthy_after = 2 }"#;
    let gateway = Setup::new(&crate::one(check)).set("app", a.endpoint.url()).start().await;
    within(LONG, "it to be in service", || async { gateway.get("/").await.status == 200 }).await;
    a.say(500);
    let url = a.endpoint.url();
    within(LONG, "the log to name it", || async {
        let said = format!("{}{}", gateway.stdout(), gateway.stderr());
        said.lines().any(|line| line.contains(&url) && line.to_lowercase().contains("unhealthy"))
    })
    .await;
}

/// What active checks find is counted, too.
#[tokio::test]
async fn changes_by_checks_are_counted() {
    let [a, b] = [Checked::start("a", 200).await, Checked::start("b", 200).await];
    let gateway = Setup::new(TWO).set("a", a.endpoint.url()).set("b", b.endpoint.url()).start().await;
    let changes = || async {
        gateway.metrics().await.sum("gateway_service_health_changes_total", &[("service", "app@file")])
    };
    within(LONG, "both to be in service", || async { changes().await >= 2.0 }).await;
    b.say(500);
    within(LONG, "one to be out", || async { changes().await >= 3.0 }).await;
}
