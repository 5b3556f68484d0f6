//! Bytes as text: line ends of the file mean nothing, every byte that matters is written.

/// `\r`, `\n`, `\t`, `\0`, `\\`, `\xHH`, and `\{text*count}` for many of the same.
///
/// # Errors
/// Anything else behind a backslash.
pub fn bytes(written: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = written;
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            '\n' => {}
            '\\' => rest = escaped(rest, &mut out)?,
            other => out.extend(other.to_string().bytes()),
        }
    }
    Ok(out)
}

fn escaped<'a>(rest: &'a str, out: &mut Vec<u8>) -> Result<&'a str, String> {
    let wrong = || format!("what is \\{}?", rest.chars().take(8).collect::<String>());
    let kind = rest.chars().next().ok_or_else(wrong)?;
    let behind = &rest[kind.len_utf8()..];
    match kind {
        'r' => out.push(b'\r'),
        'n' => out.push(b'\n'),
        't' => out.push(b'\t'),
        '0' => out.push(0),
        '\\' => out.push(b'\\'),
        'x' => {
            let digits = behind.get(..2).ok_or_else(wrong)?;
            out.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
            return Ok(&behind[2..]);
        }
        '{' => {
            let (many, behind) = behind.split_once('}').ok_or_else(wrong)?;
            let (text, count) = many.rsplit_once('*').ok_or_else(wrong)?;
            let count = count.parse().map_err(|_| wrong())?;
            out.extend(bytes(text)?.repeat(count));
            return Ok(behind);
        }
        _ => return Err(wrong()),
    }
    Ok(behind)
}

/// `name: value`, or `name:` for an empty one.
///
/// # Errors
/// It is neither.
pub fn field(written: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    let (name, value) = match written.strip_suffix(':') {
        Some(name) => (name, ""),
        None => {
            let at = written.get(1..).and_then(|rest| rest.find(": "));
            let at = at.ok_or(format!("no field: {written}"))? + 1;
            (&written[..at], &written[at + 2..])
        }
    };
    Ok((bytes(name)?, bytes(value)?))
}

/// Bytes as they would be written in the corpus, on one line.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for &byte in bytes {
        match byte {
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            0 => out.push_str("\\0"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(byte as char),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_written() {
        let written = "GET\\x20/\\r\\n\nA:\\t\\{ab*3}\\0\\\\\\{\\xff*2}";
        let read = bytes(written).unwrap();
        assert_eq!(read, b"GET /\r\nA:\tababab\0\\\xff\xff");
        assert_eq!(bytes(&escape(&read)).unwrap(), read);
        for wrong in ["\\q", "\\", "\\x1", "\\xzz", "\\{a}", "\\{a*b}", "\\{a*3"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
