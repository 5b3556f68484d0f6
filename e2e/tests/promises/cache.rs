//! The cache through the real binary: what is kept, for whom, who waits for whom, and what happens when things fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Reply, Script, Setup,
    client::{Body, empty, full},
    wait::LONG,
    within,
};

const CACHED: &str = r#"
[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = ["{app}"]
cache = { x_cache = true }
"#;

/// Answers with the number of its answer, and these fields.
async fn counting(fields: &'static [(&'static str, &'static str)]) -> Endpoint {
    let count = AtomicU32::new(0);
    Endpoint::with(move |_| {
        let number = count.fetch_add(1, SeqCst) + 1;
        let mut reply = Response::builder();
        for (name, value) in fields {
            reply = reply.header(*name, *value);
        }
        reply.body(full(format!("answer {number}"))).unwrap()
    })
    .await
}

async fn gateway(text: &str, app: &Endpoint) -> Gateway {
    Setup::new(text).set("app", app.url()).start().await
}

async fn get_with(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.fetch(request.body(empty()).unwrap()).await
}

/// The second of two is answered from memory, says so, and is the same; the log and the counters agree.
#[tokio::test]
async fn what_is_fresh_is_not_fetched_again() {
    let app =
        counting(&[("Cache-Control", "max-age=60"), ("Content-Type", "text/plain"), ("X-Own", "1")]).await;
    let gateway = Setup::new(CACHED).top("access_log = true").set("app", app.url()).start().await;
    let mut client = Client::h1(gateway.addr()).await;
    let first = client.get("/a?x=1").await;
    assert_eq!((first.text().as_str(), first.header("x-cache")), ("answer 1", "MISS"));
    assert_eq!(first.header("cache-status"), "portcullis; fwd=uri-miss; ttl=60; stored");
    let second = client.get("/a?x=1").await;
    assert_eq!((second.text().as_str(), second.header("x-cache")), ("answer 1", "HIT"));
    assert!(second.header("cache-status").starts_with("portcullis; hit; ttl="), "{:?}", second.headers);
    assert_eq!((second.header("x-own"), second.header("content-length")), ("1", "8"));
    assert!(["0", "1"].contains(&second.header("age")), "{:?}", second.headers);
    let mut h2 = Client::h2(gateway.addr()).await;
    assert_eq!(h2.get("/a?x=1").await.text(), "answer 1", "whatever the protocol");
    let page = gateway.metrics().await;
    assert!(page.sum("gateway_cache_hits_total", &[]) >= 1.0);
    assert!(page.sum("gateway_cache_misses_total", &[]) >= 1.0);
    assert!(page.sum("gateway_cache_entries", &[]) >= 1.0 && page.sum("gateway_cache_bytes", &[]) > 0.0);
    within(LONG, "the log says so", || async { gateway.stdout().contains("\"cache\":\"hit\"") }).await;
}

/// A hundred ask at once for what nobody has: one fetch, and all get it while it arrives.
#[tokio::test]
async fn many_who_want_the_same_are_one_fetch() {
    let script = Script::start(|mut conversation| async move {
        while conversation.head().await.is_some() {
            tokio::time::sleep(Duration::from_millis(300)).await;
            conversation
                .write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nhello")
                .await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            conversation.write(b"world").await;
        }
    })
    .await;
    let gateway = Setup::new(CACHED).set("app", script.url()).start().await;
    let asking = (0..100).map(|_| {
        let addr = gateway.addr();
        tokio::spawn(async move { Client::h1(addr).await.get("/a").await })
    });
    let mut collapsed = 0;
    for asked in asking.collect::<Vec<_>>() {
        let reply = asked.await.unwrap();
        assert_eq!(reply.text(), "helloworld");
        collapsed += usize::from(reply.header("cache-status").contains("collapsed"));
    }
    assert_eq!(script.heads().len(), 1);
    assert!(collapsed >= 90, "{collapsed}");
}

/// Who began the fetch leaves: the others get their answer all the same.
#[tokio::test]
async fn a_client_that_leaves_does_not_take_the_answer_with_it() {
    let script = Script::start(|mut conversation| async move {
        while conversation.head().await.is_some() {
            tokio::time::sleep(Duration::from_millis(600)).await;
            conversation
                .write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let gateway = Setup::new(CACHED).set("app", script.url()).start().await;
    let addr = gateway.addr();
    let first = tokio::spawn(async move { Client::h1(addr).await.get("/a").await });
    tokio::time::sleep(Duration::from_millis(150)).await;
    let second = tokio::spawn(async move { Client::h1(addr).await.get("/a").await });
    tokio::time::sleep(Duration::from_millis(150)).await;
    first.abort();
    assert_eq!(second.await.unwrap().text(), "ok");
    assert_eq!(script.heads().len(), 1);
}

/// What is not storable does not make its readers wait for each other, but for the first.
#[tokio::test]
async fn what_cannot_be_stored_is_not_serialised() {
    let app = Endpoint::start(|_| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(Response::builder().header("Cache-Control", "no-store").body(full("x")).unwrap())
    })
    .await;
    let gateway = gateway(CACHED, &app).await;
    let addr = gateway.addr();
    let begun = std::time::Instant::now();
    let asking: Vec<_> =
        (0..20).map(|_| tokio::spawn(async move { Client::h1(addr).await.get("/a").await })).collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap().text(), "x");
    }
    assert!(begun.elapsed() < Duration::from_millis(2000), "{:?}", begun.elapsed());
    let later = gateway.get("/a").await;
    assert_eq!(later.header("cache-status"), "portcullis; fwd=uri-miss; detail=uncacheable");
}

/// Where nothing of an answer had left yet, the error takes its place, and says what the cache did as every answer does
/// (RFC 9211 §2).
fn is_instead(reply: &Reply) -> bool {
    let cache = reply.header("cache-status");
    reply.status == 502 && cache.starts_with("portcullis; fwd=uri-miss") && !cache.contains("stored")
}

/// An answer that ends before its end is an error for who reads it, and nothing for the next.
#[tokio::test]
async fn half_an_answer_is_never_used_again() {
    let script = Script::start(|mut conversation| async move {
        if conversation.head().await.is_some() {
            conversation
                .write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nhalf")
                .await;
        }
    })
    .await;
    let gateway = Setup::new(CACHED).set("app", script.url()).start().await;
    for _ in 0..2 {
        let mut client = Client::h1(gateway.addr()).await;
        let reply = client.try_fetch(Request::get("/a").body(empty()).unwrap()).await;
        assert!(reply.is_err() || reply.is_ok_and(|reply| is_instead(&reply)));
    }
    assert_eq!(script.heads().len(), 2, "{:#?}", script.heads());
    let chunked = Script::start(|mut conversation| async move {
        if conversation.head().await.is_some() {
            conversation.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
        }
    })
    .await;
    let gateway = Setup::new(CACHED).set("app", chunked.url()).start().await;
    for _ in 0..2 {
        let mut client = Client::h1(gateway.addr()).await;
        let reply = client.try_fetch(Request::get("/a").body(empty()).unwrap()).await;
        assert!(reply.is_err() || reply.is_ok_and(|reply| is_instead(&reply)));
    }
    assert_eq!(chunked.heads().len(), 2, "{:#?}", chunked.heads());
}

/// HEAD, 304, and parts are made of the whole that is stored.
#[tokio::test]
async fn the_stored_whole_answers_for_its_parts() {
    let app = counting(&[("Cache-Control", "max-age=60"), ("ETag", "\"v1\"")]).await;
    let gateway = gateway(CACHED, &app).await;
    let mut client = Client::h1(gateway.addr()).await;
    client.get("/a").await;
    let head = client.fetch(Request::head("/a").body(empty()).unwrap()).await;
    assert_eq!((head.status, head.header("content-length"), head.text().as_str()), (200, "8", ""));
    let same = get_with(&mut client, "/a", &[("If-None-Match", "W/\"v1\"")]).await;
    assert_eq!((same.status, same.header("etag"), same.header("content-length")), (304, "\"v1\"", ""));
    let part = get_with(&mut client, "/a", &[("Range", "bytes=0-2")]).await;
    assert_eq!((part.status, part.text().as_str()), (206, "ans"));
    assert_eq!(part.header("content-range"), "bytes 0-2/8");
    let parts = get_with(&mut client, "/a", &[("Range", "bytes=0-1,6-7")]).await;
    assert!(parts.header("content-type").starts_with("multipart/byteranges; boundary="));
    assert!(parts.text().contains("content-range: bytes 6-7/8\r\n\r\n 1\r\n"), "{}", parts.text());
    let none = get_with(&mut client, "/a", &[("Range", "bytes=99-")]).await;
    assert_eq!((none.status, none.header("content-range")), (416, "bytes */8"));
    assert_eq!(app.count(), 1);
}

/// One page for each coding, not for each way to ask for it; and never one user's page for another.
#[tokio::test]
async fn variants_are_kept_apart() {
    let app = Endpoint::with(|seen| {
        let said =
            seen.headers.get("accept-encoding").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        Response::builder()
            .header("Cache-Control", "max-age=60")
            .header("Vary", "Accept-Encoding")
            .body(full(format!("for {said}")))
            .unwrap()
    })
    .await;
    let gateway = gateway(CACHED, &app).await;
    let mut client = Client::h1(gateway.addr()).await;
    for said in ["gzip, br", "br;q=0.9,gzip", "GZIP,BR"] {
        assert_eq!(get_with(&mut client, "/a", &[("Accept-Encoding", said)]).await.text(), "for gzip, br");
    }
    let other = get_with(&mut client, "/a", &[("Accept-Encoding", "zstd")]).await;
    assert_eq!(other.text(), "for zstd");
    assert!(other.header("cache-status").contains("fwd=vary-miss"), "{:?}", other.headers);
    assert_eq!(app.count(), 2);
}

/// An unsafe request makes what is stored invalid: that of its URI, and of those its answer names.
#[tokio::test]
async fn a_change_invalidates() {
    let count = Arc::new(AtomicU32::new(0));
    let number = count.clone();
    let app = Endpoint::with(move |seen| {
        if seen.method == http::Method::POST {
            return Response::builder().status(201).header("Location", "/list").body(full("made")).unwrap();
        }
        let number = number.fetch_add(1, SeqCst) + 1;
        Response::builder()
            .header("Cache-Control", "max-age=60")
            .body(full(format!("answer {number}")))
            .unwrap()
    })
    .await;
    let gateway = gateway(CACHED, &app).await;
    let mut client = Client::h1(gateway.addr()).await;
    assert_eq!(client.get("/a").await.text(), "answer 1");
    assert_eq!(client.get("/list").await.text(), "answer 2");
    assert_eq!(client.get("/other").await.text(), "answer 3");
    let post: Request<Body> = Request::post("/a").body(full("x")).unwrap();
    assert_eq!(client.fetch(post).await.header("cache-status"), "portcullis; fwd=method");
    assert_eq!(client.get("/a").await.text(), "answer 4");
    assert_eq!(client.get("/list").await.text(), "answer 5");
    assert_eq!(client.get("/other").await.text(), "answer 3");
}

/// The endpoint goes away: what is stale is better than nothing, where the answer or the configuration says so.
#[tokio::test]
async fn stale_if_the_service_fails() {
    const STALE: &str = r#"
[[routes]]
path = "/*"
service = "app"
cache = { stale_if_error = "1h", x_cache = true }
[services.app]
endpoints = ["{app}"]
"#;
    let app = counting(&[("Cache-Control", "max-age=1")]).await;
    let gateway = gateway(STALE, &app).await;
    assert_eq!(gateway.get("/a").await.text(), "answer 1");
    drop(app);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let stale = gateway.get("/a").await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "answer 1"));
    assert!(stale.header("cache-status").contains("detail=stale-if-error"), "{:?}", stale.headers);
    assert_eq!(stale.header("x-cache"), "HIT", "as `gateway_cache_hits_total` counts it");
    let none = gateway.get("/b").await;
    assert_eq!((none.status, none.header("x-cache")), (502, "MISS"));
}

