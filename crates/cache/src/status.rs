//! `Cache-Status` (RFC 9211): what the cache did, for people.

/// Why a request was forwarded (RFC 9211 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forwarded {
    /// The cache was told not to handle it.
    Bypass,
    /// Its method.
    Method,
    /// Nothing is stored for its URI.
    UriMiss,
    /// What is stored for its URI is for other requests.
    VaryMiss,
    /// What is stored is stale.
    Stale,
    /// What is stored is fresh, but the request wants it confirmed.
    Request,
    /// What is stored lacks the part that is wanted, or only a part is wanted and nothing is stored.
    Partial,
}

impl Forwarded {
    /// As in the field.
    pub fn as_str(self) -> &'static str {
        match self {
            Forwarded::Bypass => "bypass",
            Forwarded::Method => "method",
            Forwarded::UriMiss => "uri-miss",
            Forwarded::VaryMiss => "vary-miss",
            Forwarded::Stale => "stale",
            Forwarded::Request => "request",
            Forwarded::Partial => "partial",
        }
    }
}

/// The detail of a stale answer that was sent because the origin failed.
pub const ON_ERROR: &str = "stale-if-error";

/// What became of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Why it was forwarded; `None`: it was answered from what is stored.
    pub forwarded: Option<Forwarded>,
    /// What the origin answered, where that is not the answer's own status.
    pub origin_status: Option<u16>,
    /// Time to live of what was sent, in seconds; negative when stale.
    pub ttl: Option<i64>,
    /// The answer is stored now.
    pub stored: bool,
    /// It waited for another request's answer.
    pub collapsed: bool,
    /// More.
    pub detail: Option<&'static str>,
}

impl Outcome {
    /// Answered from what is stored.
    pub fn hit(ttl: i64) -> Outcome {
        Outcome { ttl: Some(ttl), ..Outcome::default() }
    }

    /// Forwarded.
    pub fn forwarded(why: Forwarded) -> Outcome {
        Outcome { forwarded: Some(why), ..Outcome::default() }
    }

    /// With more.
    #[must_use]
    pub fn because(mut self, detail: &'static str) -> Outcome {
        self.detail = Some(detail);
        self
    }

    /// Did the origin not have to be asked?
    pub fn is_hit(&self) -> bool {
        self.forwarded.is_none()
    }

    /// Was what is stored sent, without the origin having confirmed it?
    pub fn is_stored(&self) -> bool {
        matches!(self.word(), "hit" | "stale")
    }

    /// One word for the access log.
    pub fn word(&self) -> &'static str {
        match (self.forwarded, self.origin_status) {
            (None, _) if self.ttl.is_some_and(|ttl| ttl <= 0) => "stale",
            (None, _) => "hit",
            (Some(_), _) if self.detail == Some(ON_ERROR) => "stale",
            (Some(Forwarded::Bypass | Forwarded::Method), _) => "bypass",
            (Some(_), Some(304)) => "revalidated",
            (Some(Forwarded::Stale | Forwarded::Request), _) => "expired",
            _ if self.collapsed => "collapsed",
            _ => "miss",
        }
    }

    /// Writes the field's value.
    pub fn write(&self, cache: &str, out: &mut Vec<u8>) {
        let is_token =
            portcullis_core::line::is_token(cache) && cache.starts_with(|c: char| c.is_ascii_alphabetic());
        if is_token {
            out.extend_from_slice(cache.as_bytes());
        } else {
            // RFC 9651 §3.3.3; what may not stand in a string is left away.
            out.push(b'"');
            out.extend(
                cache.bytes().filter(|byte| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\')),
            );
            out.push(b'"');
        }
        match self.forwarded {
            None => out.extend_from_slice(b"; hit"),
            Some(why) => {
                out.extend_from_slice(b"; fwd=");
                out.extend_from_slice(why.as_str().as_bytes());
            }
        }
        let mut number = itoa::Buffer::new();
        if let Some(status) = self.origin_status {
            out.extend_from_slice(b"; fwd-status=");
            out.extend_from_slice(number.format(status).as_bytes());
        }
        if let Some(ttl) = self.ttl {
            out.extend_from_slice(b"; ttl=");
            out.extend_from_slice(number.format(ttl).as_bytes());
        }
        if self.stored {
            out.extend_from_slice(b"; stored");
        }
        if self.collapsed {
            out.extend_from_slice(b"; collapsed");
        }
        if let Some(detail) = self.detail {
            out.extend_from_slice(b"; detail=");
            out.extend_from_slice(detail.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(outcome: Outcome, cache: &str) -> String {
        let mut out = Vec::new();
        outcome.write(cache, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_the_standard_writes_it() {
        assert_eq!(written(Outcome::hit(376), "gw"), "gw; hit; ttl=376");
        let stale =
            Outcome { origin_status: Some(304), stored: true, ..Outcome::forwarded(Forwarded::Stale) };
        assert_eq!(written(stale, "gw"), "gw; fwd=stale; fwd-status=304; stored");
        let other = Outcome { collapsed: true, ..Outcome::forwarded(Forwarded::UriMiss).because("x") };
        assert_eq!(written(other, "my \"gate\""), "\"my gate\"; fwd=uri-miss; collapsed; detail=x");
    }
}
