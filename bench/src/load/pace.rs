//! Requests at a fixed rate, whatever the answers do. The time of a request counts from when it was to be sent, and not
//! from when its connection was free to send it: a proxy that stalls for a second has made all requests of that second
//! wait, and does not get away with one slow answer for each connection ("coordinated omission"; wrk2 does the same).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, unix::AsyncFd},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::{Run, say, tally::Tally};

/// What is due is looked for at most this often: tokio's own timers are of a millisecond, too coarse here, and waking
/// up for each request would cost the core that the endpoints are on.
const TICK: Duration = Duration::from_micros(50);

/// A request without an answer after this long has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// When a connection has to send its requests.
type Due = Instant;

/// Sends `rate` requests a second for `path` over so many connections, and says what it counted.
pub fn main(run: &Run, rate: u64, path: &str) -> Result<()> {
    let &Run { to, seconds, connections } = run;
    ensure!(rate > 0 && connections > 0, "a rate and connections are needed");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n").into_bytes();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let load = runtime.block_on(async {
        let (mut senders, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..connections {
            let (sender, receiver) = unbounded_channel();
            let stream = TcpStream::connect(to).await.context("opening the connections")?;
            stream.set_nodelay(true)?;
            senders.push(sender);
            tasks.push(tokio::spawn(connection(stream, receiver, request.clone())));
        }
        let begun = Instant::now();
        pace(&senders, begun, rate, seconds * rate).await?;
        // What is still due is answered, however late: leaving it out would be the very omission.
        drop(senders);
        let mut all = Tally::default();
        for task in tasks {
            all += task.await?;
        }
        all.load(begun)
    })?;
    say(&load);
    Ok(())
}

/// When the request of this number is to be sent.
fn due(begun: Instant, rate: u64, number: u64) -> Due {
    begun + Duration::from_nanos((u128::from(number) * 1_000_000_000 / u128::from(rate)) as u64)
}

/// Tells the connections in turn, each request at its time, or as soon after it as this task runs.
async fn pace(senders: &[UnboundedSender<Due>], begun: Instant, rate: u64, count: u64) -> Result<()> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let every = TICK.max(Duration::from_nanos(1_000_000_000 / rate));
    let spec = Timespec { tv_sec: every.as_secs() as i64, tv_nsec: i64::from(every.subsec_nanos()) };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: spec, it_value: spec })?;
    #[allow(deprecated, reason = "what replaces it is unsafe; an `OwnedFd` is what that asks for")]
    let timer = AsyncFd::new(timer)?;
    for (number, sender) in (0..count).zip(senders.iter().cycle()) {
        let at = due(begun, rate, number);
        while Instant::now() < at {
            let mut ready = timer.readable().await?;
            let mut ticks = [0; 8];
            let _ = rustix::io::read(timer.get_ref(), &mut ticks);
            ready.clear_ready();
        }
        // A connection that failed takes no more; its requests are counted by it.
        let _ = sender.send(at);
    }
    Ok(())
}

/// Sends what is due, one after the other.
async fn connection(mut stream: TcpStream, mut due: UnboundedReceiver<Due>, request: Vec<u8>) -> Tally {
    let mut seen = Tally::default();
    let mut buffer = Vec::with_capacity(16 << 10);
    while let Some(at) = due.recv().await {
        if stream.write_all(&request).await.is_err() {
            seen.errors.write += 1;
            break;
        }
        match timeout(PATIENCE, answer(&mut stream, &mut buffer)).await {
            Err(_) => {
                seen.errors.timeout += 1;
                break;
            }
            Ok(None) => {
                seen.errors.read += 1;
                break;
            }
            Ok(Some((good, bytes))) => {
                seen.errors.status += u64::from(!good);
                seen.bytes += bytes as u64;
                seen.done(at.elapsed());
            }
        }
    }
    // What a broken connection was still to send.
    while due.recv().await.is_some() {
        seen.errors.write += 1;
    }
    seen
}

/// Reads one answer; whether its status is good, and its length. `None` when it does not come whole.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(bool, usize)> {
    loop {
        if let Some((good, length)) = whole(buffer)? {
            buffer.drain(..length);
            return Some((good, length));
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// `Some(None)` while more has to come; `None` when it is no answer with a length.
#[allow(clippy::option_option, reason = "the outer one is the error")]
fn whole(bytes: &[u8]) -> Option<Option<(bool, usize)>> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Some(None) };
    let head = bytes.get(..end)?;
    let good = head.get(9..12)? < b"400".as_slice();
    let length: usize = head.split(|b| *b == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at_checked(colon)?;
        name.eq_ignore_ascii_case(b"content-length")
            .then(|| std::str::from_utf8(value.get(1..)?.trim_ascii()).ok()?.parse().ok())?
    })?;
    let all = end + 4 + length;
    Some((bytes.len() >= all).then_some((good, all)))
}

#[cfg(test)]
mod tests {
    use super::{super::Errors, *};

    #[test]
    fn requests_are_due_evenly() {
        let begun = Instant::now();
        assert_eq!(due(begun, 20_000, 0), begun);
        assert_eq!(due(begun, 20_000, 30_000), begun + Duration::from_millis(1500));
    }

    #[test]
    fn an_answer_is_whole_by_its_length() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-Length: 3\r\n\r\nabcHTTP";
        assert_eq!(whole(text), Some(Some((true, text.len() - 4))));
        assert_eq!(whole(&text[..text.len() - 5]), Some(None));
        assert_eq!(whole(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), Some(Some((false, 38))));
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    }

    /// A server that sleeps once must be seen by all requests that were due meanwhile, not by one.
    #[test]
    fn a_stall_counts_for_every_request_that_waited() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let (mut chunk, mut answered) = ([0; 4096], 0);
            while let Ok(n @ 1..) = stream.read(&mut chunk) {
                for _ in memmem::find_iter(&chunk[..n], b"\r\n\r\n") {
                    if answered == 20 {
                        std::thread::sleep(Duration::from_millis(300));
                    }
                    answered += 1;
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = runtime.block_on(async {
            let (sender, receiver) = unbounded_channel();
            let stream = TcpStream::connect(to).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
            let task = tokio::spawn(connection(stream, receiver, request));
            pace(&[sender], Instant::now(), 100, 60).await.unwrap();
            task.await.unwrap()
        });
        server.join().unwrap();
        assert_eq!((seen.micros.len(), seen.errors), (60, Errors::default()));
        let waited = seen.micros.iter().filter(|us| **us > 50_000).count();
        assert!(waited >= 20, "{waited} of 60 waited: {:?}", seen.micros);
    }
}
