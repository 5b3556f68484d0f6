//! Probes against real sockets of this machine.

use std::{sync::Mutex, time::Duration};

use model::{Probe as Kind, StatusRange};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    time::timeout,
};

use super::*;

fn check(path: &str) -> HealthCheck {
    HealthCheck {
        kind: Kind::Http {
            path: path.into(),
            method: "GET".into(),
            headers: vec![("X-KV-SECRET".into(), "hush".into())],
            expect: vec![StatusRange { from: 200, to: 399 }],
            host: None,
        },
        interval: Duration::from_secs(10),
        unhealthy_interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        unhealthy_after: 3,
        healthy_after: 1,
        jitter: 0.1,
        port: None,
    }
}

fn endpoint(scheme: Scheme, port: u16) -> model::Endpoint {
    model::Endpoint {
        url: "test".into(),
        scheme,
        address: EndpointAddress::Tcp { host: "127.0.0.1".into(), port },
        base_path: "/base".into(),
        weight: 1,
        metadata: Default::default(),
        capacity: Default::default(),
    }
}

const AUTO: Spoken = Spoken { http: UpstreamHttp::Auto, tls: None, named: None, proxy_protocol: None };

/// Probes once, in bounded time.
async fn probe(
    endpoint: &model::Endpoint,
    check: &HealthCheck,
    http: UpstreamHttp,
    tls: Option<Tls>,
) -> Result<(), String> {
    let probe = build(endpoint, check, Spoken { http, tls, named: None, proxy_protocol: None }).unwrap();
    let found = timeout(Duration::from_secs(5), probe.probe()).await.unwrap();
    found.map_err(|failure| failure.to_string())
}

/// An endpoint that reads one head and answers with these bytes; gives its port and what it read.
async fn speaking(answer: impl Into<Vec<u8>>) -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, heard) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(String::new())));
    let (ear, answer) = (heard.clone(), answer.into());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        *ear.lock().unwrap() = hear(&mut stream).await;
        // The probe may have gone before the end of a long answer.
        let _ = stream.write_all(&answer).await;
    });
    (port, heard)
}

async fn hear(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn said(answer: impl Into<Vec<u8>>) -> Result<(), String> {
    let (port, _) = speaking(answer).await;
    probe(&endpoint(Scheme::Http, port), &check("/health"), UpstreamHttp::Auto, None).await
}

#[tokio::test]
async fn the_request_is_as_configured() {
    let (port, heard) = speaking("HTTP/1.1 200 OK\r\n\r\n").await;
    probe(&endpoint(Scheme::Http, port), &check("/health?x=1"), UpstreamHttp::Auto, None).await.unwrap();
    let want = format!(
        "GET /base/health?x=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nuser-agent: portcullis-health\r\n\
         accept: */*\r\nx-kv-secret: hush\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(*heard.lock().unwrap(), want);
}

#[tokio::test]
async fn only_expected_statuses_are_healthy() {
    assert_eq!(said("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
    assert_eq!(said("HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n").await, Ok(()));
    assert_eq!(said("HTTP/1.1 500 Oops\r\n\r\n").await, Err("answered 500".to_owned()));
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    assert_eq!(said(format!("{interim}HTTP/1.1 404 No\r\n\r\n")).await, Err("answered 404".to_owned()));
}

#[tokio::test]
async fn broken_answers_are_failures() {
    assert_eq!(said("").await, Err("connection broke: unexpected end of file".to_owned()));
    assert_eq!(
        said("HTTP/1.1 200 OK\r\nA: b").await,
        Err("connection broke: unexpected end of file".to_owned())
    );
    assert!(said("SSH-2.0-OpenSSH_9.2\r\n").await.unwrap_err().starts_with("not an HTTP answer"));
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(100_000));
    assert_eq!(said(endless).await, Err("not an HTTP answer: head larger than 16384 bytes".to_owned()));
}

#[tokio::test]
async fn nobody_there_is_a_failure() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for kind in [check("/").kind, Kind::Tcp] {
        let check = HealthCheck { kind, ..check("/") };
        let found = probe(&endpoint(Scheme::Http, port), &check, UpstreamHttp::Auto, None).await;
        assert!(found.unwrap_err().starts_with("connecting failed"));
    }
}

#[tokio::test]
async fn a_tcp_check_needs_a_connection_only_and_may_use_another_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let check = HealthCheck { kind: Kind::Tcp, port: Some(port), ..check("/") };
    // Also for https, without any TLS.
    for scheme in [Scheme::Http, Scheme::Https] {
        assert_eq!(probe(&endpoint(scheme, 1), &check, UpstreamHttp::Auto, None).await, Ok(()));
    }
}

#[tokio::test]
async fn unix_sockets_are_probed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let heard = hear(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        heard
    });
    let endpoint = model::Endpoint { address: EndpointAddress::Unix(path), ..endpoint(Scheme::Http, 1) };
    assert_eq!(probe(&endpoint, &check("/health"), UpstreamHttp::Auto, None).await, Ok(()));
    assert!(heard.await.unwrap().contains("\r\nHost: localhost\r\n"));
}

