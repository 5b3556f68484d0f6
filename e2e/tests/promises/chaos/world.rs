//! What stands behind the gateway: hosts that die, are born again at another address, and misbehave as they are told.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portcullis_e2e::{
    Endpoint, Script,
    client::{Body, Problem, full, streamed},
    grpc,
    script::{CHECK, Conversation},
    websocket::Echo,
};
use tokio::{net::TcpSocket, time::sleep};

use super::judge::{Judge, upload_receipt, whole};

/// What a host does with the requests that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    None,
    HangBefore,
    HangWithin,
    ResetWithin,
    Garbage,
    TooShort,
    TooLong,
    NoAnswer,
    Slow,
    NoLastChunk,
    EarlyRefusal,
    Interim,
}

impl Fault {
    const ALL: [Fault; 12] = [
        Fault::None,
        Fault::HangBefore,
        Fault::HangWithin,
        Fault::ResetWithin,
        Fault::Garbage,
        Fault::TooShort,
        Fault::TooLong,
        Fault::NoAnswer,
        Fault::Slow,
        Fault::NoLastChunk,
        Fault::EarlyRefusal,
        Fault::Interim,
    ];

    fn of(mood: &AtomicU8) -> Fault {
        Fault::ALL[usize::from(mood.load(Relaxed))]
    }
}

/// What a host is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1.1, written byte by byte.
    Raw,
    /// HTTP/2 in plaintext, gRPC as well.
    Two,
    /// WebSocket.
    Echo,
}

enum Life {
    Raw(Script),
    Two(Endpoint),
    Echo(Echo),
    Dead,
}

/// One host: alive or dead, in a mood.
pub struct Host {
    /// What it is made of.
    pub kind: Kind,
    life: Life,
    /// Where the configuration says that it is; true while it lives.
    pub addr: SocketAddr,
    mood: Arc<AtomicU8>,
    judge: Arc<Judge>,
    /// Ports of former lives, kept from strangers while a configuration may still name them.
    graves: VecDeque<TcpSocket>,
}

impl Host {
    pub async fn born(kind: Kind, judge: &Arc<Judge>) -> Host {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let judge = Arc::clone(judge);
        let mut host = Host {
            kind,
            life: Life::Dead,
            addr: nowhere,
            mood: Arc::default(),
            judge,
            graves: VecDeque::new(),
        };
        host.revive().await;
        host
    }

    /// Lives again if it was dead, at a new address.
    pub async fn revive(&mut self) {
        if !matches!(self.life, Life::Dead) {
            return;
        }
        let (mood, judge) = (Arc::clone(&self.mood), Arc::clone(&self.judge));
        (self.life, self.addr) = match self.kind {
            Kind::Raw => {
                let script = Script::start(move |it| raw(it, Arc::clone(&mood), Arc::clone(&judge))).await;
                let addr = script.addr();
                (Life::Raw(script), addr)
            }
            Kind::Two => {
                let answer = move |request| two(request, Arc::clone(&mood), Arc::clone(&judge));
                let endpoint = Endpoint::start(answer).await;
                let addr = endpoint.addr();
                (Life::Two(endpoint), addr)
            }
            Kind::Echo => {
                let echo = Echo::start().await;
                let addr = echo.endpoint.addr();
                (Life::Echo(echo), addr)
            }
        };
    }

    /// Stops listening and cuts every connection.
    pub async fn die(&mut self) {
        match std::mem::replace(&mut self.life, Life::Dead) {
            Life::Raw(script) => drop(script),
            Life::Two(mut endpoint) => endpoint.stop().await,
            Life::Echo(mut echo) => echo.endpoint.stop().await,
            Life::Dead => return,
        }
        // Bound and not listening: whoever connects is refused, and nobody else gets the port.
        let grave = TcpSocket::new_v4().and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(self.addr)?;
            Ok(socket)
        });
        self.graves.extend(grave);
        if self.graves.len() > 32 {
            self.graves.pop_front();
        }
    }

    pub fn misbehave(&self, fault: Fault) {
        self.mood.store(fault as u8, Relaxed);
    }

    /// Half of what happens is good, so that there is something to lose.
    pub async fn chance(&mut self, rng: &mut Rng) {
        match rng.u8(0..10) {
            0 => self.die().await,
            1 => {
                self.die().await;
                self.revive().await;
            }
            2..5 => {
                self.revive().await;
                self.misbehave(Fault::ALL[rng.usize(0..Fault::ALL.len())]);
            }
            _ => self.heal().await,
        }
    }

    pub async fn heal(&mut self) {
        self.misbehave(Fault::None);
        self.revive().await;
    }
}

/// The number at the end of a path.
fn id_of(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.parse().ok()
}

