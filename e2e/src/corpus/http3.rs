//! HTTP/3 streams as text, and the little that must be read of the other side's.
//!
//! ```text
//! REQUEST
//! HEADERS
//!   :method: GET
//!   x-name: a value
//! DATA
//!   five!
//! ```
//!
//! A line that is not indented begins a stream or a frame. Streams: `REQUEST` (which ends behind its last frame, or with
//! `OPEN` stays open, or with `RESET` is broken off), `CONTROL`, `PUSH`, `ENCODER`, `DECODER` and `UNI 0x21` (which stay
//! open; with `END` they end). Frames: those of RFC 9114 §7.2 by name, others as `FRAME 0x21`, and `BYTES` for what is no
//! frame. What is indented is the payload: fields (literals) of HEADERS, text otherwise, and also of HEADERS when the line
//! says `RAW`; `LENGTH n` says that it is another length than it is. A client opens its control stream by itself, with
//! empty settings, unless the first line says `SILENT`.

use super::{frames::huffman_digits, text};

/// Codes of errors by name (RFC 9114 §8.1, RFC 9204 §6).
const CODES: [(u64, &str); 20] = [
    (0x100, "H3_NO_ERROR"),
    (0x101, "H3_GENERAL_PROTOCOL_ERROR"),
    (0x102, "H3_INTERNAL_ERROR"),
    (0x103, "H3_STREAM_CREATION_ERROR"),
    (0x104, "H3_CLOSED_CRITICAL_STREAM"),
    (0x105, "H3_FRAME_UNEXPECTED"),
    (0x106, "H3_FRAME_ERROR"),
    (0x107, "H3_EXCESSIVE_LOAD"),
    (0x108, "H3_ID_ERROR"),
    (0x109, "H3_SETTINGS_ERROR"),
    (0x10a, "H3_MISSING_SETTINGS"),
    (0x10b, "H3_REQUEST_REJECTED"),
    (0x10c, "H3_REQUEST_CANCELLED"),
    (0x10d, "H3_REQUEST_INCOMPLETE"),
    (0x10e, "H3_MESSAGE_ERROR"),
    (0x10f, "H3_CONNECT_ERROR"),
    (0x110, "H3_VERSION_FALLBACK"),
    (0x200, "QPACK_DECOMPRESSION_FAILED"),
    (0x201, "QPACK_ENCODER_STREAM_ERROR"),
    (0x202, "QPACK_DECODER_STREAM_ERROR"),
];

/// Types of frames by name (RFC 9114 §7.2).
const FRAMES: [(&str, u64); 7] = [
    ("DATA", 0x0),
    ("HEADERS", 0x1),
    ("CANCEL_PUSH", 0x3),
    ("SETTINGS", 0x4),
    ("PUSH_PROMISE", 0x5),
    ("GOAWAY", 0x7),
    ("MAX_PUSH_ID", 0xd),
];

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order.
    Finished,
    /// Not.
    Open,
    /// Broken off.
    Reset,
}

/// What the client does on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// A request's; else one of the client alone.
    pub is_request: bool,
    /// The bytes, with the type that a unidirectional one begins with.
    pub bytes: Vec<u8>,
    /// And then.
    pub end: End,
}

/// The control stream that a client opens unless it is told not to.
pub fn control() -> Stream {
    Stream { is_request: false, bytes: [vec![0], frame(4, &[])].concat(), end: End::Open }
}

/// The name of an error.
pub fn code(number: u64) -> String {
    let known = CODES.iter().find(|(code, _)| *code == number);
    known.map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_owned())
}

/// An integer in the shortest form (RFC 9000 §16).
pub fn integer(value: usize) -> Vec<u8> {
    match value {
        0..0x40 => vec![value as u8],
        0x40..0x4000 => (0x4000 | value as u16).to_be_bytes().to_vec(),
        0x4000..0x4000_0000 => (0x8000_0000 | value as u32).to_be_bytes().to_vec(),
        _ => (0xc000_0000_0000_0000 | value as u64).to_be_bytes().to_vec(),
    }
}

