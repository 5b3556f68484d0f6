//! WebSocket on both sides of the gateway: an endpoint that echoes, clients over HTTP/1.1 and over HTTP/2 (RFC 8441).

use std::{net::SocketAddr, sync::Arc, sync::Mutex};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
pub use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, handshake::derive_accept_key, protocol::Role},
};

use crate::{
    client::{Body, Problem, empty},
    endpoint::Endpoint,
};

/// An endpoint that echoes messages and remembers the close code it was sent.
pub struct Echo {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Close codes in the order they came.
    pub closed: Arc<Mutex<Vec<u16>>>,
}

impl Echo {
    /// Starts one. A message `close 4001` makes it close with that code.
    pub async fn start() -> Echo {
        let closed: Arc<Mutex<Vec<u16>>> = Arc::default();
        let into = Arc::clone(&closed);
        let endpoint = Endpoint::start(move |request| accept(request, Arc::clone(&into))).await;
        Echo { endpoint, closed }
    }

    /// The same over TLS.
    pub async fn tls(config: rustls::ServerConfig) -> Echo {
        let closed: Arc<Mutex<Vec<u16>>> = Arc::default();
        let into = Arc::clone(&closed);
        let endpoint = Endpoint::tls(config, move |request| accept(request, Arc::clone(&into))).await;
        Echo { endpoint, closed }
    }
}

async fn accept(request: Request<Incoming>, closed: Arc<Mutex<Vec<u16>>>) -> Result<Response<Body>, Problem> {
    let Some(key) = request.headers().get("sec-websocket-key") else {
        return Ok(crate::endpoint::text(426, "WebSocket only"));
    };
    let key = derive_accept_key(key.as_bytes());
    let protocol = request.headers().get("sec-websocket-protocol").cloned();
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            echo(socket, closed).await;
        }
    });
    let mut answer = Response::builder()
        .status(101)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", key);
    if let Some(protocol) = protocol {
        answer = answer.header("sec-websocket-protocol", protocol);
    }
    Ok(answer.body(empty())?)
}

async fn echo<S>(mut socket: WebSocketStream<S>, closed: Arc<Mutex<Vec<u16>>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) if text.starts_with("close ") => {
                let code: u16 = text.trim_start_matches("close ").parse().unwrap_or(1000);
                let frame = CloseFrame { code: CloseCode::from(code), reason: "asked for".into() };
                let _ = socket.close(Some(frame)).await;
            }
            message @ (Message::Text(_) | Message::Binary(_)) => {
                let _ = socket.send(message).await;
            }
            Message::Close(frame) => {
                let code = frame.map_or(1005, |frame| u16::from(frame.code));
                closed.lock().expect("the codes").push(code);
            }
            _ => {}
        }
    }
}

/// A client over HTTP/1.1.
pub async fn connect(addr: SocketAddr, path: &str) -> Result<WebSocketStream<TcpStream>, Box<Error>> {
    let stream = TcpStream::connect(addr).await.expect("a connection");
    let url = format!("ws://{addr}{path}");
    Ok(client_async(url, stream).await.map_err(Box::new)?.0)
}

/// A client over HTTP/2: an extended CONNECT, and the frames of the stream as a socket.
pub async fn connect_h2(addr: SocketAddr, path: &str) -> Result<WebSocketStream<DuplexStream>, Problem> {
    let stream = TcpStream::connect(addr).await?;
    let (mut send, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    // The server's SETTINGS say whether it can; they come with the first round trip.
    crate::wait::within(crate::wait::LONG, "SETTINGS_ENABLE_CONNECT_PROTOCOL", || {
        let enabled = send.is_extended_connect_protocol_enabled();
        async move { enabled }
    })
    .await;
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://{addr}{path}"))
        .header("sec-websocket-version", "13")
        .body(())?;
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    send = send.ready().await?;
    let (answer, outgoing) = send.send_request(request, false)?;
    let answer = answer.await?;
    if answer.status() != 200 {
        return Err(Problem::msg(answer.status()));
    }
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(pump(far, outgoing, answer.into_body(), send));
    Ok(WebSocketStream::from_raw_socket(near, Role::Client, None).await)
}

/// Carries bytes between a socket and an HTTP/2 stream; `_keep` keeps the connection open meanwhile.
async fn pump(
    io: DuplexStream,
    mut outgoing: h2::SendStream<Bytes>,
    mut incoming: h2::RecvStream,
    _keep: h2::client::SendRequest<Bytes>,
) {
    let (mut read, mut write) = tokio::io::split(io);
    let up = async move {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = read.read(&mut chunk).await {
            if outgoing.send_data(Bytes::copy_from_slice(&chunk[..length]), false).is_err() {
                return;
            }
        }
        let _ = outgoing.send_data(Bytes::new(), true);
    };
    let down = async move {
        while let Some(Ok(data)) = incoming.data().await {
            let _ = incoming.flow_control().release_capacity(data.len());
            if write.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    };
    tokio::join!(up, down);
}
