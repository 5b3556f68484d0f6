//! HTTP/2 used as a weapon: rapid resets (CVE-2023-44487), endless CONTINUATION (CVE-2024-27316), floods of PING and
//! SETTINGS. Whoever does that loses the connection; everybody else is served.

use std::time::Duration;

use portcullis_e2e::{
    Endpoint, Gateway, Setup, bounded, corpus::frames::frame, good::Good, wait::LONG, within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn start() -> (Gateway, Endpoint) {
    let endpoint = Endpoint::named("a").await;
    (Setup::new(&crate::one("")).set("app", endpoint.url()).start().await, endpoint)
}

/// Preface and empty SETTINGS.
async fn connect(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    stream
}

/// Writes the same frames again and again until the other side has enough; panics when it never has.
async fn until_cut(stream: TcpStream, what: &str, mut frames: impl FnMut(u32) -> Vec<u8>, most: u32) {
    let (mut read, mut write) = stream.into_split();
    let draining = tokio::spawn(async move {
        let mut sink = vec![0; 64 * 1024];
        while let Ok(1..) = read.read(&mut sink).await {}
    });
    let flooding = async {
        for number in 0..most {
            if draining.is_finished() || write.write_all(&frames(number)).await.is_err() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        bounded(Duration::from_secs(10), what, draining).await.is_ok()
    };
    assert!(bounded(LONG, what, flooding).await, "{what}: not cut");
}

/// GET /, HPACK: indexed method, scheme and path; authority `a` as a literal.
/// (`:authority` without indexing, so that the table holds what a test puts there and nothing else.)
const HEAD: &[u8] = &[0x82, 0x86, 0x84, 0x01, 0x01, b'a'];

/// Attacks on a connection of its own, again whenever it is cut, while good clients ask. The connection must be cut, good
/// clients served as in the quiet, memory bounded, and the attack counted.
async fn hold_against(what: &str, mut frames: impl FnMut(u32) -> Vec<u8>) {
    let (gateway, endpoint) = start().await;
    let good = Good::begin(&gateway).await;
    let before = (gateway.memory_kib().0, endpoint.count());
    let attack = async {
        loop {
            until_cut(connect(&gateway).await, what, &mut frames, 200_000).await;
        }
    };
    let under_attack = tokio::select! {
        under_attack = good.under_attack() => under_attack,
        () = attack => unreachable!("it never ends"),
    };
    // At least once to the end.
    until_cut(connect(&gateway).await, what, &mut frames, 200_000).await;
    under_attack.is_fine(what);
    let (_, peak) = gateway.memory_kib();
    assert!(peak < before.0 + 24 * 1024, "{what}: {} KiB before, {peak} KiB at the most", before.0);
    within(LONG, &format!("{what} counted"), || async {
        gateway.metrics().await.sum("gateway_attacks_total", &[("kind", "http2-flood")]) >= 1.0
    })
    .await;
    assert_eq!(gateway.get("/").await.status, 200, "{what}: everybody else is served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_are_cut() {
    hold_against("rapid resets", |number| {
        let stream = number * 2 + 1;
        [frame(1, 5, stream, HEAD), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    })
    .await;
}

/// A cut connection's requests are not all carried out: that would be the point of the attack.
#[tokio::test]
async fn rapid_resets_reach_few_endpoints() {
    let (gateway, endpoint) = start().await;
    let attack = |number: u32| {
        let stream = number * 2 + 1;
        [frame(1, 5, stream, HEAD), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    until_cut(connect(&gateway).await, "rapid resets", attack, 20_000).await;
    assert!(endpoint.count() < 2000, "{} requests reached the endpoint", endpoint.count());
}

/// CVE-2025-8671: the client makes the server reset its streams, here by opening their windows too far.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_you_reset_is_cut() {
    hold_against("MadeYouReset", |number| {
        let stream = number * 2 + 1;
        [frame(1, 4, stream, HEAD), frame(8, 0, stream, &0x7fff_ffff_u32.to_be_bytes())].concat()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_continuation_is_cut() {
    // A literal field without indexing, again and again, and never END_HEADERS.
    let field = [&[0x00, 0x01, b'x', 0x7f, 0x81, 0x07][..], &[b'v'; 1024]].concat();
    hold_against("endless CONTINUATION", |number| match number {
        0 => frame(1, 1, 1, HEAD),
        _ => frame(9, 0, 1, &field),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_cut() {
    let many = frame(6, 0, 0, &[0; 8]).repeat(50);
    hold_against("PING", |_| many.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_cut() {
    let many = frame(4, 0, 0, &[]).repeat(50);
    hold_against("SETTINGS", |_| many.clone()).await;
}

/// One field of nearly 4 KiB goes into the table, then 16 KiB of references to it: 64 MiB in one frame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hpack_bombs_are_cut() {
    let seed = [&[0x40, 0x01, b'x', 0x7f, 0x81, 0x1e][..], &vec![b'v'; 3968]].concat();
    let first = [HEAD, &seed, &vec![0xbe; 12_000]].concat();
    let next = [HEAD, &vec![0xbe; 16_000]].concat();
    hold_against("HPACK bombs", |number| {
        frame(1, 5, number * 2 + 1, if number == 0 { &first } else { &next })
    })
    .await;
}

/// A client that merely asks a lot keeps its connection.
#[tokio::test]
async fn an_honest_client_is_not_cut() {
    let (gateway, _endpoint) = start().await;
    let mut client = portcullis_e2e::Client::h2(gateway.addr()).await;
    for number in 0..500 {
        assert_eq!(client.get(&format!("/{number}")).await.status, 200);
    }
    assert!(!client.is_closed());
}
