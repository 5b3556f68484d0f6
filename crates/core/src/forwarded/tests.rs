//! What is believed, what is taken away, what is written.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::Method;

use super::*;
use crate::{
    Request,
    exchange::{Connection, NoLink, Protocol, TlsFacts},
};

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// From 10.0.0.1, trusted or not, with these fields.
fn exchange(trusted: bool, fields: &[(&str, &str)]) -> Exchange {
    from("10.0.0.1:5000".parse().unwrap(), trusted, false, fields)
}

fn from(peer: SocketAddr, trusted: bool, tls: bool, fields: &[(&str, &str)]) -> Exchange {
    let mut request = Request::new(Method::GET);
    request.set_authority("shop.example:8080");
    fields.iter().for_each(|(name, value)| request.fields.append(name, value));
    let connection = Connection {
        peer,
        peer_text: peer.ip().to_string().into(),
        local: "10.0.0.9:80".parse().unwrap(),
        listener: "web".into(),
        trusted,
        tls: tls.then(TlsFacts::default),
        protocol: Protocol::Http1,
        id: 1,
        prepared: Default::default(),
    };
    Exchange::new(request, Arc::new(connection), Arc::new(NoLink), Instant::now())
}

fn arrive(x: &mut Exchange) {
    let proxies = nets(&["10.0.0.0/8", "2001:db8::/32"]);
    receive(x, &Trust { proxies: &proxies, odd_names: false, gateway: "gw" }).unwrap();
}

fn field(x: &Exchange, name: &str) -> Option<String> {
    let values: Vec<_> =
        x.request.fields.get_all(name).map(|v| String::from_utf8_lossy(v).into_owned()).collect();
    (!values.is_empty()).then(|| values.join(" | "))
}

#[test]
fn the_client_is_the_rightmost_untrusted_address() {
    let cases = [
        ("1.1.1.1", "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1, 10.2.0.1, 10.3.0.1", "1.1.1.1"),
        ("10.5.0.1, 10.6.0.1", "10.5.0.1"),
        ("6.6.6.6, nonsense, 10.2.0.1", "10.2.0.1"),
        ("6.6.6.6, nonsense", "10.0.0.1"),
        ("", "10.0.0.1"),
        ("1.1.1.1,", "10.0.0.1"),
        ("1.1.1.1:443,[2001:db8::5]:80", "1.1.1.1"),
        ("2a00::7,10.0.0.4", "2a00::7"),
        ("::ffff:10.0.0.3, ::ffff:9.9.9.9, ::ffff:10.0.0.4", "9.9.9.9"),
    ];
    for (value, client) in cases {
        let mut x = exchange(true, &[("X-Forwarded-For", value)]);
        arrive(&mut x);
        assert_eq!(x.client, client.parse::<std::net::IpAddr>().unwrap(), "{value}");
        // The same over several fields.
        let parts: Vec<(&str, &str)> = value.split(',').map(|part| ("x-forwarded-for", part)).collect();
        let mut x = exchange(true, &parts);
        arrive(&mut x);
        assert_eq!(x.client.to_string(), client, "{value} in parts");
    }
}

#[test]
fn an_untrusted_peer_says_nothing() {
    let lies = [
        ("X-Forwarded-For", "1.1.1.1"),
        ("Forwarded", "for=1.1.1.1;proto=https"),
        ("X-Real-IP", "1.1.1.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-Prefix", "/x"),
        ("X-Forwarded-Uri", "/x"),
        ("X-Forwarded-Tls-Client-Cert", "x"),
        ("X-Consumer-Username", "root"),
        ("X-Scheme", "https"),
        ("x_forwarded_for", "1.1.1.1"),
        ("X.Real.IP", "1.1.1.1"),
        ("X_Forwarded-Tls.Client_Cert", "x"),
    ];
    for odd_names in [false, true] {
        let mut x = exchange(false, &lies);
        x.request.fields.append("accept", "*/*");
        receive(&mut x, &Trust { proxies: &[], odd_names, gateway: "gw" }).unwrap();
        assert_eq!((x.client.to_string().as_str(), x.secure), ("10.0.0.1", false));
        assert_eq!(x.request.fields.len(), 1, "{:?}", x.request.fields);
    }
}

#[test]
fn odd_names_go_unless_they_are_allowed_and_aliases_always() {
    let fields =
        [("my_field", "1"), ("a.b", "2"), ("Content_Length", "9"), ("x_request_id", "3"), ("ok", "4")];
    for trusted in [false, true] {
        let mut x = exchange(trusted, &fields);
        receive(&mut x, &Trust { proxies: &[], odd_names: false, gateway: "gw" }).unwrap();
        assert_eq!(x.request.fields.len(), 1);
        let mut x = exchange(trusted, &fields);
        receive(&mut x, &Trust { proxies: &[], odd_names: true, gateway: "gw" }).unwrap();
        let names: Vec<_> = x.request.fields.iter().map(|(name, _)| name.to_vec()).collect();
        assert_eq!(names, [&b"my_field"[..], b"a.b", b"ok"]);
    }
}

