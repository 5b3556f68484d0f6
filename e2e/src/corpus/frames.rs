//! HTTP/2 frames as text, and the little that must be read of the other side's.
//!
//! ```text
//! HEADERS 1 END_STREAM END_HEADERS
//!   :method: GET
//!   x-name: a value
//! DATA 1 END_STREAM
//!   five!
//! ```
//!
//! A field whose value is empty ends with its colon. What is indented is the payload: fields (literals without indexing) of HEADERS and CONTINUATION, bytes otherwise, and
//! also of those when the frame's line says `RAW`.

use super::text;

/// The kinds of frames, by their number (RFC 9113 §6).
const KINDS: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];

/// Error codes, by their number (RFC 9113 §7).
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// A client's preface and empty SETTINGS.
pub fn preface() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat()
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field as a literal without indexing and without Huffman coding (RFC 7541 §6.2.2).
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &string(name), &string(value)].concat()
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if text.len() < 127 {
        out.push(text.len() as u8);
    } else {
        out.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text);
    out
}

/// Reads frames as they are written in the corpus.
///
/// # Errors
/// What is written wrongly.
pub fn bytes(written: &str) -> Result<Vec<u8>, String> {
    let mut frames: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in written.lines().filter(|line| !line.is_empty()) {
        match (line.strip_prefix("  "), frames.last_mut()) {
            (Some(content), Some((_, contents))) => contents.push(content),
            (None, _) => frames.push((line, Vec::new())),
            (Some(_), None) => return Err(format!("a payload before its frame: {line}")),
        }
    }
    let frames: Result<Vec<_>, _> = frames.iter().map(|(head, contents)| one(head, contents)).collect();
    Ok(frames?.concat())
}

fn one(head: &str, contents: &[&str]) -> Result<Vec<u8>, String> {
    let mut words = head.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let number = KINDS.iter().position(|known| *known == kind).ok_or(format!("what is {kind}?"))? as u8;
    let stream = words.next().and_then(|id| id.parse().ok()).ok_or(format!("which stream? {head}"))?;
    let (mut flags, mut is_raw) = (0, !matches!(kind, "HEADERS" | "CONTINUATION"));
    for word in words {
        match word {
            "END_STREAM" | "ACK" => flags |= 1,
            "END_HEADERS" => flags |= 4,
            "PADDED" => flags |= 8,
            "PRIORITY" => flags |= 32,
            "RAW" => is_raw = true,
            _ => return Err(format!("what is {word}?")),
        }
    }
    let mut payload = Vec::new();
    for content in contents {
        if is_raw {
            payload.extend(text::bytes(content)?);
            continue;
        }
        let (name, value) = text::field(content)?;
        payload.extend(field(&name, &value));
    }
    Ok(frame(number, flags, stream, &payload))
}

/// What a proxy said over HTTP/2 that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The head of an answer on this stream.
    Status(u32, u16),
    /// RST_STREAM.
    Reset(u32, &'static str),
    /// GOAWAY.
    GoAway(&'static str),
}

/// The whole frames in these bytes, as far as they matter; interim answers and trailers do not.
pub fn read(mut bytes: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    while let Some((header, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        bytes = rest;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let code = |at: usize| {
            let number =
                payload.get(at..at + 4).map_or(0, |code| u32::from_be_bytes(code.try_into().expect("four")));
            CODES.get(number as usize).copied().unwrap_or("UNKNOWN")
        };
        match header[3] {
            1 => said.extend(status(payload).map(|status| Said::Status(stream, status))),
            3 => said.push(Said::Reset(stream, code(0))),
            7 => said.push(Said::GoAway(code(4))),
            _ => {}
        }
    }
    said
}

/// The status, which comes first: from the static table (RFC 7541 appendix A), or as a text behind its name.
fn status(block: &[u8]) -> Option<u16> {
    // A change of the table's size may come before all fields.
    let block = match block {
        [0x20..=0x3f, rest @ ..] => rest,
        all => all,
    };
    Some(match block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x48 | 0x08, 3, digits @ ..] => std::str::from_utf8(digits.get(..3)?).ok()?.parse().ok()?,
        [0x48 | 0x08, length, text @ ..] => huffman_digits(text.get(..usize::from(length & 0x7f))?)?,
        _ => return None,
    })
}

/// Three digits in the code of RFC 7541 appendix B: `0` to `2` have five bits, the others six.
pub(super) fn huffman_digits(text: &[u8]) -> Option<u16> {
    let bits: Vec<u8> = text.iter().flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit) & 1)).collect();
    let (mut at, mut number) = (0, 0);
    let value = |part: &[u8]| part.iter().fold(0_u16, |value, bit| value * 2 + u16::from(*bit));
    for _ in 0..3 {
        let five = value(bits.get(at..at + 5)?);
        let digit = match five {
            0..=2 => {
                at += 5;
                five
            }
            _ => {
                let six = value(bits.get(at..at + 6)?);
                at += 6;
                six.checked_sub(0b01_0110)?
            }
        };
        number = number * 10 + digit;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_written_as_they_read() {
        let written = "HEADERS 1 END_HEADERS\n  :method: GET\n  x: a b\nDATA 1 END_STREAM\n  five\\x21\n";
        let block = [&b"\0\x07:method\x03GET"[..], b"\0\x01x\x03a b"].concat();
        let expected = [frame(1, 4, 1, &block), frame(0, 1, 1, b"five!")].concat();
        assert_eq!(bytes(written).unwrap(), expected);
        assert!(bytes("WHAT 1").is_err() && bytes("DATA x").is_err() && bytes("DATA 1 SOON").is_err());
    }

    #[test]
    fn answers_are_read() {
        let bytes = [
            frame(4, 0, 0, &[]),
            frame(1, 4, 1, &[0x20, 0x8c]),
            // 431, in the Huffman code: 011010 011001 00001, filled up with ones.
            frame(1, 4, 3, &[0x48, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111]),
            frame(3, 0, 5, &[0, 0, 0, 1]),
            frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 11]),
        ];
        let said = [
            Said::Status(1, 400),
            Said::Status(3, 431),
            Said::Reset(5, "PROTOCOL_ERROR"),
            Said::GoAway("ENHANCE_YOUR_CALM"),
        ];
        assert_eq!(read(&bytes.concat()), said);
    }
}
