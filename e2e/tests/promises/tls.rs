//! TLS of listeners (VK11, MUS6): certificates per name, ALPN, re-reading, client certificates.

use portcullis_e2e::{
    Client, Endpoint, Gateway, Setup, Version,
    certs::{Authority, Pair},
    client::tls_stream,
    wait::LONG,
    within,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

const LISTENER: &str = r#"
[listeners.web]
address = "127.0.0.1:{port}"

[listeners.web.tls]
certificates = [
    { cert = "default.pem", key = "default.key" },
    { cert = "shop.pem", key = "shop.key" },
    { cert = "wild.pem", key = "wild.key" },
]
{tls}

[admin]
address = "127.0.0.1:{admin}"

[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = [{ url = "{app}" }]
"#;

struct Tls {
    gateway: Gateway,
    authority: Authority,
    endpoint: Endpoint,
    shop: Pair,
    wild: Pair,
    default: Pair,
}

async fn start(tls: &str, clients: Option<&Authority>) -> Tls {
    let authority = Authority::new("names");
    let endpoint = Endpoint::named("a").await;
    let default = authority.issue(&["default.example"]);
    let shop = authority.issue(&["shop.example", "www.shop.example"]);
    let wild = authority.issue(&["*.wild.example"]);
    let mut setup = Setup::whole("gateway.toml", LISTENER).set("app", endpoint.url()).set("tls", tls);
    for (name, pair) in [("default", &default), ("shop", &shop), ("wild", &wild)] {
        setup = setup.file(&format!("{name}.pem"), &pair.cert).file(&format!("{name}.key"), &pair.key);
    }
    if let Some(clients) = clients {
        setup = setup.file("clients.pem", clients.pem());
    }
    Tls { gateway: setup.start().await, authority, endpoint, shop, wild, default }
}

/// The certificate shown to somebody who asks for this name, without judging it.
async fn shown(tls: &Tls, name: &str) -> Option<Vec<u8>> {
    let mut config = tls.authority.client(&["http/1.1"]);
    // Judged by nobody: which one is shown is the question.
    config.dangerous().set_certificate_verifier(std::sync::Arc::new(trusting::Anything));
    let stream = tls_stream(tls.gateway.addr(), name, config).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

mod trusting {
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    /// Accepts any certificate.
    #[derive(Debug)]
    pub struct Anything;

    impl ServerCertVerifier for Anything {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}

/// By name: exact, wildcard (one label), and the default for strangers.
#[tokio::test]
async fn the_certificate_is_chosen_by_name() {
    let tls = start("", None).await;
    for (name, pair) in [
        ("shop.example", &tls.shop),
        ("www.shop.example", &tls.shop),
        ("a.wild.example", &tls.wild),
        ("a.b.wild.example", &tls.default),
        ("default.example", &tls.default),
        ("unknown.example", &tls.default),
    ] {
        assert_eq!(shown(&tls, name).await.unwrap(), pair.der().to_vec(), "{name}");
    }
}

/// By choice, strangers get no certificate at all.
#[tokio::test]
async fn strict_sni_refuses_strangers() {
    let tls = start("strict_sni = true", None).await;
    assert!(shown(&tls, "shop.example").await.is_some());
    assert!(shown(&tls, "unknown.example").await.is_none());
}

/// HTTP/2 by ALPN, HTTP/1.1 for those who want it; and the endpoint hears that it was https.
#[tokio::test]
async fn alpn_chooses_the_version() {
    let tls = start("", None).await;
    for (alpn, version) in
        [(vec!["h2", "http/1.1"], Version::H2), (vec!["http/1.1"], Version::H1), (vec![], Version::H1)]
    {
        let config = tls.authority.client(&alpn);
        let mut client = Client::tls(tls.gateway.addr(), "shop.example", config).await.unwrap();
        assert_eq!(client.version(), version, "{alpn:?}");
        let reply = client.get("/").await;
        assert_eq!((reply.status, reply.endpoint()), (200, "a"));
        assert_eq!(tls.endpoint.last().header("x-forwarded-proto"), "https");
    }
}

/// A certificate file that changes is shown to the next connection; those that are open stay.
#[tokio::test]
async fn certificates_are_read_again() {
    let tls = start("", None).await;
    let mut open =
        Client::tls(tls.gateway.addr(), "shop.example", tls.authority.client(&["http/1.1"])).await.unwrap();
    assert_eq!(open.get("/").await.status, 200);
    let fresh = tls.authority.issue(&["shop.example"]);
    let dir = tls.gateway.dir.path();
    for (name, content) in [("shop.key", &fresh.key), ("shop.pem", &fresh.cert)] {
        std::fs::write(dir.join("next"), content).unwrap();
        std::fs::rename(dir.join("next"), dir.join(name)).unwrap();
    }
    within(2 * LONG, "the new certificate to be shown", || async {
        shown(&tls, "shop.example").await == Some(fresh.der().to_vec())
    })
    .await;
    assert_eq!(open.get("/").await.status, 200);
    // A broken file is not: the last good pair stays.
    std::fs::write(dir.join("shop.pem"), "not a certificate").unwrap();
    let reply = tls.gateway.admin_post("/reload").await;
    assert_ne!(reply.status, 200, "{}", reply.text());
    assert_eq!(shown(&tls, "shop.example").await, Some(fresh.der().to_vec()));
}

/// Client certificates: those of the authority come in, others and none do not; or none may, by choice.
#[tokio::test]
async fn client_certificates() {
    let staff = Authority::new("staff");
    let stranger = Authority::new("stranger");
    let tls = start("client_ca = \"clients.pem\"", Some(&staff)).await;
    let addr = tls.gateway.addr();
    let good = tls.authority.client_with(&["http/1.1"], &staff.issue(&["alice"]));
    assert_eq!(ask(addr, good).await, Some(200));
    let bad = tls.authority.client_with(&["http/1.1"], &stranger.issue(&["mallory"]));
    assert_eq!(ask(addr, bad).await, None);
    assert_eq!(ask(addr, tls.authority.client(&["http/1.1"])).await, None);

    let tls = start("client_ca = \"clients.pem\"\nclient_cert_required = false", Some(&staff)).await;
    assert_eq!(ask(tls.gateway.addr(), tls.authority.client(&["http/1.1"])).await, Some(200));
    let bad = tls.authority.client_with(&["http/1.1"], &stranger.issue(&["mallory"]));
    assert_eq!(ask(tls.gateway.addr(), bad).await, None);
}

async fn ask(addr: std::net::SocketAddr, config: rustls::ClientConfig) -> Option<u16> {
    let mut client = Client::tls(addr, "shop.example", config).await.ok()?;
    let request = http::Request::get("/").body(portcullis_e2e::client::empty()).unwrap();
    client.try_fetch(request).await.ok().map(|reply| reply.status)
}

/// TLS 1.2 can be switched off.
#[tokio::test]
async fn the_oldest_version_can_be_chosen() {
    for (tls, works) in [("", true), ("min_version = \"1.3\"", false)] {
        let tls = start(tls, None).await;
        let mut roots = rustls::RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(tls.authority.pem().as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let old = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        assert_eq!(ask(tls.gateway.addr(), old).await.is_some(), works);
    }
}

/// Plaintext on a TLS port is told what it did wrong, in its own words, and counted; never served. An upload is read on with for
/// a while, so that the answer is not lost to a reset.
#[tokio::test]
async fn plaintext_on_a_tls_port_is_told_so() {
    let tls = start("", None).await;
    let upload = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n{}", "x".repeat(50_000));
    for request in ["GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n", &upload] {
        let mut client = portcullis_e2e::RawClient::connect(tls.gateway.addr()).await;
        client.write(request).await;
        let said = String::from_utf8(client.to_end().await).unwrap();
        assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{said}");
        assert!(said.contains("Connection: close\r\n") && said.contains("https://"), "{said}");
    }
    assert_eq!(tls.endpoint.count(), 0);
    let labels = [("listener", "web"), ("reason", "plaintext")];
    assert_eq!(tls.gateway.metrics().await.sum("gateway_tls_handshake_failures_total", &labels), 2.0);
    // Other bytes get an alert, as TLS has it.
    let mut client = portcullis_e2e::RawClient::connect(tls.gateway.addr()).await;
    client.write("\0\0\0\0\0\0\0\0").await;
    assert!(!client.to_end().await.starts_with(b"HTTP"));
}

/// The metrics tell when each certificate expires, and count handshakes that fail.
#[tokio::test]
async fn expiry_is_in_the_metrics() {
    let tls = start("", None).await;
    let stranger = Authority::new("stranger");
    assert!(Client::tls(tls.gateway.addr(), "shop.example", stranger.client(&["http/1.1"])).await.is_err());
    within(LONG, "three certificates and a failed handshake", || async {
        let page = tls.gateway.metrics().await;
        let certificates =
            page.find("gateway_tls_certificate_not_after_timestamp_seconds", &[("listener", "web")]);
        certificates.len() >= 3
            && certificates.iter().all(|sample| sample.value > 1.7e9)
            && page.sum("gateway_tls_handshake_failures_total", &[("listener", "web")]) >= 1.0
    })
    .await;
}

/// A connection made for one host does not serve another that has a certificate of its own (421, RFC 9110 §7.4); hosts
/// that share a certificate share connections.
#[tokio::test]
async fn hosts_of_another_certificate_are_misdirected() {
    let tls = start("", None).await;
    for (name, host, status) in [
        ("shop.example", "shop.example", 200),
        ("shop.example", "WWW.shop.example:443", 200),
        ("shop.example", "a.wild.example", 421),
        ("shop.example", "default.example", 421),
        ("default.example", "shop.example", 421),
        ("a.wild.example", "b.wild.example", 200),
        // No certificate is for it: a connection of its own would be no better.
        ("shop.example", "unknown.example", 200),
    ] {
        for alpn in ["h2", "http/1.1"] {
            let mut config = tls.authority.client(&[alpn]);
            config.dangerous().set_certificate_verifier(std::sync::Arc::new(trusting::Anything));
            let mut client = Client::tls(tls.gateway.addr(), name, config).await.unwrap();
            let request = http::Request::get("/").header("host", host);
            let reply = client.fetch(request.body(portcullis_e2e::client::empty()).unwrap()).await;
            assert_eq!(reply.status, status, "{name} {host} {alpn}: {}", reply.text());
        }
    }
}

/// In plaintext there is no such question.
#[tokio::test]
async fn hosts_in_plaintext_are_never_misdirected() {
    let endpoint = Endpoint::named("a").await;
    let gateway = Setup::new(&crate::one("")).set("app", endpoint.url()).start().await;
    let mut client = Client::h2(gateway.addr()).await;
    for host in ["shop.example", "a.wild.example"] {
        let request = http::Request::get("/").header("host", host);
        let reply = client.fetch(request.body(portcullis_e2e::client::empty()).unwrap()).await;
        assert_eq!(reply.status, 200, "{host}");
    }
}

/// `https` is not asked for in plaintext (RFC 9110 §7.4), unless a trusted proxy has ended the TLS.
#[tokio::test]
async fn https_over_plaintext_is_misdirected() {
    let endpoint = Endpoint::named("a").await;
    for (proxies, status) in [("", 421), ("\"127.0.0.1\"", 200)] {
        let text = format!(
            "[listeners.web]\naddress = \"127.0.0.1:{{port}}\"\ntrusted_proxies = [{proxies}]\n\n\
             [admin]\naddress = \"127.0.0.1:{{admin}}\"\n{}",
            crate::one("")
        );
        let gateway = Setup::whole("gateway.toml", &text).set("app", endpoint.url()).start().await;
        let raw = "GET https://shop.example/ HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        assert_eq!(portcullis_e2e::RawClient::ask(gateway.addr(), raw).await.status, status);
        for (scheme, status) in [("https", status), ("http", 200)] {
            let stream = tokio::net::TcpStream::connect(gateway.addr()).await.unwrap();
            let mut client = Client::over(Version::H2, stream, "shop.example".into(), scheme).await.unwrap();
            assert_eq!(client.get("/").await.status, status, "{scheme} {proxies}");
        }
    }
}
