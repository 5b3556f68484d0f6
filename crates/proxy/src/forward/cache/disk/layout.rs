//! What stands in a file.
//!
//! ```text
//! body │ a checksum of each 64 KiB of it │ head: key, fields, times │ what it varies by, tags │ footer: lengths, checksum
//! ```
//!
//! What is known only at the end stands at the end, so that a file is written in one go, however long it gets. A file that
//! was cut has no footer; a bit that flipped is in something that has a checksum.

use std::{fs::File, io, os::unix::fs::FileExt};

use bytes::Bytes;
use portcullis_cache::{Object, object::checksum};

/// So much of a body has a checksum of its own.
pub(super) const CHUNK: usize = 64 * 1024;
/// So much of a file's end is read at first, when all of it is wanted: small files are then there as a whole.
pub(super) const WHOLE: u64 = 64 * 1024;
/// The same, when only its tail is.
pub(super) const END: u64 = 4096;
/// More than a head, or tags and fields that it varies by, ever take: what says so is damaged.
const MOST: u32 = 1 << 20;
const MAGIC: &[u8; 8] = b"PCFILE01";
/// Magic, length of the body, of the head and of what is beside it, checksum.
const FOOTER: usize = 8 + 8 + 4 + 4 + 8;

/// All that a file says beside its body.
#[derive(Debug)]
pub(super) struct Tail {
    /// The answer, without its body.
    pub object: Object,
    /// How long its body is.
    pub body: u64,
    /// Checksums of the body's pieces.
    pub sums: Vec<u64>,
    /// Its key is for several URIs.
    pub by_path: bool,
    /// What it varies by.
    pub names: Vec<Box<str>>,
    /// Names by which it can be purged.
    pub tags: Vec<Box<str>>,
}

/// How long a file with a body of this length may be.
pub(super) fn longest(body: u64) -> u64 {
    body.saturating_add(body.div_ceil(CHUNK as u64) * 8).saturating_add(2 * u64::from(MOST) + FOOTER as u64)
}

/// The checksums of a body.
pub(super) fn sums(body: &[u8]) -> Vec<u64> {
    body.chunks(CHUNK).map(|chunk| checksum(&[chunk])).collect()
}

