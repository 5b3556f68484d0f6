//! Each strategy's distribution (VK2, AVX5, PLU2): where requests go, over real endpoints.

use std::collections::BTreeMap;

use http::Request;
use portcullis_e2e::{Client, Endpoint, Gateway, Setup, client::empty};

struct Three {
    gateway: Gateway,
    endpoints: [Endpoint; 3],
}

/// A gateway before three endpoints `a`, `b`, `c`, with this in the service's table.
async fn three(service: &str, endpoints: &str) -> Three {
    let [a, b, c] = [Endpoint::named("a").await, Endpoint::named("b").await, Endpoint::named("c").await];
    let text = format!(
        "[[routes]]\nname = \"all\"\npath = \"/*\"\nservice = \"app\"\n\n[services.app]\n{service}\nendpoints = [{endpoints}]\n"
    );
    let gateway = Setup::new(&text).set("a", a.url()).set("b", b.url()).set("c", c.url()).start().await;
    Three { gateway, endpoints: [a, b, c] }
}

const PLAIN: &str = r#"{ url = "{a}" }, { url = "{b}" }, { url = "{c}" }"#;

impl Three {
    /// So many GETs of `/` over one connection: who answered, in order.
    async fn ask(&self, times: usize) -> Vec<String> {
        let mut client = Client::h1(self.gateway.addr()).await;
        let mut answers = Vec::with_capacity(times);
        for _ in 0..times {
            let reply = client.get("/").await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            answers.push(reply.endpoint().to_owned());
        }
        answers
    }
}

fn count(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.as_str()).or_insert(0) += 1;
    }
    counts
}

