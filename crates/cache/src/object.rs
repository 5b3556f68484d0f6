//! A stored answer.

use bytes::Bytes;
use http::StatusCode;
use portcullis_core::{Fields, fields::Span};

use crate::date::Seconds;

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

    /// As bytes, for stores that keep bytes: with a checksum, so that what was cut or damaged is not taken for whole.
    pub fn encode(&self) -> Vec<u8> {
        let times = &self.times;
        let mut out = Vec::with_capacity(self.size() + HEADER);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.status.as_u16().to_le_bytes());
        out.extend_from_slice(&[u8::from(times.always_revalidate), u8::from(times.never_stale)]);
        out.extend_from_slice(&times.received.to_le_bytes());
        let numbers = [
            times.initial_age,
            times.lifetime,
            times.stale_while_revalidate,
            times.stale_if_error,
            self.key.into(),
            self.variant.into(),
            self.lengths,
            self.head,
            self.body_bytes().len() as u32,
            times.in_need,
        ];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        let sum = checksum(&[&out, self.head(), self.body_bytes()]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(self.head());
        out.extend_from_slice(self.body_bytes());
        out
    }

    /// Reads what [`Object::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &Bytes) -> Option<Object> {
        let header = bytes.get(..HEADER)?;
        let (plain, sum) = header.split_at_checked(HEADER - 8)?;
        if !plain.starts_with(MAGIC) {
            return None;
        }
        let u32_at = |at: usize| Some(u32::from_le_bytes(plain.get(at..at + 4)?.try_into().ok()?));
        let head = bytes.get(HEADER..)?.get(..u32_at(48)? as usize)?;
        let body = bytes.get(HEADER + head.len()..)?;
        let sum = u64::from_le_bytes(sum.try_into().ok()?);
        if body.len() != u32_at(52)? as usize || checksum(&[plain, head, body]) != sum {
            return None;
        }
        let (key, variant, lengths) = (u32_at(36)?, u32_at(40)?, u32_at(44)?);
        if u64::from(key) + u64::from(variant) + u64::from(lengths) > head.len() as u64 {
            return None;
        }
        let times = Times {
            received: u64::from_le_bytes(plain.get(12..20)?.try_into().ok()?),
            initial_age: u32_at(20)?,
            lifetime: u32_at(24)?,
            stale_while_revalidate: u32_at(28)?,
            stale_if_error: u32_at(32)?,
            in_need: u32_at(56)?,
            always_revalidate: plain.get(10) == Some(&1),
            never_stale: plain.get(11) == Some(&1),
        };
        let status = StatusCode::from_u16(u16::from_le_bytes(plain.get(8..10)?.try_into().ok()?)).ok()?;
        let end = HEADER + head.len();
        let (key, variant) = (u16::try_from(key).ok()?, u16::try_from(variant).ok()?);
        let large = (body.len() > SMALL).then(|| Box::new(bytes.slice(end..)));
        let all = if large.is_some() { bytes.slice(HEADER..end) } else { bytes.slice(HEADER..) };
        let head = head.len() as u32;
        let object = Object { status, times, bytes: all, large, head, lengths, key, variant };
        object.is_sound().then_some(object)
    }

    /// Is it a final answer whose lines are fields? A checksum finds damage; what somebody else wrote has a right one.
    fn is_sound(&self) -> bool {
        let (lines, mut at) = (self.lines(), 0_usize);
        for (name, value) in self.field_lengths() {
            let colon = at + name as usize;
            let end = colon + 2 + value as usize;
            let (Some(name), Some(value)) = (lines.get(at..colon), lines.get(colon + 2..end)) else {
                return false;
            };
            let is_name = std::str::from_utf8(name).is_ok_and(portcullis_core::line::is_token);
            let is_value = !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
            let is_line =
                lines.get(colon..colon + 2) == Some(b": ") && lines.get(end..end + 2) == Some(b"\r\n");
            if !is_name || !is_value || !is_line {
                return false;
            }
            at = end + 2;
        }
        at == lines.len() && self.lengths.is_multiple_of(4) && !self.status.is_informational()
    }

    /// Does it say of its body, where it says so at all, that it is so long?
    pub fn says_length(&self, length: u64) -> bool {
        let is_it = |value: &[u8]| std::str::from_utf8(value).is_ok_and(|text| text.parse() == Ok(length));
        self.get("content-length").all(is_it)
    }
}

const MAGIC: &[u8] = b"PCACHE02";
/// Magic, status, flags, time, ten numbers, checksum.
const HEADER: usize = 8 + 2 + 2 + 8 + 10 * 4 + 8;

/// FNV-1a over words of eight bytes: finds damage, not malice.
pub fn checksum(parts: &[&[u8]]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        let (words, rest) = part.as_chunks::<8>();
        for word in words {
            sum = (sum ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME).rotate_left(29);
        }
        for byte in rest {
            sum = (sum ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        sum = (sum ^ part.len() as u64).wrapping_mul(PRIME);
    }
    sum
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

    fn object(body: usize) -> Object {
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

    #[test]
    fn bytes_and_back_and_nothing_damaged() {
        for size in [0, 10, 5000] {
            let object = object(size);
            let bytes = Bytes::from(object.encode());
            let back = Object::decode(&bytes).unwrap();
            assert_eq!(
                (back.key(), back.variant(), back.body(), back.times),
                (object.key(), object.variant(), object.body(), object.times)
            );
            let again = object.without_body().with_body(object.body());
            assert_eq!(object.without_body().body_bytes(), b"");
            assert_eq!(
                (again.key(), again.lines(), again.body()),
                (object.key(), object.lines(), object.body())
            );
            for cut in [0, 1, HEADER - 1, HEADER, bytes.len() - 1] {
                assert!(Object::decode(&bytes.slice(..cut)).is_none(), "cut at {cut}");
            }
            for at in 0..bytes.len().min(200) {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 0x10;
                assert!(Object::decode(&damaged.into()).is_none(), "damage at {at}");
            }
            let mut more = bytes.to_vec();
            more.push(0);
            assert!(Object::decode(&more.into()).is_none());
        }
    }
}
