//! Limits: what clients are told, and what two gateways count together on one real Redis, whatever happens to it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup,
    endpoint::named,
    redis::{Redis, Slow},
    wait::LONG,
    within,
};
use tokio::task::JoinSet;

/// A gateway with this limit before every path, and a store `main` at a URL.
pub(crate) async fn limited(endpoint: &Endpoint, redis: &str, limit: &str) -> Gateway {
    let store =
        if redis.is_empty() { String::new() } else { format!("[stores.main]\nredis = \"{redis}\"\n") };
    limited_by(endpoint, &store, limit).await
}

/// A gateway that is patient with its Redis: an answer that comes late because the machine stood still takes along what it
/// allowed, and the gateway counts by itself.
async fn patient(endpoint: &Endpoint, redis: &str, limit: &str) -> Gateway {
    let store = format!("[stores.main.redis]\nurl = \"{redis}\"\ntimeout = \"10s\"\n");
    limited_by(endpoint, &store, limit).await
}

/// Two of them on one Redis.
pub(crate) async fn two(endpoint: &Endpoint, redis: &str, limit: &str) -> [Gateway; 2] {
    [patient(endpoint, redis, limit).await, patient(endpoint, redis, limit).await]
}

async fn limited_by(endpoint: &Endpoint, store: &str, limit: &str) -> Gateway {
    let middlewares = "service = \"app\"\nmiddlewares = [\"limit\"]\n";
    let text = crate::one("").replace("service = \"app\"\n", middlewares);
    let text = format!("{text}\n{store}\n[middlewares.limit.rate_limit]\n{limit}\n");
    Setup::new(&text).set("app", endpoint.url()).start().await
}

/// Clients that ask without pause until told to stop; how often each status came.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    /// Microseconds that the slowest answer took.
    slowest: Arc<AtomicU64>,
    clients: JoinSet<BTreeMap<u16, usize>>,
}

impl Load {
    pub(crate) fn on(gateways: &[&Gateway], clients: usize) -> Load {
        let (stop, slowest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut set = JoinSet::new();
        for client in 0..clients {
            let addr = gateways[client % gateways.len()].addr();
            let (stop, slowest) = (stop.clone(), slowest.clone());
            set.spawn(async move {
                let mut client = Client::h1(addr).await;
                let mut statuses = BTreeMap::new();
                while !stop.load(Relaxed) {
                    let begun = Instant::now();
                    *statuses.entry(client.get("/").await.status).or_insert(0) += 1;
                    slowest.fetch_max(begun.elapsed().as_micros() as u64, Relaxed);
                }
                statuses
            });
        }
        Load { stop, slowest, clients: set }
    }

    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest.load(Relaxed))
    }

    pub(crate) async fn end(self) -> BTreeMap<u16, usize> {
        self.stop.store(true, Relaxed);
        let mut all = BTreeMap::new();
        for statuses in self.clients.join_all().await {
            statuses.into_iter().for_each(|(status, count)| *all.entry(status).or_insert(0) += count);
        }
        all
    }
}

