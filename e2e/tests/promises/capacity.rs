//! What services and their endpoints bear (PLU9: rate limit per backend): passed over, in line, refused; kept over reloads,
//! in the metrics and in the admin API.

use std::time::{Duration, Instant};

use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup,
    client::empty,
    endpoint::named,
    wait::{LONG, within},
};

/// Answers after so long.
async fn slow(name: &'static str, time: Duration) -> Endpoint {
    Endpoint::start(move |_| async move {
        tokio::time::sleep(time).await;
        Ok(named(name))
    })
    .await
}

fn text(capacity: &str) -> String {
    format!(
        "[[routes]]\npath = \"/*\"\nservice = \"app\"\n[services.app]\nendpoints = [\"{{a}}\", \"{{b}}\"]\n{capacity}\n"
    )
}

async fn start(a: &Endpoint, b: &Endpoint, capacity: &str) -> Gateway {
    Setup::new(&text(capacity)).set("a", a.url()).set("b", b.url()).start().await
}

async fn sum(gateway: &Gateway, name: &str, labels: &[(&str, &str)]) -> f64 {
    gateway.metrics().await.sum(&format!("gateway_capacity_{name}"), labels)
}

/// Asks with so many clients at once; the statuses.
async fn at_once(gateway: &Gateway, clients: usize) -> Vec<u16> {
    let mut tasks = tokio::task::JoinSet::new();
    let addr = gateway.addr();
    for _ in 0..clients {
        tasks.spawn(async move { Client::h1(addr).await.get("/").await.status });
    }
    tasks.join_all().await
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|one| **one == status).count()
}

/// PLU9: no endpoint is asked more often than its rate allows, whatever clients do.
#[tokio::test]
async fn no_endpoint_is_asked_more_often_than_its_rate() {
    let (a, b) = (Endpoint::named("a").await, Endpoint::named("b").await);
    let rate = "capacity = { endpoint_rate = { requests = 50, burst = 10 } }";
    let gateway = start(&a, &b, rate).await;
    let begun = Instant::now();
    let mut client = Client::h1(gateway.addr()).await;
    let (mut passed, mut refused) = (0, 0);
    while begun.elapsed() < Duration::from_secs(2) {
        let answer = client.get("/").await;
        match answer.status {
            200 => passed += 1,
            503 => {
                assert_eq!(answer.header("retry-after"), "1");
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    let most = 10.0 + 50.0 * begun.elapsed().as_secs_f64() + 1.0;
    for endpoint in [&a, &b] {
        let asked = endpoint.count() as f64;
        assert!(asked <= most && asked > most * 0.8, "{asked} of at most {most}");
    }
    assert_eq!(passed, a.count() + b.count());
    assert!(refused > 0);
    assert_eq!(sum(&gateway, "refused_total", &[("reason", "full")]).await, f64::from(refused));
    for endpoint in [&a, &b] {
        let labels = [("endpoint", endpoint.url()), ("reason", "rate".to_owned())];
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
        assert!(sum(&gateway, "passed_over_total", &labels).await > 0.0);
    }
}

#[tokio::test]
async fn who_waits_gets_in_when_the_rate_refills() {
    let (a, b) = (Endpoint::named("a").await, Endpoint::named("b").await);
    let settings =
        "capacity = { endpoint_rate = { requests = 20, burst = 1 }, queue = 50, queue_timeout = \"10s\" }";
    let gateway = start(&a, &b, settings).await;
    let begun = Instant::now();
    let statuses = at_once(&gateway, 20).await;
    assert_eq!(count(&statuses, 200), 20, "{statuses:?}");
    assert!(begun.elapsed() > Duration::from_millis(400), "{:?}: 2 at once, 40 a second", begun.elapsed());
    assert!(a.count().abs_diff(b.count()) <= 2, "{} and {}", a.count(), b.count());
}

#[tokio::test]
async fn so_many_at_once_and_the_others_wait_or_are_refused() {
    let time = Duration::from_millis(300);
    let (a, b) = (slow("a", time).await, slow("b", time).await);
    let settings = "capacity = { endpoint_concurrency = 2, queue = 4, queue_timeout = \"10s\" }";
    let gateway = start(&a, &b, settings).await;
    let statuses = at_once(&gateway, 12).await;
    assert_eq!((count(&statuses, 200), count(&statuses, 503)), (8, 4), "{statuses:?}");
    for endpoint in [a.url(), b.url()] {
        let page = gateway.metrics().await;
        assert_eq!(page.sum("gateway_endpoint_requests_total", &[("endpoint", &endpoint)]), 4.0);
    }
    let shown = gateway.admin_get("/api/services").await.json();
    let service = &shown["services"][0];
    assert_eq!(service["capacity"]["queue"], 4);
    assert_eq!(service["capacity"]["refused"]["full"], 4);
    assert_eq!(service["endpoints"][0]["concurrency"]["limit"], 2);
    within(LONG, "all have left", || async { sum(&gateway, "in_flight", &[]).await == 0.0 }).await;
    assert_eq!(sum(&gateway, "limit", &[]).await, 4.0);
}

#[tokio::test]
async fn places_survive_a_reload_and_a_client_that_leaves_gives_its_place_back() {
    let (a, b) = (slow("a", LONG).await, slow("b", LONG).await);
    let mut gateway = start(&a, &b, "capacity = 2").await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::h1(gateway.addr()).await;
        clients.push(tokio::spawn(async move {
            client.try_send(Request::get("/").body(empty()).expect("a request")).await.map(drop)
        }));
    }
    within(LONG, "both are under way", || async { sum(&gateway, "in_flight", &[]).await == 2.0 }).await;
    assert_eq!(gateway.get("/").await.status, 503);
    gateway.rewrite(&text("capacity = { concurrency = 2, queue = 1, queue_timeout = \"100ms\" }"));
    within(LONG, "the new settings", || async {
        gateway.admin_get("/api/services").await.json()["services"][0]["capacity"]["queue"] == 1
    })
    .await;
    assert_eq!(sum(&gateway, "in_flight", &[]).await, 2.0);
    assert_eq!(gateway.get("/").await.status, 503, "both are still there");
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    within(LONG, "both have left", || async { sum(&gateway, "in_flight", &[]).await == 0.0 }).await;
}

/// A service that works on four at once: the number that is found lets through about that many, and nobody is refused who
/// can wait.
#[tokio::test]
async fn a_number_that_finds_itself_follows_the_service() {
    let workers = std::sync::Arc::new(tokio::sync::Semaphore::new(4));
    let a = Endpoint::start(move |_| {
        let workers = workers.clone();
        async move {
            let _worker = workers.acquire().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok(named("a"))
        }
    })
    .await;
    let settings = "capacity = { concurrency = { min = 2, max = 200, initial = 100 }, queue = 500, queue_timeout = \"5s\" }";
    let one = text(settings).replace(", \"{b}\"", "");
    let gateway = Setup::new(&one).set("a", a.url()).start().await;
    let mut tasks = tokio::task::JoinSet::new();
    let (addr, end) = (gateway.addr(), Instant::now() + Duration::from_secs(6));
    for _ in 0..60 {
        tasks.spawn(async move {
            let mut client = Client::h1(addr).await;
            while Instant::now() < end {
                assert_eq!(client.get("/").await.status, 200);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("all are answered");
    }
    let found = sum(&gateway, "limit", &[]).await;
    assert!((2.0..60.0).contains(&found), "{found} from 100, for a service that works on 4");
}
