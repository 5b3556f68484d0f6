//! Sticky sessions: a cookie that leads a client back to its endpoint.
//!
//! Its value is a keyed digest of the endpoint's URL, the key being the service's name: opaque, equal on all replicas
//! and after a restart, and different for the same endpoint in another service. It is no secret and gives no right;
//! whoever can guess an address can also check the guess. Lookup copies nothing: sixteen hexadecimal digits are one
//! number, found by binary search. The `Set-Cookie` values are written when the service is compiled.

use std::fmt::Write;

use portcullis_config::model::{SameSite, Sticky as Settings};
use portcullis_core::{Fields, cookie::cookies, endpoint::Endpoint};
use ring::hmac;

/// The stickiness of one service.
///
/// How it is used: take [`Sticky::find`]; if that endpoint is allowed, it is the choice and nothing is set. Else let
/// the strategy choose and append [`Sticky::set_cookie`] of its choice to the answer: so a new client is bound, and one
/// whose endpoint is out is bound anew.
#[derive(Debug)]
pub struct Sticky {
    name: Box<[u8]>,
    /// Token and index of each endpoint, ascending.
    tokens: Box<[(u64, usize)]>,
    set_cookies: Box<[Box<str>]>,
}

impl Sticky {
    /// For the endpoints of a service.
    pub fn new(settings: &Settings, service: &str, endpoints: &[Endpoint]) -> Sticky {
        Sticky::of(settings, service, endpoints.iter().map(|endpoint| &*endpoint.url))
    }

    /// For things with names, of something with a name: the services of a route.
    pub fn of<'a>(settings: &Settings, scope: &str, names: impl Iterator<Item = &'a str>) -> Sticky {
        let key = hmac::Key::new(hmac::HMAC_SHA256, scope.as_bytes());
        let tokens: Vec<u64> =
            names.map(|name| first_eight(hmac::sign(&key, name.as_bytes()).as_ref())).collect();
        let attributes = attributes(settings);
        let set_cookie =
            |token: &u64| format!("{}={token:016x}{attributes}", settings.cookie).into_boxed_str();
        let set_cookies = tokens.iter().map(set_cookie).collect();
        let mut tokens: Box<[(u64, usize)]> = tokens.into_iter().zip(0..).collect();
        tokens.sort_unstable();
        Sticky { name: settings.cookie.as_bytes().into(), tokens, set_cookies }
    }

    /// The endpoint that the request's cookie names, be it in service or not. Of several cookies of this name the
    /// first that names one counts.
    pub fn find(&self, fields: &Fields) -> Option<usize> {
        cookies(fields, &self.name).find_map(|value| {
            let token = parse(value)?;
            let at = self.tokens.partition_point(|(other, _)| *other < token);
            self.tokens.get(at).filter(|(other, _)| *other == token).map(|(_, index)| *index)
        })
    }

    /// The value of the `Set-Cookie` field that binds a client to an endpoint.
    pub fn set_cookie(&self, index: usize) -> Option<&str> {
        self.set_cookies.get(index).map(AsRef::as_ref)
    }
}

fn first_eight(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |token, &byte| token << 8 | u64::from(byte))
}

/// Exactly sixteen lower-case hexadecimal digits.
fn parse(value: &[u8]) -> Option<u64> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(u64::from(byte - b'0')),
        b'a'..=b'f' => Some(u64::from(byte - b'a') + 10),
        _ => None,
    };
    (value.len() == 16).then_some(())?;
    value.iter().try_fold(0, |token, &byte| Some(token << 4 | digit(byte)?))
}

/// What follows name and value (RFC 6265 §4.1.1).
fn attributes(settings: &Settings) -> String {
    let mut text = format!("; Path={}", settings.path);
    // Writing to a string cannot fail.
    if let Some(domain) = &settings.domain {
        let _ = write!(text, "; Domain={domain}");
    }
    if let Some(max_age) = settings.max_age {
        let _ = write!(text, "; Max-Age={max_age}");
    }
    if settings.secure {
        text.push_str("; Secure");
    }
    if settings.http_only {
        text.push_str("; HttpOnly");
    }
    text.push_str(match settings.same_site {
        Some(SameSite::None) => "; SameSite=None",
        Some(SameSite::Lax) => "; SameSite=Lax",
        Some(SameSite::Strict) => "; SameSite=Strict",
        None => "",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::endpoints;

    fn settings() -> Settings {
        Settings {
            cookie: "lb".into(),
            secure: false,
            http_only: false,
            same_site: None,
            max_age: None,
            path: "/".into(),
            domain: None,
        }
    }

    fn value(sticky: &Sticky, index: usize) -> String {
        let text = sticky.set_cookie(index).unwrap();
        text.strip_prefix("lb=").unwrap().split(';').next().unwrap().to_owned()
    }

    fn found(sticky: &Sticky, cookie: &str) -> Option<usize> {
        sticky.find(&[("cookie", cookie)].into_iter().collect())
    }

    #[test]
    fn the_cookie_leads_back_to_its_endpoint() {
        let endpoints = endpoints(&[1; 300]);
        let sticky = Sticky::new(&settings(), "s@file", &endpoints);
        for index in 0..300 {
            assert_eq!(found(&sticky, &format!("a=b; lb={}", value(&sticky, index))), Some(index));
        }
        assert_eq!(sticky.set_cookie(300), None);
    }

    #[test]
    fn the_value_is_opaque_and_the_same_on_every_replica() {
        let endpoints = endpoints(&[1, 1]);
        let sticky = Sticky::new(&settings(), "s@file", &endpoints);
        assert_eq!(sticky.set_cookie(0), Some("lb=a39310a93e8b6d48; Path=/"));
        let mut reversed = testing_reversed(&endpoints);
        let other = Sticky::new(&settings(), "s@file", &reversed);
        assert_eq!((value(&sticky, 0), value(&sticky, 1)), (value(&other, 1), value(&other, 0)));
        reversed.clear();
        assert_ne!(value(&sticky, 0), value(&Sticky::new(&settings(), "t@file", &endpoints), 0));
    }

    fn testing_reversed(endpoints: &[Endpoint]) -> Vec<Endpoint> {
        let copy = |e: &Endpoint| Endpoint {
            url: e.url.clone(),
            weight: e.weight,
            hash: e.hash,
            state: e.state.clone(),
        };
        endpoints.iter().rev().map(copy).collect()
    }

    #[test]
    fn foreign_and_forged_values_are_passed_over() {
        let sticky = Sticky::new(&settings(), "s@file", &endpoints(&[1, 1]));
        let good = value(&sticky, 1);
        for bad in ["", "0", "0000000000000000", &good[1..], &format!("{good}0"), &good.to_uppercase()] {
            assert_eq!(found(&sticky, &format!("lb={bad}")), None, "{bad}");
            assert_eq!(found(&sticky, &format!("lb={bad}; lb={good}")), Some(1), "{bad}");
        }
        assert_eq!(found(&sticky, &format!("LB={good}")), None);
        assert_eq!(sticky.find(&Fields::new()), None);
    }

    #[test]
    fn all_attributes_are_written() {
        let settings = Settings {
            secure: true,
            http_only: true,
            same_site: Some(SameSite::Strict),
            max_age: Some(3600),
            path: "/app".into(),
            domain: Some("example.com".into()),
            ..settings()
        };
        let sticky = Sticky::new(&settings, "s", &endpoints(&[1]));
        let text = sticky.set_cookie(0).unwrap();
        let attributes = "; Path=/app; Domain=example.com; Max-Age=3600; Secure; HttpOnly; SameSite=Strict";
        assert!(text.ends_with(attributes), "{text}");
    }
}
