//! An object as bytes, for stores that keep bytes. What they give back may be damaged, or not from here: it is read with care.

use bytes::Bytes;
use http::StatusCode;

use super::{Object, SMALL, Times};

const MAGIC: &[u8] = b"PCACHE02";
/// Magic, status, flags, time, ten numbers, checksum.
const HEADER: usize = 8 + 2 + 2 + 8 + 10 * 4 + 8;

impl Object {
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

#[cfg(test)]
mod tests {
    use super::{super::tests::object, *};

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

    /// What somebody else wrote may have a right checksum. It is no object all the same when its lines are no fields.
    #[test]
    fn nothing_whose_lines_are_no_fields() {
        let bytes = object(10).encode();
        let head = u32::from_le_bytes(*bytes[48..].first_chunk().unwrap()) as usize;
        let forged = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            let sum =
                checksum(&[&bytes[..HEADER - 8], &bytes[HEADER..HEADER + head], &bytes[HEADER + head..]]);
            bytes[HEADER - 8..HEADER].copy_from_slice(&sum.to_le_bytes());
            Object::decode(&Bytes::from(bytes))
        };
        let lines = HEADER + head - b"Content-Type: text/plain\r\nX-A: \r\nx-a: 2\r\n".len();
        assert!(forged(&|_| ()).is_some_and(|object| object.says_length(99)));
        assert!(forged(&|bytes| bytes[lines] = b'K').is_some());
        for (at, byte) in [(0, b' '), (12, b'x'), (14, b'\r'), (15, b'\n'), (16, 0), (24, b'x'), (25, b'x')] {
            assert!(forged(&|bytes| bytes[lines + at] = byte).is_none(), "{at} {byte}");
        }
        // A length more or less, of a name and of a value; and a status that is none.
        for (at, by) in [(12, 1), (12, 255), (10, 1), (1, 1)] {
            assert!(
                forged(&|bytes| bytes[lines - at] = bytes[lines - at].wrapping_add(by)).is_none(),
                "{at} {by}"
            );
        }
        assert!(forged(&|bytes| bytes[8..10].copy_from_slice(&103_u16.to_le_bytes())).is_none());
    }
}
