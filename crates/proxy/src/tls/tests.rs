//! Handshakes in memory, both sides ours, certificates made on the spot.

use std::{fs, io, path::PathBuf, sync::Arc};

use portcullis_config::model::{CertificateFiles, ListenerTls, TlsVersion, UpstreamTls};
use portcullis_core::{Kind, exchange::TlsFacts};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    Protocols, TlsError, client_config, expiry, facts, handshake_error, server_name, server_tls,
    watched::Watched,
};

/// A folder with an authority of its own.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { folder, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Writes `stem.pem` and `stem.key` for these names, anew each time.
    fn issue(&self, stem: &str, names: &[&str]) -> CertificateFiles {
        let (cert, key) = self.make(names);
        let files = CertificateFiles {
            cert: self.path(&format!("{stem}.pem")),
            key: self.path(&format!("{stem}.key")),
        };
        fs::write(&files.cert, cert).unwrap();
        fs::write(&files.key, key).unwrap();
        files
    }

    fn make(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn trusted(&self) -> UpstreamTls {
        UpstreamTls {
            ca: vec![self.ca()],
            server_name: None,
            client_certificate: None,
            insecure_skip_verify: false,
        }
    }
}

fn listener(certificates: Vec<CertificateFiles>) -> ListenerTls {
    ListenerTls {
        certificates,
        min_version: TlsVersion::V12,
        strict_sni: false,
        client_ca: Vec::new(),
        client_cert_required: false,
    }
}

const BOTH: Protocols = Protocols { http2: true, http3: None };

fn server_config(settings: &ListenerTls, http2: bool) -> Result<Arc<ServerConfig>, TlsError> {
    server_tls(settings, Protocols { http2, http3: None }).map(|tls| tls.config)
}

/// What both sides know after a handshake.
struct Met {
    shown: CertificateDer<'static>,
    protocol: Option<Vec<u8>>,
    facts: TlsFacts,
}

