//! Heads: field sections and what they say.

use http::Method;
use portcullis_core::{Error, Fields, Kind, Known, Request};

use super::{
    frames,
    qpack::{self, Section},
    scan::kind,
};
use crate::{
    refused,
    streams::head::{Arriving, OF_CONNECTION, sent},
};

/// The head of a request as it arrived.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// `:method`
    pub method: Option<Method>,
    /// `:scheme`
    pub scheme: Option<String>,
    /// `:authority`
    pub authority: Option<String>,
    /// `:path`
    pub path: Option<String>,
    /// `:protocol` (RFC 9220)
    pub protocol: Option<String>,
    /// `User-Agent`, for the log of what is refused.
    pub agent: Option<Vec<u8>>,
}

/// Why a head is none.
#[derive(Debug)]
pub enum Fault {
    /// The connection must end (RFC 9204 §2.2).
    Broken,
    /// The request is refused.
    Refused(Error),
}

fn bad(why: &'static str) -> Error {
    Error::because(Kind::BadRequest, why)
}

/// Bytes that may stand in a name (RFC 9110 §5.6.2), none of them in upper case (RFC 9114 §4.2).
fn is_name(name: &[u8]) -> bool {
    let may_stand =
        |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(may_stand)
}

/// Bytes that may stand in a value (RFC 9110 §5.5).
fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

fn field<'a>(name: &'a [u8], value: &[u8]) -> Result<&'a str, Error> {
    if !is_value(value) {
        return Err(bad("a field value with control characters"));
    }
    std::str::from_utf8(name).ok().filter(|_| is_name(name)).ok_or_else(|| bad("a field name that is none"))
}

/// Is it a field of a connection, or `TE` with something that only connections have?
fn belongs_to_connection(name: &str, value: &[u8]) -> bool {
    match Known::of(name.as_bytes()) {
        Known::Other => false,
        Known::Te => !value.eq_ignore_ascii_case(b"trailers"),
        known => known.bit() & OF_CONNECTION != 0,
    }
}

impl RequestHead {
    /// Takes the head of a request apart: a field section that may count so many bytes and hold so many fields. What is
    /// refused is still known as far as it was read.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn read(&mut self, section: &[u8], most_bytes: usize, most_fields: usize) -> Result<Fields, Fault> {
        let mut arriving = Arriving::default();
        let mut has_fields = false;
        let decoded = qpack::decode(section, most_bytes, |name, value| {
            if name.first() == Some(&b':') {
                return match has_fields {
                    true => Err(bad("a pseudo-header field behind others")),
                    false => self.pseudo(name, value),
                };
            }
            has_fields = true;
            let name = field(name, value)?;
            if name == "user-agent" {
                self.agent = Some(value.to_vec());
            }
            if belongs_to_connection(name, value) {
                return Err(bad("a field of a connection"));
            }
            arriving.add(name, value, most_fields)
        });
        match decoded {
            Ok(()) => {
                self.check().map_err(Fault::Refused)?;
                Ok(arriving.whole())
            }
            Err(qpack::Fault::Broken) => Err(Fault::Broken),
            Err(qpack::Fault::TooLarge) => Err(Fault::Refused(Error::new(Kind::HeadersTooLarge))),
            Err(qpack::Fault::Refused(error)) => Err(Fault::Refused(error)),
        }
    }

    /// What the access log shows of it, when it cannot become a request.
    pub(super) fn shown(&self) -> Request {
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
        let (path, host) = (bytes(&self.path), bytes(&self.authority));
        let path = path.as_deref().unwrap_or_default();
        refused::shown(self.method.clone(), path, host.as_deref(), self.agent.as_deref())
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let text = std::str::from_utf8(value).ok().filter(|_| is_value(value));
        let text = text.ok_or_else(|| bad("a pseudo-header field with characters that none has"))?;
        let slot = match name {
            b":method" => {
                let method = Method::from_bytes(value).map_err(|_| bad(":method that is none"))?;
                return match self.method.replace(method) {
                    None => Ok(()),
                    Some(_) => Err(bad("a pseudo-header field twice")),
                };
            }
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            _ => return Err(bad("a pseudo-header field that requests do not have")),
        };
        match slot.replace(text.to_owned()) {
            None => Ok(()),
            Some(_) => Err(bad("a pseudo-header field twice")),
        }
    }

    /// RFC 9114 §4.3.1, §4.4; RFC 9220 §3.
    fn check(&self) -> Result<(), Error> {
        let Some(method) = &self.method else { return Err(bad("no :method")) };
        let is_connect = *method == Method::CONNECT;
        if self.protocol.is_some() && !is_connect {
            return Err(bad(":protocol without CONNECT"));
        }
        if is_connect && self.protocol.is_none() {
            // Refused with the others of its kind, as soon as it is a request.
            return Ok(());
        }
        if self.scheme.is_none() || self.path.as_deref().is_none_or(str::is_empty) {
            return Err(bad("no :scheme, or no :path"));
        }
        // As the library judges what comes by HTTP/2, so that the two cannot disagree. It takes a fragment away, though,
        // and a :path has none.
        let path = self.path.as_deref().unwrap_or_default();
        if path.contains('#') || http::uri::PathAndQuery::try_from(path).is_err() {
            return Err(bad(":path that is none"));
        }
        if self
            .authority
            .as_deref()
            .is_some_and(|authority| http::uri::Authority::try_from(authority).is_err())
        {
            return Err(bad(":authority that is none"));
        }
        Ok(())
    }
}

