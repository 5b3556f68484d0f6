//! Hedging: a late request is sent to another endpoint as well, and the first good answer wins, within the budget.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_e2e::{
    Client, Endpoint, Setup, Version,
    client::empty,
    endpoint,
    wait::{LONG, within},
};

/// What endpoints do, and what they saw.
#[derive(Default)]
struct Plan {
    /// Every fourth request of a shaky one hangs, or all take 200 ms.
    hangs: AtomicBool,
    all_slow: AtomicBool,
    asked: AtomicUsize,
    /// Requests that ended without an answer.
    let_go: AtomicUsize,
}

struct UnderWay(Arc<Plan>, bool);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.let_go.fetch_add(usize::from(!self.1), Relaxed);
    }
}

async fn endpoint(plan: &Arc<Plan>, name: &'static str, is_shaky: bool) -> Endpoint {
    let (plan, count) = (plan.clone(), AtomicUsize::new(0));
    Endpoint::start(move |_| {
        plan.asked.fetch_add(1, Relaxed);
        let number = count.fetch_add(1, Relaxed);
        let hangs = is_shaky && plan.hangs.load(Relaxed) && number % 4 == 0;
        let (under_way, is_slow) = (UnderWay(plan.clone(), false), plan.all_slow.load(Relaxed));
        async move {
            let mut under_way = under_way;
            if hangs {
                std::future::pending::<()>().await;
            }
            if is_slow {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            under_way.1 = true;
            Ok(endpoint::named(name))
        }
    })
    .await
}

fn text(retry: &str) -> String {
    format!(
        "[[routes]]\npath = \"/*\"\nservice = \"app\"\n[services.app]\nendpoints = [\"{{a}}\", \"{{b}}\"]\n\
         timeouts = {{ response_header = \"20s\" }}\nretry = {retry}\n"
    )
}

/// One of eight requests hangs, and no client waits for it; whoever hangs is let go. What is known of latencies survives a
/// reload. What may not be sent twice is not.
#[tokio::test]
async fn the_tail_is_cut() {
    let plan: Arc<Plan> = Arc::default();
    let (good, shaky) = (endpoint(&plan, "good", false).await, endpoint(&plan, "shaky", true).await);
    let hedge = "hedge = { quantile = \"80%\", min = \"20ms\" }, budget = { ratio = 1, min_per_second = 10 }";
    let setup = Setup::new(&text(&format!("{{ attempts = 2, {hedge} }}")));
    let mut gateway = setup.set("a", good.url()).set("b", shaky.url()).start().await;
    let mut client = Client::plain(Version::H1, gateway.addr()).await;
    for _ in 0..100 {
        client.get("/").await;
    }
    // As after half a second: a quantile is looked up now and then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    plan.hangs.store(true, Relaxed);
    for number in 0..100 {
        if number == 50 {
            gateway.rewrite(&text(&format!("{{ attempts = 3, {hedge} }}")));
            let generation = async || gateway.metrics().await.sum("gateway_config_generation", &[]);
            within(LONG, "the reload", async || generation().await >= 2.0).await;
        }
        let begun = Instant::now();
        assert_eq!(client.get("/").await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(5), "{number}: {:?}", begun.elapsed());
    }
    let page = gateway.metrics().await;
    let sum = |name: &str| page.sum(name, &[("service", "app@file")]);
    let (hedges, won) = (sum("gateway_backend_hedges_total"), sum("gateway_backend_hedges_won_total"));
    assert!(won >= 10.0 && hedges >= won, "{hedges} {won}");
    within(LONG, "those that hang are let go", async || plan.let_go.load(Relaxed) >= 10).await;
    // One that was closed on is not used again: all that is there still answers.
    plan.hangs.store(false, Relaxed);
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
    }
    plan.hangs.store(true, Relaxed);
    let hedges = async || gateway.metrics().await.sum("gateway_backend_hedges_total", &[]);
    let (before, hedges_before) = (plan.asked.load(Relaxed), hedges().await);
    let post = || http::Request::post("/").body(empty()).unwrap();
    let waiting = async {
        for _ in 0..16 {
            gateway.send(post()).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(1500), waiting).await.is_err(), "a POST waits");
    assert_eq!(hedges().await, hedges_before, "no hedge for POST");
    assert!(plan.asked.load(Relaxed) - before <= 16);
}

/// `max` bounds the wait where nothing is known of a service yet, and where its other answers are slow.
#[tokio::test]
async fn late_at_the_latest() {
    let plan: Arc<Plan> = Arc::default();
    let (good, shaky) = (endpoint(&plan, "good", false).await, endpoint(&plan, "shaky", true).await);
    let hedge = |max| format!("{{ attempts = 2, budget = {{ ratio = 1 }}, hedge = {{ {max} }} }}");
    let setup = Setup::new(&text(&hedge("max = \"150ms\"")));
    let mut gateway = setup.set("a", good.url()).set("b", shaky.url()).start().await;
    plan.hangs.store(true, Relaxed);
    for number in 0..16 {
        let begun = Instant::now();
        assert_eq!(gateway.get("/").await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(5), "{number}: {:?}", begun.elapsed());
    }
    let hedges = async || gateway.metrics().await.sum("gateway_backend_hedges_total", &[]);
    assert!(hedges().await >= 2.0);
    plan.hangs.store(false, Relaxed);
    plan.all_slow.store(true, Relaxed);
    let before = hedges().await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(hedges().await, before + 5.0, "200 ms are late");
    gateway.rewrite(&text(&hedge("max = \"5s\"")));
    let generation = async || gateway.metrics().await.sum("gateway_config_generation", &[]);
    within(LONG, "the reload", async || generation().await >= 2.0).await;
    let before = gateway.metrics().await.sum("gateway_backend_hedges_total", &[]);
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(gateway.metrics().await.sum("gateway_backend_hedges_total", &[]), before);
}

/// Everything is slow at once: what is sent twice stays within the budget, and everybody is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_everything_is_slow_the_budget_holds() {
    let plan: Arc<Plan> = Arc::default();
    let (one, two) = (endpoint(&plan, "one", false).await, endpoint(&plan, "two", false).await);
    let budget = "budget = { ratio = \"10%\", min_per_second = 0 }";
    let setup = Setup::new(&text(&format!("{{ attempts = 3, hedge = true, {budget} }}"))).top("workers = 1");
    let gateway = setup.set("a", one.url()).set("b", two.url()).start().await;
    let mut client = Client::plain(Version::H1, gateway.addr()).await;
    for _ in 0..200 {
        client.get("/").await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    plan.all_slow.store(true, Relaxed);
    // So many at once are more than the budget has, before it is known that all is slow.
    let clients = (0..40).map(|_| {
        let addr = gateway.addr();
        tokio::spawn(async move {
            let mut client = Client::plain(Version::H1, addr).await;
            for _ in 0..10 {
                assert_eq!(client.get("/").await.status, 200);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let asked = plan.asked.load(Relaxed);
    assert!(asked > 600 && asked <= 660, "600 requests, {asked} attempts");
    let page = gateway.metrics().await;
    assert!(page.sum("gateway_backend_hedges_total", &[]) > 0.0);
    assert!(page.sum("gateway_retry_budget_exhausted_total", &[]) > 0.0);
}