async fn meet(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> io::Result<Met> {
    use tokio::io::AsyncReadExt;
    let (near, far) = tokio::io::duplex(16 * 1024);
    let settings = UpstreamTls {
        ca: Vec::new(),
        server_name: None,
        client_certificate: None,
        insecure_skip_verify: false,
    };
    let name = server_name(&settings, name).unwrap();
    let serve = async {
        let stream = TlsAcceptor::from(server.clone()).accept(far).await?;
        Ok::<_, io::Error>(facts(stream.get_ref().1))
    };
    let connect = async {
        let mut stream = TlsConnector::from(client.clone()).connect(name, near).await?;
        let session = stream.get_ref().1;
        let shown = session.peer_certificates().unwrap()[0].clone().into_owned();
        let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
        // With TLS 1.3 the client learns only now whether its own certificate was accepted.
        match stream.read(&mut [0]).await {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok((shown, protocol)),
        }
    };
    let (served, connected) = tokio::join!(serve, connect);
    let (shown, protocol) = connected?;
    Ok(Met { shown, protocol, facts: served? })
}

fn der(files: &CertificateFiles) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(&files.cert).unwrap()
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name() {
    let ca = Authority::new();
    let first = ca.issue("first", &["first.example", "unknown.example", "a.b.wild.example"]);
    let exact = ca.issue("exact", &["exact.wild.example", "shop.example"]);
    let wild = ca.issue("wild", &["*.wild.example"]);
    let server = server_config(&listener(vec![first.clone(), exact.clone(), wild.clone()]), true).unwrap();
    let mut client = (*client_config(&ca.trusted(), &[b"h2"]).unwrap()).clone();
    client.resumption = rustls::client::Resumption::disabled();
    let client = Arc::new(client);
    for (name, expected) in [
        ("first.example", &first),
        ("SHOP.example", &exact),
        ("exact.wild.example", &exact),
        ("other.wild.example", &wild),
        // A wildcard is one label: this name gets what the first certificate says of it.
        ("a.b.wild.example", &first),
        ("unknown.example", &first),
    ] {
        let met = meet(&server, &client, name).await.unwrap();
        assert!(met.shown == der(expected), "{name}");
        assert_eq!(met.facts.sni.as_deref(), Some(&*name.to_ascii_lowercase()));
        assert_eq!((met.facts.version, met.protocol.as_deref()), ("TLSv1.3", Some(&b"h2"[..])));
        assert!(met.facts.cipher.starts_with("TLS_"), "{}", met.facts.cipher);
    }
}

#[test]
fn a_connection_serves_the_hosts_of_its_certificate() {
    let ca = Authority::new();
    let first = ca.issue("first", &["first.example", "also.example"]);
    let shop = ca.issue("shop", &["shop.example", "a.wild.example"]);
    // The same names with another key: a client gets the one or the other.
    let shop_too = ca.issue("shop-too", &["shop.example", "a.wild.example"]);
    let wild = ca.issue("wild", &["*.wild.example"]);
    let mut settings = listener(vec![first, shop, shop_too, wild]);
    let names = server_tls(&settings, BOTH).unwrap().names;
    for (sni, host) in [
        ("shop.example", "shop.example"),
        ("first.example", "also.example"),
        ("shop.example", "a.wild.example"),
        // This certificate is for that host too, though another would have been chosen.
        ("b.wild.example", "a.wild.example"),
        // Strangers get the first certificate, so they share it.
        ("unknown.example", "first.example"),
        ("unknown.example", "unheard.example"),
        // No certificate is for that host, and no other connection would do better.
        ("shop.example", "unknown.example"),
    ] {
        assert!(names.may_serve(sni, host), "{sni} {host}");
    }
    for (sni, host) in [
        ("shop.example", "first.example"),
        ("shop.example", "b.wild.example"),
        ("a.wild.example", "b.wild.example"),
        ("first.example", "shop.example"),
        ("unknown.example", "shop.example"),
    ] {
        assert!(!names.may_serve(sni, host), "{sni} {host}");
    }
    settings.strict_sni = true;
    assert!(!server_tls(&settings, BOTH).unwrap().names.may_serve("shop.example", "unknown.example"));
}

#[tokio::test]
async fn a_refused_certificate_is_said_in_plain_words() {
    let (ca, other) = (Authority::new(), Authority::new());
    let trusting = client_config(&ca.trusted(), &[]).unwrap();
    // What a beginner makes: one self-signed certificate that is authority and server in one.
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let files = CertificateFiles { cert: ca.path("own.pem"), key: ca.path("own.key") };
    fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    let own = UpstreamTls { ca: vec![files.cert.clone()], ..ca.trusted() };
    let own = client_config(&own, &[]).unwrap();
    for (server, client, name, words) in [
        (files, &own, "a.example", "is an authority's (CA:TRUE)"),
        (other.issue("stranger", &["a.example"]), &trusting, "a.example", "is signed by no authority"),
        (ca.issue("a", &["a.example"]), &trusting, "b.example", "is for another name"),
    ] {
        let server = server_config(&listener(vec![server]), false).unwrap();
        let error = handshake_error(&meet(&server, client, name).await.err().unwrap());
        let detail = error.detail.unwrap_or_default();
        assert_eq!(error.kind, Kind::TlsCertificate);
        assert!(detail.starts_with("the endpoint's certificate ") && detail.contains(words), "{detail}");
    }
}

#[tokio::test]
async fn strict_sni_refuses_unknown_names_and_no_name() {
    let ca = Authority::new();
    let files = ca.issue("a", &["a.example"]);
    let mut settings = listener(vec![files]);
    let skip = UpstreamTls { insecure_skip_verify: true, ..ca.trusted() };
    let client = client_config(&skip, &[]).unwrap();
    let lenient = server_config(&settings, false).unwrap();
    settings.strict_sni = true;
    let strict = server_config(&settings, false).unwrap();
    // An address is never sent as a name.
    for name in ["b.example", "127.0.0.1"] {
        assert!(meet(&lenient, &client, name).await.is_ok(), "{name}");
        assert!(meet(&strict, &client, name).await.is_err(), "{name}");
    }
    assert!(meet(&strict, &client, "a.example").await.is_ok());
}

#[tokio::test]
async fn endpoints_are_verified() {
    let (ca, other) = (Authority::new(), Authority::new());
    let server = server_config(&listener(vec![ca.issue("a", &["a.example"])]), false).unwrap();
    let trusting = client_config(&ca.trusted(), &[]).unwrap();
    assert!(meet(&server, &trusting, "a.example").await.is_ok());
    // The wrong name, the wrong authority, and the system's authorities.
    let wrong_name = meet(&server, &trusting, "b.example").await.err().unwrap();
    assert_eq!(handshake_error(&wrong_name).kind, Kind::TlsCertificate);
    for settings in [other.trusted(), UpstreamTls { ca: Vec::new(), ..ca.trusted() }] {
        let client = client_config(&settings, &[]).unwrap();
        let error = meet(&server, &client, "a.example").await.err().unwrap();
        assert_eq!(handshake_error(&error).kind, Kind::TlsCertificate, "{error}");
    }
    let skipping = UpstreamTls { insecure_skip_verify: true, ..other.trusted() };
    assert!(meet(&server, &client_config(&skipping, &[]).unwrap(), "b.example").await.is_ok());
    let renamed = UpstreamTls { server_name: Some("a.example".into()), ..ca.trusted() };
    assert_eq!(server_name(&renamed, "10.0.0.1").unwrap().to_str(), "a.example");
    assert!(server_name(&ca.trusted(), "not a name").is_err());
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_verified() {
    let (ca, other) = (Authority::new(), Authority::new());
    let mut settings = listener(vec![ca.issue("a", &["a.example"])]);
    settings.client_ca = vec![ca.ca()];
    let optional = server_config(&settings, false).unwrap();
    settings.client_cert_required = true;
    let required = server_config(&settings, false).unwrap();
    let known = ca.issue("client", &["client.example"]);
    let with = |files: &CertificateFiles| {
        let settings = UpstreamTls { client_certificate: Some(files.clone()), ..ca.trusted() };
        client_config(&settings, &[]).unwrap()
    };
    let bare = client_config(&ca.trusted(), &[]).unwrap();
    let stranger = with(&other.issue("stranger", &["client.example"]));
    let met = meet(&optional, &bare, "a.example").await.unwrap();
    assert!(met.facts.client_certificate.is_none());
    assert!(meet(&required, &bare, "a.example").await.is_err());
    assert!(meet(&optional, &stranger, "a.example").await.is_err());
    for server in [&optional, &required] {
        let met = meet(server, &with(&known), "a.example").await.unwrap();
        assert_eq!(met.facts.client_certificate.as_deref(), Some(der(&known).as_ref()));
    }
}

#[tokio::test]
async fn protocols_and_versions_are_negotiated() {
    let ca = Authority::new();
    let mut settings = listener(vec![ca.issue("a", &["a.example"])]);
    let (plain, h2) = (server_config(&settings, false).unwrap(), server_config(&settings, true).unwrap());
    let both = client_config(&ca.trusted(), &[b"h2", b"http/1.1"]).unwrap();
    assert_eq!(meet(&h2, &both, "a.example").await.unwrap().protocol.as_deref(), Some(&b"h2"[..]));
    assert_eq!(meet(&plain, &both, "a.example").await.unwrap().protocol.as_deref(), Some(&b"http/1.1"[..]));
    let grpc_only = client_config(&ca.trusted(), &[b"h2"]).unwrap();
    assert!(meet(&plain, &grpc_only, "a.example").await.is_err());
    let roots = super::certificate::parse_chain(&ca.ca(), &fs::read(ca.ca()).unwrap()).unwrap();
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let old = ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let old = Arc::new(old);
    assert_eq!(meet(&h2, &old, "a.example").await.unwrap().facts.version, "TLSv1.2");
    settings.min_version = TlsVersion::V13;
    assert!(meet(&server_config(&settings, true).unwrap(), &old, "a.example").await.is_err());
}

/// Looks at the files once, as `watch` does, without waiting for its turn.
fn look(settings: &ListenerTls) -> Result<Arc<ServerConfig>, TlsError> {
    server_config(settings, true)
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_new_configuration() {
    let ca = Authority::new();
    let old = ca.issue("a", &["a.example"]);
    let settings = listener(vec![old.clone()]);
    let server = server_config(&settings, true).unwrap();
    let mut client = (*client_config(&ca.trusted(), &[]).unwrap()).clone();
    client.resumption = rustls::client::Resumption::disabled();
    let client = Arc::new(client);
    let before = der(&old);
    assert!(meet(&server, &client, "a.example").await.unwrap().shown == before);

    // Half a renewal, then rubbish: the old one stays.
    let (cert, key) = ca.make(&["a.example", "b.example"]);
    fs::write(&old.cert, &cert).unwrap();
    assert!(look(&settings).err().unwrap().to_string().contains("does not belong to the key"));
    assert!(meet(&server, &client, "a.example").await.unwrap().shown == before);
    fs::write(&old.key, "rubbish").unwrap();
    assert!(look(&settings).is_err());
    assert!(meet(&server, &client, "a.example").await.unwrap().shown == before);

    // The key follows: the new one is served by the same configuration, and `expiry` knows its names.
    fs::write(&old.key, &key).unwrap();
    assert!(Arc::ptr_eq(&look(&settings).unwrap(), &server), "tickets survive a reload");
    let met = meet(&server, &client, "b.example").await.unwrap();
    assert!(met.shown == der(&old) && met.shown != before);
    let found = expiry().into_iter().find(|one| one.names.contains(&"b.example".into()));
    assert_eq!(found.unwrap().names, [Box::from("a.example"), "b.example".into()]);
}

#[cfg(unix)]
#[tokio::test]
async fn watch_follows_swapped_symbolic_links() {
    use std::os::unix::fs::symlink;
    // As Kubernetes lays a secret out: tls.crt -> ..data/tls.crt, ..data -> ..1.
    let ca = Authority::new();
    let write = |version: &str, names: &[&str]| {
        let (cert, key) = ca.make(names);
        fs::create_dir(ca.path(version)).unwrap();
        fs::write(ca.path(version).join("tls.crt"), cert).unwrap();
        fs::write(ca.path(version).join("tls.key"), key).unwrap();
    };
    write("..1", &["one.example"]);
    symlink("..1", ca.path("..data")).unwrap();
    symlink("..data/tls.crt", ca.path("tls.crt")).unwrap();
    symlink("..data/tls.key", ca.path("tls.key")).unwrap();
    let files = CertificateFiles { cert: ca.path("tls.crt"), key: ca.path("tls.key") };
    let server = server_config(&listener(vec![files]), false).unwrap();
    let client = client_config(&ca.trusted(), &[]).unwrap();
    assert!(meet(&server, &client, "one.example").await.is_ok());

    let watching = tokio::spawn(super::watch(std::time::Duration::from_millis(10)));
    write("..2", &["two.example"]);
    symlink("..2", ca.path("..data_tmp")).unwrap();
    fs::rename(ca.path("..data_tmp"), ca.path("..data")).unwrap();
    fs::remove_dir_all(ca.path("..1")).unwrap();
    let renewed = async {
        while meet(&server, &client, "two.example").await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), renewed).await.expect("renewed in time");
    watching.abort();
}

#[tokio::test]
async fn the_gateways_own_certificate_is_renewed_too() {
    let ca = Authority::new();
    let files = ca.issue("client", &["old.example"]);
    let identity = super::client::Identity::load(&files).unwrap();
    let before = identity.certificates()[0].clone();
    ca.issue("client", &["new.example"]);
    identity.refresh().unwrap();
    assert_eq!(&*before.names[0], "old.example");
    assert_eq!(&*identity.certificates()[0].names[0], "new.example");
    assert!(Arc::ptr_eq(&identity.key.load_full(), &identity.certificates()[0].key));
}

#[test]
fn unusable_files_are_named() {
    let ca = Authority::new();
    let (a, b) = (ca.issue("a", &["a.example"]), ca.issue("b", &["b.example"]));
    let problem =
        |files: CertificateFiles| server_config(&listener(vec![files]), false).unwrap_err().to_string();
    let crossed = problem(CertificateFiles { cert: a.cert.clone(), key: b.key.clone() });
    assert!(crossed.contains("a.pem") && crossed.contains("b.key"), "{crossed}");
    let missing = problem(CertificateFiles { cert: ca.path("none.pem"), key: a.key.clone() });
    assert!(missing.contains("none.pem"), "{missing}");
    let swapped = problem(CertificateFiles { cert: a.key.clone(), key: a.cert.clone() });
    assert!(swapped.contains("a.key: no certificate in it"), "{swapped}");
    assert!(server_config(&listener(Vec::new()), false).is_err());
    let mut settings = listener(vec![a]);
    settings.client_ca = vec![ca.path("b.key")];
    assert!(server_config(&settings, false).unwrap_err().to_string().contains("b.key"));
}
