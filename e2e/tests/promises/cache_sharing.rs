//! What the cache shares, and what it does not: fields for one, bodies too large to be kept, keys for several URLs, answers
//! that change what they vary by, and what each who waits takes where the service fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Reply, Script, Setup,
    client::{empty, full},
    wait::LONG,
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::CACHED;

async fn gateway(text: &str, url: String) -> Gateway {
    Setup::new(text).set("app", url).start().await
}

async fn get(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    Client::h1(gateway.addr()).await.fetch(request.body(empty()).unwrap()).await
}

/// `private="set-cookie"`: whoever asked gets his cookie, nobody else does, and the rest is kept.
#[tokio::test]
async fn fields_for_one_reach_him_and_nobody_else() {
    let count = AtomicU32::new(0);
    let app = Endpoint::with(move |_| {
        let number = count.fetch_add(1, SeqCst) + 1;
        Response::builder()
            .header("Cache-Control", "max-age=60, private=\"Set-Cookie, X-Own\", no-cache=\"X-Other\"")
            .header("Set-Cookie", format!("id={number}"))
            .header("Set-Cookie", "theme=dark")
            .header("X-Own", "1")
            .header("X-Other", "2")
            .header("X-All", "3")
            .body(full("x"))
            .unwrap()
    })
    .await;
    let gateway = gateway(CACHED, app.url()).await;
    let first = get(&gateway, "/a", &[]).await;
    assert_eq!(first.all("set-cookie"), ["id=1", "theme=dark"], "{:?}", first.headers);
    assert_eq!((first.header("x-own"), first.header("x-other"), first.header("x-all")), ("1", "2", "3"));
    let second = get(&gateway, "/a", &[]).await;
    assert!(second.header("cache-status").contains("hit"), "{:?}", second.headers);
    assert!(second.all("set-cookie").is_empty(), "{:?}", second.headers);
    assert_eq!((second.header("x-own"), second.header("x-other"), second.header("x-all")), ("", "", "3"));
}

/// Keys of which only some parameters count are for several URLs: a change and a purge by any of these reach them.
#[tokio::test]
async fn changes_and_purges_reach_keys_for_several_urls() {
    const SELECTED: &str = r#"
[[routes]]
path = "/only/*"
service = "app"
cache = { key = { query = ["id"] } }

[[routes]]
path = "/*"
service = "app"
cache = { key = { ignore_query = ["utm_*"] } }

[services.app]
endpoints = ["{app}"]
"#;
    let count = AtomicU32::new(0);
    let app = Endpoint::with(move |_| {
        let number = count.fetch_add(1, SeqCst) + 1;
        Response::builder().header("Cache-Control", "max-age=600").body(full(format!("{number}"))).unwrap()
    })
    .await;
    let gateway = gateway(SELECTED, app.url()).await;
    let base = format!("http://{}", gateway.addr());
    for path in ["/only/a", "/b"] {
        let stored = get(&gateway, &format!("{path}?id=1"), &[]).await.text();
        assert_eq!(get(&gateway, &format!("{path}?utm_x=5&id=1"), &[]).await.text(), stored);
        let post = Request::post(format!("{path}?utm_x=7&id=1")).body(full("x")).unwrap();
        gateway.send(post).await;
        let changed = get(&gateway, &format!("{path}?id=1"), &[]).await.text();
        assert_ne!(changed, stored, "{path}: a change");
        let other = get(&gateway, &format!("{path}?id=2"), &[]).await.text();
        let url = format!("{base}{path}?id=1%26utm_x=9");
        let purged = gateway.admin_post(&format!("/api/cache/purge?url={url}")).await;
        assert_eq!(purged.json()["purged"], 1, "{path}: {}", purged.text());
        assert_ne!(get(&gateway, &format!("{path}?id=1"), &[]).await.text(), changed, "{path}: a purge");
        assert_eq!(get(&gateway, &format!("{path}?id=2"), &[]).await.text(), other, "{path}: not another's");
    }
    // What some take for `id` is part of the key.
    let plain = get(&gateway, "/only/c", &[]).await.text();
    for odd in ["/only/c?id[]=1", "/only/c?ID=1", "/only/c?id%00=1"] {
        assert_ne!(get(&gateway, odd, &[]).await.text(), plain, "{odd}");
    }
}