/// An HTTP/2 endpoint on one connection that answers with the length of the path as its status.
async fn http2_answers(stream: impl AsyncReadWrite) -> String {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    let answer = http::Response::builder().status(request.uri().path().len() as u16).body(()).unwrap();
    respond.send_response(answer, true).unwrap();
    while connection.accept().await.is_some() {}
    format!("{} {} {:?}", request.method(), request.uri(), request.headers().get("x-kv-secret"))
}

trait AsyncReadWrite: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> AsyncReadWrite for T {}

#[tokio::test]
async fn h2c_endpoints_are_probed() {
    for (scheme, http) in [(Scheme::H2c, UpstreamHttp::Auto), (Scheme::Http, UpstreamHttp::Http2)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = tokio::spawn(async move { http2_answers(listener.accept().await.unwrap().0).await });
        let path = format!("/{}", "x".repeat(200 - "/base/".len()));
        assert_eq!(probe(&endpoint(scheme, port), &check(&path), http, None).await, Ok(()));
        let want = format!("GET http://127.0.0.1:{port}/base{path} Some(\"hush\")");
        assert_eq!(heard.await.unwrap(), want);
    }
}

/// A server certificate for `name`, the server's settings with these protocols, and a client's that trusts it.
fn tls(name: &str, protocols: &[&[u8]]) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let mut server =
        server.unwrap().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(server), Arc::new(client))
}

/// Probes an https endpoint that offers these protocols; the server answers HTTP/2 with `http2`.
async fn https(
    protocols: &[&[u8]],
    http2: bool,
    http: UpstreamHttp,
    name: &'static str,
) -> Result<(), String> {
    let (server, client) = tls("app.internal", protocols);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let endpoint = endpoint(Scheme::Https, port);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(server).accept(stream).await else { return };
        if http2 {
            http2_answers(stream).await;
        } else {
            hear(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        }
    });
    let tls = Tls { config: client, name: ServerName::try_from(name).unwrap() };
    let path = format!("/{}", "x".repeat(200 - "/base/".len()));
    probe(&endpoint, &check(&path), http, Some(tls)).await
}

#[tokio::test]
async fn https_endpoints_are_probed_in_the_version_they_choose() {
    let auto = UpstreamHttp::Auto;
    assert_eq!(https(&[b"h2", b"http/1.1"], true, auto, "app.internal").await, Ok(()));
    assert_eq!(https(&[b"http/1.1"], false, auto, "app.internal").await, Ok(()));
    assert_eq!(https(&[], false, auto, "app.internal").await, Ok(()));
    assert_eq!(https(&[], true, UpstreamHttp::Http2, "app.internal").await, Ok(()));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_failure() {
    let found = https(&[b"http/1.1"], false, UpstreamHttp::Auto, "other.internal").await;
    assert!(found.unwrap_err().starts_with("TLS failed"));
}

#[test]
fn what_http_does_not_allow_is_refused() {
    let build = |kind: Kind| {
        let check = HealthCheck { kind, ..check("/") };
        build(&endpoint(Scheme::Http, 80), &check, AUTO).err()
    };
    let http = |path: &str, method: &str, header: (&str, &str), host: Option<&str>| Kind::Http {
        path: path.into(),
        method: method.into(),
        headers: vec![(header.0.into(), header.1.into())],
        expect: Vec::new(),
        host: host.map(Into::into),
    };
    assert_eq!(build(http("/", "GET", ("a", "b"), None)), None);
    assert_eq!(build(http("/ /", "GET", ("a", "b"), None)), Some("path `/base/ /`".to_owned()));
    assert_eq!(build(http("/", "G T", ("a", "b"), None)), Some("method `G T`".to_owned()));
    assert_eq!(build(http("/", "GET", ("a b", "c"), None)), Some("header name `a b`".to_owned()));
    assert_eq!(build(http("/", "GET", ("a", "x\r\ny: z"), None)), Some("value of header `a`".to_owned()));
    assert_eq!(build(http("/", "GET", ("a", "b"), Some("a b"))), Some("host `a b`".to_owned()));
    assert!(build(http("/", "GET", ("Connection", "b"), None)).is_some());
    let https = super::build(&endpoint(Scheme::Https, 443), &check("/"), AUTO);
    assert!(https.is_err());
}