/// Round robin (VK2): an equal share, and never the same one twice in a row.
#[tokio::test]
async fn round_robin_takes_turns() {
    let three = three(r#"strategy = "round_robin""#, PLAIN).await;
    let answers = three.ask(30).await;
    assert_eq!(count(&answers), BTreeMap::from([("a", 10), ("b", 10), ("c", 10)]));
    assert!(answers.windows(2).all(|pair| pair[0] != pair[1]), "{answers:?}");
}

/// Round robin shares over many connections too: the turn belongs to the service, not to a connection or worker.
#[tokio::test]
async fn round_robin_shares_over_connections() {
    let three = three(r#"strategy = "round_robin""#, PLAIN).await;
    let mut answers = Vec::new();
    for _ in 0..60 {
        answers.extend(three.ask(1).await);
    }
    for (name, times) in count(&answers) {
        assert!((16..=24).contains(&times), "{name}: {times} of 60");
    }
}

/// Weights (VK2: weighted round robin): shares as the weights say, smoothly interleaved.
#[tokio::test]
async fn weights_are_shares_and_interleave() {
    let weighted = r#"{ url = "{a}", weight = 5 }, { url = "{b}", weight = 1 }, { url = "{c}", weight = 1 }"#;
    for name in ["round_robin", "weighted_round_robin", "weighted-round-robin"] {
        let three = three(&format!("strategy = {name:?}"), weighted).await;
        let answers = three.ask(70).await;
        assert_eq!(count(&answers), BTreeMap::from([("a", 50), ("b", 10), ("c", 10)]), "{name}");
        // Smooth: in a turn of seven, `a` is never five times in a row.
        assert!(!answers.windows(5).any(|five| five.iter().all(|one| one == "a")), "{answers:?}");
    }
}

/// A weight of 0 gets none.
#[tokio::test]
async fn weight_zero_gets_none() {
    for strategy in ["round_robin", "least_connections", "random", "p2c", "ip_hash"] {
        let endpoints = r#"{ url = "{a}" }, { url = "{b}", weight = 0 }, { url = "{c}" }"#;
        let three = three(&format!("strategy = {strategy:?}"), endpoints).await;
        three.ask(40).await;
        assert_eq!(three.endpoints[1].count(), 0, "{strategy}");
    }
}

/// Weights from metadata (VK2): provider `supabase` = 3, `gdrive` = 1.
#[tokio::test]
async fn weights_come_from_metadata() {
    let endpoints = r#"
        { url = "{a}", metadata = { provider = "supabase" } },
        { url = "{b}", metadata = { provider = "gdrive" } },
        { url = "{c}", metadata = { provider = "gdrive" } }"#;
    let three = three(r#"weight_by = { key = "provider", supabase = 3, gdrive = 1 }"#, endpoints).await;
    let answers = three.ask(50).await;
    assert_eq!(count(&answers), BTreeMap::from([("a", 30), ("b", 10), ("c", 10)]));
}

/// Random (VK2, AVX5): everybody gets a share, and not in turns.
#[tokio::test]
async fn random_gives_everybody_a_share() {
    let three = three(r#"strategy = "random""#, PLAIN).await;
    let answers = three.ask(600).await;
    for (name, times) in count(&answers) {
        // Six standard deviations of a binomial with n = 600, p = 1/3.
        assert!((130..=270).contains(&times), "{name}: {times} of 600");
    }
    assert!(answers.windows(2).any(|pair| pair[0] == pair[1]), "turns, not chance");
}

/// Random heeds weights.
#[tokio::test]
async fn random_heeds_weights() {
    let weighted = r#"{ url = "{a}", weight = 8 }, { url = "{b}", weight = 1 }, { url = "{c}", weight = 1 }"#;
    let three = three(r#"strategy = "random""#, weighted).await;
    let answers = three.ask(500).await;
    let a = count(&answers)["a"];
    assert!((340..=460).contains(&a), "{a} of 500");
}

/// Least connections (VK2, AVX5): an endpoint that is busy gets nothing while others are idle.
#[tokio::test]
async fn least_connections_avoids_the_busy() {
    let (release, _) = tokio::sync::watch::channel(false);
    let gate = release.subscribe();
    let slow = Endpoint::start(move |_| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await?;
            Ok(portcullis_e2e::endpoint::named("slow"))
        }
    })
    .await;
    let quick = Endpoint::named("quick").await;
    let text = r#"
[[routes]]
name = "all"
path = "/*"
[routes.upstream]
urls = ["{slow}", "{quick}"]
strategy = "least_connections"
"#;
    let gateway = Setup::new(text).set("slow", slow.url()).set("quick", quick.url()).start().await;
    // Two at once: one of them sits at the slow endpoint and stays there.
    let addr = gateway.addr();
    let ask = move || async move { Client::h1(addr).await.get("/").await.endpoint().to_owned() };
    let (one, two) = (tokio::spawn(ask()), tokio::spawn(ask()));
    portcullis_e2e::within(portcullis_e2e::wait::LONG, "the quick endpoint to answer one", || async {
        one.is_finished() || two.is_finished()
    })
    .await;
    let mut client = Client::h1(gateway.addr()).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.endpoint(), "quick");
    }
    release.send(true).unwrap();
    let mut both = [one.await.unwrap(), two.await.unwrap()];
    both.sort();
    assert_eq!(both, ["quick", "slow"]);
}

/// Power of two choices on peak EWMA: the slow endpoint is asked far less often than the quick ones.
#[tokio::test]
async fn p2c_prefers_the_quick() {
    let slow = Endpoint::start(|_| async {
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        Ok(portcullis_e2e::endpoint::named("slow"))
    })
    .await;
    let [b, c] = [Endpoint::named("b").await, Endpoint::named("c").await];
    let text = r#"
[[routes]]
name = "all"
path = "/*"
[routes.upstream]
urls = ["{slow}", "{b}", "{c}"]
strategy = "p2c"
"#;
    let gateway = Setup::new(text).set("slow", slow.url()).set("b", b.url()).set("c", c.url()).start().await;
    let mut client = Client::h1(gateway.addr()).await;
    let mut counts = BTreeMap::<String, usize>::new();
    for _ in 0..300 {
        *counts.entry(client.get("/").await.endpoint().to_owned()).or_default() += 1;
    }
    let slow = counts.get("slow").copied().unwrap_or(0);
    assert!(slow < 60, "the slow one was asked {slow} times of 300: {counts:?}");
    assert!(counts["b"] > 60 && counts["c"] > 60, "{counts:?}");
}

/// IP hash (PLU2): one client always comes to the same endpoint, different clients to different ones.
#[tokio::test]
async fn ip_hash_keeps_a_client_and_spreads_clients() {
    let setup = three_with_trust(r#"strategy = "ip_hash""#).await;
    let mut client = Client::h1(setup.gateway.addr()).await;
    let mut homes = BTreeMap::new();
    for round in 0..3 {
        for number in 0..60 {
            let from = format!("198.51.100.{number}");
            let request = Request::get("/").header("x-forwarded-for", &from).body(empty()).unwrap();
            let home = client.fetch(request).await.endpoint().to_owned();
            let before = homes.entry(from).or_insert_with(|| home.clone());
            assert_eq!(*before, home, "round {round}");
        }
    }
    let homes: Vec<String> = homes.into_values().collect();
    for (name, clients) in count(&homes) {
        assert!(clients >= 6, "{name} has {clients} of 60 clients");
    }
    assert_eq!(count(&homes).len(), 3);
}

/// Consistent hash by header: the same key, the same endpoint; when one endpoint leaves, only its keys move.
#[tokio::test]
async fn consistent_hash_moves_only_the_keys_of_the_lost() {
    let mut three = three(r#"strategy = { hash = { header = "X-User" } }"#, PLAIN).await;
    let before = homes(&three.gateway, "x-user").await;
    assert_eq!(homes(&three.gateway, "x-user").await, before, "the same keys, the same homes");
    let shares = count(before.values().cloned().collect::<Vec<_>>().as_slice()).len();
    assert_eq!(shares, 3, "{before:?}");
    // Without `c`: a reload, since a dead endpoint is another promise.
    three.gateway.rewrite(
        r#"
[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
strategy = { hash = { header = "X-User" } }
endpoints = [{ url = "{a}" }, { url = "{b}" }]
"#,
    );
    assert_eq!(three.gateway.admin_post("/reload").await.status, 200);
    let after = homes(&three.gateway, "x-user").await;
    for (key, home) in &before {
        if home != "c" {
            assert_eq!(&after[key], home, "key {key} moved though its endpoint stayed");
        }
    }
}

async fn homes(gateway: &Gateway, header: &str) -> BTreeMap<usize, String> {
    let mut client = Client::h1(gateway.addr()).await;
    let mut homes = BTreeMap::new();
    for key in 0..90 {
        let request = Request::get("/").header(header, format!("user-{key}")).body(empty()).unwrap();
        homes.insert(key, client.fetch(request).await.endpoint().to_owned());
    }
    homes
}

/// Consistent hash by cookie, query, path and client: equal keys, equal endpoint; different keys spread.
#[tokio::test]
async fn consistent_hash_by_each_key() {
    for (strategy, request) in [
        (r#"{ hash = { cookie = "session" } }"#, keyed_cookie as fn(usize) -> Request<_>),
        (r#"{ hash = { query = "id" } }"#, keyed_query),
        (r#"{ hash = "path" }"#, keyed_path),
        (r#"{ hash = "client" }"#, keyed_client),
    ] {
        let setup = three_with_trust(&format!("strategy = {strategy}")).await;
        let mut client = Client::h1(setup.gateway.addr()).await;
        let mut first = Vec::new();
        for key in 0..40 {
            first.push(client.fetch(request(key)).await.endpoint().to_owned());
        }
        for (key, home) in first.iter().enumerate() {
            assert_eq!(client.fetch(request(key)).await.endpoint(), home, "{strategy}");
        }
        assert_eq!(count(&first).len(), 3, "{strategy}: {:?}", count(&first));
    }
}

fn keyed_cookie(key: usize) -> Request<portcullis_e2e::client::Body> {
    Request::get("/").header("cookie", format!("other=1; session=s{key}")).body(empty()).unwrap()
}
fn keyed_query(key: usize) -> Request<portcullis_e2e::client::Body> {
    Request::get(format!("/?x=same&id={key}")).body(empty()).unwrap()
}
fn keyed_path(key: usize) -> Request<portcullis_e2e::client::Body> {
    Request::get(format!("/item/{key}")).body(empty()).unwrap()
}
fn keyed_client(key: usize) -> Request<portcullis_e2e::client::Body> {
    Request::get("/").header("x-forwarded-for", format!("203.0.113.{key}")).body(empty()).unwrap()
}

/// Like `three`, and the loopback is a trusted proxy, so that a test can be many clients.
async fn three_with_trust(service: &str) -> Three {
    let [a, b, c] = [Endpoint::named("a").await, Endpoint::named("b").await, Endpoint::named("c").await];
    let text = format!(
        r#"
[listeners.web]
address = "127.0.0.1:{{port}}"
trusted_proxies = ["127.0.0.1/32"]

[admin]
address = "127.0.0.1:{{admin}}"

[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
{service}
endpoints = [{PLAIN}]
"#
    );
    let setup = Setup::whole("gateway.toml", &text).set("a", a.url()).set("b", b.url()).set("c", c.url());
    Three { gateway: setup.start().await, endpoints: [a, b, c] }
}
