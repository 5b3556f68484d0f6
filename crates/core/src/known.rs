//! Field names that the gateway itself looks at, as small numbers: found once when a head is read, so that later
//! questions ("is there an Upgrade?") cost a bit test instead of a scan of strings.

/// A field name known to the gateway; `Other` for all the rest. Each variant is the name it says.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
    #[default]
    Other = 0,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    Upgrade,
    Http2Settings,
    Expect,
    ContentType,
    ContentEncoding,
    AcceptEncoding,
    Accept,
    Authorization,
    Cookie,
    SetCookie,
    UserAgent,
    Referer,
    Origin,
    Date,
    Server,
    Via,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    XForwardedPrefix,
    XForwardedServer,
    XForwardedOther,
    XRealIp,
    XRequestId,
    Vary,
    Location,
    CacheControl,
    Etag,
    LastModified,
    Age,
    Range,
    IfNoneMatch,
    IfModifiedSince,
    AltSvc,
    ProxyAuthenticate,
    ProxyAuthorization,
    GrpcStatus,
    GrpcTimeout,
    SecWebsocketKey,
    SecWebsocketAccept,
    SecWebsocketVersion,
    RetryAfter,
    AcceptRanges,
    LastEventId,
    Proxy,
}

impl Known {
    /// Classifies a name, ASCII case ignored. Length, first and last byte leave one candidate, with which the name is
    /// compared once.
    pub fn of(name: &[u8]) -> Known {
        use Known::*;
        let (Some(first), Some(last)) = (name.first(), name.last()) else { return Other };
        let (text, known) = match (name.len(), first.to_ascii_lowercase(), last.to_ascii_lowercase()) {
            (2, b't', b'e') => ("te", Te),
            (3, b'a', b'e') => ("age", Age),
            (3, b'v', b'a') => ("via", Via),
            (4, b'd', b'e') => ("date", Date),
            (4, b'e', b'g') => ("etag", Etag),
            (4, b'h', b't') => ("host", Host),
            (4, b'v', b'y') => ("vary", Vary),
            (5, b'p', b'y') => ("proxy", Proxy),
            (5, b'r', b'e') => ("range", Range),
            (6, b'a', b't') => ("accept", Accept),
            (6, b'c', b'e') => ("cookie", Cookie),
            (6, b'e', b't') => ("expect", Expect),
            (6, b'o', b'n') => ("origin", Origin),
            (6, b's', b'r') => ("server", Server),
            (7, b'a', b'c') => ("alt-svc", AltSvc),
            (7, b'r', b'r') => ("referer", Referer),
            (7, b't', b'r') => ("trailer", Trailer),
            (7, b'u', b'e') => ("upgrade", Upgrade),
            (8, b'l', b'n') => ("location", Location),
            (9, b'f', b'd') => ("forwarded", Forwarded),
            (9, b'x', b'p') => ("x-real-ip", XRealIp),
            (10, b'c', b'n') => ("connection", Connection),
            (10, b'k', b'e') => ("keep-alive", KeepAlive),
            (10, b's', b'e') => ("set-cookie", SetCookie),
            (10, b'u', b't') => ("user-agent", UserAgent),
            (11, b'g', b's') => ("grpc-status", GrpcStatus),
            (11, b'r', b'r') => ("retry-after", RetryAfter),
            (12, b'c', b'e') => ("content-type", ContentType),
            (12, b'g', b't') => ("grpc-timeout", GrpcTimeout),
            (12, b'x', b'd') => ("x-request-id", XRequestId),
            (13, b'a', b'n') => ("authorization", Authorization),
            (13, b'a', b's') => ("accept-ranges", AcceptRanges),
            (13, b'c', b'l') => ("cache-control", CacheControl),
            (13, b'i', b'h') => ("if-none-match", IfNoneMatch),
            (13, b'l', b'd') => match name.get(5) {
                Some(b'm' | b'M') => ("last-modified", LastModified),
                Some(b'e' | b'E') => ("last-event-id", LastEventId),
                _ => return Other,
            },
            (14, b'c', b'h') => ("content-length", ContentLength),
            (14, b'h', b's') => ("http2-settings", Http2Settings),
            (15, b'a', b'g') => ("accept-encoding", AcceptEncoding),
            (15, b'x', b'i') => ("x-forwarded-uri", XForwardedOther),
            (15, b'x', b'r') => ("x-forwarded-for", XForwardedFor),
            (16, b'c', b'g') => ("content-encoding", ContentEncoding),
            (16, b'p', b'n') => ("proxy-connection", ProxyConnection),
            (16, b'x', b't') => match name.get(12) {
                Some(b'h' | b'H') => ("x-forwarded-host", XForwardedHost),
                Some(b'p' | b'P') => ("x-forwarded-port", XForwardedPort),
                _ => return Other,
            },
            (17, b'i', b'e') => ("if-modified-since", IfModifiedSince),
            (17, b's', b'y') => ("sec-websocket-key", SecWebsocketKey),
            (17, b't', b'g') => ("transfer-encoding", TransferEncoding),
            (17, b'x', b'o') => ("x-forwarded-proto", XForwardedProto),
            (18, b'p', b'e') => ("proxy-authenticate", ProxyAuthenticate),
            (18, b'x', b'd') => ("x-forwarded-method", XForwardedOther),
            (18, b'x', b'e') => ("x-forwarded-scheme", XForwardedOther),
            (18, b'x', b'r') => ("x-forwarded-server", XForwardedServer),
            (18, b'x', b'x') => ("x-forwarded-prefix", XForwardedPrefix),
            (19, b'p', b'n') => ("proxy-authorization", ProxyAuthorization),
            (20, b's', b't') => ("sec-websocket-accept", SecWebsocketAccept),
            (21, b's', b'n') => ("sec-websocket-version", SecWebsocketVersion),
            _ => return Other,
        };
        if is_lower_of(name, text.as_bytes()) { known } else { Other }
    }

