//! Field names that the gateway itself looks at, as small numbers: found once when a head is read, so that later
//! questions ("is there an Upgrade?") cost a bit test instead of a scan of strings.

/// A field name known to the gateway; `Other` for all the rest. Each variant is the name it says.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
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
}

impl Known {
    /// Classifies a name, ASCII case ignored. One branch on the length, then at most a few comparisons.
    pub fn of(name: &[u8]) -> Known {
        use Known::*;
        let among = |table: &[(&str, Known)]| {
            table
                .iter()
                .find(|(text, _)| name.eq_ignore_ascii_case(text.as_bytes()))
                .map_or(Other, |&(_, known)| known)
        };
        match name.len() {
            2 => among(&[("te", Te)]),
            3 => among(&[("via", Via), ("age", Age)]),
            4 => among(&[("host", Host), ("date", Date), ("vary", Vary), ("etag", Etag)]),
            5 => among(&[("range", Range)]),
            6 => among(&[
                ("accept", Accept),
                ("cookie", Cookie),
                ("expect", Expect),
                ("origin", Origin),
                ("server", Server),
            ]),
            7 => among(&[
                ("upgrade", Upgrade),
                ("referer", Referer),
                ("trailer", Trailer),
                ("alt-svc", AltSvc),
            ]),
            8 => among(&[("location", Location)]),
            9 => among(&[("forwarded", Forwarded), ("x-real-ip", XRealIp)]),
            10 => among(&[
                ("connection", Connection),
                ("user-agent", UserAgent),
                ("keep-alive", KeepAlive),
                ("set-cookie", SetCookie),
            ]),
            11 => among(&[("grpc-status", GrpcStatus), ("retry-after", RetryAfter)]),
            12 => among(&[
                ("content-type", ContentType),
                ("x-request-id", XRequestId),
                ("grpc-timeout", GrpcTimeout),
            ]),
            13 => among(&[
                ("authorization", Authorization),
                ("cache-control", CacheControl),
                ("last-modified", LastModified),
                ("if-none-match", IfNoneMatch),
                ("accept-ranges", AcceptRanges),
                ("last-event-id", LastEventId),
            ]),
            14 => among(&[("content-length", ContentLength), ("http2-settings", Http2Settings)]),
            15 => among(&[
                ("accept-encoding", AcceptEncoding),
                ("x-forwarded-for", XForwardedFor),
                ("x-forwarded-uri", XForwardedOther),
            ]),
            16 => among(&[
                ("content-encoding", ContentEncoding),
                ("x-forwarded-host", XForwardedHost),
                ("x-forwarded-port", XForwardedPort),
                ("proxy-connection", ProxyConnection),
            ]),
            17 => among(&[
                ("transfer-encoding", TransferEncoding),
                ("x-forwarded-proto", XForwardedProto),
                ("if-modified-since", IfModifiedSince),
                ("sec-websocket-key", SecWebsocketKey),
            ]),
            18 => among(&[
                ("x-forwarded-prefix", XForwardedPrefix),
                ("x-forwarded-server", XForwardedServer),
                ("x-forwarded-scheme", XForwardedOther),
                ("x-forwarded-method", XForwardedOther),
                ("proxy-authenticate", ProxyAuthenticate),
            ]),
            19 => among(&[("proxy-authorization", ProxyAuthorization)]),
            20 => among(&[("sec-websocket-accept", SecWebsocketAccept)]),
            21 => among(&[("sec-websocket-version", SecWebsocketVersion)]),
            _ => Other,
        }
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
    fn every_bit_fits() {
        assert!((Known::LastEventId as u8) < 64);
    }
}
