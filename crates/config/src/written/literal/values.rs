//! The literals themselves: durations, sizes, shares, addresses, names.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;
use schemars::{Schema, json_schema};

use super::Literal;
use crate::{
    model::StatusRange,
    scalar::{self, Problem},
};

/// Bytes: `512`, `"32 KiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A share between 0 and 1: `0.2`, `"20%"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(pub f64);

/// A size, or `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaybeSize(pub Option<u64>);

/// How long a cookie lives, in seconds: a duration, or a number as cookies have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieAge(pub i64);

/// The name of a header field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldName(pub String);

/// A method, upper-cased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodName(pub String);

/// A host: exact, `*.example.com`, or `*`.
#[derive(Debug, Clone, PartialEq)]
pub struct HostPattern(pub crate::rule::Matcher);

impl Literal for Duration {
    const EXPECTED: &'static str = "a duration such as \"10s\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::duration(text)
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::duration(&value.to_string()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "duration", "examples": ["10s", "1m30s", "250ms"] })
    }
}

impl Literal for CookieAge {
    const EXPECTED: &'static str = "a duration such as \"1h\", or seconds";

    fn text(text: &str) -> Result<Self, Problem> {
        if let Ok(seconds) = text.trim().parse() {
            return CookieAge::of(seconds);
        }
        // Cookies know whole seconds only; what is shorter would end with the session.
        let age = scalar::duration(text)?;
        let seconds = age.as_secs() + u64::from(age.subsec_nanos() > 0);
        CookieAge::of(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(CookieAge::of(value))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "title": "duration", "examples": ["1h", 3600] })
    }
}

impl CookieAge {
    fn of(seconds: i64) -> Result<Self, Problem> {
        if seconds < 0 {
            return Err(Problem::new(
                "a cookie cannot be older than new",
                "a time such as 1h, seconds, or 0 for the browser's session",
            ));
        }
        Ok(CookieAge(seconds))
    }
}

impl Literal for Size {
    const EXPECTED: &'static str = "a size such as \"32 KiB\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::size(text).map(Size)
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::size(&value.to_string()).map(Size))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "title": "size", "examples": ["32 KiB", "10kB", 512] })
    }
}

impl Literal for MaybeSize {
    const EXPECTED: &'static str = "a size such as \"100 MiB\", or \"unlimited\"";

    fn text(text: &str) -> Result<Self, Problem> {
        if text.eq_ignore_ascii_case("unlimited") {
            return Ok(MaybeSize(None));
        }
        scalar::size(text).map(|size| MaybeSize(Some(size)))
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::size(&value.to_string()).map(|size| MaybeSize(Some(size))))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "title": "size or \"unlimited\"", "examples": ["100 MiB", "unlimited"] })
    }
}

impl Literal for Ratio {
    const EXPECTED: &'static str = "a share such as \"20%\" or 0.2";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::ratio(text).map(Ratio)
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::ratio_number(value as f64).map(Ratio))
    }

    fn float(value: f64) -> Option<Result<Self, Problem>> {
        Some(scalar::ratio_number(value).map(Ratio))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number"], "title": "share", "examples": ["20%", 0.2] })
    }
}

impl Literal for SocketAddr {
    const EXPECTED: &'static str = "an address such as \"0.0.0.0:8080\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::address(text)
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::address(&value.to_string()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "address", "examples": ["0.0.0.0:8080", "[::]:443", ":8080"] })
    }
}

impl Literal for IpNet {
    const EXPECTED: &'static str = "an address range such as \"10.0.0.0/8\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::net(text)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "address range", "examples": ["10.0.0.0/8", "192.168.1.7", "fd00::/8"] })
    }
}

impl Literal for StatusRange {
    const EXPECTED: &'static str = "a status such as 404, \"5xx\" or \"500-504\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::statuses(text)
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::statuses(&value.to_string()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "title": "status", "examples": [404, "5xx", "500-504"] })
    }
}

impl Literal for FieldName {
    const EXPECTED: &'static str = "the name of a header";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::header_name(text).map(|name| FieldName(name.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "header name" })
    }
}

impl Literal for MethodName {
    const EXPECTED: &'static str = "a method such as \"GET\"";

    fn text(text: &str) -> Result<Self, Problem> {
        scalar::method(text).map(MethodName)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "method", "examples": ["GET", "POST"] })
    }
}

impl Literal for HostPattern {
    const EXPECTED: &'static str = "a host such as \"example.com\" or \"*.example.com\"";

    fn text(text: &str) -> Result<Self, Problem> {
        crate::rule::matcher::host(text).map(HostPattern)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "host", "examples": ["example.com", "*.example.com"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_lives_for_a_time_or_for_seconds() {
        let seconds = |text: &str| CookieAge::text(text).ok().map(|age| age.0);
        assert_eq!(seconds("1h"), Some(3600));
        assert_eq!(seconds("3600"), Some(3600), "the value of a variable");
        assert_eq!(seconds("1500ms"), Some(2), "not shorter than was asked for");
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(CookieAge::integer(60).and_then(Result::ok), Some(CookieAge(60)));
        for bad in ["-1", "long", ""] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
