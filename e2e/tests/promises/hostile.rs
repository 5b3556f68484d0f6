//! The corpus of hostile requests (`e2e/corpus`): what the gateway answers to each, and the exact bytes that reach an
//! endpoint, over HTTP/1.1, 2 and 3. `docs/security.md` compares with nginx and HAProxy.

use std::{collections::HashSet, fmt::Write, time::Duration};

use portcullis_e2e::{
    Gateway, Recorder, Setup,
    corpus::{
        Entry, entries,
        peers::{self, Peer},
        play::{Outcome, play},
        play3, table, text,
    },
};

use crate::http3::{NAME, start};

/// How long the gateway may be silent before that counts as its last word, for entries that it shall wait for.
const PATIENCE: Duration = Duration::from_millis(300);
/// And for the others, which it shall answer: only to end a test that hangs.
const LONG: Duration = Duration::from_secs(10);

async fn setup() -> (Gateway, Recorder) {
    let recorder = Recorder::start().await;
    let gateway = Setup::new(&crate::one("")).set("app", format!("http://{}", recorder.addr())).start().await;
    (gateway, recorder)
}

/// Each entry: the answer, and what is forwarded, to the byte. Those that stay open are asked for one more thing, which
/// shows that nothing was left over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_is_held() {
    let (gateway, recorder) = setup().await;
    let mut wrong = String::new();
    for entry in entries().iter().filter(|entry| !entry.is_http3()) {
        let outcome = play(entry, gateway.addr(), &recorder, patience(entry)).await;
        judge(entry, &outcome, &recorder, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The same over HTTP/3, each over a connection of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_of_http3_is_held() {
    let recorder = Recorder::start().await;
    let (gateway, authority) = start("http3 = true", &format!("http://{}", recorder.addr())).await;
    let target = play3::Target { addr: gateway.addr(), name: NAME, config: authority.client(&["h3"]) };
    let mut wrong = String::new();
    for entry in entries().iter().filter(|entry| entry.is_http3()) {
        let outcome = play3::play(entry, &target, &recorder, patience(entry)).await;
        judge(entry, &outcome, &recorder, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
    let said = format!("{}{}", gateway.stdout(), gateway.stderr());
    assert!(!said.contains("panicked"), "a panic: {said}");
}

fn patience(entry: &Entry) -> Duration {
    if entry.answer.ends_with("wait") { PATIENCE } else { LONG }
}

/// Writes down where an entry and what came of it differ.
fn judge(entry: &Entry, outcome: &Outcome, recorder: &Recorder, wrong: &mut String) {
    let expected = entry.expected(recorder.addr());
    let is_as_expected = expected.is(&outcome.forwarded) || is_begun(entry, &outcome.forwarded);
    if outcome.answer != entry.answer || !is_as_expected {
        let _ = writeln!(
            wrong,
            "{} ({})\n  answer    {}\n  instead   {}\n  forwarded {}\n  instead   {}\n",
            entry.name,
            entry.breaks,
            outcome.answer,
            entry.answer,
            text::escape(&outcome.forwarded),
            expected,
        );
    }
}

/// What comes before broken trailers may have been forwarded when they come in a packet of their own; then the endpoint never
/// sees the end.
fn is_begun(entry: &Entry, forwarded: &[u8]) -> bool {
    let has = |part: &[u8]| forwarded.windows(part.len()).any(|window| window == part);
    entry.name.starts_with("h3-trailers-") && has(b"\r\ntransfer-encoding: chunked\r\n") && !has(b"\r\n0\r\n")
}

/// However its bytes are cut, a request is read in one way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_into_pieces_it_is_the_same() {
    let (gateway, recorder) = setup().await;
    let short = entries().into_iter().filter(|entry| {
        let is_refused = entry.forwarded.is_empty() && entry.answer.ends_with("close");
        !entry.is_http2 && !entry.is_http3() && is_refused && entry.send.len() < 200
    });
    let mut count = 0;
    for entry in short.step_by(5) {
        // What comes before a broken chunk is forwarded when the two come apart; then the endpoint never sees the end.
        let outcome = play(&entry.in_pieces(), gateway.addr(), &recorder, LONG).await;
        let is_whole = !outcome.forwarded.is_empty() && outcome.forwarded.ends_with(b"0\r\n\r\n");
        assert!(!is_whole, "{}: {}", entry.name, text::escape(&outcome.forwarded));
        if entry.group != "chunks" {
            assert_eq!(
                (&outcome.answer, text::escape(&outcome.forwarded)),
                (&entry.answer, String::new()),
                "{}",
                entry.name
            );
        }
        count += 1;
    }
    assert!(count >= 30, "{count}");
}

/// Names tell entries apart, and every entry says which rule it is about.
#[test]
fn entries_are_written_well() {
    let all = entries();
    let names: HashSet<&str> = all.iter().map(|entry| &*entry.name).collect();
    assert_eq!(names.len(), all.len(), "a name is there twice");
    assert!(all.len() >= 700, "{}", all.len());
    for Entry { name, breaks, answer, forwarded, .. } in &all {
        assert!(
            ["RFC ", "CVE-", "docs/", "limits."].iter().any(|rule| breaks.starts_with(rule)),
            "{name}: {breaks}"
        );
        let last = answer.rsplit(' ').next().unwrap_or_default();
        assert!(["open", "close", "wait"].contains(&last), "{name}: {answer}");
        assert!(
            answer.contains("200") || answer.contains("CANCELLED") || last == "wait" || forwarded.is_empty(),
            "{name}: refused, and forwarded"
        );
    }
}

/// The table of `docs/security.md` names every entry, with the answer that holds.
#[test]
fn the_table_is_up_to_date() {
    let page = std::fs::read_to_string(table::PAGE).expect("docs/security.md");
    for entry in entries() {
        let row = table::row_begin(&entry);
        assert!(page.contains(&row), "{row}: run scripts/corpus");
    }
}

/// Sends the corpus through nginx and HAProxy and writes the table. Needs Debian's packages of them; `scripts/corpus`
/// runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes docs/security.md; needs nginx and haproxy: scripts/corpus"]
async fn the_table_is_written() {
    let recorder = Recorder::start().await;
    let mut columns = Vec::new();
    let started: [Peer; 2] = [peers::nginx(recorder.addr()).await, peers::haproxy(recorder.addr()).await];
    for peer in started {
        let mut outcomes = Vec::new();
        for entry in entries() {
            let port = if entry.is_http2 { peer.http2 } else { peer.http1 };
            outcomes.push(match entry.is_http3() {
                true => None,
                false => Some(play(&entry, port, &recorder, PATIENCE).await),
            });
        }
        columns.push((peer.title.clone(), outcomes));
    }
    table::write(&entries(), &columns);
}

/// Entries of HTTP/3 with bytes changed, left out or put in at random: whatever is made of them, nobody panics, connections
/// are in step or ended, and others are served. `PORTCULLIS_RANDOM` says how many (60).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http3_at_random() {
    let count = std::env::var("PORTCULLIS_RANDOM").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let recorder = Recorder::start().await;
    let (gateway, authority) = start("http3 = true", &format!("http://{}", recorder.addr())).await;
    let target = play3::Target { addr: gateway.addr(), name: NAME, config: authority.client(&["h3"]) };
    let all: Vec<Entry> = entries().into_iter().filter(Entry::is_http3).collect();
    for _ in 0..count {
        let chosen = rng.choice(&all).expect("entries");
        let mut entry = chosen.clone();
        (entry.answer, entry.forwarded) = ("wait".to_owned(), String::new());
        for stream in &mut entry.streams {
            let length = stream.bytes.len();
            for _ in 0..rng.usize(0..4) {
                let at = rng.usize(0..=length.min(300));
                match (rng.u8(0..3), stream.bytes.get_mut(at)) {
                    (0, Some(byte)) => *byte = rng.u8(..),
                    (1, Some(_)) => drop(stream.bytes.remove(at)),
                    (_, Some(_)) => stream.bytes.insert(at, rng.u8(..)),
                    (_, None) => stream.bytes.push(rng.u8(..)),
                }
            }
        }
        // What was forwarded of the one before may still end.
        tokio::time::sleep(Duration::from_millis(10)).await;
        recorder.take();
        let outcome = play3::play(&entry, &target, &recorder, PATIENCE).await;
        let is_fine = ["open", "close", "wait"].iter().any(|last| outcome.answer.ends_with(last));
        assert!(is_fine, "{} of seed {seed}: {}: {:02x?}", entry.name, outcome.answer, entry.streams);
        assert!(!outcome.answer.contains("INTERNAL"), "{} of seed {seed}: {}", entry.name, outcome.answer);
    }
    assert_eq!(crate::http3::connect(&gateway, &authority).await.get("/").await.status, 200);
    let said = format!("{}{}", gateway.stdout(), gateway.stderr());
    assert!(!said.contains("panicked"), "seed {seed}: {said}");
}