/// Reads trailers of a request.
///
/// # Errors
/// See [`Fault`].
pub fn trailers(section: &[u8], most_bytes: usize, most_fields: usize) -> Result<Fields, Fault> {
    let mut fields = Fields::new();
    let decoded = qpack::decode(section, most_bytes, |name, value| {
        let name = field(name, value)?;
        if fields.len() >= most_fields {
            return Err(Error::because(Kind::HeadersTooLarge, "too many trailers"));
        }
        fields.append(name, value);
        Ok(())
    });
    match decoded {
        Ok(()) => Ok(fields),
        Err(qpack::Fault::Broken) => Err(Fault::Broken),
        Err(qpack::Fault::TooLarge) => Err(Fault::Refused(Error::new(Kind::HeadersTooLarge))),
        Err(qpack::Fault::Refused(error)) => Err(Fault::Refused(error)),
    }
}

/// A HEADERS frame: `:status` when there is one, the fields, and what else the caller adds.
pub fn frame(
    status: Option<http::StatusCode>,
    fields: &Fields,
    left_out: u64,
    more: impl FnOnce(&mut Section),
) -> bytes::Bytes {
    let mut section = Section::new(frames::HEAD);
    if let Some(status) = status {
        section.add(b":status", status.as_str().as_bytes());
    }
    sent(fields, left_out).for_each(|(_, name, value)| section.add(name, value));
    more(&mut section);
    let mut bytes = section.whole();
    let at = frames::put_head(kind::HEADERS, frames::HEAD, &mut bytes);
    bytes::Bytes::from(bytes).slice(at..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(fields: &[(&str, &str)]) -> Vec<u8> {
        // Names as they are, since wrong ones are wanted too.
        let mut bytes = vec![0, 0];
        for (name, value) in fields {
            bytes.push(0x27);
            bytes.push((name.len() - 7) as u8);
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(value.len() as u8);
            bytes.extend_from_slice(value.as_bytes());
        }
        bytes
    }

    fn read(fields: &[(&str, &str)]) -> Result<(RequestHead, Fields), Fault> {
        // Short names would need another encoding: all in the tests have at least seven letters.
        let short: Vec<_> = fields.iter().filter(|(name, _)| name.len() < 7).collect();
        let mut bytes = vec![0, 0];
        for (name, value) in &short {
            bytes.push(0x20 | name.len() as u8);
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(value.len() as u8);
            bytes.extend_from_slice(value.as_bytes());
        }
        let long: Vec<_> = fields.iter().filter(|(name, _)| name.len() >= 7).copied().collect();
        bytes.extend_from_slice(&section(&long)[2..]);
        let mut head = RequestHead::default();
        let fields = head.read(&bytes, 2000, 10)?;
        Ok((head, fields))
    }

    fn refused(fields: &[(&str, &str)]) -> Kind {
        match read(fields) {
            Err(Fault::Refused(error)) => error.kind,
            other => panic!("{fields:?}: {other:?}"),
        }
    }

    const GOOD: [(&str, &str); 4] =
        [(":path", "/a?b"), (":method", "GET"), (":scheme", "https"), (":authority", "a.example")];

    #[test]
    fn a_head_is_read() {
        let (head, fields) = read(&[&GOOD[..], &[("x-field", "v"), ("user-agent", "me")]].concat()).unwrap();
        assert_eq!(head.method, Some(Method::GET));
        assert_eq!((head.path.as_deref(), head.authority.as_deref()), (Some("/a?b"), Some("a.example")));
        assert_eq!(fields.get_str("x-field"), Some("v"));
        assert_eq!(head.agent.as_deref(), Some(&b"me"[..]));
    }

    #[test]
    fn hostile_pseudo_header_fields_are_refused() {
        for extra in [
            (":method", "POST"),
            (":path", "/other"),
            (":authority", "b.example"),
            (":scheme", "https"),
            (":status", "200"),
            (":protocol", "websocket"),
            (":unknown", "1"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("te", "gzip"),
            ("x-upPer", "1"),
            ("x-space ", "1"),
            ("x-control", "a\rb"),
            ("x-nulled", "a\0b"),
            ("x-padded", " a"),
            ("content-length", "1x"),
        ] {
            assert_eq!(refused(&[&GOOD[..], &[extra]].concat()), Kind::BadRequest, "{extra:?}");
        }
        for missing in &GOOD[..3] {
            let fields: Vec<_> = GOOD.iter().filter(|field| *field != missing).copied().collect();
            assert_eq!(refused(&fields), Kind::BadRequest, "without {missing:?}");
        }
        let late = [(":path", "/"), (":method", "GET"), ("x-first", "1"), (":scheme", "https")];
        assert_eq!(refused(&late), Kind::BadRequest);
        assert_eq!(refused(&[(":path", ""), GOOD[1], GOOD[2], GOOD[3]]), Kind::BadRequest);
        assert_eq!(refused(&[GOOD[0], GOOD[1], GOOD[2], (":authority", "")]), Kind::BadRequest);
    }

    #[test]
    fn paths_and_authorities_are_such() {
        for path in ["/a b", "/a#b", "/\u{1}", "/\u{7f}", "/a\n", "http://a b/"] {
            assert_eq!(refused(&[(":path", path), GOOD[1], GOOD[2], GOOD[3]]), Kind::BadRequest, "{path}");
        }
        for authority in ["a b", "a/b", "a#b", "[::1"] {
            let fields = [GOOD[0], GOOD[1], GOOD[2], (":authority", authority)];
            assert_eq!(refused(&fields), Kind::BadRequest, "{authority}");
        }
    }

    #[test]
    fn too_much_is_too_large() {
        let many = [("x-field", "v"); 11];
        assert_eq!(refused(&[&GOOD[..], &many].concat()), Kind::HeadersTooLarge);
        let long = "v".repeat(120);
        let long = [("x-field", &*long); 9];
        assert!(read(&[&GOOD[..], &long[..8]].concat()).is_ok());
        let mut head = RequestHead::default();
        let over = head.read(&section(&long), 1000, 10);
        assert!(matches!(over, Err(Fault::Refused(error)) if error.kind == Kind::HeadersTooLarge));
    }

    /// Whatever comes is read or refused, and what is read is such as other protocols could have brought.
    #[test]
    fn sections_at_random() {
        let mut random = fastrand::Rng::with_seed(7);
        let good = section(&[&GOOD[3..], &[("user-agent", "me"), ("x-field", "value")]].concat());
        for round in 0..50_000 {
            let mut bytes = good.clone();
            if round % 2 == 0 {
                bytes = (0..random.usize(..60)).map(|_| random.u8(..)).collect();
                bytes.splice(..0, [0, 0]);
            } else {
                for _ in 0..random.usize(1..6) {
                    let at = random.usize(2..bytes.len());
                    bytes[at] = random.u8(..);
                }
            }
            let mut head = RequestHead::default();
            if let Ok(fields) = head.read(&bytes, 2000, 20) {
                assert!(fields.iter().all(|(name, value)| is_name(name) && is_value(value)), "{bytes:x?}");
                assert!(!fields.has_any(OF_CONNECTION), "{bytes:x?}");
            }
            let _ = (head.shown(), trailers(&bytes, 2000, 20));
        }
    }

    #[test]
    fn trailers_have_no_pseudo_header_fields() {
        assert!(trailers(&section(&[("x-check", "1")]), 1000, 10).is_ok());
        assert!(matches!(trailers(&section(&[(":status", "1")]), 1000, 10), Err(Fault::Refused(_))));
        assert!(matches!(trailers(&[9], 1000, 10), Err(Fault::Broken)));
    }

    #[test]
    fn a_frame_of_an_answer_can_be_read() {
        let fields: Fields =
            [("Server", "x"), ("Connection", "close"), ("X-Own", " b ")].into_iter().collect();
        let frame = frame(Some(http::StatusCode::OK), &fields, 0, |section| section.add(b"date", b"now"));
        let (kind, used) = super::super::varint::read(&frame).unwrap();
        let (length, more) = super::super::varint::read(&frame[used..]).unwrap();
        let payload = &frame[used + more..];
        assert_eq!((kind, length as usize), (1, payload.len()));
        let mut seen = Vec::new();
        qpack::decode(payload, 1000, |name, value| {
            seen.push((
                String::from_utf8_lossy(name).into_owned(),
                String::from_utf8_lossy(value).into_owned(),
            ));
            Ok(())
        })
        .unwrap();
        let seen: Vec<_> = seen.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(seen, [(":status", "200"), ("server", "x"), ("x-own", "b"), ("date", "now")]);
    }
}
