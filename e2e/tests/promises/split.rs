//! Splits of a route's requests between services: by share, header and cookie, sticky by choice.

use http::Request;
use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup, Version,
    client::empty,
    endpoint,
    wait::{LONG, within},
};

const SERVICES: &str = "[services.old]\nendpoints = [\"{old}\"]\n[services.new]\nendpoints = [\"{new}\"]\n";

fn text(route: &str, new: &str) -> String {
    format!(
        "[access_log]\nformat = \"json\"\n[[routes]]\npath = \"/*\"\nservice = \"old\"\n{route}\n{SERVICES}{new}"
    )
}

async fn two() -> (Endpoint, Endpoint) {
    (Endpoint::named("old").await, Endpoint::named("new").await)
}

async fn start(old: &Endpoint, new: &Endpoint, route: &str) -> Gateway {
    Setup::new(&text(route, "")).set("old", old.url()).set("new", new.url()).start().await
}

fn with(name: &'static str, value: &str) -> Request<portcullis_e2e::client::Body> {
    Request::get("/").header(name, value).body(empty()).unwrap()
}

#[tokio::test]
async fn a_canary_gets_its_share_and_its_metrics() {
    let (old, new) = two().await;
    let gateway = start(&old, &new, "split = { to = [{ service = \"new\", share = \"20%\" }] }").await;
    let mut client = Client::plain(Version::H1, gateway.addr()).await;
    for _ in 0..2000 {
        assert_eq!(client.get("/").await.status, 200);
    }
    // Five standard deviations of a fair coin of this kind are 90.
    assert!(new.count().abs_diff(400) < 100, "{}", new.count());
    assert_eq!(old.count() + new.count(), 2000);
    let page = gateway.metrics().await;
    for (name, endpoint) in [("new@file", &new), ("old@file", &old)] {
        let of_service = page.sum("gateway_backend_requests_total", &[("service", name)]);
        let of_route = [("route", "root@file"), ("service", name)];
        let taken = page.sum("gateway_split_requests_total", &of_route);
        assert_eq!((of_service, taken), (endpoint.count() as f64, endpoint.count() as f64), "{name}");
    }
    let routes = gateway.admin_get("/api/routes").await.json();
    let target = &routes["routes"][0]["target"];
    assert_eq!((&target["kind"], &target["name"]), (&"split".into(), &"old@file".into()), "{target}");
    assert_eq!(target["services"][1]["requests"], new.count(), "{target}");
    let of = |name: &str| gateway.stdout().matches(&format!("\"service\":\"{name}@file\"")).count();
    within(LONG, "all lines", async || of("new") + of("old") == 2000).await;
    assert_eq!(of("new"), new.count());
}

#[tokio::test]
async fn headers_and_cookies_choose_and_a_cookie_keeps() {
    let (old, new) = two().await;
    let to = "{ service = \"new\", share = \"SHARE\", header = \"X-Canary\", value = \"1\" }";
    let split = format!("split = {{ to = [{to}], sticky = \"version\" }}");
    let mut gateway = start(&old, &new, &split.replace("SHARE", "50%")).await;
    for _ in 0..20 {
        let reply = gateway.send(with("x-canary", "1")).await;
        assert_eq!((reply.endpoint(), reply.header("set-cookie")), ("new", ""));
    }
    let (mut seen, mut cookies) = ([0, 0], Vec::new());
    for _ in 0..30 {
        let reply = gateway.get("/").await;
        let first = reply.endpoint().to_owned();
        seen[usize::from(first == "new")] += 1;
        let cookie = reply.header("set-cookie").split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("version=") && !cookie.contains("new"), "{cookie}");
        for _ in 0..3 {
            let again = gateway.send(with("cookie", &format!("a=b; {cookie}"))).await;
            assert_eq!((again.endpoint(), again.header("set-cookie")), (first.as_str(), ""));
        }
        // Who asks by header gets what it asks for.
        let request = Request::get("/").header("cookie", &cookie).header("x-canary", "1");
        assert_eq!(gateway.send(request.body(empty()).unwrap()).await.endpoint(), "new");
        cookies.push(cookie);
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    // The canary is taken back: also those leave who were bound to it.
    gateway.rewrite(&text(&split.replace("SHARE", "0%"), ""));
    for cookie in cookies {
        within(LONG, "the old one", async || gateway.send(with("cookie", &cookie)).await.endpoint() == "old")
            .await;
    }
}

/// Retries, breaker and fallback are those of the service that was chosen.
#[tokio::test]
async fn what_the_chosen_service_does_about_failure_counts() {
    let old = Endpoint::named("old").await;
    let shaky = Endpoint::with(|_| endpoint::text(503, "no")).await;
    let policies = "retry = { attempts = 3, backoff = \"1ms\" }\ncircuit_breaker = { failure_threshold = 5 }\n\
                    fallback = { on = [\"circuit_open\"], status = 203, body = \"later\" }\n";
    let route = "split = { to = [{ service = \"new\", header = \"X-Canary\" }] }";
    let setup = Setup::new(&text(route, policies)).set("old", old.url()).set("new", shaky.url());
    let gateway = setup.start().await;
    let reply = gateway.send(with("x-canary", "1")).await;
    assert_eq!((reply.status, shaky.count()), (503, 3));
    // Five failures in a row open it, and the fallback stands in.
    assert_eq!(gateway.send(with("x-canary", "1")).await.status, 503);
    assert_eq!(shaky.count(), 5);
    let reply = gateway.send(with("x-canary", "1")).await;
    assert_eq!((reply.status, reply.text().as_str(), shaky.count()), (203, "later", 5));
    assert_eq!(gateway.get("/").await.endpoint(), "old");
    let page = gateway.metrics().await;
    let sum = |name: &str, service: &str| page.sum(name, &[("service", service)]);
    assert_eq!(sum("gateway_backend_retries_total", "new@file"), 3.0);
    assert_eq!(sum("gateway_backend_retries_total", "old@file"), 0.0);
    assert_eq!(sum("gateway_fallbacks_total", "new@file"), 1.0);
    within(LONG, "four lines", async || gateway.stdout().lines().count() >= 4).await;
    let of_new = gateway.stdout().lines().filter(|line| line.contains("\"service\":\"new@file\"")).count();
    assert_eq!(of_new, 3, "{}", gateway.stdout());
}

/// What one service says is not what the other would: the cache keeps them apart.
#[tokio::test]
async fn the_cache_of_a_route_keeps_its_services_apart() {
    let say = |name: &'static str| {
        Endpoint::with(move |_| {
            let mut answer = endpoint::named(name);
            answer.headers_mut().insert("cache-control", "max-age=60".parse().unwrap());
            answer
        })
    };
    let (old, new) = (say("old").await, say("new").await);
    let route = "cache = true\nsplit = { to = [{ service = \"new\", header = \"X-Canary\" }] }";
    let gateway = start(&old, &new, route).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/").await.text(), "old");
        assert_eq!(gateway.send(with("x-canary", "1")).await.text(), "new");
    }
    assert_eq!((old.count(), new.count()), (1, 1));
    within(LONG, "six lines", async || gateway.stdout().lines().count() >= 6).await;
    let of_new = gateway.stdout().lines().filter(|line| line.contains("\"service\":\"new@file\"")).count();
    assert_eq!(of_new, 3, "{}", gateway.stdout());
}
