//! Whatever fields arrive: an untrusted peer changes nothing of what the endpoint is told, a trusted one cannot start a
//! field of its own, and nothing that belongs to one hop goes on. Lines of `name: value`; the first byte chooses.
#![no_main]

use std::{net::SocketAddr, sync::Arc, time::Instant};

use libfuzzer_sys::fuzz_target;
use portcullis_core::{
    Connection, Exchange, Known, Protocol, Request,
    exchange::NoLink,
    forwarded::{Trust, receive, send, strip_hop_by_hop},
};
use portcullis_fuzz::fields;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    let (trusted, odd_names) = (choice & 1 != 0, choice & 2 != 0);
    let mut request = Request::new(http::Method::GET);
    request.fields = fields(text.split(|&byte| byte == b'\n').take(64));
    // Its text lies among that of the fields.
    request.set_authority("shop.example:8080");
    let connection = Connection {
        peer: SocketAddr::from(([10, 0, 0, 1], 5000)),
        peer_text: "10.0.0.1".into(),
        local: SocketAddr::from(([10, 0, 0, 9], 80)),
        listener: "web".into(),
        trusted,
        tls: None,
        protocol: Protocol::Http1,
        id: 1,
        prepared: Default::default(),
    };
    let mut x = Exchange::new(request, Arc::new(connection), Arc::new(NoLink), Instant::now());
    let proxies = ["10.0.0.0/8".parse().expect("a network")];
    if receive(&mut x, &Trust { proxies: &proxies, odd_names, gateway: "gw" }).is_err() {
        return;
    }
    strip_hop_by_hop(&mut x.request.fields, choice & 4 != 0);
    send(&mut x, "gw");
    let fields = &x.request.fields;
    assert!(!fields.has_any(Known::HOP_BY_HOP & !Known::Te.bit()));
    let only = |known: Known| {
        let mut values = fields.known_all(known);
        let first = values.next().map(<[u8]>::to_vec);
        assert!(values.next().is_none(), "{known:?} twice");
        first.unwrap_or_default()
    };
    let chain = only(Known::XForwardedFor);
    assert!(chain.ends_with(b"10.0.0.1"));
    assert_eq!(only(Known::XRealIp), x.client.to_string().as_bytes());
    only(Known::XForwardedProto);
    only(Known::XForwardedHost);
    only(Known::XForwardedPort);
    assert!(only(Known::Forwarded).ends_with(b"for=10.0.0.1;proto=http;host=\"shop.example:8080\";by=_gw"));
    if !trusted {
        assert_eq!(chain, b"10.0.0.1");
        assert_eq!((x.client.to_string().as_str(), x.secure), ("10.0.0.1", false));
    }
    if !odd_names {
        assert!(fields.iter().all(|(name, _)| !name.contains(&b'_') && !name.contains(&b'.')));
    }
    let mut out = Vec::new();
    fields.write_to(&mut out);
    assert_eq!(out.split(|&byte| byte == b'\n').count(), fields.len() + 1);
});
