//! A request: method, canonical target, authority and fields over one buffer, and a body.

use http::Method;

use crate::{
    body::Body,
    fields::{Fields, Span},
};

/// A request as the gateway sees it, whatever the protocol it came by.
///
/// The target is kept in canonical form (see [`crate::path`]); what routing saw is what is forwarded. Path, query and
/// authority are ranges of the buffer of the fields, so that a request costs no string of its own.
#[derive(Debug)]
pub struct Request {
    /// The method, case-sensitive.
    pub method: Method,
    /// The header fields. `Host` is not among them: see [`Request::authority`].
    pub fields: Fields,
    /// The body.
    pub body: Body,
    path: Span,
    query: Option<Span>,
    authority: Span,
    host_end: u32,
    original_path: Span,
    original_query: Option<Span>,
    /// The `:protocol` of an extended CONNECT (RFC 8441), or the `Upgrade` token of an HTTP/1.1 upgrade: what the
    /// client wants to speak instead of HTTP. Only `websocket` and other tokens that passed the listener's checks.
    pub upgrade: Option<Box<str>>,
    /// `Expect: 100-continue` was sent and has not been answered yet.
    pub expects_continue: bool,
    /// It came by HTTP/1.0.
    pub http_10: bool,
}

impl Request {
    /// A request for `/` with nothing in it.
    pub fn new(method: Method) -> Request {
        Request::with_fields(method, Fields::new())
    }

    /// A request for `/` with these fields.
    pub fn with_fields(method: Method, mut fields: Fields) -> Request {
        let path = fields.store_text("/");
        Request {
            method,
            fields,
            body: Body::Empty,
            path,
            query: None,
            authority: Span::default(),
            host_end: 0,
            original_path: path,
            original_query: None,
            upgrade: None,
            expects_continue: false,
            http_10: false,
        }
    }

    /// A request for the same, as it stands now: without body, and without a wish to speak something else than HTTP.
    pub fn twin(&self) -> Request {
        Request {
            method: self.method.clone(),
            fields: self.fields.clone(),
            body: Body::Empty,
            path: self.path,
            query: self.query,
            authority: self.authority,
            host_end: self.host_end,
            original_path: self.original_path,
            original_query: self.original_query,
            upgrade: None,
            expects_continue: false,
            http_10: false,
        }
    }

    /// Sets the canonical path and query as they arrived: also the "original" ones, for logs.
    pub fn arrive(&mut self, path: &str, query: Option<&str>) {
        self.path = self.fields.store_text(path);
        self.query = query.map(|query| self.fields.store_text(query));
        self.original_path = self.path;
        self.original_query = self.query;
    }

    /// The canonical path, percent-encoded, starting with `/` (or `*` for `OPTIONS *`).
    pub fn path(&self) -> &str {
        self.text(self.path)
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| self.text(span))
    }

    /// Path as the client asked for it (canonical, before any rewriting).
    pub fn original_path(&self) -> &str {
        self.text(self.original_path)
    }

    /// Query as the client sent it, before any rewriting.
    pub fn original_query(&self) -> Option<&str> {
        self.original_query.map(|span| self.text(span))
    }

    /// Replaces the path to be forwarded. The caller hands over a canonical path.
    pub fn set_path(&mut self, path: &str) {
        self.path = self.fields.store_text(path);
    }

    /// Replaces the query to be forwarded.
    pub fn set_query(&mut self, query: Option<&str>) {
        self.query = query.map(|query| self.fields.store_text(query));
    }

    /// Takes the first `bytes` bytes of the path away, which must leave a rest that starts with `/` or is empty (then
    /// the path becomes `/`). Costs no copy.
    pub fn strip_path(&mut self, bytes: usize) {
        let rest = Span { start: self.path.start + bytes as u32, end: self.path.end };
        if rest.start >= rest.end {
            self.path = self.fields.store_text("/");
        } else if self.text(rest).starts_with('/') {
            self.path = rest;
        } else {
            let joined = format!("/{}", self.text(rest));
            self.path = self.fields.store_text(&joined);
        }
    }

    /// Host and port as the client named them, lower-cased; empty when it named none.
    pub fn authority(&self) -> &str {
        self.text(self.authority)
    }

    /// The host alone: lower-case, without port and trailing dot, IPv6 in brackets.
    pub fn host(&self) -> &str {
        self.text(Span { start: self.authority.start, end: self.host_end })
    }

    /// Sets the authority; it is stored in lower case. The caller has validated it.
    pub fn set_authority(&mut self, authority: &str) {
        self.authority = self.fields.store_lower(authority);
        self.host_end = self.authority.start + host_of(self.authority()).len() as u32;
    }

    /// Sets the authority from a part of the buffer of the fields, of which so many bytes are the host (a dot at its
    /// end included). The caller has validated it.
    pub fn adopt_authority(&mut self, authority: Span, host: usize) {
        self.authority = self.fields.store_lower_of(authority);
        self.host_end = self.authority.start + host as u32;
        if self.host().ends_with('.') {
            self.host_end -= 1;
        }
    }

    fn text(&self, span: Span) -> &str {
        self.fields.text(span)
    }
}

/// The host of an authority: without port and trailing dot. Brackets of an IPv6 literal stay.
fn host_of(authority: &str) -> &str {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']').and_then(|end| authority.get(..end + 2)).unwrap_or(authority),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_the_authority_without_port_and_dot() {
        for (authority, host) in
            [("A.example:80", "a.example"), ("a.example.", "a.example"), ("[::1]:8080", "[::1]"), ("", "")]
        {
            let mut request = Request::new(Method::GET);
            request.set_authority(authority);
            assert_eq!(request.host(), host);
        }
    }

    #[test]
    fn a_twin_is_the_same_request_and_goes_its_own_way() {
        let mut request = Request::new(Method::POST);
        request.arrive("/api/x", Some("q=1"));
        request.set_authority("A.example:80");
        request.fields.append("x-one", "1");
        request.strip_path(4);
        request.body = Body::from("hello");
        request.upgrade = Some("websocket".into());
        let mut twin = request.twin();
        assert_eq!((twin.method.as_str(), twin.path(), twin.query()), ("POST", "/x", Some("q=1")));
        assert_eq!(
            (twin.original_path(), twin.authority(), twin.host()),
            ("/api/x", "a.example:80", "a.example")
        );
        assert_eq!(twin.fields.get_str("x-one"), Some("1"));
        assert!(twin.body.is_empty() && twin.upgrade.is_none());
        twin.fields.set("x-one", "2");
        twin.set_path("/other");
        assert_eq!((request.path(), request.fields.get_str("x-one")), ("/x", Some("1")));
    }

    #[test]
    fn stripping_leaves_a_path() {
        for (path, bytes, left) in
            [("/api/x", 4, "/x"), ("/api", 4, "/"), ("/api/x", 5, "/x"), ("/api/", 4, "/")]
        {
            let mut request = Request::new(Method::GET);
            request.arrive(path, Some("q=1"));
            request.strip_path(bytes);
            assert_eq!((request.path(), request.original_path(), request.query()), (left, path, Some("q=1")));
        }
    }
}
