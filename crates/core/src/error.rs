//! What can go wrong between a client and an endpoint: whose fault it is, and whether the request may be sent again.

use std::{borrow::Cow, time::Duration};

/// An error of the data path. Small, cheap, and never holds what a client must not see in its `kind`; `detail` is for
/// logs.
#[derive(Debug, thiserror::Error)]
#[error("{kind:?}{}", detail_text(.detail))]
pub struct Error {
    /// What happened.
    pub kind: Kind,
    /// Was the request certainly not processed by any endpoint, so that sending it again is safe whatever its method?
    pub unsent: bool,
    /// For logs and for trusted eyes.
    pub detail: Option<Cow<'static, str>>,
    /// When asking again makes sense, where that is known: `Retry-After` (RFC 9110 §10.2.3), rounded up to seconds.
    pub retry_after: Option<Duration>,
}

fn detail_text(detail: &Option<Cow<'static, str>>) -> String {
    detail.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The client's.
    Client,
    /// The endpoint's, or the way to it.
    Upstream,
    /// Ours, or the configuration's.
    Gateway,
}

/// Everything that the gateway itself can answer with. `answer.rs` maps each to a status, a problem type, a
/// `Proxy-Status` error (RFC 9209 §2.3), a gRPC status and a log reason, without a wildcard arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    // The client's
    /// The request breaks the protocol (framing, syntax).
    BadRequest,
    /// The path cannot be put into canonical form, or holds what the listener refuses.
    BadPath,
    /// A request head larger than allowed.
    HeadersTooLarge,
    /// A request target longer than allowed.
    UriTooLong,
    /// A body larger than allowed.
    BodyTooLarge,
    /// The head, or the body, came too slowly.
    RequestTimeout,
    /// The client went away.
    ClientGone,
    /// `Content-Length` or `Transfer-Encoding` the gateway does not support.
    LengthRequired,
    /// No route takes this request.
    NoRoute,
    /// A route takes this path, but not this method.
    MethodNotAllowed,
    /// Nobody vouches for the client: credentials are missing, or not good.
    Unauthenticated,
    /// A policy refused it (an address list, for instance).
    Denied,
    /// Too many requests.
    RateLimited,
    /// An authority that this connection may not serve.
    Misdirected,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// A request that may be a replay of another (RFC 8470), and is not one that may be repeated.
    TooEarly,
    /// A version, method or upgrade that is not served.
    NotImplemented,
    /// HTTP version not supported.
    VersionNotSupported,
    /// The request passed this gateway before.
    Loop,
    // The endpoint's
    /// The service has no endpoint at all.
    NoEndpoints,
    /// None of its endpoints is in service.
    NoHealthyEndpoints,
    /// A name that does not resolve.
    DnsError,
    /// The endpoint refused the connection.
    ConnectionRefused,
    /// Connecting took too long.
    ConnectTimeout,
    /// Connecting failed otherwise.
    ConnectFailed,
    /// The endpoint's certificate was not accepted.
    TlsCertificate,
    /// The TLS handshake failed otherwise.
    TlsProtocol,
    /// The endpoint closed or reset the connection before its answer was complete.
    ConnectionTerminated,
    /// The answer's head did not come in time.
    ResponseTimeout,
    /// The answer's body stopped coming.
    ReadTimeout,
    /// The endpoint did not take the request in time.
    WriteTimeout,
    /// The answer breaks the protocol.
    BadResponse,
    /// The answer's head is larger than allowed.
    ResponseHeadersTooLarge,
    /// The answer's body ended before its length.
    ResponseIncomplete,
    /// The endpoint did not switch protocols as asked.
    UpgradeFailed,
    /// The service has failed too often of late, and is left alone for a time.
    CircuitOpen,
    /// Every attempt that the retry policy allows has failed; `detail` tells how the last one did.
    RetriesExhausted,
    // Ours
    /// As many connections to the endpoint as allowed.
    ConnectionLimit,
    /// More requests at once than may be under way.
    Overloaded,
    /// The gateway itself is short of CPU or memory, and this request is less important than others.
    Shed,
    /// The total time of the route is up.
    TotalTimeout,
    /// A part of the configuration that this route needs is not usable.
    Misconfigured,
    /// The gateway is shutting down.
    ShuttingDown,
    /// A bug.
    Internal,
}

impl Error {
    /// An error without detail.
    pub fn new(kind: Kind) -> Error {
        Error { kind, unsent: false, detail: None, retry_after: None }
    }

    /// An error with detail for the log.
    pub fn because(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Error {
        Error { kind, unsent: false, detail: Some(detail.into()), retry_after: None }
    }

    /// Marks the request as certainly not processed.
    pub fn unsent(mut self) -> Error {
        self.unsent = true;
        self
    }

    /// Says when asking again makes sense.
    pub fn retry_after(mut self, delay: Duration) -> Error {
        self.retry_after = Some(delay);
        self
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.kind.fault()
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Error {
        Error::new(kind)
    }
}

impl Kind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Kind; Kind::Internal as usize + 1] = {
        use Kind::*;
        [
            BadRequest,
            BadPath,
            HeadersTooLarge,
            UriTooLong,
            BodyTooLarge,
            RequestTimeout,
            ClientGone,
            LengthRequired,
            NoRoute,
            MethodNotAllowed,
            Unauthenticated,
            Denied,
            RateLimited,
            Misdirected,
            ExpectationFailed,
            TooEarly,
            NotImplemented,
            VersionNotSupported,
            Loop,
            NoEndpoints,
            NoHealthyEndpoints,
            DnsError,
            ConnectionRefused,
            ConnectTimeout,
            ConnectFailed,
            TlsCertificate,
            TlsProtocol,
            ConnectionTerminated,
            ResponseTimeout,
            ReadTimeout,
            WriteTimeout,
            BadResponse,
            ResponseHeadersTooLarge,
            ResponseIncomplete,
            UpgradeFailed,
            CircuitOpen,
            RetriesExhausted,
            ConnectionLimit,
            Overloaded,
            Shed,
            TotalTimeout,
            Misconfigured,
            ShuttingDown,
            Internal,
        ]
    };

    /// Whose fault it is.
    pub fn fault(self) -> Fault {
        use Kind::*;
        match self {
            BadRequest | BadPath | HeadersTooLarge | UriTooLong | BodyTooLarge | RequestTimeout
            | ClientGone | LengthRequired | NoRoute | MethodNotAllowed | Unauthenticated | Denied
            | RateLimited | Misdirected | ExpectationFailed | TooEarly | NotImplemented
            | VersionNotSupported | Loop => Fault::Client,
            NoEndpoints
            | NoHealthyEndpoints
            | DnsError
            | ConnectionRefused
            | ConnectTimeout
            | ConnectFailed
            | TlsCertificate
            | TlsProtocol
            | ConnectionTerminated
            | ResponseTimeout
            | ReadTimeout
            | WriteTimeout
            | BadResponse
            | ResponseHeadersTooLarge
            | ResponseIncomplete
            | UpgradeFailed
            | CircuitOpen
            | RetriesExhausted => Fault::Upstream,
            ConnectionLimit | Overloaded | Shed | TotalTimeout | Misconfigured | ShuttingDown | Internal => {
                Fault::Gateway
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_all_and_in_order() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind:?}");
        }
        // A kind added behind the last one must be added to the list too.
        assert_eq!(Kind::ALL.last(), Some(&Kind::Internal));
        assert_eq!(Kind::ALL.len(), Kind::Internal as usize + 1);
    }
}
