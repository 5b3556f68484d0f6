//! Files, `.env`, certificates, and fragments of several providers.

mod common;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use common::TestKinds;
use portcullis_config::{
    Around, Code, Disk, Files, Format, Fragment, NoEnv, Outcome, Severity,
    document::Document,
    load, load_file, load_text,
    model::{Target, TlsVersion},
};
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    SignatureAlgorithm,
};

fn codes(outcome: &Outcome) -> Vec<(Code, String)> {
    outcome.findings.iter().map(|finding| (finding.code, finding.path.clone())).collect()
}

#[test]
fn a_file_is_loaded_with_the_dot_env_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    fs::write(&path, "server: { port: '${PORT}', host: '${HOST:-127.0.0.1}' }\nerror_pages: { 404: { file: page.html } }\n")
        .unwrap();
    fs::write(folder.path().join(".env"), "PORT=9000\nHOST=ignored\nwhat is this\n").unwrap();
    fs::write(folder.path().join("page.html"), "{status}").unwrap();
    let env = BTreeMap::from([("HOST".to_owned(), "127.0.0.2".to_owned())]);
    let loaded = load_file(&path, &env, &TestKinds).unwrap();
    assert_eq!(codes(&loaded.outcome), [(Code::BadDotEnv, String::new())]);
    assert!(loaded.outcome.render(false).contains(".env:3:1"), "{}", loaded.outcome.render(false));
    assert!(loaded.outcome.render(false).contains("what is this"));
    fs::write(folder.path().join(".env"), "PORT=9000\nHOST=ignored\n").unwrap();
    let loaded = load_file(&path, &env, &TestKinds).unwrap();
    let model = loaded.outcome.model.unwrap();
    assert_eq!(
        model.listeners["web"].address.to_string(),
        "127.0.0.2:9000",
        "the environment wins over .env"
    );
    let files = ["gateway.yaml", ".env", "page.html"].map(|name| folder.path().join(name));
    assert!(files.iter().all(|file| loaded.outcome.files.contains(file)), "{:?}", loaded.outcome.files);
    assert_eq!(loaded.outcome.written["server"]["port"], "${PORT}", "as written, without the value");
}

#[test]
fn a_file_that_cannot_be_read_is_a_failure_and_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in
        [("none.toml", None), ("a.ini", Some(b"x".as_slice())), ("b.toml", Some(b"\xff\xfe"))]
    {
        let path = folder.path().join(name);
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let failure = load_file(&path, &NoEnv, &TestKinds).unwrap_err();
        assert!(failure.to_string().contains(name), "{failure}");
    }
    assert!(load_file(folder.path(), &NoEnv, &TestKinds).is_err());
}

