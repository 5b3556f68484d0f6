//! A stored answer.

use bytes::Bytes;
use http::StatusCode;
use portcullis_core::{Fields, fields::Span};

use crate::date::Seconds;

mod stored;

pub use stored::checksum;

/// What is known of an answer's time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// When it was received, or last confirmed.
    pub received: Seconds,
    /// How old it was then (RFC 9111 §4.2.3).
    pub initial_age: u32,
    /// How old it may get.
    pub lifetime: u32,
    /// How much older, while it is being refreshed.
    pub stale_while_revalidate: u32,
    /// How much older, while the origin fails.
    pub stale_if_error: u32,
    /// How much older, while the origin fails, by configuration when it was stored: so long a store keeps it for that. Whether
    /// it may then be used, the configuration of that time says.
    pub in_need: u32,
    /// `no-cache`: never without asking.
    pub always_revalidate: bool,
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage`: never when stale (RFC 9111 §4.2.4).
    pub never_stale: bool,
}

impl Times {
    /// Its age.
    pub fn age(&self, now: Seconds) -> u64 {
        u64::from(self.initial_age) + now.saturating_sub(self.received)
    }

    /// How long it is still fresh; negative: for how long it has been stale.
    pub fn ttl(&self, now: Seconds) -> i64 {
        let age = i64::try_from(self.age(now)).unwrap_or(i64::MAX);
        i64::from(self.lifetime).saturating_sub(age)
    }
}

/// A stored answer: immutable, compact, and quick to make an answer from.
///
/// Key, fields and a small body are one allocation. Fields stand as they go out, `name: value CRLF`, behind a table of
/// their lengths.
#[derive(Debug, Clone)]
pub struct Object {
    /// The status.
    pub status: StatusCode,
    /// Its times.
    pub times: Times,
    /// key ‖ variant ‖ lengths of the fields ‖ fields ‖ the body, where it is small
    bytes: Bytes,
    /// The body, where it is not.
    large: Option<Box<Bytes>>,
    /// How long all before the body is, and its parts.
    head: u32,
    lengths: u32,
    key: u16,
    variant: u16,
}

/// Bodies up to this size share the head's allocation.
const SMALL: usize = 2048;
/// Bodies from this size on are not copied when they came in one piece.
const LARGE: usize = 256 * 1024;
/// Largest head that is stored.
const HEAD: usize = 32 * 1024;

impl Object {
    /// Puts an answer together; `None` when its head is too large to be kept. `Content-Length` is set to what is there.
    pub fn new(
        key: &[u8],
        variant: &[u8],
        status: StatusCode,
        fields: &Fields,
        body: &[Bytes],
        times: Times,
    ) -> Option<Object> {
        let length: usize = body.iter().map(Bytes::len).sum();
        let mut lengths: Vec<u8> = Vec::with_capacity(64);
        let mut lines: Vec<u8> = Vec::with_capacity(512);
        for (name, value) in fields.iter() {
            lengths.extend_from_slice(&u16::try_from(name.len()).ok()?.to_le_bytes());
            lengths.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
            lines.extend_from_slice(name);
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value);
            lines.extend_from_slice(b"\r\n");
        }
        if lines.len() + key.len() + variant.len() > HEAD {
            return None;
        }
        let small = if length <= SMALL { length } else { 0 };
        let head = key.len() + variant.len() + lengths.len() + lines.len();
        let mut all = Vec::with_capacity(head + small);
        for part in [key, variant, &lengths, &lines] {
            all.extend_from_slice(part);
        }
        let large = if length <= SMALL {
            body.iter().for_each(|piece| all.extend_from_slice(piece));
            None
        } else {
            Some(Box::new(joined(body, length)))
        };
        let (key, variant) = (u16::try_from(key.len()).ok()?, u16::try_from(variant.len()).ok()?);
        let (head, lengths) = (head as u32, lengths.len() as u32);
        Some(Object { status, times, bytes: all.into(), large, head, lengths, key, variant })
    }

    fn part(&self, start: u32, length: u32) -> &[u8] {
        self.bytes.get(start as usize..(start + length) as usize).unwrap_or_default()
    }

    fn head(&self) -> &[u8] {
        self.part(0, self.head)
    }

    /// What it is an answer to.
    pub fn key(&self) -> &[u8] {
        self.part(0, self.key.into())
    }

    /// The URI of its key.
    pub fn uri(&self) -> &[u8] {
        self.key().split(|&byte| byte == b'\n').next().unwrap_or_default()
    }

    /// What the request said in the fields that the answer varies by.
    pub fn variant(&self) -> &[u8] {
        self.part(self.key.into(), self.variant.into())
    }

    /// The body: its bytes are shared.
    pub fn body(&self) -> Bytes {
        match &self.large {
            Some(body) => (**body).clone(),
            None if self.bytes.len() > self.head as usize => self.bytes.slice(self.head as usize..),
            None => Bytes::new(),
        }
    }

    /// The body, to look at.
    pub fn body_bytes(&self) -> &[u8] {
        match &self.large {
            Some(body) => body,
            None => self.bytes.get(self.head as usize..).unwrap_or_default(),
        }
    }

    /// Bytes that it holds.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.large.as_ref().map_or(0, |body| body.len())
    }

    fn before_lines(&self) -> u32 {
        u32::from(self.key) + u32::from(self.variant) + self.lengths
    }

    fn lines(&self) -> &[u8] {
        self.head().get(self.before_lines() as usize..).unwrap_or_default()
    }

    fn field_lengths(&self) -> impl Iterator<Item = (u32, u32)> {
        let (lengths, _) = self.part(self.before_lines() - self.lengths, self.lengths).as_chunks::<4>();
        lengths.iter().map(|[a, b, c, d]| {
            (u32::from(u16::from_le_bytes([*a, *b])), u32::from(u16::from_le_bytes([*c, *d])))
        })
    }

    /// Its fields: one copy, and a look at each name.
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::new();
        let mut at = fields.adopt(self.lines());
        for (name, value) in self.field_lengths() {
            let name = Span { start: at, end: at + name };
            let value = Span { start: name.end + 2, end: name.end + 2 + value };
            fields.push_spans(name, value);
            at = value.end + 2;
        }
        fields
    }

    /// Values of a field.
    pub fn get<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.lines();
        let mut at = 0_usize;
        self.field_lengths().filter_map(move |(name_length, value_length)| {
            let start = at + name_length as usize + 2;
            let end = start + value_length as usize;
            let found = lines.get(at..start - 2)?.eq_ignore_ascii_case(name.as_bytes());
            at = end + 2;
            if found { lines.get(start..end) } else { None }
        })
    }

    /// The same body for other requests, under other fields and times.
    pub fn freshened(&self, variant: &[u8], fields: &Fields, times: Times) -> Option<Object> {
        Object::new(self.key(), variant, self.status, fields, &[self.body()], times)
    }

    /// The same body under other fields and times.
    pub fn with_head(&self, fields: &Fields, times: Times) -> Option<Object> {
        self.freshened(self.variant(), fields, times)
    }

    /// The same head, for a body that is kept elsewhere.
    #[must_use]
    pub fn without_body(&self) -> Object {
        let bytes = self.bytes.slice(..self.bytes.len().min(self.head as usize));
        Object { bytes, large: None, ..self.clone() }
    }

    /// The same head with this body, which must be the one that belongs to it.
    #[must_use]
    pub fn with_body(self, body: Bytes) -> Object {
        if body.len() > SMALL {
            return Object { large: Some(Box::new(body)), ..self.without_body() };
        }
        let mut all = Vec::with_capacity(self.head().len() + body.len());
        all.extend_from_slice(self.head());
        all.extend_from_slice(&body);
        Object { bytes: all.into(), large: None, ..self }
    }
}

fn joined(pieces: &[Bytes], length: usize) -> Bytes {
    match pieces {
        // One piece is shared only where the buffer that it is part of cannot be much larger.
        [one] if length >= LARGE => one.clone(),
        _ => {
            let mut all = Vec::with_capacity(length);
            pieces.iter().for_each(|piece| all.extend_from_slice(piece));
            Bytes::from(all)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn object(body: usize) -> Object {
        let fields: Fields =
            [("Content-Type", "text/plain"), ("X-A", ""), ("x-a", "2")].into_iter().collect();
        let body = [Bytes::from(vec![b'x'; body / 2]), Bytes::from(vec![b'y'; body - body / 2])];
        let times = Times { received: 5, lifetime: 60, never_stale: true, ..Times::default() };
        Object::new(b"http://a/b\nroute", b"\n:gzip", StatusCode::OK, &fields, &body, times).unwrap()
    }

    #[test]
    fn what_goes_in_comes_out() {
        for size in [0, 1, SMALL, SMALL + 1, 100_000] {
            let object = object(size);
            assert_eq!((object.key(), object.uri()), (&b"http://a/b\nroute"[..], &b"http://a/b"[..]));
            assert_eq!((object.variant(), object.body().len()), (&b"\n:gzip"[..], size));
            assert_eq!(object.get("X-a").collect::<Vec<_>>(), [&b""[..], b"2"]);
            let mut out = Vec::new();
            object.fields().write_to(&mut out);
            assert_eq!(out, b"Content-Type: text/plain\r\nX-A: \r\nx-a: 2\r\n");
        }
    }
}