/// A frame.
pub fn frame(kind: usize, payload: &[u8]) -> Vec<u8> {
    [&integer(kind), &integer(payload.len()), payload].concat()
}

/// A field as a literal with a literal name (RFC 9204 §4.5.6).
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [string(0x20, 3, name), string(0, 7, value)].concat()
}

/// A HEADERS frame of such fields.
pub fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = fields.iter().flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes()));
    frame(1, &[0, 0].into_iter().chain(fields).collect::<Vec<_>>())
}

fn string(flags: u8, bits: u32, text: &[u8]) -> Vec<u8> {
    let most = (1_usize << bits) - 1;
    let mut bytes = Vec::new();
    if text.len() < most {
        bytes.push(flags | text.len() as u8);
    } else {
        bytes.push(flags | most as u8);
        let mut rest = text.len() - most;
        while rest >= 128 {
            bytes.push(rest as u8 | 128);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes.extend_from_slice(text);
    bytes
}

/// Reads streams as they are written in the corpus.
///
/// # Errors
/// What is written wrongly.
pub fn streams(written: &str) -> Result<Vec<Stream>, String> {
    let (mut out, mut has_begun) = (vec![control()], false);
    let mut lines = written.lines().filter(|line| !line.is_empty()).peekable();
    if lines.next_if_eq(&"SILENT").is_some() {
        out.clear();
    }
    while let Some(line) = lines.next() {
        let mut contents = Vec::new();
        while let Some(content) = lines.peek().and_then(|line| line.strip_prefix("  ")) {
            contents.push(content);
            lines.next();
        }
        if let Some(begun) = stream(line)? {
            out.push(begun);
            has_begun = true;
            continue;
        }
        // Frames without a stream are of a request.
        if !std::mem::replace(&mut has_begun, true) {
            out.push(Stream { is_request: true, bytes: Vec::new(), end: End::Finished });
        }
        let bytes = one(line, &contents)?;
        out.last_mut().ok_or("no stream")?.bytes.extend(bytes);
    }
    Ok(out)
}

/// A line that begins a stream.
fn stream(line: &str) -> Result<Option<Stream>, String> {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut words = rest.split_whitespace();
    let kind = match kind {
        "REQUEST" => None,
        "CONTROL" => Some(0),
        "PUSH" => Some(1),
        "ENCODER" => Some(2),
        "DECODER" => Some(3),
        "UNI" => Some(number(words.next())? as usize),
        _ => return Ok(None),
    };
    let mut end = if kind.is_none() { End::Finished } else { End::Open };
    for word in words {
        end = match word {
            "OPEN" => End::Open,
            "END" => End::Finished,
            "RESET" => End::Reset,
            _ => return Err(format!("what is {word}?")),
        };
    }
    Ok(Some(Stream { is_request: kind.is_none(), bytes: kind.map(integer).unwrap_or_default(), end }))
}

fn number(word: Option<&str>) -> Result<u64, String> {
    let digits = word.and_then(|word| word.strip_prefix("0x"));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| format!("a number like 0x21, not {word:?}"))
}

fn one(line: &str, contents: &[&str]) -> Result<Vec<u8>, String> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let kind = match name {
        "BYTES" => None,
        "FRAME" => Some(number(words.next())?),
        name => {
            let known = FRAMES.iter().find(|(known, _)| *known == name);
            Some(known.ok_or_else(|| format!("what is {name}?"))?.1)
        }
    };
    let (mut is_raw, mut length) = (name != "HEADERS", None);
    while let Some(word) = words.next() {
        match word {
            "RAW" => is_raw = true,
            "LENGTH" => length = words.next().and_then(|word| word.parse::<usize>().ok()),
            _ => return Err(format!("what is {word}?")),
        }
    }
    let mut payload = Vec::new();
    if !is_raw {
        payload.extend([0, 0]);
    }
    for content in contents {
        if is_raw {
            payload.extend(text::bytes(content)?);
            continue;
        }
        let (name, value) = text::field(content)?;
        payload.extend(field(&name, &value));
    }
    let Some(kind) = kind else { return Ok(payload) };
    Ok([integer(kind as usize), integer(length.unwrap_or(payload.len())), payload].concat())
}