/// A 304 that says that the answer varies by something else: what was for one is not for others.
#[tokio::test]
async fn a_304_may_change_what_it_varies_by() {
    let app = Endpoint::with(|seen| {
        let said = |name| seen.headers.get(name).map_or("", |value| value.to_str().unwrap());
        let reply = Response::builder().header("ETag", "\"one\"");
        if seen.headers.contains_key("if-none-match") {
            let reply = reply.status(304).header("Vary", "X-B").header("Cache-Control", "max-age=60");
            return reply.body(empty()).unwrap();
        }
        let text = format!("for a={} b={}", said("x-a"), said("x-b"));
        reply.header("Cache-Control", "max-age=1").header("Vary", "X-A").body(full(text)).unwrap()
    })
    .await;
    let gateway = gateway(CACHED, app.url()).await;
    let first = [("X-A", "1"), ("X-B", "2")];
    assert_eq!(get(&gateway, "/x", &first).await.text(), "for a=1 b=2");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let confirmed = get(&gateway, "/x", &first).await;
    assert!(confirmed.header("cache-status").contains("fwd-status=304"), "{:?}", confirmed.headers);
    assert_eq!(get(&gateway, "/x", &[("X-A", "8"), ("X-B", "1")]).await.text(), "for a=8 b=1");
    let same = get(&gateway, "/x", &[("X-A", "9"), ("X-B", "2")]).await;
    assert_eq!((same.text().as_str(), same.header("cache-status").contains("hit")), ("for a=1 b=2", true));
}

/// The service fails: who accepts what is stale gets it, who does not gets the error, whoever of them began.
#[tokio::test]
async fn each_who_waits_judges_for_himself() {
    const STALE: &str = r#"
[[routes]]
path = "/*"
service = "app"
cache = { stale_if_error = "1h" }
[services.app]
endpoints = ["{app}"]
"#;
    let fails = Arc::new(AtomicBool::new(false));
    let failing = fails.clone();
    let app = Endpoint::start(move |_| {
        let fails = failing.load(SeqCst);
        async move {
            if fails {
                tokio::time::sleep(Duration::from_millis(600)).await;
                return Ok(Response::builder().status(503).body(full("closed")).unwrap());
            }
            Ok(Response::builder().header("Cache-Control", "max-age=1").body(full("good")).unwrap())
        }
    })
    .await;
    let gateway = gateway(STALE, app.url()).await;
    assert_eq!(get(&gateway, "/x", &[]).await.text(), "good");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    fails.store(true, SeqCst);
    let strict = [("Cache-Control", "no-cache")];
    let after = |millis, fields: &'static [(&'static str, &'static str)]| {
        let gateway = &gateway;
        async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let reply = get(gateway, "/x", fields).await;
            (reply.status, reply.text())
        }
    };
    let strict: &'static [(&str, &str)] = Box::leak(Box::new(strict));
    // First who does not take it, then who does; and the other way around.
    for (first, second) in [(strict, &[][..]), (&[][..], strict)] {
        let answers = tokio::join!(after(0, first), after(200, second));
        let (good, bad) = if first.is_empty() { answers } else { (answers.1, answers.0) };
        assert_eq!(good, (200, "good".into()));
        assert_eq!(bad, (503, "closed".into()), "the service's own answer");
    }
    let mut client = Client::h1(gateway.addr()).await;
    let head = client.fetch(Request::head("/x").body(empty()).unwrap()).await;
    assert_eq!(head.status, 200, "HEAD too: {:?}", head.headers);
}

/// Who has other credentials waits for no answer that is for somebody else: each gets his own, unless the answer says that it
/// is for all. One who comes without any does not wait for one who has them either.
#[tokio::test]
async fn nobody_gets_an_answer_for_others_credentials() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let app = Endpoint::start(move |request| {
        count.fetch_add(1, SeqCst);
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let said = |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
            let who = [said("authorization"), said("cookie")].concat();
            let path = request.uri().path();
            let public = if path == "/public" { "public, " } else { "" };
            let reply = Response::builder().header("Cache-Control", format!("{public}max-age=60"));
            let reply = if path == "/cookie" { reply.header("Set-Cookie", "a=1") } else { reply };
            Ok(reply.body(full(format!("for {who}"))).unwrap())
        }
    })
    .await;
    let gateway = gateway(CACHED, app.url()).await;
    let ana: &[(&str, &str)] = &[("authorization", "Bearer ana")];
    let eva: &[(&str, &str)] = &[("authorization", "Bearer eva")];
    let (one, two, nobody) =
        tokio::join!(get(&gateway, "/own", ana), get(&gateway, "/own", eva), get(&gateway, "/own", &[]));
    assert_eq!([one.text(), two.text(), nobody.text()], ["for Bearer ana", "for Bearer eva", "for "]);
    assert_eq!(asked.load(SeqCst), 3);
    let (one, two) = tokio::join!(get(&gateway, "/public", ana), get(&gateway, "/public", eva));
    assert_eq!((one.text(), asked.load(SeqCst)), (two.text(), 4), "for all, and fetched once");
    let (red, blue): (&[_], &[_]) = (&[("cookie", "c=red")], &[("cookie", "c=blue")]);
    let (one, two) = tokio::join!(get(&gateway, "/cookie", red), get(&gateway, "/cookie", blue));
    assert_eq!([one.text(), two.text()], ["for c=red", "for c=blue"]);
}

