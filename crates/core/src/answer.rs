//! An answer, and the one table that says how each error of the gateway is answered.

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    body::Body,
    error::{Error, Kind},
    fields::Fields,
};

/// The answer to a request: head, body, and perhaps a tunnel that starts after it.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields. `Content-Length` here is what the origin said; framing is decided when the answer is
    /// written, from the body.
    pub fields: Fields,
    /// The body.
    pub body: Body,
    /// Bytes of another protocol, after a verified 101 (or 200 to an extended CONNECT). Boxed: it is rare, and answers
    /// are handed on a lot.
    pub tunnel: Option<Box<Tunnel>>,
    /// Who made it.
    pub source: Source,
}

/// Who made an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An endpoint.
    Endpoint,
    /// A middleware or a built-in service answered itself; the name stands in the log.
    Gateway(&'static str),
    /// The gateway's answer to an error.
    Error(Kind),
}

/// The endpoint's side of an upgraded connection.
pub struct Tunnel {
    /// The connection; what the endpoint sent behind its head is read from it first.
    pub io: Box<dyn Duplex>,
    /// How long it may stay silent both ways; zero = for ever.
    pub idle: std::time::Duration,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tunnel {{ idle: {:?} }}", self.idle)
    }
}

/// A byte stream both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Answer {
    /// An answer of the gateway's own, without body. `by` names who answers (a middleware's kind), for the log.
    pub fn new(status: StatusCode, by: &'static str) -> Answer {
        Answer { status, fields: Fields::new(), body: Body::Empty, tunnel: None, source: Source::Gateway(by) }
    }

    /// An answer of the gateway's own with a body.
    pub fn with_body(
        status: StatusCode,
        by: &'static str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> Answer {
        let mut answer = Answer::new(status, by);
        answer.fields.append("content-type", content_type);
        answer.body = body.into();
        answer
    }

    /// Puts another source around the body. What described the old bytes (`Content-Length`, ranges, digests) goes,
    /// since the new ones differ.
    pub fn wrap_body(&mut self, wrap: impl FnOnce(Body) -> Body) {
        self.body = wrap(std::mem::take(&mut self.body));
        for name in ["content-length", "accept-ranges", "content-md5", "content-digest"] {
            self.fields.remove(name);
        }
    }
}

/// How one kind of error is answered and named.
#[derive(Debug, Clone, Copy)]
pub struct Mapping {
    /// HTTP status.
    pub status: StatusCode,
    /// Title of the problem document, and the slug of its type URI.
    pub title: &'static str,
    /// Last part of the problem type's URI, and the reason code in the access log.
    pub slug: &'static str,
    /// The `error` parameter of `Proxy-Status` (RFC 9209 §2.3).
    pub proxy_status: &'static str,
    /// gRPC status code (grpc/doc/http-grpc-status-mapping.md, extended by cause).
    pub grpc: u8,
}