    /// This name's bit in a set of names.
    pub const fn bit(self) -> u64 {
        1 << (self as u8)
    }

    /// Fields that belong to one hop and are never forwarded (RFC 9110 §7.6.1), with their historical kin.
    pub const HOP_BY_HOP: u64 = Known::Connection.bit()
        | Known::KeepAlive.bit()
        | Known::ProxyConnection.bit()
        | Known::Te.bit()
        | Known::Trailer.bit()
        | Known::TransferEncoding.bit()
        | Known::Upgrade.bit()
        | Known::Http2Settings.bit()
        | Known::ProxyAuthenticate.bit()
        | Known::ProxyAuthorization.bit();

    /// Fields by which one proxy tells the next about the client: believed from trusted peers only.
    pub const FORWARDING: u64 = Known::Forwarded.bit()
        | Known::XForwardedFor.bit()
        | Known::XForwardedProto.bit()
        | Known::XForwardedHost.bit()
        | Known::XForwardedPort.bit()
        | Known::XForwardedPrefix.bit()
        | Known::XForwardedServer.bit()
        | Known::XForwardedOther.bit()
        | Known::XRealIp.bit();
}

/// Is a name the same as one in lower case, of the same length? Eight bytes at a time. Names are tokens, whose bytes
/// `| 0x20` maps to lower case without making two of them alike.
fn is_lower_of(name: &[u8], lower: &[u8]) -> bool {
    let (names, name) = name.as_chunks::<8>();
    let (lowers, lower) = lower.as_chunks::<8>();
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    names.iter().zip(lowers).all(|(a, b)| word(a) | 0x2020_2020_2020_2020 == word(b))
        && name.iter().zip(lower).all(|(a, b)| a | 0x20 == *b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Known::of(b"HOST"), Known::Host);
        assert_eq!(Known::of(b"Content-Length"), Known::ContentLength);
        assert_eq!(Known::of(b"x-Forwarded-FOR"), Known::XForwardedFor);
        assert_eq!(Known::of(b"x-something"), Known::Other);
        assert_eq!(Known::of(b""), Known::Other);
    }

    #[test]
    fn every_name_is_found() {
        let names = [
            ("te", Known::Te),
            ("via", Known::Via),
            ("age", Known::Age),
            ("host", Known::Host),
            ("date", Known::Date),
            ("vary", Known::Vary),
            ("etag", Known::Etag),
            ("proxy", Known::Proxy),
            ("range", Known::Range),
            ("accept", Known::Accept),
            ("cookie", Known::Cookie),
            ("expect", Known::Expect),
            ("origin", Known::Origin),
            ("server", Known::Server),
            ("upgrade", Known::Upgrade),
            ("referer", Known::Referer),
            ("trailer", Known::Trailer),
            ("alt-svc", Known::AltSvc),
            ("location", Known::Location),
            ("forwarded", Known::Forwarded),
            ("x-real-ip", Known::XRealIp),
            ("connection", Known::Connection),
            ("user-agent", Known::UserAgent),
            ("keep-alive", Known::KeepAlive),
            ("set-cookie", Known::SetCookie),
            ("grpc-status", Known::GrpcStatus),
            ("retry-after", Known::RetryAfter),
            ("content-type", Known::ContentType),
            ("x-request-id", Known::XRequestId),
            ("grpc-timeout", Known::GrpcTimeout),
            ("authorization", Known::Authorization),
            ("cache-control", Known::CacheControl),
            ("last-modified", Known::LastModified),
            ("if-none-match", Known::IfNoneMatch),
            ("accept-ranges", Known::AcceptRanges),
            ("last-event-id", Known::LastEventId),
            ("content-length", Known::ContentLength),
            ("http2-settings", Known::Http2Settings),
            ("accept-encoding", Known::AcceptEncoding),
            ("x-forwarded-for", Known::XForwardedFor),
            ("x-forwarded-uri", Known::XForwardedOther),
            ("content-encoding", Known::ContentEncoding),
            ("x-forwarded-host", Known::XForwardedHost),
            ("x-forwarded-port", Known::XForwardedPort),
            ("proxy-connection", Known::ProxyConnection),
            ("transfer-encoding", Known::TransferEncoding),
            ("x-forwarded-proto", Known::XForwardedProto),
            ("if-modified-since", Known::IfModifiedSince),
            ("sec-websocket-key", Known::SecWebsocketKey),
            ("x-forwarded-prefix", Known::XForwardedPrefix),
            ("x-forwarded-server", Known::XForwardedServer),
            ("x-forwarded-scheme", Known::XForwardedOther),
            ("x-forwarded-method", Known::XForwardedOther),
            ("proxy-authenticate", Known::ProxyAuthenticate),
            ("proxy-authorization", Known::ProxyAuthorization),
            ("sec-websocket-accept", Known::SecWebsocketAccept),
            ("sec-websocket-version", Known::SecWebsocketVersion),
        ];
        for (name, known) in names {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
            assert_eq!(Known::of(name.to_uppercase().as_bytes()), known, "{name}");
        }
    }

    #[test]
    fn every_bit_fits() {
        assert!((Known::Proxy as u8) < 64);
    }
}