/// Stale and refreshed aside: nobody waits.
#[tokio::test]
async fn stale_while_it_is_refreshed() {
    let app = counting(&[("Cache-Control", "max-age=1, stale-while-revalidate=60")]).await;
    let gateway = gateway(CACHED, &app).await;
    assert_eq!(gateway.get("/a").await.text(), "answer 1");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let stale = gateway.get("/a").await;
    assert_eq!((stale.text().as_str(), stale.header("x-cache")), ("answer 1", "HIT"));
    within(LONG, "it is refreshed", || async { gateway.get("/a").await.text() == "answer 2" }).await;
    assert_eq!(app.count(), 2);
}

/// What is stored survives a reload that does not touch the store.
#[tokio::test]
async fn a_reload_keeps_what_is_stored() {
    let app = counting(&[("Cache-Control", "max-age=600")]).await;
    let mut gateway = gateway(CACHED, &app).await;
    assert_eq!(gateway.get("/a").await.text(), "answer 1");
    gateway.rewrite(&CACHED.replace("x_cache = true", "x_cache = false"));
    assert_eq!(gateway.admin_post("/reload").await.status, 200);
    let after = gateway.get("/a").await;
    assert_eq!((after.text().as_str(), after.header("x-cache")), ("answer 1", ""));
}