/// The status of the final answer in what arrived on a stream, once its head is whole.
pub fn status(mut bytes: &[u8]) -> Option<u16> {
    loop {
        let (kind, rest) = read_integer(bytes)?;
        let (length, rest) = read_integer(rest)?;
        let (payload, rest) = rest.split_at_checked(length as usize)?;
        bytes = rest;
        if kind == 1 {
            let status = status_of(payload.get(2..)?);
            if status.is_none_or(|status| status >= 200) {
                return status;
            }
        }
    }
}

fn read_integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = 1 << (bytes.first()? >> 6);
    let (integer, rest) = bytes.split_at_checked(length)?;
    let value = integer.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    Some((value & (u64::MAX >> (66 - 8 * length)), rest))
}

/// The status, which comes first: from the static table (RFC 9204 appendix A), or as a text behind its name.
fn status_of(section: &[u8]) -> Option<u16> {
    let text = match section {
        [first @ 0xc0..=0xfe, ..] => {
            return [(24, 103), (25, 200), (26, 304), (27, 404), (28, 503)]
                .into_iter()
                .find(|(number, _)| *number == first & 0x3f)
                .map(|(_, status)| status);
        }
        [0xff, number, ..] => {
            let known = [100, 204, 206, 302, 400, 403, 421, 425, 500];
            return known.get(usize::from(*number)).copied();
        }
        // The name by its number, which does not fit into four bits.
        [0x5f, _, text @ ..] => text,
        _ => return None,
    };
    let (length, text) = text.split_first()?;
    let text = text.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 { std::str::from_utf8(text).ok()?.parse().ok() } else { huffman_digits(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_written_as_they_read() {
        let written = "REQUEST OPEN\nHEADERS\n  :method: GET\nDATA LENGTH 9\n  five!\nCONTROL\nSETTINGS\nUNI 0x21 END\nBYTES\n  \\x01\n";
        let block = [&[0, 0, 0x27, 0][..], b":method\x03GET"].concat();
        let request = [frame(1, &block), vec![0, 9], b"five!".to_vec()].concat();
        let streams = streams(written).unwrap();
        assert_eq!(streams[0], control());
        assert_eq!(streams[1], Stream { is_request: true, bytes: request, end: End::Open });
        assert_eq!(streams[2], control());
        assert_eq!(streams[3], Stream { is_request: false, bytes: vec![0x21, 1], end: End::Finished });
        assert_eq!(super::streams("SILENT\nFRAME 0x40\n").unwrap()[0].bytes, [0x40, 0x40, 0]);
        let settled = super::streams("SILENT\nCONTROL\nSETTINGS\nSETTINGS\n").unwrap();
        assert_eq!(settled, [Stream { bytes: vec![0, 4, 0, 4, 0], ..control() }]);
        for wrong in ["WHAT", "UNI", "UNI 21", "REQUEST SOON", "DATA SOON", "HEADERS\n  no field"] {
            assert!(super::streams(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn integers_have_four_lengths() {
        for value in [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000] {
            assert_eq!(read_integer(&integer(value)), Some((value as u64, &[][..])), "{value:#x}");
        }
        assert_eq!(read_integer(&[0x40]), None);
    }

    #[test]
    fn answers_are_read() {
        let section = |field: &[u8]| frame(1, &[&[0, 0], field].concat());
        assert_eq!(status(&section(&[0xd9])), Some(200));
        assert_eq!(status(&section(&[0xff, 4])), Some(400));
        assert_eq!(status(&section(&[0x5f, 9, 3, b'4', b'3', b'1'])), Some(431));
        assert_eq!(status(&section(&[0x5f, 9, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111])), Some(431));
        let both = [frame(0x21, b"x"), section(&[0xff, 0]), section(&[0xdb])].concat();
        assert_eq!(status(&both), Some(404));
        assert_eq!(status(&both[..both.len() - 1]), None);
    }
}
