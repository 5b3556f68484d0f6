//! Those who ask: each kind in a loop of its own until the stop, each answer before the judge.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt, future::join_all};
use http::Request;
use portcullis_e2e::{
    Client, Reply, Version,
    client::{Body, empty, full, streamed},
    grpc::{Caller, Note},
    wait::LONG,
    websocket::{self, Message},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite::Error;

use super::judge::{Judge, upload_receipt, whole};

/// What a client carries.
#[derive(Clone)]
pub struct Asker {
    pub addr: SocketAddr,
    pub judge: Arc<Judge>,
    pub stop: Arc<AtomicBool>,
    pub rng: Rng,
}

/// All of them.
pub fn start(addr: SocketAddr, judge: &Arc<Judge>, stop: &Arc<AtomicBool>, seed: u64) -> Vec<JoinHandle<()>> {
    let mut number = seed;
    let mut asker = || {
        number = number.wrapping_add(1);
        let rng = Rng::with_seed(number);
        Asker { addr, judge: Arc::clone(judge), stop: Arc::clone(stop), rng }
    };
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(tokio::spawn(asker().kept()));
        tasks.push(tokio::spawn(asker().once()));
        tasks.push(tokio::spawn(asker().streams()));
        tasks.push(tokio::spawn(asker().calls()));
        tasks.push(tokio::spawn(asker().sockets()));
    }
    tasks
}

impl Asker {
    fn goes_on(&self) -> bool {
        !self.stop.load(SeqCst)
    }

    /// A request and the body that its answer must have.
    pub fn request(&mut self) -> (u64, Request<Body>, Vec<u8>) {
        let (id, service) = (self.judge.id(), if self.rng.bool() { "raw" } else { "two" });
        if self.rng.u8(0..3) > 0 {
            let request = Request::get(format!("/{service}/{id}")).body(empty());
            return (id, request.expect("a request"), whole(id).to_vec());
        }
        let data = whole(id);
        let expected = upload_receipt(id, &data).into_bytes();
        let body = if self.rng.bool() {
            full(data)
        } else {
            let (mut sender, body) = streamed();
            tokio::spawn(async move {
                for start in (0..data.len()).step_by(8_000) {
                    if sender.send_data(data.slice(start..data.len().min(start + 8_000))).await.is_err() {
                        return;
                    }
                }
            });
            body
        };
        let request = Request::post(format!("/{service}/{id}")).body(body);
        (id, request.expect("a request"), expected)
    }

    /// Asks; `false` when the connection is of no more use. Sometimes it leaves before it has its answer.
    pub async fn ask(&mut self, name: &'static str, client: &mut Client) -> bool {
        let (id, request, expected) = self.request();
        let upload = request.method() == http::Method::POST;
        let asking = async {
            let answer = match client.try_send(request).await {
                Ok(answer) => answer,
                // An endpoint that ends in the middle of an upload may cost the client the answer: it still writes to
                // a connection that is closed (RFC 9112 §9.6).
                Err(_) if upload && client.version() == Version::H1 => {
                    self.judge.count(name, "cut upload");
                    return false;
                }
                Err(error) => {
                    self.judge.headless(name, id, client.version() == Version::H2, &error);
                    return false;
                }
            };
            match Reply::read(answer).await {
                Ok(reply) => self.judge.answer(name, id, &expected, &reply),
                Err(_) => self.judge.count(name, "broken body"),
            }
            true
        };
        let patience =
            if self.rng.u8(0..20) == 0 { Duration::from_millis(self.rng.u64(0..50)) } else { LONG };
        match timeout(patience, asking).await {
            Ok(goes_on) => goes_on && !client.is_closed(),
            Err(_) if patience < LONG => {
                self.judge.count(name, "left");
                false
            }
            Err(_) => {
                self.judge.wrong(format!("{name}: request {id} had no end within {LONG:?}"));
                false
            }
        }
    }

    /// HTTP/1.1, one request after another on a connection.
    async fn kept(mut self) {
        while self.goes_on() {
            let mut client = Client::h1(self.addr).await;
            while self.goes_on() && self.ask("kept", &mut client).await {
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// HTTP/1.1, a connection for each request.
    async fn once(mut self) {
        while self.goes_on() {
            let mut client = Client::h1(self.addr).await;
            self.ask("once", &mut client).await;
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// HTTP/2, eight requests at once.
    async fn streams(mut self) {
        while self.goes_on() {
            let client = Client::h2(self.addr).await;
            while self.goes_on() && !client.is_closed() {
                let several = (0..8).map(|_| {
                    let mut asker = Asker { rng: self.rng.fork(), ..self.clone() };
                    let mut client = client.share().expect("HTTP/2");
                    async move { asker.ask("streams", &mut client).await }
                });
                join_all(several).await;
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// gRPC, unary.
    async fn calls(self) {
        let mut caller = Caller::connect(self.addr).await;
        while self.goes_on() {
            self.call(&mut caller).await;
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn call(&self, caller: &mut Caller) {
        let id = self.judge.id();
        let mut request = tonic::Request::new(Note::new(&id.to_string(), id as i64));
        request.metadata_mut().insert("x-id", id.to_string().parse().expect("a value"));
        match timeout(LONG, caller.unary("/notes.Notes/Say", request)).await {
            Ok(Ok(note)) if *note.get_ref() == Note::new(&format!("you said {id}"), id as i64) => {
                self.judge.count("calls", "right");
            }
            Ok(Ok(note)) => self.judge.wrong(format!("calls: {id} got {note:?}")),
            Ok(Err(status)) => self.judge.failed("calls", id, &status),
            Err(_) => self.judge.wrong(format!("calls: {id} had no end within {LONG:?}")),
        }
    }

    /// WebSocket, some messages to a connection.
    async fn sockets(mut self) {
        while self.goes_on() {
            self.socket().await;
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn socket(&mut self) {
        let judge = Arc::clone(&self.judge);
        let talk = async {
            let mut socket = match websocket::connect(self.addr, "/ws").await {
                Ok(socket) => socket,
                Err(error) => return self.refused(&error),
            };
            for _ in 0..self.rng.u8(1..10) {
                let message = Message::binary(whole(self.judge.id()));
                if socket.send(message.clone()).await.is_err() {
                    return self.judge.count("sockets", "broken");
                }
                match socket.next().await {
                    Some(Ok(back)) if back == message => {}
                    Some(Ok(back)) => {
                        return self.judge.wrong(format!("sockets: an echo of another: {back:?}"));
                    }
                    _ => return self.judge.count("sockets", "broken"),
                }
                sleep(Duration::from_millis(20)).await;
            }
            // One in two leaves without a word.
            if self.rng.bool() {
                let _ = socket.send(Message::text("close 4001")).await;
                match socket.next().await {
                    Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 4001 => {}
                    Some(Ok(other)) => return self.judge.wrong(format!("sockets: not 4001 but {other:?}")),
                    _ => return self.judge.count("sockets", "broken"),
                }
            }
            self.judge.count("sockets", "right");
        };
        if timeout(LONG, talk).await.is_err() {
            judge.wrong(format!("sockets: no end within {LONG:?}"));
        }
    }

    fn refused(&self, error: &Error) {
        let honest = match error {
            Error::Http(answer) => {
                matches!(answer.status().as_u16(), 502..=504) && answer.headers().contains_key("proxy-status")
            }
            _ => false,
        };
        match honest {
            true => self.judge.count("sockets", "honest error"),
            false => self.judge.wrong(format!("sockets: refused with {error:?}")),
        }
    }
}