pub(crate) fn only_decisions(statuses: &BTreeMap<u16, usize>) {
    assert!(statuses.keys().all(|status| [200, 429].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn clients_are_told_of_their_limits() {
    let endpoint = Endpoint::named("a").await;
    let limits = "limits = [{ requests = 2, per = \"1h\" }, { name = \"all\", requests = 9, per = \"month\", key = \"all\" }]";
    let gateway = limited(&endpoint, "", &format!("{limits}\nlegacy_headers = true")).await;
    for left in [1, 0] {
        let reply = gateway.get("/").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("ratelimit-policy"), "\"3600s\";q=2;w=3600, \"all\";q=9;w=2678400");
        let state = reply.header("ratelimit");
        assert!(state.starts_with(&format!("\"3600s\";r={left};t=")), "{state}");
        assert_eq!(reply.header("x-ratelimit-remaining"), left.to_string());
    }
    let reply = gateway.get("/").await;
    assert_eq!(reply.status, 429);
    let wait: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!((1790..=1800).contains(&wait), "{wait}");
    let state = reply.header("ratelimit");
    assert!(state.starts_with(&format!("\"3600s\";r=0;t={wait}, \"all\";r=7;t=")), "{state} {wait}");
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let problem = reply.json();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["violated-policies"], serde_json::json!(["3600s"]));
    let page = gateway.metrics().await;
    let count = |result| page.sum("gateway_rate_limit_requests_total", &[("result", result)]);
    assert_eq!((count("passed"), count("limited")), (2.0, 1.0));
}

/// An endpoint that tells clients of limits of its own is not overruled, whichever is stricter.
#[tokio::test]
async fn an_endpoints_own_limits_are_told_beside_ours() {
    let endpoint = Endpoint::with(|_| {
        let mut reply = named("a");
        for (name, value) in [
            ("ratelimit-policy", "\"own\";q=50;w=60;pk=:AAEC:"),
            ("ratelimit", "\"own\";r=7;t=9"),
            ("x-ratelimit-limit", "50"),
            ("x-ratelimit-remaining", "7"),
            ("x-ratelimit-reset", "9"),
        ] {
            reply.headers_mut().insert(name, value.parse().expect("a value"));
        }
        reply
    })
    .await;
    for (requests, ours, older) in [(100, 99, ["50", "7", "9"]), (3, 2, ["3", "2", "28800"])] {
        let limit = format!("limits = [{{ requests = {requests}, per = \"24h\" }}]\nlegacy_headers = true");
        let reply = limited(&endpoint, "", &limit).await.get("/").await;
        let policies = reply.all("ratelimit-policy");
        let policy = format!("\"86400s\";q={requests};w=86400");
        assert_eq!(policies, ["\"own\";q=50;w=60;pk=:AAEC:", &policy]);
        let state = reply.all("ratelimit");
        assert_eq!(state[0], "\"own\";r=7;t=9");
        assert!(state[1].starts_with(&format!("\"86400s\";r={ours};t=")), "{state:?}");
        let fields =
            ["limit", "remaining", "reset"].map(|name| reply.all(&format!("x-ratelimit-{name}")).join("|"));
        assert_eq!(fields, older);
    }
}

/// A limit that nobody meets who means well says so; and the counter has a name that tells nothing of the client.
#[tokio::test]
async fn abnormal_usage_is_a_problem_of_its_own() {
    let endpoint = Endpoint::named("a").await;
    let limit = "requests_per_second = 0.01\nproblem = \"abnormal-usage-detected\"\npartition_secret = \"0123456789abcdef\"";
    let gateway = limited(&endpoint, "", limit).await;
    let first = gateway.get("/").await;
    let policy = first.header("ratelimit-policy");
    let name = policy.strip_prefix("\"default\";q=1;w=100;pk=:").and_then(|rest| rest.strip_suffix(':'));
    assert_eq!(name.map(str::len), Some(12), "{policy}");
    let reply = gateway.get("/").await;
    assert_eq!((reply.status, reply.header("ratelimit-policy")), (429, policy));
    let problem = reply.json();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#abnormal-usage-detected");
    assert_eq!(problem["violated-policies"], serde_json::json!(["default"]));
}

/// Has two gateways asked for more than a limit of theirs bears, burst and rate: no more passes than that many times what
/// it allows, and hardly anything less, but for a machine that stood still, which gets another chance. How often each
/// status came.
pub(crate) async fn under_load(
    gateways: &[Gateway; 2],
    (burst, rate): (f64, f64),
    bound: f64,
) -> BTreeMap<u16, usize> {
    let (mut all, mut said) = (BTreeMap::new(), String::new());
    for chance in 1..=4 {
        let begun = Instant::now();
        let load = Load::on(&gateways.each_ref(), 8);
        tokio::time::sleep(Duration::from_secs(4)).await;
        let statuses = load.end().await;
        let took = begun.elapsed().as_secs_f64();
        only_decisions(&statuses);
        statuses.iter().for_each(|(status, many)| *all.entry(*status).or_default() += many);
        let (passed, allowed) = (statuses[&200] as f64, burst + rate * took);
        assert!(passed <= allowed * bound, "{passed} of {allowed}: {statuses:?}");
        // Clients that are refused ask again, so that nothing of the limit is left over, except for the burst once it is
        // used up.
        let least = if chance == 1 { allowed } else { rate * took };
        let is_pressed = statuses.get(&429).is_some_and(|refused| *refused > 50);
        if passed >= least * 0.96 && is_pressed {
            return all;
        }
        said = format!("{passed} of {allowed}: {statuses:?}");
    }
    panic!("{said}")
}

/// Within 2 %, whatever the two gateways do at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_keep_one_limit_together() {
    let (endpoint, redis) = (Endpoint::named("a").await, Redis::start().await);
    let limit = "requests_per_second = 200\nburst = 100\nkey = \"all\"\nstore = \"main\"";
    let gateways = two(&endpoint, &redis.url(), limit).await;
    under_load(&gateways, (100.0, 200.0), 1.02).await;
    for gateway in &gateways {
        let page = gateway.metrics().await;
        assert_eq!(page.sum("gateway_rate_limit_store_away_total", &[]), 0.0);
        assert!(page.sum("gateway_rate_limit_requests_total", &[("result", "passed")]) > 100.0);
        assert_eq!(page.sum("gateway_store_up", &[("store", "main")]), 1.0);
    }
}