/// Files in memory.
struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A certificate for the names, valid from 2020 until the year given.
fn certificate(names: &[&str], algorithm: &'static SignatureAlgorithm, until: i32) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate_for(algorithm).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

const START_OF_2025: u64 = 1_735_689_600;
const START_OF_2030: u64 = 1_893_456_000;

fn judge(text: &str, files: &Memory, now: u64) -> Outcome {
    let (document, findings) = Document::parse("gateway.toml", text, Format::Toml);
    assert_eq!(findings, []);
    let fragment = Fragment { provider: "file".into(), document, live: false };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
    load(vec![fragment], &Around { kinds: &TestKinds, files, now })
}

#[test]
fn certificates_are_judged() {
    let mut files = BTreeMap::new();
    let mut put = |name: &str, pair: &(String, String)| {
        files.insert(PathBuf::from(format!("{name}.pem")), pair.0.clone().into_bytes());
        files.insert(PathBuf::from(format!("{name}.key")), pair.1.clone().into_bytes());
    };
    let good = certificate(&["a.example", "*.b.example"], &PKCS_ECDSA_P256_SHA256, 2030);
    let other = certificate(&["c.example"], &PKCS_ECDSA_P384_SHA384, 2030);
    put("good", &good);
    put("ed", &certificate(&["ed.example"], &PKCS_ED25519, 2030));
    put("other", &other);
    put("expired", &certificate(&["old.example"], &PKCS_ECDSA_P256_SHA256, 2024));
    put("mixed", &(good.0.clone(), other.1.clone()));
    put("noise", &("noise".into(), "noise".into()));
    put("swapped", &(good.1.clone(), good.0.clone()));
    let files = Memory(files);
    let outcome = |listener: &str| {
        let routes =
            "[[routes]]\nhosts = [\"a.example\", \"x.b.example\", \"ed.example\"]\nservice = \"@echo\"\n";
        judge(
            &format!("[listeners.s]\naddress = \":443\"\ntls = {{ {listener} }}\n{routes}"),
            &files,
            START_OF_2025,
        )
    };
    let both = "certificates = [{ cert = \"good.pem\", key = \"good.key\" }, { cert = \"ed.pem\", key = \"ed.key\" }]";
    let fine = outcome(both);
    assert_eq!(codes(&fine), []);
    assert_eq!(fine.model.unwrap().listeners["s"].tls.as_ref().unwrap().min_version, TlsVersion::V12);
    assert_eq!(fine.files.len(), 4, "{:?}", fine.files);

    let single = |name: &str| codes(&outcome(&format!("cert = \"{name}.pem\", key = \"{name}.key\"")));
    let at = |key: &str| format!("listeners.s.tls.{key}");
    assert_eq!(single("good"), [(Code::UncoveredHost, "listeners.s.tls".to_owned())], "ed.example");
    assert_eq!(single("mixed"), [(Code::KeyMismatch, at("key"))]);
    assert_eq!(single("noise"), [(Code::BadCertificate, at("cert")), (Code::BadCertificate, at("key"))]);
    assert_eq!(single("swapped"), [(Code::BadCertificate, at("cert")), (Code::BadCertificate, at("key"))]);
    assert_eq!(single("absent"), [(Code::MissingFile, at("cert")), (Code::MissingFile, at("key"))]);
    assert!(single("expired").contains(&(Code::ExpiredCertificate, at("cert"))));
    // Three days before its end it is a warning, before its beginning an error.
    let text = "[listeners.s]\naddress = \":443\"\ntls = { cert = \"good.pem\", key = \"good.key\" }\n";
    let severity =
        |now: u64| judge(text, &files, now).findings.iter().map(|f| (f.code, f.severity)).collect::<Vec<_>>();
    assert_eq!(severity(START_OF_2030 - 3 * 86_400), [(Code::ExpiredCertificate, Severity::Warning)]);
    assert_eq!(severity(START_OF_2030 + 1), [(Code::ExpiredCertificate, Severity::Error)]);
    assert_eq!(severity(1_500_000_000), [(Code::ExpiredCertificate, Severity::Error)]);
}

/// An RSA key in both of its PEM forms, made once with `openssl genrsa 2048`, and its self-signed certificate.
#[test]
fn rsa_keys_are_read_in_both_forms() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/certificates");
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let files = Memory(BTreeMap::from([
        ("rsa.pem".into(), read("rsa.pem")),
        ("pkcs1.key".into(), read("rsa.pkcs1.key")),
        ("pkcs8.key".into(), read("rsa.pkcs8.key")),
        ("sec1.pem".into(), read("ec.pem")),
        ("sec1.key".into(), read("ec.sec1.key")),
    ]));
    let listener = |cert: &str, key: &str| {
        let text =
            format!("[listeners.s]\naddress = \":443\"\ntls = {{ cert = \"{cert}\", key = \"{key}\" }}\n");
        codes(&judge(&text, &files, START_OF_2030))
    };
    assert_eq!(listener("rsa.pem", "pkcs1.key"), []);
    assert_eq!(listener("rsa.pem", "pkcs8.key"), []);
    assert_eq!(listener("sec1.pem", "sec1.key"), []);
    assert_eq!(listener("rsa.pem", "sec1.key"), [(Code::KeyMismatch, "listeners.s.tls.key".to_owned())]);
}

fn fragment(provider: &str, text: &str, live: bool) -> Fragment {
    let (document, findings) = Document::parse(provider, text, Format::Toml);
    assert_eq!(findings, []);
    Fragment { provider: provider.into(), document, live }
}

#[test]
fn providers_are_merged_by_name() {
    let file = fragment(
        "file",
        "[[routes]]\nname = \"a\"\npath = \"/a\"\nservice = \"web@docker\"\nmiddlewares = [\"gzip\", \"ids@docker\"]\n\
         [middlewares.gzip.compress]\n[middlewares.ids.compress]\n[[routes]]\npath = \"/c\"\nservice = \"@echo\"\nmiddlewares = [\"ids\"]",
        false,
    );
    let docker = fragment(
        "docker",
        "[[routes]]\nname = \"a\"\npath = \"/b\"\nservice = \"web\"\n[services.web]\nurls = [\"http://10.0.0.1:80\"]\n[middlewares.ids.request_id]",
        true,
    );
    let outcome =
        load(vec![file, docker], &Around { kinds: &TestKinds, files: &Disk, now: SystemTime::now() });
    assert_eq!(codes(&outcome), []);
    let model = outcome.model.unwrap();
    let names: Vec<&str> = model.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["a@file", "c@file", "a@docker"]);
    assert_eq!(model.routes[0].target, Target::Service("web@docker".into()));
    assert_eq!(model.routes[2].target, Target::Service("web@docker".into()));
    assert_eq!(
        model.routes[0].middlewares.iter().map(|n| &**n).collect::<Vec<_>>(),
        ["gzip@file", "ids@docker"]
    );
    assert_eq!(&*model.middlewares["ids@docker"].kind, "request_id");
}