/// Seed 003: lifetimes by path, paths never cached, and each user's own answers.
#[tokio::test]
async fn the_rules_of_a_route() {
    const RULES: &str = r#"
[[routes]]
path = "/*"
service = "app"

[routes.cache]
default_lifetime = "60s"
lifetimes = { "/stock/*" = "1s" }
never = ["/login"]
key = { identity = true, ignore_query = ["utm_*"] }

[services.app]
endpoints = ["{app}"]
"#;
    let app = counting(&[]).await;
    let gateway = gateway(RULES, &app).await;
    let mut client = Client::h1(gateway.addr()).await;
    let ana = [("Authorization", "Bearer ana")];
    let eva = [("Authorization", "Bearer eva")];
    assert_eq!(get_with(&mut client, "/me", &ana).await.text(), "answer 1");
    assert_eq!(get_with(&mut client, "/me", &eva).await.text(), "answer 2");
    assert_eq!(get_with(&mut client, "/me?utm_source=x", &ana).await.text(), "answer 1");
    assert_eq!(get_with(&mut client, "/me", &eva).await.text(), "answer 2");
    assert_eq!(client.get("/login").await.text(), "answer 3");
    let login = client.get("/login").await;
    assert_eq!(
        (login.text().as_str(), login.header("cache-status")),
        ("answer 4", "portcullis; fwd=bypass; detail=path")
    );
    assert_eq!(client.get("/stock/1").await.text(), "answer 5");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(client.get("/stock/1").await.text(), "answer 6");
}