#[test]
fn forwarded_is_read_when_it_stands_alone() {
    let value =
        "for=6.6.6.6;proto=http, For=\"[2a00::7]:99\";proto=https;host=\"shop.example\", for=10.0.0.7";
    let mut x = exchange(true, &[("Forwarded", value)]);
    arrive(&mut x);
    assert_eq!((x.client.to_string().as_str(), x.secure), ("2a00::7", true));
    assert_eq!(field(&x, "x-forwarded-host").as_deref(), Some("shop.example"));
    // Beside X-Forwarded-For it is dropped: the proxy that writes the one passes the other on unread.
    let mut x = exchange(true, &[("Forwarded", value), ("X-Forwarded-For", "9.9.9.9")]);
    arrive(&mut x);
    assert_eq!((x.client.to_string().as_str(), field(&x, "forwarded")), ("9.9.9.9", None));
    for bad in ["for=\"1.1.1.1", "for=1.1.1.1;for=2.2.2.2", "for=unknown", "garbage", "for=\"::1\""] {
        let mut x = exchange(true, &[("Forwarded", bad)]);
        arrive(&mut x);
        assert_eq!(x.client.to_string(), "10.0.0.1", "{bad}");
    }
}

#[test]
fn scheme_and_host_are_those_of_the_clients_hop() {
    let read = |fields: &[(&str, &str)]| {
        let mut x = exchange(true, fields);
        arrive(&mut x);
        (x.secure, field(&x, "x-forwarded-host"))
    };
    let chain = ("X-Forwarded-For", "6.6.6.6, 1.1.1.1, 10.0.0.7");
    assert!(read(&[chain, ("X-Forwarded-Proto", "https")]).0);
    assert!(read(&[chain, ("X-Forwarded-Proto", "http, HTTPS, http")]).0);
    assert!(!read(&[chain, ("X-Forwarded-Proto", "https, http, https")]).0);
    assert!(!read(&[chain, ("X-Forwarded-Proto", "https, https")]).0);
    assert!(!read(&[chain, ("X-Forwarded-Proto", "gopher")]).0);
    assert_eq!(read(&[chain, ("X-Forwarded-Host", "x, y.example, z")]).1.as_deref(), Some("y.example"));
    assert_eq!(read(&[chain, ("X-Forwarded-Host", "a b")]).1, None);
    assert!(read(&[("X-Forwarded-Proto", "https")]).0);
    let mut x = exchange(true, &[("X-Real-IP", "7.7.7.7")]);
    arrive(&mut x);
    assert_eq!(x.client.to_string(), "7.7.7.7");
}