/// A connection to a raw host.
async fn raw(mut it: Conversation, mood: Arc<AtomicU8>, judge: Arc<Judge>) {
    while let Some(head) = it.head().await {
        // Of a gateway in another test, which had an endpoint at this port before: here nobody is checked.
        if head.contains(CHECK) {
            return;
        }
        let mut words = head.split(' ');
        let post = words.next() == Some("POST");
        let Some(id) = words.next().and_then(id_of) else {
            return judge.wrong(format!("a host got a request that nobody sent: {head:?}"));
        };
        judge.seen(id, post);
        let fault = Fault::of(&mood);
        if fault == Fault::EarlyRefusal && post {
            let own = format!(
                "HTTP/1.1 413 Too Much\r\nX-Own: {id}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
            return it.write(own).await;
        }
        let body = if post {
            let Some(upload) = upload(&mut it, &head).await else { return };
            Bytes::from(upload_receipt(id, &upload))
        } else {
            whole(id)
        };
        if answer(&mut it, &judge, fault, id, &body).await.is_none() {
            if fault == Fault::ResetWithin {
                it.reset();
            }
            return;
        }
    }
}

async fn upload(it: &mut Conversation, head: &str) -> Option<Vec<u8>> {
    let lower = head.to_ascii_lowercase();
    if let Some(length) = lower.split("content-length: ").nth(1) {
        return it.body(length.split("\r\n").next()?.parse().ok()?).await;
    }
    let framed = it.until(b"\r\n0\r\n\r\n").await?;
    let (mut body, mut rest) = (Vec::new(), &framed[..]);
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 4 + size..)?;
    }
}

/// Answers as the mood has it; `None` when that was the connection's last answer.
async fn answer(it: &mut Conversation, judge: &Judge, fault: Fault, id: u64, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let half = &body[..body.len() / 2];
    match fault {
        Fault::NoAnswer => return None,
        Fault::HangBefore => {
            it.hang().await;
            return None;
        }
        Fault::Garbage => {
            let kinds = ["SSH-2.0-OpenSSH_9.9\r\n\r\n", "HTTP/1.1 20x OK\r\n\r\n", "\0\u{1}\u{2}\r\n\r\n"];
            it.write(kinds[id as usize % kinds.len()]).await;
            return None;
        }
        Fault::HangWithin | Fault::ResetWithin | Fault::TooShort => {
            judge.breaks(id);
            it.write(head).await;
            it.write(half).await;
            if fault == Fault::HangWithin {
                it.hang().await;
            }
            return None;
        }
        Fault::NoLastChunk => {
            judge.breaks(id);
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            it.write(format!("{head}{:x}\r\n", body.len())).await;
            it.write(body).await;
            it.write("\r\n").await;
            return None;
        }
        Fault::TooLong => {
            it.write([head.as_bytes(), body, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"].concat())
                .await;
        }
        Fault::Slow => {
            it.write(head).await;
            for piece in body.chunks(body.len() / 4 + 1) {
                sleep(Duration::from_millis(50)).await;
                it.write(piece).await;
            }
        }
        Fault::Interim => {
            it.write("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n").await;
            it.write([head.as_bytes(), body].concat()).await;
        }
        Fault::None | Fault::EarlyRefusal if id.is_multiple_of(3) => {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            it.write(format!("{head}{:x}\r\n", body.len())).await;
            it.write([body, b"\r\n0\r\n\r\n"].concat()).await;
        }
        Fault::None | Fault::EarlyRefusal => it.write([head.as_bytes(), body].concat()).await,
    }
    Some(())
}

/// A request at a host that speaks HTTP/2.
async fn two(
    request: Request<Incoming>,
    mood: Arc<AtomicU8>,
    judge: Arc<Judge>,
) -> Result<Response<Body>, Problem> {
    let path = request.uri().path().to_owned();
    let call = path.starts_with("/notes.Notes/");
    let field = request.headers().get("x-id").and_then(|id| id.to_str().ok()?.parse().ok());
    if request.headers().get("user-agent").is_some_and(|agent| agent == CHECK) {
        return Err(Problem::msg("a stranger"));
    }
    let Some(id) = field.or_else(|| id_of(&path)) else {
        judge.wrong(format!("a host got a request that nobody sent: {request:?}"));
        return Err(Problem::msg("whose?"));
    };
    let post = request.method() == http::Method::POST;
    judge.seen(id, post);
    let fault = Fault::of(&mood);
    match fault {
        Fault::HangBefore => sleep(Duration::from_secs(60)).await,
        Fault::NoAnswer | Fault::Garbage => return Err(Problem::msg("told to fail")),
        Fault::Slow => sleep(Duration::from_millis(200)).await,
        Fault::EarlyRefusal if !call => {
            return Ok(Response::builder().status(413).header("x-own", id).body(full(""))?);
        }
        _ => {}
    }
    if call {
        return grpc::serve(request).await;
    }
    let body = match post {
        true => Bytes::from(upload_receipt(id, &request.into_body().collect().await?.to_bytes())),
        false => whole(id),
    };
    let broken = [Fault::HangWithin, Fault::ResetWithin, Fault::TooShort, Fault::NoLastChunk];
    if !broken.contains(&fault) {
        return Ok(Response::new(full(body)));
    }
    judge.breaks(id);
    let (mut sender, streamed) = streamed();
    tokio::spawn(async move {
        let _ = sender.send_data(body.slice(..body.len() / 2)).await;
        if fault == Fault::HangWithin {
            sleep(Duration::from_secs(60)).await;
        }
        sender.abort(Problem::msg("told to break"));
    });
    Ok(Response::new(streamed))
}

/// How often hosts saw a request, by its id.
pub type Sightings = HashMap<u64, u32>;

/// For [`Judge`]: counts.
pub fn sight(sightings: &Mutex<Sightings>, id: u64) -> u32 {
    let mut sightings = sightings.lock().expect("the sightings");
    if sightings.len() > 200_000 {
        // Long runs: what was asked long ago is over.
        sightings.retain(|&old, _| old + 50_000 > id);
    }
    let times = sightings.entry(id).or_insert(0);
    *times += 1;
    *times
}