/// The answer to each kind of error. No wildcard: a new kind does not compile until it is mapped here.
pub fn mapping(kind: Kind) -> Mapping {
    use Kind::*;
    const INVALID_ARGUMENT: u8 = 3;
    const DEADLINE_EXCEEDED: u8 = 4;
    const NOT_FOUND: u8 = 5;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const CANCELLED: u8 = 1;
    const UNAUTHENTICATED: u8 = 16;
    let (status, title, slug, proxy_status, grpc) = match kind {
        BadRequest => (400, "Bad request", "bad-request", "http_request_error", INVALID_ARGUMENT),
        BadPath => (400, "Bad request path", "bad-path", "http_request_error", INVALID_ARGUMENT),
        HeadersTooLarge => (
            431,
            "Request header fields too large",
            "headers-too-large",
            "http_request_error",
            RESOURCE_EXHAUSTED,
        ),
        UriTooLong => {
            (414, "Request target too long", "uri-too-long", "http_request_error", INVALID_ARGUMENT)
        }
        BodyTooLarge => {
            (413, "Request body too large", "body-too-large", "http_request_error", RESOURCE_EXHAUSTED)
        }
        RequestTimeout => {
            (408, "Request arrived too slowly", "request-timeout", "http_request_error", DEADLINE_EXCEEDED)
        }
        ClientGone => (499, "Client closed the request", "client-gone", "http_request_error", CANCELLED),
        LengthRequired => (411, "Length required", "length-required", "http_request_error", INVALID_ARGUMENT),
        NoRoute => (404, "No route", "no-route", "destination_not_found", UNIMPLEMENTED),
        MethodNotAllowed => {
            (405, "Method not allowed", "method-not-allowed", "http_request_error", UNIMPLEMENTED)
        }
        Unauthenticated => {
            (401, "Authentication required", "unauthenticated", "http_request_denied", UNAUTHENTICATED)
        }
        Denied => (403, "Denied", "denied", "http_request_denied", PERMISSION_DENIED),
        RateLimited => (429, "Too many requests", "rate-limited", "http_request_denied", RESOURCE_EXHAUSTED),
        Misdirected => (421, "Misdirected request", "misdirected", "http_request_error", NOT_FOUND),
        ExpectationFailed => {
            (417, "Expectation failed", "expectation-failed", "http_request_error", INVALID_ARGUMENT)
        }
        TooEarly => (425, "Too early", "too-early", "http_request_error", UNAVAILABLE),
        NotImplemented => (501, "Not implemented", "not-implemented", "http_request_error", UNIMPLEMENTED),
        VersionNotSupported => {
            (505, "HTTP version not supported", "version-not-supported", "http_request_error", UNIMPLEMENTED)
        }
        Loop => (508, "Loop detected", "loop", "proxy_loop_detected", INTERNAL),
        NoEndpoints => {
            (503, "Service has no endpoints", "no-endpoints", "destination_unavailable", UNAVAILABLE)
        }
        NoHealthyEndpoints => {
            (503, "No endpoint in service", "no-healthy-endpoints", "destination_unavailable", UNAVAILABLE)
        }
        DnsError => (502, "Endpoint name does not resolve", "dns-error", "dns_error", UNAVAILABLE),
        ConnectionRefused => {
            (502, "Endpoint refused the connection", "connection-refused", "connection_refused", UNAVAILABLE)
        }
        ConnectTimeout => (
            504,
            "Connecting to the endpoint took too long",
            "connect-timeout",
            "connection_timeout",
            UNAVAILABLE,
        ),
        ConnectFailed => (
            502,
            "Connecting to the endpoint failed",
            "connect-failed",
            "destination_ip_unroutable",
            UNAVAILABLE,
        ),
        TlsCertificate => (
            502,
            "Endpoint certificate not accepted",
            "tls-certificate",
            "tls_certificate_error",
            UNAVAILABLE,
        ),
        TlsProtocol => {
            (502, "TLS with the endpoint failed", "tls-protocol", "tls_protocol_error", UNAVAILABLE)
        }
        ConnectionTerminated => (
            502,
            "Endpoint closed the connection",
            "connection-terminated",
            "connection_terminated",
            UNAVAILABLE,
        ),
        ResponseTimeout => (
            504,
            "Endpoint did not answer in time",
            "response-timeout",
            "http_response_timeout",
            DEADLINE_EXCEEDED,
        ),
        ReadTimeout => {
            (504, "Endpoint stopped answering", "read-timeout", "connection_read_timeout", DEADLINE_EXCEEDED)
        }
        WriteTimeout => (
            504,
            "Endpoint did not take the request in time",
            "write-timeout",
            "connection_write_timeout",
            DEADLINE_EXCEEDED,
        ),
        BadResponse => (502, "Endpoint broke the protocol", "bad-response", "http_protocol_error", INTERNAL),
        ResponseHeadersTooLarge => (
            502,
            "Endpoint's header fields too large",
            "response-headers-too-large",
            "http_response_header_section_size",
            INTERNAL,
        ),
        ResponseIncomplete => (
            502,
            "Endpoint's answer is incomplete",
            "response-incomplete",
            "http_response_incomplete",
            UNAVAILABLE,
        ),
        UpgradeFailed => {
            (502, "Endpoint refused the upgrade", "upgrade-failed", "http_upgrade_failed", UNAVAILABLE)
        }
        CircuitOpen => {
            (503, "Service is left alone for now", "circuit-open", "destination_unavailable", UNAVAILABLE)
        }
        RetriesExhausted => {
            (502, "No attempt succeeded", "retries-exhausted", "destination_unavailable", UNAVAILABLE)
        }
        ConnectionLimit => {
            (503, "Connection limit reached", "connection-limit", "connection_limit_reached", UNAVAILABLE)
        }
        Overloaded => (503, "Too many requests at once", "overloaded", "http_request_denied", UNAVAILABLE),
        Shed => (503, "Gateway is short of resources", "shed", "http_request_denied", UNAVAILABLE),
        TotalTimeout => {
            (504, "Request took too long", "total-timeout", "http_response_timeout", DEADLINE_EXCEEDED)
        }
        Misconfigured => (503, "Route not usable", "misconfigured", "proxy_configuration_error", UNAVAILABLE),
        ShuttingDown => (503, "Shutting down", "shutting-down", "destination_unavailable", UNAVAILABLE),
        Internal => (500, "Internal error", "internal", "proxy_internal_error", INTERNAL),
    };
    let status = match StatusCode::from_u16(status) {
        Ok(status) => status,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Mapping { status, title, slug, proxy_status, grpc }
}

impl Error {
    /// How it is answered.
    pub fn mapping(&self) -> Mapping {
        mapping(self.kind)
    }
}