pub(crate) async fn away(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("gateway_rate_limit_store_away_total", &[])
}

pub(crate) async fn up(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("gateway_store_up", &[("store", "main")])
}

/// The store decides again: nothing is decided without it any longer.
async fn decides_again(gateway: &Gateway) {
    within(LONG, "the store is used again", || async {
        let before = away(gateway).await;
        for _ in 0..20 {
            gateway.get("/").await;
        }
        away(gateway).await <= before && up(gateway).await > 0.5
    })
    .await;
}

/// Killed and started again under load: requests pass or are refused by the limit, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_dies_and_comes_back_costs_no_request() {
    let (endpoint, mut redis) = (Endpoint::named("a").await, Redis::start().await);
    // Far below what the load asks for on a machine that has much else to do.
    let limit = "requests_per_second = 40\nkey = \"all\"\nstore = \"main\"";
    let gateway = limited(&endpoint, &redis.url(), limit).await;
    let load = Load::on(&[&gateway], 6);
    for _ in 0..2 {
        decides_again(&gateway).await;
        redis.kill();
        within(LONG, "it is noticed", || async { up(&gateway).await < 0.5 && away(&gateway).await > 0.0 })
            .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        redis.again().await;
    }
    decides_again(&gateway).await;
    let statuses = load.end().await;
    only_decisions(&statuses);
    assert!(statuses[&200] > 40 && statuses.contains_key(&429), "{statuses:?}");
    gateway.says("the store does not answer").await;
    gateway.says("the store answers again").await;
}

/// Slow: a few requests wait for its timeout, then nobody waits until it is quick again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_redis_is_left_alone() {
    let (endpoint, redis) = (Endpoint::named("a").await, Redis::start().await);
    let slow = Slow::to(redis.addr()).await;
    let gateway = limited(&endpoint, &slow.url(), "requests_per_second = 1e6\nstore = \"main\"").await;
    decides_again(&gateway).await;
    slow.by(Duration::from_millis(400));
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    for _ in 0..200 {
        let asked = Instant::now();
        assert_eq!(gateway.get("/").await.status, 200);
        slowest = slowest.max(asked.elapsed());
    }
    // The timeout is 100 ms.
    assert!(slowest < Duration::from_millis(350), "{slowest:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?} for 200 requests", begun.elapsed());
    assert!(away(&gateway).await > 100.0);
    slow.by(Duration::ZERO);
    decides_again(&gateway).await;
}

/// Full: it refuses to write, and the gateway counts by itself, or does as it is told.
#[tokio::test]
async fn a_full_redis_costs_no_request() {
    let (endpoint, redis) = (Endpoint::named("a").await, Redis::start().await);
    let of = |when: &str| {
        format!(
            "requests_per_second = 0.01\nburst = 5\nkey = \"all\"\nstore = \"main\"\nwhen_away = \"{when}\""
        )
    };
    for (when, expected) in [("local", 5), ("open", 8), ("closed", 0)] {
        redis.say("CONFIG SET maxmemory 0").await;
        let gateway = limited(&endpoint, &redis.url(), &of(when)).await;
        within(LONG, "it counts", || async { up(&gateway).await > 0.5 }).await;
        redis.say("CONFIG SET maxmemory-policy noeviction").await;
        redis.say("CONFIG SET maxmemory 1").await;
        let mut statuses = Vec::new();
        for _ in 0..8 {
            statuses.push(gateway.get("/").await.status);
        }
        assert_eq!(
            statuses.iter().filter(|status| **status == 200).count(),
            expected,
            "{when}: {statuses:?}"
        );
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{when}: {statuses:?}");
        let full = gateway.metrics().await.sum("gateway_store_errors_total", &[("error", "full")]);
        assert_eq!(full, 8.0);
    }
}

/// Counts survive the gateway: another one on the same store goes on where it stopped.
#[tokio::test]
async fn a_new_gateway_goes_on_counting() {
    let (endpoint, redis) = (Endpoint::named("a").await, Redis::start().await);
    let limit = "limits = [{ requests = 3, per = \"month\" }]\nstore = \"main\"";
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let gateway = patient(&endpoint, &redis.url(), limit).await;
        within(LONG, "it counts", || async { up(&gateway).await > 0.5 }).await;
        statuses.extend([gateway.get("/").await.status, gateway.get("/").await.status]);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(redis.say("DBSIZE").await, ":1");
}
