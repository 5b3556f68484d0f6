//! The small values of a configuration and of the command line, and the `.env` file: nothing panics, bounds hold, and
//! what is accepted is stable.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use portcullis_config::{
    document::{DotEnv, Env},
    scalar,
};

fuzz_target!(|text: &str| {
    if let Ok(duration) = scalar::duration(text) {
        assert!(duration.as_secs() <= 100 * 365 * 24 * 3600);
        // Nanoseconds are exact up to 2^53 of them.
        if duration.as_nanos() < 1 << 53 {
            assert_eq!(scalar::duration(&format!("{}ns", duration.as_nanos())), Ok(duration));
        }
    }
    if let Ok(size) = scalar::size(text) {
        assert_eq!(scalar::size(&size.to_string()), Ok(size));
    }
    if let Ok(ratio) = scalar::ratio(text) {
        assert!((0.0..=1.0).contains(&ratio));
        assert_eq!(scalar::ratio(&ratio.to_string()), Ok(ratio));
    }
    if let Ok(address) = scalar::address(text) {
        assert_eq!(scalar::address(&address.to_string()), Ok(address));
    }
    if let Ok(net) = scalar::net(text) {
        assert_eq!(scalar::net(&net.to_string()), Ok(net));
    }
    if let Ok(range) = scalar::statuses(text) {
        assert!(100 <= range.from && range.from <= range.to && range.to <= 599);
    }
    if let Ok(host) = scalar::host(text) {
        assert_eq!(scalar::host(&host).as_ref(), Ok(&host));
        assert!(!host.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_whitespace() || b == b'/'));
    }
    if let Ok(value) = scalar::header_value(text) {
        assert!(!value.contains(['\r', '\n', '\0']));
    }
    if let Ok(name) = scalar::header_name(text) {
        assert!(name.parse::<http::HeaderName>().is_ok());
    }
    if let Ok(method) = scalar::method(text) {
        assert!(method.parse::<http::Method>().is_ok());
    }
    let _ = scalar::name(text);
    let none = BTreeMap::new();
    let (env, bad) = DotEnv::new(&none, text);
    let lines = text.lines().count();
    assert!(bad.iter().all(|&line| 1 <= line && line <= lines), "{bad:?} of {lines}");
    let _ = env.get("A");
});
