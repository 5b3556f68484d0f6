//! Our HTTP/1.1 against hyper's on mutated requests: same bytes in, same meaning out, or we refuse. The fuzz target of
//! the same name runs the same comparison for as long as one likes.

#![allow(missing_docs)]

mod hyper;

const SEEDS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /p?q=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /n HTTP/1.1\r\nHost: b\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    "PUT /x HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Two: 1\r\nX-Two: 2\r\nAccept: a, b\r\n\r\n",
    "GET http://h/p HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
    // Found by fuzzing: an absent path, and a query that holds one.
    "GT httpa://h?a?/?b HTTP/1.1\r\nHost: h\r\n\r\n",
];

/// What attackers put in the middle of requests.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Content-Length: +1\r\n",
    "0\r\n\r\n",
    "0x",
    "ffffffffffffffff\r\n",
    ";",
    ",",
    "chunked",
    "HTTP/1.1",
    "\r\n ",
    "é",
    "\u{7f}",
    "#",
    "%",
    "?",
];

#[tokio::test]
async fn seeds_mean_the_same() {
    for seed in SEEDS {
        assert!(!hyper::ours(seed.as_bytes()).is_empty(), "{seed:?}");
        hyper::compare(seed.as_bytes()).await;
    }
}

#[tokio::test]
async fn mutations_mean_the_same_or_are_refused() {
    let mut random = fastrand::Rng::with_seed(2026);
    for _ in 0..60_000 {
        let mut bytes = random.choice(SEEDS).unwrap().as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..=bytes.len());
            match random.u8(0..4) {
                0 => {
                    let piece = random.choice(PIECES).unwrap();
                    bytes.splice(at..at, piece.bytes());
                }
                1 if at < bytes.len() => bytes[at] = random.u8(..),
                2 => {
                    let end = (at + random.usize(0..4)).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => {
                    let from = random.usize(0..=at);
                    let copy = bytes[from..at].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
        }
        hyper::compare(&bytes).await;
    }
}