/// Purged by URL, by prefix, by tag: over the admin API and from the command line.
#[tokio::test]
async fn purges() {
    let app = counting(&[("Cache-Control", "max-age=600"), ("Surrogate-Key", "all news")]).await;
    let gateway = gateway(CACHED, &app).await;
    let mut client = Client::h1(gateway.addr()).await;
    let base = format!("http://{}", gateway.addr());
    for path in ["/a/1", "/a/2", "/b"] {
        client.get(path).await;
    }
    let purged = |reply: Reply| (reply.status, reply.json()["purged"].as_u64().unwrap_or_default());
    let purge = async |what: String| purged(gateway.admin_post(&format!("/api/cache/purge?{what}")).await);
    assert_eq!(purge(format!("url={base}/a/1")).await, (200, 1));
    assert_eq!(client.get("/a/1").await.text(), "answer 4");
    assert_eq!(client.get("/a/2").await.text(), "answer 2");
    assert_eq!(purge(format!("prefix={base}/a/")).await, (200, 2));
    assert_eq!(client.get("/b").await.text(), "answer 3");
    assert_eq!(purge("tag=other".into()).await, (200, 0));
    assert_eq!(purge("tag=news".into()).await, (200, 1));
    assert_eq!(client.get("/b").await.text(), "answer 5");
    assert_eq!(purge("url=/b".into()).await.0, 422);
    assert_eq!(gateway.admin_get("/api/cache").await.json()["entries"], 1);
    let admin = gateway.admin().to_string();
    let dir = tempfile::tempdir().unwrap();
    let told = tokio::task::spawn_blocking(move || {
        portcullis_e2e::gateway::run(dir.path(), &["purge", "--all", "--admin", &admin])
    });
    let told = told.await.unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "1 answer purged");
    assert_eq!(client.get("/b").await.text(), "answer 6");
}

/// A HEAD that sets off a refresh does not leave an answer without its body behind.
#[tokio::test]
async fn a_head_refreshes_the_whole() {
    let app = counting(&[("Cache-Control", "max-age=1, stale-while-revalidate=60")]).await;
    let gateway = gateway(CACHED, &app).await;
    let mut client = Client::h1(gateway.addr()).await;
    assert_eq!(client.get("/x").await.text(), "answer 1");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let head = client.fetch(Request::head("/x").body(empty()).unwrap()).await;
    assert_eq!((head.status, head.text().as_str()), (200, ""));
    within(LONG, "the refreshed answer", || async {
        let mut client = Client::h1(gateway.addr()).await;
        let text = client.get("/x").await.text();
        assert!(text.starts_with("answer "), "{text:?}");
        text != "answer 1"
    })
    .await;
    assert!(app.seen().iter().all(|seen| seen.method == "GET"), "the whole is fetched");
}

/// What a 304 brings for one client alone reaches nobody else.
#[tokio::test]
async fn a_cookie_with_a_304_is_for_one() {
    let app = Endpoint::start(|request| async move {
        let reply = Response::builder().header("Cache-Control", "max-age=1").header("ETag", "\"one\"");
        if request.headers().contains_key("if-none-match") {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let cookie = request.headers().get("cookie").cloned().expect("a cookie");
            return Ok(reply.status(304).header("Set-Cookie", cookie).body(empty()).unwrap());
        }
        Ok(reply.body(full("whole")).unwrap())
    })
    .await;
    let gateway = gateway(CACHED, &app).await;
    let mut client = Client::h1(gateway.addr()).await;
    assert_eq!(client.get("/x").await.text(), "whole");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let ask = |who: &'static str| {
        let addr = gateway.addr();
        async move {
            let mut client = Client::h1(addr).await;
            let reply = get_with(&mut client, "/x", &[("cookie", who)]).await;
            (reply.text(), reply.header("set-cookie").to_owned())
        }
    };
    let (ana, beto) = tokio::join!(ask("sid=ana"), ask("sid=beto"));
    for (reply, who) in [(ana, "sid=ana"), (beto, "sid=beto")] {
        assert_eq!(reply.0, "whole");
        assert!(reply.1.is_empty() || reply.1 == who, "{who} got {}", reply.1);
    }
}