impl Tail {
    /// As it stands in the file.
    pub fn encode(&self) -> Vec<u8> {
        let head = self.object.without_body().encode();
        let (names, tags) = (self.names.join("\n"), self.tags.join("\n"));
        let mut out = Vec::with_capacity(self.sums.len() * 8 + head.len() + names.len() + tags.len() + 64);
        self.sums.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
        out.extend_from_slice(&head);
        out.push(u8::from(self.by_path));
        out.extend_from_slice(&(names.len() as u32).to_le_bytes());
        out.extend_from_slice(names.as_bytes());
        out.extend_from_slice(tags.as_bytes());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.body.to_le_bytes());
        out.extend_from_slice(&(head.len() as u32).to_le_bytes());
        out.extend_from_slice(&((5 + names.len() + tags.len()) as u32).to_le_bytes());
        let sum = checksum(&[&out]);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the end of a file of this length; `None` when it is damaged. Also what was read of it, which for a small
    /// file is all of it. `first` is how much is read in the hope that it will do.
    pub fn read(file: &File, length: u64, first: u64) -> io::Result<Option<(Tail, Bytes)>> {
        let mut wanted = first.min(length);
        for _ in 0..2 {
            let mut end = vec![0; usize::try_from(wanted).unwrap_or(0)];
            file.read_exact_at(&mut end, length - wanted)?;
            let end = Bytes::from(end);
            match footer(&end, length) {
                Some(tail) if tail <= wanted => return Ok(decode(&end, tail).map(|tail| (tail, end))),
                Some(tail) => wanted = tail,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// How long all behind the body is; `None` when that does not fit.
fn footer(end: &Bytes, length: u64) -> Option<u64> {
    let footer = end.get(end.len().checked_sub(FOOTER)?..)?;
    if !footer.starts_with(MAGIC) {
        return None;
    }
    let body = u64_at(footer, 8)?;
    let chunks = body.div_ceil(CHUNK as u64).checked_mul(8)?;
    let (head, beside) = (u32_at(footer, 16)?, u32_at(footer, 20)?);
    if head.max(beside) > MOST {
        return None;
    }
    let rest = u64::from(head) + u64::from(beside) + FOOTER as u64;
    let tail = chunks.checked_add(rest)?;
    (body.checked_add(tail)? == length).then_some(tail)
}

fn decode(end: &Bytes, tail: u64) -> Option<Tail> {
    let all = end.slice(end.len().checked_sub(usize::try_from(tail).ok()?)?..);
    let (plain, sum) = all.split_at_checked(all.len().checked_sub(8)?)?;
    if checksum(&[plain]) != u64_at(sum, 0)? {
        return None;
    }
    let footer = plain.len().checked_sub(FOOTER - 8)?;
    let body = u64_at(plain, footer + 8)?;
    let (head, beside) = (u32_at(plain, footer + 16)? as usize, u32_at(plain, footer + 20)? as usize);
    let chunks = usize::try_from(body.div_ceil(CHUNK as u64)).ok()?.checked_mul(8)?;
    let (sums, _) = plain.get(..chunks)?.as_chunks::<8>();
    let object = Object::decode(&all.slice(chunks..chunks.checked_add(head)?.min(all.len())))?;
    if !object.says_length(body) {
        return None;
    }
    let beside = plain.get(chunks + head..)?.get(..beside)?;
    let (names, tags) = beside.get(5..)?.split_at_checked(u32_at(beside, 1)? as usize)?;
    Some(Tail {
        object,
        body,
        sums: sums.iter().map(|sum| u64::from_le_bytes(*sum)).collect(),
        by_path: beside.first() == Some(&1),
        names: list(names)?,
        tags: list(tags)?,
    })
}

fn list(text: &[u8]) -> Option<Vec<Box<str>>> {
    let text = std::str::from_utf8(text).ok()?;
    Some(text.split('\n').filter(|each| !each.is_empty()).map(Box::from).collect())
}

/// The body of a file whose end was read; `None` when it is damaged.
pub(super) fn body(file: &File, tail: &Tail, end: &Bytes, length: u64) -> io::Result<Option<Bytes>> {
    let Ok(size) = usize::try_from(tail.body) else { return Ok(None) };
    let body = if end.len() as u64 == length {
        end.slice(..size.min(end.len()))
    } else {
        let mut body = vec![0; size];
        file.read_exact_at(&mut body, 0)?;
        Bytes::from(body)
    };
    Ok((sums(&body) == tail.sums).then_some(body))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http::StatusCode;
    use portcullis_cache::Times;

    use super::*;

    fn written(body: &[u8]) -> Vec<u8> {
        let times = Times { received: 5, lifetime: 60, ..Times::default() };
        let fields = [("Content-Type", "text/plain")].into_iter().collect();
        let object =
            Object::new(b"http://a/b\nroute", b"\n:gzip", StatusCode::OK, &fields, &[], times).unwrap();
        let tail = Tail {
            object,
            body: body.len() as u64,
            sums: sums(body),
            by_path: true,
            names: vec!["accept-encoding".into()],
            tags: vec!["news".into(), "all of it".into()],
        };
        [body, &tail.encode()].concat()
    }

    fn read(bytes: &[u8]) -> Option<(Tail, Bytes)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let length = bytes.len() as u64;
        let (tail, end) = Tail::read(&file, length, WHOLE).unwrap()?;
        assert!(Tail::read(&file, length, END).unwrap().is_some());
        let body = body(&file, &tail, &end, length).unwrap()?;
        Some((tail, body))
    }

    #[test]
    fn there_and_back() {
        for size in [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 20 * CHUNK] {
            let body: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
            let (tail, back) = read(&written(&body)).unwrap();
            assert!(back == body, "{size}");
            assert_eq!((tail.object.key(), tail.object.times.lifetime), (&b"http://a/b\nroute"[..], 60));
            assert_eq!(
                (tail.names, tail.tags),
                (vec!["accept-encoding".into()], vec!["news".into(), "all of it".into()])
            );
        }
    }

    /// Whatever is cut off or flipped, it is noticed.
    #[test]
    fn nothing_damaged_is_read() {
        let small = written(b"0123456789");
        for cut in 0..small.len() {
            assert!(read(&small[..cut]).is_none(), "cut at {cut}");
            let mut flipped = small.clone();
            flipped[cut] ^= 0x20;
            assert!(read(&flipped).is_none(), "flipped at {cut}");
        }
        // Lengths that are not to be believed are not believed before they cost anything.
        let mut boasting = vec![0; 3 << 20];
        let head = (boasting.len() - FOOTER) as u32;
        boasting.truncate(head as usize);
        boasting.extend_from_slice(MAGIC);
        [0_u32, 0, head, 0, 0, 0].iter().for_each(|n| boasting.extend_from_slice(&n.to_le_bytes()));
        assert_eq!(footer(&Bytes::from(boasting.clone()), boasting.len() as u64), None);
        let large = written(&vec![b'x'; 10 * CHUNK]);
        for at in [0, 1, CHUNK, 9 * CHUNK + 77, 10 * CHUNK, 10 * CHUNK + 60, large.len() - 1] {
            let mut flipped = large.clone();
            flipped[at] ^= 1;
            assert!(read(&flipped).is_none(), "flipped at {at}");
        }
        assert!(read(&large[1..]).is_none() && read(&[]).is_none() && read(&[0; 100]).is_none());
    }
}