/// What belongs to one hop is not stored: neither the standard fields, nor those that `Connection` names, nor in a 304.
#[tokio::test]
async fn fields_of_a_hop_are_not_stored() {
    let script = Script::start(|mut conversation| async move {
        while let Some(head) = conversation.head().await {
            let fields =
                "Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nETag: \"a\"\r\nX-End: 2\r\n";
            let status = if head.contains("if-none-match") { "304 Not Modified" } else { "200 OK" };
            let length = if status.starts_with('2') { "Content-Length: 1\r\n" } else { "" };
            let body = if status.starts_with('2') { "x" } else { "" };
            let reply =
                format!("HTTP/1.1 {status}\r\nCache-Control: max-age=60\r\n{fields}{length}\r\n{body}");
            conversation.write(reply.as_bytes()).await;
        }
    })
    .await;
    let gateway = gateway(CACHED, script.url()).await;
    for fields in [&[][..], &[], &[("cache-control", "no-cache")], &[]] {
        let reply = get(&gateway, "/x", fields).await;
        assert_eq!((reply.header("x-end"), reply.text().as_str()), ("2", "x"), "{:?}", reply.headers);
        for name in ["x-hop", "keep-alive", "connection"] {
            assert!(reply.all(name).is_empty(), "{name}: {:?}", reply.headers);
        }
    }
    assert_eq!(script.heads().len(), 2, "fetched once, confirmed once");
}

/// Grows too large to be kept while many read it: who reads slowly gets all of it as well.
#[tokio::test]
async fn a_slow_reader_of_a_large_body_is_not_cut_off() {
    const SMALL: &str = "[cache]\nmemory = \"2MB\"\nmax_object = \"256KB\"\n";
    const PIECES: usize = 2_000;
    const PIECE: usize = 20_000;
    let script = Script::start(|mut conversation| async move {
        while conversation.head().await.is_some() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";
            conversation.write(head).await;
            let mut piece = format!("{PIECE:x}\r\n").into_bytes();
            piece.extend(std::iter::repeat_n(b'x', PIECE));
            piece.extend(b"\r\n");
            for _ in 0..PIECES {
                conversation.write(&piece).await;
            }
            conversation.write(b"0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = gateway(&format!("{CACHED}{SMALL}"), script.url()).await;
    let addr = gateway.addr();
    let read = move |pause: u64| async move {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut all = 0;
        let mut buffer = vec![0; 256 * 1024];
        let mut last = Vec::new();
        loop {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                read => {
                    all += read;
                    last = buffer[read.saturating_sub(5)..read].to_vec();
                }
            }
        }
        (all >= PIECES * PIECE, last.ends_with(b"0\r\n\r\n"))
    };
    let (quick, slow) = tokio::join!(tokio::spawn(read(0)), tokio::spawn(read(15)));
    assert_eq!((quick.unwrap(), slow.unwrap()), ((true, true), (true, true)));
    assert_eq!(script.heads().len(), 1, "one fetch");
}

/// Bodies on their way take no more than their share of the memory: what does not fit is passed on, and is not kept.
#[tokio::test]
async fn what_is_on_its_way_counts() {
    const SMALL: &str = "[cache]\nmemory = \"1100KB\"\n";
    const LENGTH: usize = 200_000;
    let go = Arc::new(AtomicBool::new(false));
    let going = go.clone();
    let script = Script::start(move |mut conversation| {
        let go = going.clone();
        async move {
            while conversation.head().await.is_some() {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {LENGTH}\r\n\r\n"
                );
                conversation.write(head.as_bytes()).await;
                conversation.write(&vec![b'x'; LENGTH - 1]).await;
                while !go.load(SeqCst) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                conversation.write(b"x").await;
            }
        }
    })
    .await;
    let gateway = gateway(&format!("{CACHED}{SMALL}"), script.url()).await;
    let addr = gateway.addr();
    let asking: Vec<_> = (0..20)
        .map(|n| tokio::spawn(async move { Client::h1(addr).await.get(&format!("/{n}")).await }))
        .collect();
    within(LONG, "all of them", || async { script.heads().len() == 20 }).await;
    // What is not kept is gone as soon as it is read.
    within(LONG, "little is held", || async {
        let arriving = gateway.metrics().await.sum("gateway_cache_arriving_bytes", &[]);
        (100_000.0..620_000.0).contains(&arriving)
    })
    .await;
    go.store(true, SeqCst);
    let mut kept = 0;
    for asked in asking {
        let reply = asked.await.unwrap();
        assert_eq!(reply.body.len(), LENGTH);
        let status = reply.header("cache-status").to_owned();
        assert!(status.contains("stored") || status.ends_with("detail=memory"), "{status}");
        kept += usize::from(status.contains("stored"));
    }
    assert!((1..=3).contains(&kept), "{kept}");
    within(LONG, "nothing is on its way", || async {
        gateway.metrics().await.sum("gateway_cache_arriving_bytes", &[]) == 0.0
    })
    .await;
}
