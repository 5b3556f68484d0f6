//! Who may ask: not a page of somebody else's that happens to run in the administrator's browser.
//!
//! A listener on the loopback address is reachable by every page that the browser shows, in two ways. By DNS rebinding
//! a page's own name comes to mean 127.0.0.1; the browser then takes us for the page's own server, but `Host` still
//! holds the name. So names are refused unless they are listed; addresses cannot be rebound. By a plain cross-site
//! request a page can make us act although it cannot read the answer; browsers say so in `Origin` and
//! `Sec-Fetch-Site`, so those are refused.

use http::Method;
use portcullis_config::model::Admin;
use portcullis_core::{Error, Exchange, Kind, Known};

/// Refuses what a browser sends on behalf of another site, and hosts that are not ours.
///
/// # Errors
/// 421 for a host, 403 for another site.
pub(super) fn check(x: &Exchange, admin: Option<&Admin>) -> Result<(), Error> {
    let listed: &[_] = admin.map_or(&[], |admin| &admin.allowed_hosts);
    let host = x.request.host();
    if !is_ours(host, listed) {
        return Err(Error::because(
            Kind::Misdirected,
            format!("host {host:?} is not in admin.allowed_hosts"),
        ));
    }
    let denied = |what: &str| Err(Error::because(Kind::Denied, format!("{what} of another site")));
    if let Some(origin) = x.request.fields.known(Known::Origin) {
        let origin = std::str::from_utf8(origin).unwrap_or_default();
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        let same = authority.eq_ignore_ascii_case(x.request.authority());
        if !same && !is_listed(host_of(authority), listed) {
            return denied("an Origin");
        }
    }
    let fetch = |name| x.request.fields.get_str(name).unwrap_or_default();
    if matches!(fetch("sec-fetch-site"), "cross-site" | "same-site") {
        // A link that was followed: the page that held it learns nothing.
        let followed = fetch("sec-fetch-mode") == "navigate" && fetch("sec-fetch-dest") == "document";
        if !followed || !matches!(x.request.method, Method::GET | Method::HEAD) {
            return denied("a request");
        }
    }
    Ok(())
}

/// An address, `localhost`, or a name that the configuration lists.
fn is_ours(host: &str, listed: &[impl AsRef<str>]) -> bool {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    literal.parse::<std::net::IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || is_listed(host, listed)
}

/// Is the name in the list? `*.example.com` there stands for every name below, `*` for all.
fn is_listed(host: &str, listed: &[impl AsRef<str>]) -> bool {
    let host = host.to_ascii_lowercase();
    !host.is_empty()
        && listed.iter().map(|entry| host_of(entry.as_ref()).to_ascii_lowercase()).any(|entry| {
            entry == "*"
                || entry == host
                || entry
                    .strip_prefix('*')
                    .is_some_and(|suffix| suffix.starts_with('.') && host.ends_with(suffix))
        })
}

/// The host of `host:port`.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.is_empty() => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::Request;

    use super::*;

    fn checked(method: Method, host: &str, fields: &[(&str, &str)]) -> Option<Kind> {
        let mut request = Request::new(method);
        request.fields = fields.iter().copied().collect();
        request.set_authority(host);
        let admin = Admin {
            address: ([127, 0, 0, 1], 9090).into(),
            allowed_hosts: vec!["admin.example:9090".into(), "*.svc".into()],
        };
        check(&Exchange::for_test(request), Some(&admin)).err().map(|error| error.kind)
    }

    #[test]
    fn addresses_localhost_and_listed_names_are_ours() {
        for host in [
            "127.0.0.1:9090",
            "[::1]:9090",
            "localhost:9090",
            "LOCALHOST",
            "10.1.2.3",
            "admin.example",
            "a.svc:1",
        ] {
            assert_eq!(checked(Method::GET, host, &[]), None, "{host}");
        }
        for host in
            ["evil.example:9090", "", "localhost.evil.example", "svc", "127.0.0.1.evil.example", "[::1"]
        {
            assert_eq!(checked(Method::GET, host, &[]), Some(Kind::Misdirected), "{host}");
        }
    }

    #[test]
    fn other_sites_are_refused() {
        let at = "localhost:9090";
        let reload = |fields: &[(&str, &str)]| checked(Method::POST, at, fields);
        assert_eq!(reload(&[]), None, "curl");
        assert_eq!(reload(&[("origin", "http://localhost:9090"), ("sec-fetch-site", "same-origin")]), None);
        assert_eq!(reload(&[("origin", "https://admin.example")]), None, "listed");
        for origin in ["https://evil.example", "null", "http://localhost:3000", "localhost:9090", ""] {
            assert_eq!(reload(&[("origin", origin)]), Some(Kind::Denied), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert_eq!(reload(&[("sec-fetch-site", site)]), Some(Kind::Denied));
            let followed =
                [("sec-fetch-site", site), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
            assert_eq!(checked(Method::GET, at, &followed), None, "a link that was followed");
            assert_eq!(reload(&followed), Some(Kind::Denied), "a form that was sent");
            let embedded =
                [("sec-fetch-site", site), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
            assert_eq!(checked(Method::GET, at, &embedded), Some(Kind::Denied));
        }
    }
}
