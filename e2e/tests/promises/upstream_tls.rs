//! TLS to endpoints (PLU5, PLU9): verified, with own authorities, names and client certificates; HTTP/2 by ALPN.

use portcullis_e2e::{Endpoint, Gateway, Setup, certs::Authority, endpoint::named};

async fn before(endpoint: &Endpoint, url: &str, tls: &str, files: &[(&str, &str)]) -> Gateway {
    let mut setup =
        Setup::new(&crate::one(tls)).set("app", url.replace("{port}", &endpoint.addr().port().to_string()));
    for (name, content) in files {
        setup = setup.file(name, content);
    }
    setup.start().await
}

/// Unknown authority: 502, nothing sent. Known: served. Skipping the check must be asked for.
#[tokio::test]
async fn certificates_are_verified() {
    let authority = Authority::new("own");
    let pair = authority.issue(&["127.0.0.1", "app.internal"]);
    let endpoint = Endpoint::tls_with(pair.server(&["http/1.1"], None), |_| named("tls")).await;
    let url = "https://127.0.0.1:{port}";
    let ca = authority.pem();
    let refused = before(&endpoint, url, "", &[]).await.get("/").await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    assert!(refused.header("proxy-status").contains("tls_certificate_error"), "{:?}", refused.headers);
    assert_eq!(endpoint.count(), 0);
    let files = [("ca.pem", ca.as_str())];
    assert_eq!(
        before(&endpoint, url, "tls = { ca = \"ca.pem\" }", &files).await.get("/").await.endpoint(),
        "tls"
    );
    let skipping = before(&endpoint, url, "tls = { insecure_skip_verify = true }", &[]).await;
    assert_eq!(skipping.get("/").await.endpoint(), "tls");
}

/// The name must be the certificate's; another may be asked for by choice.
#[tokio::test]
async fn names_are_verified() {
    let authority = Authority::new("own");
    let pair = authority.issue(&["app.internal"]);
    let endpoint = Endpoint::tls_with(pair.server(&["http/1.1"], None), |_| named("tls")).await;
    let ca = authority.pem();
    let files = [("ca.pem", ca.as_str())];
    let url = "https://127.0.0.1:{port}";
    let wrong = before(&endpoint, url, "tls = { ca = \"ca.pem\" }", &files).await.get("/").await;
    assert_eq!(wrong.status, 502, "{}", wrong.text());
    assert!(wrong.header("proxy-status").contains("tls_certificate_error"), "{:?}", wrong.headers);
    let right = "tls = { ca = \"ca.pem\", server_name = \"app.internal\" }";
    assert_eq!(before(&endpoint, url, right, &files).await.get("/").await.endpoint(), "tls");
}

/// An expired certificate: 502.
#[tokio::test]
async fn expired_certificates_are_refused() {
    let authority = Authority::new("own");
    let pair = authority.issue_expired(&["127.0.0.1"]);
    let endpoint = Endpoint::tls_with(pair.server(&["http/1.1"], None), |_| named("tls")).await;
    let ca = authority.pem();
    let gateway =
        before(&endpoint, "https://127.0.0.1:{port}", "tls = { ca = \"ca.pem\" }", &[("ca.pem", &ca)]).await;
    assert_eq!(gateway.get("/").await.status, 502);
    assert_eq!(endpoint.count(), 0);
}

/// HTTP/2 when the endpoint chooses it by ALPN, HTTP/1.1 when it does not, and by choice whatever it offers.
#[tokio::test]
async fn alpn_chooses_the_version() {
    let authority = Authority::new("own");
    let ca = authority.pem();
    for (offered, http, expected) in [
        (vec!["h2", "http/1.1"], "", http::Version::HTTP_2),
        (vec!["http/1.1"], "", http::Version::HTTP_11),
        (vec!["h2", "http/1.1"], "http = \"1\"", http::Version::HTTP_11),
        (vec!["h2", "http/1.1"], "http = \"2\"", http::Version::HTTP_2),
    ] {
        let pair = authority.issue(&["127.0.0.1"]);
        let endpoint = Endpoint::tls_with(pair.server(&offered, None), |_| named("tls")).await;
        let service = format!("tls = {{ ca = \"ca.pem\" }}\n{http}");
        let gateway = before(&endpoint, "https://127.0.0.1:{port}", &service, &[("ca.pem", &ca)]).await;
        assert_eq!(gateway.get("/").await.status, 200, "{offered:?} {http}");
        assert_eq!(endpoint.last().version, expected, "{offered:?} {http}");
    }
}

/// A client certificate of the gateway's own.
#[tokio::test]
async fn a_client_certificate_is_shown() {
    let authority = Authority::new("own");
    let ca = authority.pem();
    let pair = authority.issue(&["127.0.0.1"]);
    let endpoint =
        Endpoint::tls_with(pair.server(&["http/1.1"], Some(&authority)), |_| named("mutual")).await;
    let own = authority.issue(&["gateway"]);
    let files = [("ca.pem", ca.as_str()), ("own.pem", &own.cert), ("own.key", &own.key)];
    let url = "https://127.0.0.1:{port}";
    let without = before(&endpoint, url, "tls = { ca = \"ca.pem\" }", &files).await;
    assert_eq!(without.get("/").await.status, 502);
    let with = "tls = { ca = \"ca.pem\", cert = \"own.pem\", key = \"own.key\" }";
    assert_eq!(before(&endpoint, url, with, &files).await.get("/").await.endpoint(), "mutual");
}

/// An endpoint that speaks no TLS at all: 502, named as such.
#[tokio::test]
async fn no_tls_is_502() {
    let plain = Endpoint::named("plain").await;
    let reply = before(&plain, "https://127.0.0.1:{port}", "tls = { insecure_skip_verify = true }", &[])
        .await
        .get("/")
        .await;
    assert_eq!(reply.status, 502);
    assert!(reply.header("proxy-status").contains("tls_"), "{:?}", reply.headers);
}
