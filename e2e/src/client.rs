//! HTTP/1.1 and HTTP/2 clients over one connection each, in plaintext or TLS.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header::HOST, uri::Authority};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

pub use crate::feed::streamed;
use crate::wait::{LONG, bounded};

/// Whatever can go wrong with a request.
pub type Problem = anyhow::Error;

/// The body of a request or an answer of ours.
pub type Body = UnsyncBoxBody<Bytes, Problem>;

/// The HTTP version spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
}

/// One connection to a server.
pub struct Client {
    link: Link,
    authority: String,
    scheme: &'static str,
}

enum Link {
    H1(conn::http1::SendRequest<Body>),
    H2(conn::http2::SendRequest<Body>),
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Fields.
    pub headers: HeaderMap,
    /// All of the body.
    pub body: Bytes,
    /// Trailer fields, if there were any.
    pub trailers: Option<HeaderMap>,
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

/// This body, with its length.
pub fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into()).map_err(never).boxed_unsync()
}

fn never(never: Infallible) -> Problem {
    match never {}
}

impl Client {
    /// HTTP/1.1 in plaintext.
    pub async fn h1(addr: SocketAddr) -> Client {
        Client::try_h1(addr).await.expect("an HTTP/1.1 connection")
    }

    /// HTTP/1.1 in plaintext, if somebody is there.
    pub async fn try_h1(addr: SocketAddr) -> Result<Client, Problem> {
        Client::over(Version::H1, TcpStream::connect(addr).await?, addr.to_string(), "http").await
    }

    /// HTTP/2 in plaintext, by prior knowledge.
    pub async fn h2(addr: SocketAddr) -> Client {
        Client::plain(Version::H2, addr).await
    }

    /// Either, in plaintext.
    pub async fn plain(version: Version, addr: SocketAddr) -> Client {
        let stream = bounded(LONG, "connecting", TcpStream::connect(addr)).await.expect("a connection");
        let client = Client::over(version, stream, addr.to_string(), "http");
        bounded(LONG, "starting HTTP", client).await.expect("an HTTP connection")
    }

    /// Over TLS, asking for `name`; the version is what ALPN chose.
    pub async fn tls(addr: SocketAddr, name: &str, config: ClientConfig) -> Result<Client, Problem> {
        let stream = tls_stream(addr, name, config).await?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Client::over(if h2 { Version::H2 } else { Version::H1 }, stream, name.to_owned(), "https").await
    }

    /// Over any stream.
    pub async fn over<S>(
        version: Version,
        stream: S,
        authority: String,
        scheme: &'static str,
    ) -> Result<Client, Problem>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let link = match version {
            Version::H1 => {
                let (send, connection) = conn::http1::handshake(io).await?;
                tokio::spawn(connection.with_upgrades());
                Link::H1(send)
            }
            Version::H2 => {
                let (send, connection) = conn::http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Link::H2(send)
            }
        };
        Ok(Client { link, authority, scheme })
    }

    /// The same HTTP/2 connection once more, for a request at the same time; over HTTP/1.1 there is no such thing.
    pub fn share(&self) -> Option<Client> {
        let Link::H2(send) = &self.link else { return None };
        Some(Client { link: Link::H2(send.clone()), authority: self.authority.clone(), scheme: self.scheme })
    }

    /// What it speaks.
    pub fn version(&self) -> Version {
        match self.link {
            Link::H1(_) => Version::H1,
            Link::H2(_) => Version::H2,
        }
    }

    /// Has the server closed the connection, or said that it will?
    pub fn is_closed(&self) -> bool {
        match &self.link {
            Link::H1(send) => send.is_closed(),
            Link::H2(send) => send.is_closed(),
        }
    }

    /// Sends a request (its target a path, its host in a `Host` field if it matters); the body comes as it arrives.
    pub async fn try_send(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>, Problem> {
        match &mut self.link {
            Link::H1(send) => {
                if !request.headers().contains_key(HOST) {
                    request.headers_mut().insert(HOST, HeaderValue::from_str(&self.authority)?);
                }
                send.ready().await?;
                Ok(send.send_request(request).await?)
            }
            Link::H2(send) => {
                let host = request.headers_mut().remove(HOST);
                let authority = match &host {
                    Some(host) => host.to_str()?.to_owned(),
                    None => self.authority.clone(),
                };
                let mut parts = std::mem::take(request.uri_mut()).into_parts();
                parts.scheme = Some(self.scheme.parse()?);
                parts.authority = Some(authority.parse::<Authority>()?);
                *request.uri_mut() = Uri::from_parts(parts)?;
                *request.version_mut() = http::Version::HTTP_2;
                send.ready().await?;
                Ok(send.send_request(request).await?)
            }
        }
    }

    /// The same, and must succeed.
    pub async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        bounded(LONG, "an answer's head", self.try_send(request)).await.expect("an answer")
    }

    /// Sends a request and reads the whole answer.
    pub async fn try_fetch(&mut self, request: Request<Body>) -> Result<Reply, Problem> {
        let answer = self.try_send(request).await?;
        Reply::read(answer).await
    }

    /// The same, and must succeed.
    pub async fn fetch(&mut self, request: Request<Body>) -> Reply {
        bounded(LONG, "a whole answer", self.try_fetch(request)).await.expect("an answer")
    }

    /// GET.
    pub async fn get(&mut self, path: &str) -> Reply {
        self.fetch(Request::get(path).body(empty()).expect("a request")).await
    }
}

impl Reply {
    /// Reads an answer to its end.
    pub async fn read(answer: Response<Incoming>) -> Result<Reply, Problem> {
        let (head, body) = answer.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes(), trailers })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// A field's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// Which endpoint answered, when it was one of [`crate::Endpoint::named`].
    pub fn endpoint(&self) -> &str {
        self.header("x-endpoint")
    }
}

/// A TLS stream to an address, asking for a name.
pub async fn tls_stream(
    addr: SocketAddr,
    name: &str,
    config: ClientConfig,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Problem> {
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from(name.to_owned())?;
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}
