//! Small values as people write them: durations, sizes, ratios, addresses, names. Each is read once, strictly,
//! and an error says what would be right.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

use crate::model::StatusRange;

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty.
    pub help: String,
}

impl Problem {
    /// A problem with what is wrong and what would be right.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// Longest duration accepted: a hundred years, so that adding one to an instant never overflows.
const MAX_NANOS: f64 = 100.0 * 365.0 * 24.0 * 3600.0 * 1e9;

/// `10s`, `1m30s`, `250ms`, `2h`, `1.5s`, `0`; units ns, us, ms, s, m, h, d.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    const HELP: &str = "write a number with a unit: 250ms, 10s, 1m30s, 2h";
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    let bad = || Problem::new(format!("`{text}` is not a duration"), HELP);
    let mut rest = trimmed;
    // Not seconds: a whole number of any unit stays whole (up to 2^53 ns, some hundred days).
    let mut nanos = 0.0_f64;
    let mut previous = f64::INFINITY;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let value: f64 = number.parse().map_err(|_| bad())?;
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(letters).ok_or_else(bad)?;
        let factor = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" | "sec" | "secs" | "second" | "seconds" => 1e9,
            "m" | "min" | "mins" | "minute" | "minutes" => 60e9,
            "h" | "hour" | "hours" => 3600e9,
            "d" | "day" | "days" => 86400e9,
            "" => {
                // After other units a number alone may stand for anything; only a lone one has an obvious reading.
                let help = if trimmed.parse::<f64>().is_ok() {
                    format!("write `{trimmed}s` for seconds, `{trimmed}ms` for milliseconds")
                } else {
                    HELP.to_owned()
                };
                return Err(Problem::new(format!("`{text}` has no unit"), help));
            }
            _ => return Err(Problem::new(format!("unknown unit `{unit}` in `{text}`"), HELP)),
        };
        if factor >= previous {
            return Err(Problem::new(format!("the units of `{text}` are out of order"), HELP));
        }
        previous = factor;
        nanos += value * factor;
        rest = next.trim_start();
    }
    if nanos > MAX_NANOS {
        return Err(Problem::new(format!("`{text}` is too long"), "at most 100 years"));
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// `1 MiB`, `10kb`, `512`; powers of 1024 for KiB/MiB/GiB/TiB, of 1000 for kB/MB/GB/TB, in any case.
pub fn size(text: &str) -> Result<u64, Problem> {
    const HELP: &str = "write bytes, or a number with a unit: 512, 10kB, 32 KiB, 1 MiB";
    let bad = || Problem::new(format!("`{text}` is not a size"), HELP);
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at_checked(digits).ok_or_else(bad)?;
    let value: f64 = number.replace('_', "").parse().map_err(|_| bad())?;
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" | "byte" | "bytes" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "t" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(bad()),
    };
    let bytes = value * factor;
    if bytes > 9e15 {
        return Err(Problem::new(format!("`{text}` is too large"), "at most 8000 TiB"));
    }
    if bytes.fract() != 0.0 {
        return Err(Problem::new(format!("`{text}` is not a whole number of bytes"), HELP));
    }
    Ok(bytes as u64)
}

/// `20%` or `0.2`: 0 to 1.
pub fn ratio(text: &str) -> Result<f64, Problem> {
    let trimmed = text.trim();
    let (number, divisor) = match trimmed.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (trimmed, 1.0),
    };
    match number.parse::<f64>() {
        Ok(value) if divisor == 1.0 => ratio_number(value),
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value / divisor),
        Ok(_) => Err(Problem::new(format!("`{text}` is not between 0% and 100%"), "write 20% or 0.2")),
        Err(_) => Err(Problem::new(format!("`{text}` is not a share"), "write 20% or 0.2")),
    }
}

/// A share as a number: 0 to 1.
pub fn ratio_number(value: f64) -> Result<f64, Problem> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    let help = if (1.0..=100.0).contains(&value) {
        format!("write `{value}%`")
    } else {
        "write 20% or 0.2".to_owned()
    };
    Err(Problem::new(format!("{value} is not between 0 and 1"), help))
}

/// `0.0.0.0:443`, `[::]:80`, `:8080` (every address), `localhost:3000`. No other name: a listener never asks DNS.
pub fn address(text: &str) -> Result<SocketAddr, Problem> {
    const HELP: &str =
        "write address:port, such as 0.0.0.0:8080, [::]:8080, localhost:8080, or :8080 for every address";
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        let help = match text.parse::<u16>() {
            Ok(_) => format!("write `:{text}` for every address, or 127.0.0.1:{text}"),
            Err(_) => HELP.to_owned(),
        };
        return Err(Problem::new(format!("`{text}` has no port"), help));
    };
    let port = port_of(port, text)?;
    if host.contains(':') && !host.starts_with('[') {
        return Err(Problem::new(format!("the IPv6 address in `{text}` needs brackets"), HELP));
    }
    match host {
        "" | "*" => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        _ => Ok(SocketAddr::new(bind_host(host)?, port)),
    }
}

