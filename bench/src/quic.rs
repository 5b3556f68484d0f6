//! The client's side of HTTP/3 for the load of ours and the checks: the `h3` crate over quinn. Debian's h2load and curl
//! have no HTTP/3.

use std::{
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Result, bail};
use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use http::{Request, StatusCode, header::HeaderMap};
use quinn::{ClientConfig, Endpoint, crypto::rustls::QuicClientConfig};

use crate::tls;

/// The host that is asked for.
pub const HOST: &str = "bench.example";

/// Sends requests on a connection.
pub type Sender = SendRequest<h3_quinn::OpenStreams, Bytes>;

/// A whole answer.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// A connection that is open.
pub struct Open {
    /// Sends requests.
    pub sender: Sender,
    /// The same as QUIC has it.
    pub conn: quinn::Connection,
}

/// A socket for connections. Each connection that shall count as another client needs one of its own: proxies with several
/// workers spread clients over them by address.
pub fn endpoint() -> Result<Endpoint> {
    let crypto = QuicClientConfig::try_from(tls::client(&["h3"])?)?;
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    Ok(endpoint)
}

/// Opens a connection.
pub async fn connect(endpoint: &Endpoint, to: SocketAddr) -> Result<Open> {
    let conn = endpoint.connect(to, HOST)?.await?;
    // A frame of no meaning behind the head would make Envoy expect a body.
    let mut client = h3::client::builder();
    let (mut driver, sender) =
        client.send_grease(false).build(h3_quinn::Connection::new(conn.clone())).await?;
    tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
    Ok(Open { sender, conn })
}

/// Sends a request and waits for the whole answer.
pub async fn fetch(sender: &mut Sender, request: Request<()>, body: Bytes) -> Result<Reply> {
    let mut stream = sender.send_request(request).await?;
    if !body.is_empty() {
        stream.send_data(body).await?;
    }
    stream.finish().await?;
    let head = stream.recv_response().await?;
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await? {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    let (head, ()) = head.into_parts();
    let length = head.headers.get("content-length").and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length != body.len()) {
        bail!("an answer was cut short: {} of {length:?} bytes", body.len());
    }
    Ok(Reply { status: head.status, headers: head.headers, body })
}