#[test]
fn mistakes_of_live_providers_are_quarantined_and_their_routes_fail_closed() {
    let file =
        fragment("file", "[[routes]]\nname = \"mine\"\npath = \"/mine\"\nservice = \"good@docker\"", false);
    let docker = fragment(
        "docker",
        r#"
        routes = [
          { name = "good", path = "/good", service = "good" },
          { name = "guarded", path = "/guarded", service = "good", middlewares = ["limit"] },
          { name = "typo", path = "/typo", service = "good", middlewares = ["limt"] },
          { name = "lost", path = "/lost", service = "nowhere" },
          { name = "broken", path = "/broken", service = "broken" },
          { name = "badrule", rule = "Hots(`a`)", service = "good" },
        ]
        listeners = { x = { address = ":1" } }
        [services.good]
        urls = ["http://10.0.0.1:80"]
        [services.broken]
        urls = ["10.0.0.1:80"]
        [middlewares.limit.rate_limit]
        requests_per_second = 0
        "#,
        true,
    );
    let outcome =
        load(vec![file, docker], &Around { kinds: &TestKinds, files: &Disk, now: SystemTime::now() });
    let model = outcome.model.as_ref().expect("a live provider's mistakes refuse nothing");
    let target =
        |name: &str| model.routes.iter().find(|route| *route.name == *name).map(|route| route.target.clone());
    assert_eq!(target("mine@file"), Some(Target::Service("good@docker".into())));
    assert_eq!(target("good@docker"), Some(Target::Service("good@docker".into())));
    for name in ["guarded", "typo", "lost", "broken"] {
        let target = target(&format!("{name}@docker"));
        assert!(matches!(target, Some(Target::Quarantined(_))), "{name}: {target:?}");
    }
    assert_eq!(target("badrule@docker"), None, "nobody knows what it would take");
    assert!(!model.listeners.contains_key("x"), "listeners belong to the gateway's own file");
    assert!(!model.middlewares.contains_key("limit@docker") && !model.services.contains_key("broken@docker"));
    let quarantined: Vec<(&str, &str)> = outcome.quarantined.iter().map(|q| (q.what, &*q.name)).collect();
    for expected in [
        ("middleware", "limit@docker"),
        ("service", "broken@docker"),
        ("route", "typo@docker"),
        ("route", "lost@docker"),
    ] {
        assert!(quarantined.contains(&expected), "{expected:?} in {quarantined:?}");
    }
}

#[test]
fn a_reference_to_a_quarantined_object_of_another_provider_fails_closed() {
    let file = fragment(
        "file",
        "[[routes]]\nname = \"mine\"\npath = \"/mine\"\nservice = \"@echo\"\nmiddlewares = [\"auth@docker\"]",
        false,
    );
    let docker = fragment("docker", "[middlewares.auth.rate_limit]\nrequests_per_second = 0", true);
    let outcome =
        load(vec![file, docker], &Around { kinds: &TestKinds, files: &Disk, now: SystemTime::now() });
    let model = outcome.model.unwrap();
    assert!(matches!(model.routes[0].target, Target::Quarantined(_)), "{:?}", model.routes[0].target);
}

#[test]
fn cors_keeps_its_preflights_when_the_route_names_methods() {
    let text = "[middleware]\nenable_cors = true\n[[routes]]\nmethods = [\"GET\"]\nservice = \"@echo\"\n";
    let model = load_text(text, Format::Toml, "x.toml", &NoEnv, &TestKinds).model.unwrap();
    let rule = model.routes[0].rule.to_string();
    assert_eq!(
        rule,
        "Method(`GET`) || Method(`OPTIONS`) && HeaderPresent(`Origin`) && HeaderPresent(`Access-Control-Request-Method`)"
    );
    let without = text.replace("enable_cors = true", "enable_compression = true");
    let model = load_text(&without, Format::Toml, "x.toml", &NoEnv, &TestKinds).model.unwrap();
    assert_eq!(model.routes[0].rule.to_string(), "Method(`GET`)");
}

#[test]
fn ten_thousand_routes_are_judged_in_seconds_even_unoptimised() {
    let mut text = String::from("[services.s]\nurls = [\"http://10.0.0.1:80\"]\n");
    for n in 0..10_000 {
        text.push_str(&format!(
            "[[routes]]\nname = \"r{n}\"\nhosts = [\"h{}.example\"]\npath = \"/p{n}/{{id}}/*\"\nservice = \"s\"\n",
            n % 100
        ));
    }
    let start = std::time::Instant::now();
    let outcome = load_text(&text, Format::Toml, "x.toml", &NoEnv, &TestKinds);
    assert_eq!(codes(&outcome), []);
    assert_eq!(outcome.model.unwrap().routes.len(), 10_000);
    // A bound that only an algorithm of the wrong order misses: it takes about a second on a slow machine.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
