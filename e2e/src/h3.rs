//! An HTTP/3 client: the `h3` crate over quinn, which shares nothing with the gateway but QUIC.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use http::{HeaderMap, Request, Response, Uri, uri::Authority};
use quinn::{Connection, Endpoint, TransportConfig, crypto::rustls::QuicClientConfig};
use rustls::ClientConfig;

use crate::{
    client::{Problem, Reply},
    wait::{LONG, bounded},
};

/// A request under way.
pub type Asked = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// One connection.
pub struct H3 {
    send: SendRequest<h3_quinn::OpenStreams, Bytes>,
    authority: Authority,
    /// Where it comes from.
    pub endpoint: Endpoint,
    /// The same as QUIC has it.
    pub conn: Connection,
    /// Ends with the connection, or when the gateway has said that it is to.
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for H3 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Where clients come from, with a window for each stream if that matters.
pub fn endpoint(config: ClientConfig, window: Option<u32>) -> Result<Endpoint, Problem> {
    let mut config = config;
    config.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = QuicClientConfig::try_from(config)?;
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    if let Some(window) = window {
        transport.stream_receive_window(window.into());
    }
    client.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

impl H3 {
    /// A connection that must succeed.
    pub async fn connect(addr: SocketAddr, name: &str, config: ClientConfig) -> H3 {
        bounded(LONG, "an HTTP/3 connection", H3::try_connect(addr, name, config))
            .await
            .expect("a connection")
    }

    /// A connection, if somebody is there.
    pub async fn try_connect(addr: SocketAddr, name: &str, config: ClientConfig) -> Result<H3, Problem> {
        let endpoint = endpoint(config, None)?;
        let conn = endpoint.connect(addr, name)?.await?;
        H3::over(endpoint, conn, name).await
    }

    /// Over a connection of QUIC.
    pub async fn over(endpoint: Endpoint, conn: Connection, name: &str) -> Result<H3, Problem> {
        let made = h3::client::builder().build(h3_quinn::Connection::new(conn.clone())).await;
        let (mut driver, send) = made?;
        let driver = tokio::spawn(async move {
            let _ = std::future::poll_fn(|cx| driver.poll_close(cx)).await;
        });
        Ok(H3 { send, authority: name.parse()?, endpoint, conn, driver })
    }

    /// Has the gateway ended it, or said that it will?
    pub fn is_closed(&self) -> bool {
        self.driver.is_finished() || self.conn.close_reason().is_some()
    }

    /// From another port from now on, as after a NAT has forgotten it.
    pub fn move_elsewhere(&self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        self.endpoint.rebind(socket).expect("another socket");
    }

    /// Sends the head of a request.
    pub async fn ask(&self, mut request: Request<()>) -> Result<Asked, Problem> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some("https".parse()?);
        parts.authority.get_or_insert(self.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts)?;
        Ok(self.send.clone().send_request(request).await?)
    }

    /// Sends a request and reads the whole answer.
    pub async fn try_fetch(&self, request: Request<()>, body: impl Into<Bytes>) -> Result<Reply, Problem> {
        let mut asked = self.ask(request).await?;
        let body = body.into();
        if !body.is_empty() {
            asked.send_data(body).await?;
        }
        asked.finish().await?;
        whole(asked).await
    }

    /// The same, and must succeed.
    pub async fn fetch(&self, request: Request<()>, body: impl Into<Bytes>) -> Reply {
        bounded(LONG, "a whole answer over HTTP/3", self.try_fetch(request, body)).await.expect("an answer")
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.fetch(Request::get(path).body(()).expect("a request"), Bytes::new()).await
    }
}

/// Reads an answer to its end.
pub async fn whole(mut asked: Asked) -> Result<Reply, Problem> {
    let head = head(&mut asked).await?;
    rest(&mut asked, head).await
}

/// Reads the head of an answer, and those of interim answers before it, which the `h3` crate takes for it (RFC 9114 §4.1).
pub async fn head(asked: &mut Asked) -> Result<Response<()>, Problem> {
    loop {
        let head = asked.recv_response().await?;
        if !head.status().is_informational() {
            return Ok(head);
        }
    }
}

/// Reads what comes after the head.
pub async fn rest(asked: &mut Asked, head: Response<()>) -> Result<Reply, Problem> {
    let mut body = Vec::new();
    while let Some(mut data) = asked.recv_data().await? {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    let trailers: Option<HeaderMap> = asked.recv_trailers().await?;
    let (status, headers) = (head.status().as_u16(), head.headers().clone());
    Ok(Reply { status, headers, body: body.into(), trailers })
}