/// The host of a listener: an IP address or `localhost`.
pub fn bind_host(host: &str) -> Result<IpAddr, Problem> {
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse().map_err(|_| {
        Problem::new(
            format!("`{host}` is not an IP address"),
            "write an address of this machine, 0.0.0.0 for all, or localhost",
        )
    })
}

fn port_of(port: &str, whole: &str) -> Result<u16, Problem> {
    let plain = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    port.parse().ok().filter(|_| plain).ok_or_else(|| {
        Problem::new(format!("`{port}` in `{whole}` is not a port"), "a port is a number up to 65535")
    })
}

/// `10.0.0.0/8`, `192.168.1.7`, `fd00::/8`. Bits below the mask are dropped.
pub fn net(text: &str) -> Result<IpNet, Problem> {
    const HELP: &str = "write an address such as 10.1.2.3 or a range such as 10.0.0.0/8, fd00::/8";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text
        .parse()
        .map_err(|_| Problem::new(format!("`{text}` is not an address or a range of addresses"), HELP))?;
    Ok(net.trunc())
}

/// `404`, `5xx`, `500-504`.
pub fn statuses(text: &str) -> Result<StatusRange, Problem> {
    const HELP: &str = "write a status (404), a class (5xx) or a range (500-504)";
    let bad = || Problem::new(format!("`{text}` is not a status"), HELP);
    let trimmed = text.trim();
    if let [class @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] = trimmed.as_bytes() {
        let from = u16::from(class - b'0') * 100;
        return Ok(StatusRange { from, to: from + 99 });
    }
    let one = |part: &str| {
        let part = part.trim();
        let plain = part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u16>().ok().filter(|status| plain && (100..=599).contains(status)).ok_or_else(bad)
    };
    let (from, to) = match trimmed.split_once('-') {
        Some((from, to)) => (one(from)?, one(to)?),
        None => (one(trimmed)?, one(trimmed)?),
    };
    if from > to {
        return Err(Problem::new(format!("`{text}` runs backwards"), format!("write {to}-{from}")));
    }
    Ok(StatusRange { from, to })
}

/// A token of RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A field name (RFC 9110 §5.1), as written.
pub fn header_name(text: &str) -> Result<&str, Problem> {
    if is_token(text) {
        return Ok(text);
    }
    let help = "a header name is made of letters, digits and `-`";
    Err(Problem::new(format!("`{text}` is not a header name"), help))
}

/// A field value (RFC 9110 §5.5): no control characters, no blank at either end.
pub fn header_value(text: &str) -> Result<&str, Problem> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Problem::new("a header value cannot hold control characters", "write it on one line"));
    }
    if text.trim_matches([' ', '\t']).len() != text.len() {
        return Err(Problem::new(format!("`{text}` starts or ends with a blank"), "take the blank away"));
    }
    Ok(text)
}

/// A method (RFC 9110 §9.1), upper-cased as the rule language has it.
pub fn method(text: &str) -> Result<String, Problem> {
    if is_token(text) {
        return Ok(text.to_ascii_uppercase());
    }
    Err(Problem::new(format!("`{text}` is not a method"), "write GET, POST, PUT, DELETE …"))
}

/// A host without port: lower-case, without the trailing dot. Names in ASCII (punycode), IPv6 in brackets.
pub fn host(text: &str) -> Result<String, Problem> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<std::net::Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() {
        return Err(Problem::new("an empty host", "write a name such as example.com"));
    }
    if !name.is_ascii() {
        let help = "write it in punycode (xn--…)";
        return Err(Problem::new(format!("the host `{text}` is not ASCII"), help));
    }
    if name.contains('*') {
        let message = format!("a wildcard cannot stand there in `{text}`");
        return Err(Problem::new(
            message,
            "write `*.example.com` for exactly one label, or `*` for every host",
        ));
    }
    if name.contains("://") || name.contains('/') {
        return Err(Problem::new(
            format!("`{text}` is not a host"),
            "write the name alone, without scheme and path",
        ));
    }
    if let Some((before, port)) = name.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(Problem::new(
            format!("the host `{text}` names a port"),
            format!("write `{before}`; the port never takes part"),
        ));
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        let help = "a host is made of letters, digits and `-`, in labels between dots";
        return Err(Problem::new(format!("`{text}` is not a host"), help));
    }
    Ok(name)
}