#[test]
fn a_direct_request_is_described() {
    let mut x = from("[2a00::7]:5".parse().unwrap(), false, true, &[("accept", "*/*"), ("via", "1.0 old")]);
    arrive(&mut x);
    send(&mut x, "gw");
    assert_eq!(field(&x, "x-forwarded-for").as_deref(), Some("2a00::7"));
    assert_eq!(field(&x, "x-real-ip").as_deref(), Some("2a00::7"));
    assert_eq!(field(&x, "x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(field(&x, "x-forwarded-host").as_deref(), Some("shop.example:8080"));
    assert_eq!(field(&x, "x-forwarded-port").as_deref(), Some("8080"));
    let forwarded = "for=\"[2a00::7]\";proto=https;host=\"shop.example:8080\";by=_gw";
    assert_eq!(field(&x, "forwarded").as_deref(), Some(forwarded));
    assert_eq!(field(&x, "via").as_deref(), Some("1.0 old | 1.1 gw"));
    let mut out = Vec::new();
    x.request.fields.write_to(&mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with("accept: */*\r\nvia: 1.0 old\r\nX-Forwarded-For: 2a00::7\r\nX-Real-IP"),
        "{text}"
    );
    assert!(text.ends_with("\r\nVia: 1.1 gw\r\n"), "{text}");
}

#[test]
fn a_chain_is_carried_on() {
    let chain = "x, 1.1.1.1, 10.0.0.7";
    let mut x = exchange(
        true,
        &[("X-Forwarded-For", chain), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "8443")],
    );
    arrive(&mut x);
    send(&mut x, "gw");
    assert_eq!(field(&x, "x-forwarded-for").as_deref(), Some("x, 1.1.1.1, 10.0.0.7, 10.0.0.1"));
    assert_eq!(field(&x, "x-real-ip").as_deref(), Some("1.1.1.1"));
    assert_eq!(field(&x, "x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(field(&x, "x-forwarded-port").as_deref(), Some("8443"));
    assert_eq!(
        field(&x, "forwarded").as_deref(),
        Some(
            "for=unknown, for=1.1.1.1;proto=https, for=10.0.0.7, \
             for=10.0.0.1;proto=http;host=\"shop.example:8080\";by=_gw"
        )
    );
    // And from Forwarded to both.
    let mut x = exchange(true, &[("Forwarded", "for=1.1.1.1;proto=https")]);
    arrive(&mut x);
    send(&mut x, "gw");
    assert_eq!(field(&x, "x-forwarded-for").as_deref(), Some("1.1.1.1, 10.0.0.1"));
    assert!(field(&x, "forwarded").unwrap().starts_with("for=1.1.1.1;proto=https, for=10.0.0.1;proto=http;"));
}

#[test]
fn no_scheme_of_the_connection_is_believed_over_the_peers() {
    let mut x = from("10.0.0.1:1".parse().unwrap(), true, true, &[("X-Forwarded-Proto", "http")]);
    arrive(&mut x);
    assert!(!x.secure);
}

#[test]
fn a_loop_is_found_after_some_rounds() {
    let via = |times: usize| vec![("Via", "1.1 other, 1.1 GW"); times];
    let trust = Trust { proxies: &[], odd_names: false, gateway: "gw" };
    assert!(receive(&mut exchange(false, &via(MAX_PASSES - 1)), &trust).is_ok());
    assert_eq!(receive(&mut exchange(false, &via(MAX_PASSES)), &trust).unwrap_err().kind, Kind::Loop);
    assert_eq!(passes(&via(3).into_iter().collect(), "g"), 0);
}

#[test]
fn hop_by_hop_fields_end_here() {
    let mut fields: Fields = [
        ("Connection", "close, X-Mine ,upgrade, x-forwarded-for, Authorization, host, Cookie, Content-Type"),
        ("connection", "Content-Foo, X-Consumer-Id"),
        ("Keep-Alive", "1"),
        ("TE", "gzip, trailers"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "x"),
        ("Proxy-Authorization", "x"),
        ("x-mine", "1"),
        ("X-MINE", "2"),
        ("X-Forwarded-For", "1.1.1.1"),
        ("Authorization", "x"),
        ("Cookie", "x"),
        ("Content-Type", "x"),
        ("Content-Foo", "x"),
        ("X-Consumer-Id", "x"),
        ("close", "a field of that name"),
        ("accept", "*/*"),
    ]
    .into_iter()
    .collect();
    strip_hop_by_hop(&mut fields, true);
    let names: Vec<_> = fields.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(
        names,
        [
            "X-Forwarded-For",
            "Authorization",
            "Cookie",
            "Content-Type",
            "Content-Foo",
            "X-Consumer-Id",
            "close",
            "accept",
            "te"
        ]
    );
    assert_eq!(fields.get("te"), Some(&b"trailers"[..]));
    strip_hop_by_hop(&mut fields, false);
    assert_eq!(fields.get("te"), None);
}

/// Whatever an untrusted client sends, the endpoint is told the truth, and told it once.
#[test]
fn nothing_an_untrusted_client_sends_changes_what_is_said() {
    let names = [
        "X-Forwarded-For",
        "x_forwarded_for",
        "Forwarded",
        "X-Real-IP",
        "x.real.ip",
        "X-Forwarded-Host",
        "Via",
    ];
    let values = ["1.1.1.1", "for=1.1.1.1", "\"", "", "a, b", "https", "gw"];
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..5_000 {
        let fields: Vec<(&str, &str)> = (0..random.usize(..6))
            .map(|_| (names[random.usize(..names.len())], values[random.usize(..values.len())]))
            .collect();
        let mut x = exchange(false, &fields);
        arrive(&mut x);
        send(&mut x, "gw");
        assert_eq!(field(&x, "x-forwarded-for").as_deref(), Some("10.0.0.1"), "{fields:?}");
        assert_eq!(field(&x, "x-real-ip").as_deref(), Some("10.0.0.1"), "{fields:?}");
        assert_eq!(field(&x, "x-forwarded-host").as_deref(), Some("shop.example:8080"), "{fields:?}");
        let forwarded = "for=10.0.0.1;proto=http;host=\"shop.example:8080\";by=_gw";
        assert_eq!(field(&x, "forwarded").as_deref(), Some(forwarded), "{fields:?}");
    }
}

#[test]
fn an_untrusted_peers_request_id_is_taken_aside() {
    let mut x =
        exchange(false, &[("X-Request-ID", "mine"), ("X_Request_Id", "mine"), ("x.request.id", "mine")]);
    arrive(&mut x);
    assert!(x.request.fields.is_empty(), "{:?}", x.request.fields);
    assert_eq!(x.claimed_id.as_deref(), Some("mine"));
    let mut doubled = exchange(false, &[("X-Request-Id", "a"), ("X-Request-Id", "b")]);
    arrive(&mut doubled);
    assert!(doubled.request.fields.is_empty() && doubled.claimed_id.is_none());
    let mut trusted = exchange(true, &[("X-Request-Id", "theirs")]);
    arrive(&mut trusted);
    assert_eq!(field(&trusted, "x-request-id").as_deref(), Some("theirs"));
}

/// CVE-2016-5385 ("httpoxy"): not even a proxy that we trust has a use for it.
#[test]
fn proxy_is_no_field() {
    for trusted in [false, true] {
        let mut x = exchange(trusted, &[("Proxy", "http://evil"), ("pRoXy", "b"), ("X-Proxy", "kept")]);
        arrive(&mut x);
        assert_eq!(field(&x, "proxy"), None);
        assert_eq!(field(&x, "x-proxy").as_deref(), Some("kept"));
    }
}
