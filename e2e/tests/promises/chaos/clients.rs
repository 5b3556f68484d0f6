//! Those who ask: each kind in a loop of its own until the stop, each answer before the judge.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use ::h3::error::Code;
use bytes::Bytes;
use fastrand::Rng;
use futures_util::{SinkExt, StreamExt, future::join_all};
use http::{Method, Request};
use portcullis_e2e::{
    Client, H3, Reply, Version,
    client::{Body, empty, full, streamed},
    grpc::{Caller, Note},
    h3,
    wait::LONG,
    websocket::{self, Message},
};
use rustls::ClientConfig;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite::Error;

use super::{
    NAME,
    judge::{Judge, upload_receipt, whole},
};

/// What a client carries.
#[derive(Clone)]
pub struct Asker {
    pub addr: SocketAddr,
    /// Where it speaks HTTP/3, and by whose word we know that it is the gateway.
    pub quic: SocketAddr,
    pub trust: ClientConfig,
    pub judge: Arc<Judge>,
    pub stop: Arc<AtomicBool>,
    pub rng: Rng,
}

/// All of them.
pub fn start(first: &mut Asker) -> Vec<JoinHandle<()>> {
    let mut asker = || Asker { rng: first.rng.fork(), ..first.clone() };
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(tokio::spawn(asker().kept()));
        tasks.push(tokio::spawn(asker().once()));
        tasks.push(tokio::spawn(asker().streams()));
        tasks.push(tokio::spawn(asker().over_quic()));
        tasks.push(tokio::spawn(asker().calls()));
        tasks.push(tokio::spawn(asker().sockets()));
    }
    tasks
}

impl Asker {
    fn goes_on(&self) -> bool {
        !self.stop.load(SeqCst)
    }

    /// What to ask for, what to send with it if anything, and the body that its answer must have.
    fn thought_of(&mut self) -> (u64, String, Option<Bytes>, Vec<u8>) {
        let (id, service) = (self.judge.id(), if self.rng.bool() { "raw" } else { "two" });
        let (path, data) = (format!("/{service}/{id}"), whole(id));
        if self.rng.u8(0..3) > 0 {
            return (id, path, None, data.to_vec());
        }
        let expected = upload_receipt(id, &data).into_bytes();
        (id, path, Some(data), expected)
    }

    /// The same as a request.
    fn request(&mut self) -> (u64, Request<Body>, Vec<u8>) {
        let (id, path, data, expected) = self.thought_of();
        let Some(data) = data else {
            return (id, Request::get(path).body(empty()).expect("a request"), expected);
        };
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
        (id, Request::post(path).body(body).expect("a request"), expected)
    }

    /// Asks; `false` when the connection is of no more use. Sometimes it leaves before it has its answer.
    pub async fn ask(&mut self, name: &'static str, client: &mut Client) -> bool {
        let (id, request, expected) = self.request();
        let upload = request.method() == Method::POST;
        let patience = self.patience();
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
        let goes_on = timeout(patience, asking).await;
        if goes_on.is_err() {
            self.left(name, id, patience);
        }
        goes_on.unwrap_or(false) && !client.is_closed()
    }

    /// For how long it waits for an answer: sometimes not until it comes.
    fn patience(&mut self) -> Duration {
        if self.rng.u8(0..20) == 0 { Duration::from_millis(self.rng.u64(0..50)) } else { LONG }
    }

    /// Without an answer.
    fn left(&self, name: &'static str, id: u64, patience: Duration) {
        match patience < LONG {
            true => self.judge.count(name, "left"),
            false => self.judge.wrong(format!("{name}: request {id} had no end within {LONG:?}")),
        }
    }

    /// HTTP/3, several requests at once.
    async fn over_quic(mut self) {
        while self.goes_on() {
            let client = self.quic_client().await;
            while self.goes_on() && !client.is_closed() {
                let several = (0..4).map(|_| {
                    let mut asker = Asker { rng: self.rng.fork(), ..self.clone() };
                    let client = &client;
                    async move { asker.ask_quic(client).await }
                });
                join_all(several).await;
                if self.rng.u8(0..20) == 0 {
                    client.move_elsewhere();
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    pub async fn quic_client(&self) -> H3 {
        H3::connect(self.quic, NAME, self.trust.clone()).await
    }

    /// Asks over HTTP/3. Sometimes it leaves before it has its answer.
    pub async fn ask_quic(&mut self, client: &H3) {
        let (id, path, data, expected) = self.thought_of();
        let patience = self.patience();
        let judge = &self.judge;
        let method = if data.is_some() { Method::POST } else { Method::GET };
        let request = Request::builder().method(method).uri(path).body(()).expect("a request");
        let mut asked = match client.ask(request).await {
            Ok(asked) => asked,
            // It was just ending, as it does after 10,000 requests; the hosts must not have seen this one.
            Err(error) => return judge.unsent("quic", id, &error),
        };
        let asking = async {
            let mut is_wanted = true;
            for piece in data.iter().flat_map(|data| data.chunks(8_000)) {
                // Who has answered early stops the rest (RFC 9114 §4.1). Then there is nothing to finish either: the client
                // would end its connection over the frame that was stopped in its middle.
                is_wanted = asked.send_data(Bytes::copy_from_slice(piece)).await.is_ok();
                if !is_wanted {
                    break;
                }
            }
            if is_wanted {
                let _ = asked.finish().await;
            }
            match h3::head(&mut asked).await {
                Err(error) => judge.headless("quic", id, true, &error),
                Ok(head) => match h3::rest(&mut asked, head).await {
                    Ok(reply) => judge.answer("quic", id, &expected, &reply),
                    Err(_) => judge.count("quic", "broken body"),
                },
            }
        };
        if timeout(patience, asking).await.is_err() {
            // Without this the stream would end like one that is whole, maybe in the middle of a frame, and that is an
            // error of the connection (RFC 9114 §7.1).
            asked.stop_stream(Code::H3_REQUEST_CANCELLED);
            self.left("quic", id, patience);
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