/// A regular expression that compiles (the `regex` crate, RE2's syntax).
pub fn regex(text: &str) -> Result<(), Problem> {
    match regex::Regex::new(text) {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(Problem::new("the regular expression is too large", "use smaller counts in `{…}`"))
        }
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            let place = place_in_regex(&text).map(|at| format!(" at character {at}")).unwrap_or_default();
            let help = if reason.contains("look-around") || reason.contains("backreference") {
                "look-around and back-references are not part of RE2's syntax"
            } else {
                "RE2 syntax, as documented at docs.rs/regex#syntax"
            };
            Err(Problem::new(format!("the regular expression is wrong{place}: {reason}"), help))
        }
    }
}

/// Where the caret of an error's display points, from 1; the expression stands on the line before it.
fn place_in_regex(display: &str) -> Option<usize> {
    const INDENT: usize = 4;
    let mut carets = display
        .lines()
        .filter(|line| line.trim_start().starts_with('^') && line.trim_matches([' ', '^']).is_empty());
    let caret = carets.next().filter(|_| carets.next().is_none())?;
    // The display of an expression of several lines numbers them; a position within it would mislead.
    let column = caret.find('^')?.checked_sub(INDENT)?;
    display.lines().nth(1).is_some_and(|line| line.starts_with("    ")).then_some(column + 1)
}

/// A name of a listener, route, service or middleware: letters, digits, `_`, `-`, `.`.
pub fn name(text: &str) -> Result<(), Problem> {
    if text.is_empty() {
        return Err(Problem::new("an empty name", "give it a name"));
    }
    if text.contains('@') {
        let help = "`@` stands between a name and its provider; choose a name without it";
        return Err(Problem::new(format!("the name `{text}` holds `@`"), help));
    }
    if text.len() > 128 || !text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')) {
        let help = "use letters, digits, `_`, `-` and `.`, at most 128 bytes";
        return Err(Problem::new(format!("`{text}` cannot be a name"), help));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("250ms", 250),
            ("2h", 7_200_000),
            ("1.5s", 1_500),
            ("0", 0),
            ("0s", 0),
            ("1 min", 60_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "10", "s", "-1s", "1x", "1s1m", "1s1s", "1e3s", "1..5s", "999999999h", "ten"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        // Found by fuzzing: through seconds this was one nanosecond more.
        assert_eq!(duration("7603200000000000ns"), duration("88d"));
        assert_eq!(duration("88d"), Ok(Duration::from_secs(88 * 86_400)));
        assert_eq!(duration("30").unwrap_err().help, "write `30s` for seconds, `30ms` for milliseconds");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512", 512),
            ("1 MiB", 1 << 20),
            ("10kb", 10_000),
            ("32KiB", 32 << 10),
            ("1.5 KiB", 1536),
            ("1k", 1024),
            ("0", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MiB", "-1", "1 XB", "0.3", "99999999 TiB", "1 2"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ratios() {
        assert_eq!(ratio("20%"), Ok(0.2));
        assert_eq!(ratio("0.2"), Ok(0.2));
        assert_eq!(ratio("100 %"), Ok(1.0));
        for bad in ["20", "-1%", "101%", "x", "", "NaN", "inf"] {
            assert!(ratio(bad).is_err(), "{bad}");
        }
        assert_eq!(ratio("20").unwrap_err().help, "write `20%`");
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            (":8080", "0.0.0.0:8080"),
            ("0.0.0.0:443", "0.0.0.0:443"),
            ("[::]:80", "[::]:80"),
            ("localhost:3000", "127.0.0.1:3000"),
        ] {
            assert_eq!(address(text).map(|a| a.to_string()), Ok(expected.to_owned()));
        }
        for bad in ["8080", "example.com:80", "::1:80", ":", ":x", ":+80", "1.2.3.4:70000", ""] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn status_ranges() {
        assert_eq!(statuses("5xx"), Ok(StatusRange { from: 500, to: 599 }));
        assert_eq!(statuses("404"), Ok(StatusRange { from: 404, to: 404 }));
        assert_eq!(statuses("500-504"), Ok(StatusRange { from: 500, to: 504 }));
        for bad in ["", "6xx", "99", "600", "504-500", "5x", "x", "4044"] {
            assert!(statuses(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(host("API.Example.Com."), Ok("api.example.com".into()));
        assert_eq!(host("::1"), Ok("[::1]".into()));
        for bad in ["", ".", "a..b", "a b", "a:80", "http://a", "ü.de", "*.a", "a/b", "-.-*"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nets_forget_host_bits_and_names_are_plain() {
        assert_eq!(net("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert_eq!(net("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert!(net("10.0.0.0/33").is_err());
        assert!(name("a-b_c.d").is_ok());
        assert!(name("a@b").is_err() && name("a b").is_err() && name("").is_err());
    }
}
