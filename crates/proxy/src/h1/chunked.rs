//! The chunked coding (RFC 9112 §7.1), read strictly: CRLF only, sizes of at most 16 hex digits, extensions and
//! trailers bounded.

use portcullis_core::{Error, Fields, Kind};

use super::head;
use crate::io::Input;

/// Longest line of a chunk's size with its extensions.
const LINE: usize = 1024;
/// Extension bytes that a whole body may hold: more is an attack on the reader's time.
const EXTENSIONS: usize = 16 * 1024;
/// Largest trailer section.
const TRAILERS: usize = 8 * 1024;

/// Where in the coding the reader stands.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    extensions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// What one step found.
#[derive(Debug)]
pub enum Step {
    /// More bytes are needed.
    More,
    /// So many bytes of data were appended.
    Data(usize),
    /// This many bytes of data come next, all of them still unread: the caller may read them itself and then say so
    /// with [`Chunked::passed`].
    End(Option<Fields>),
}

impl Default for Chunked {
    fn default() -> Chunked {
        Chunked { state: State::Size, extensions: 0 }
    }
}

impl Chunked {
    /// Is the body over?
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes what there is in `input`, appending at most `limit` bytes of data to `out`.
    ///
    /// # Errors
    /// `BadRequest` (the caller makes it `BadResponse` for answers) on anything that is not exactly the coding.
    pub fn step(&mut self, input: &mut Input, out: &mut Vec<u8>, limit: usize) -> Result<Step, Error> {
        let mut appended = 0;
        loop {
            match self.state {
                State::Size => match self.size(input)? {
                    Some(size) => self.state = if size == 0 { State::Trailers } else { State::Data(size) },
                    None => break,
                },
                State::Data(left) => {
                    let wanted = (limit - appended).min(usize::try_from(left).unwrap_or(usize::MAX));
                    let piece = input.unread();
                    let piece = piece.get(..wanted).unwrap_or(piece);
                    if piece.is_empty() {
                        break;
                    }
                    out.extend_from_slice(piece);
                    let taken = piece.len();
                    input.consume(taken);
                    appended += taken;
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                }
                State::DataEnd => match input.unread() {
                    [b'\r', b'\n', ..] => {
                        input.consume(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => break,
                    _ => return Err(bad("chunk data does not end where its size says")),
                },
                State::Trailers if appended > 0 => break,
                State::Trailers => return self.trailers(input),
                State::Done => return Ok(Step::End(None)),
            }
        }
        Ok(if appended > 0 { Step::Data(appended) } else { Step::More })
    }

    /// The size line, when it is complete.
    fn size(&mut self, input: &mut Input) -> Result<Option<u64>, Error> {
        let bytes = input.unread();
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            let partial_is_fine = bytes.len() <= LINE && digits(bytes) <= 16;
            return if partial_is_fine { Ok(None) } else { Err(bad("chunk size line too long")) };
        };
        let line = bytes
            .get(..end)
            .and_then(|line| line.strip_suffix(b"\r"))
            .ok_or_else(|| bad("bare LF after a chunk size"))?;
        let count = digits(line);
        if count == 0 || count > 16 || line.len() > LINE {
            return Err(bad("bad chunk size"));
        }
        let (number, extension) = line.split_at(count);
        if !extension_is_fine(extension) {
            return Err(bad("bad chunk extension"));
        }
        self.extensions += extension.len();
        if self.extensions > EXTENSIONS {
            return Err(bad("too many chunk extensions"));
        }
        let size = number.iter().fold(0_u64, |size, &digit| (size << 4) | u64::from(hex(digit)));
        input.consume(end + 1);
        Ok(Some(size))
    }

    /// The trailer section, when it is complete.
    fn trailers(&mut self, input: &mut Input) -> Result<Step, Error> {
        let bytes = input.unread();
        if bytes.starts_with(b"\r\n") {
            input.consume(2);
            self.state = State::Done;
            return Ok(Step::End(None));
        }
        let mut scan = head::Scan::default();
        match scan.end(bytes).map_err(|_| bad("bare LF in trailers"))? {
            Some(end) if end <= TRAILERS => {
                let trailers = head::trailers(bytes.get(..end).unwrap_or_default())?;
                input.consume(end);
                self.state = State::Done;
                Ok(Step::End(Some(trailers)))
            }
            None if bytes.len() <= TRAILERS => Ok(Step::More),
            _ => Err(bad("trailers too large")),
        }
    }
}

fn bad(reason: &'static str) -> Error {
    Error::because(Kind::BadRequest, reason)
}

fn digits(line: &[u8]) -> usize {
    line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a' - 10),
    }
}

/// Nothing, or white space before a `;` and then visible characters. What it says is ignored, never forwarded.
fn extension_is_fine(extension: &[u8]) -> bool {
    extension.is_empty()
        || (extension.trim_ascii_start().starts_with(b";")
            && extension.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
            && quotes_are_closed(extension))
}

/// A string that goes on behind the line's end would, for somebody who reads strings, take the end for a part of it.
fn quotes_are_closed(extension: &[u8]) -> bool {
    let (mut is_open, mut bytes) = (false, extension.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_open = !is_open,
            b'\\' if is_open => {
                bytes.next();
            }
            _ => {}
        }
    }
    !is_open
}

/// Room for the size line that [`close_chunk`] fills in.
pub const CHUNK_HEAD: usize = 6;
/// Largest chunk that the four digits of the size line can tell.
pub const CHUNK_MAX: usize = 0xffff;

/// Leaves room for a size line; data is appended behind it.
pub fn open_chunk(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(b"0000\r\n");
    out.len()
}

/// Fills in the size line of a chunk whose data begins at `start`, and ends it; without data takes the room back.
pub fn close_chunk(out: &mut Vec<u8>, start: usize) {
    let size = out.len() - start;
    if size == 0 {
        out.truncate(start - CHUNK_HEAD);
        return;
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if let Some(line) = out.get_mut(start - CHUNK_HEAD..start - 2) {
        for (place, digit) in line.iter_mut().rev().enumerate() {
            *digit = DIGITS.get((size >> (4 * place)) & 15).copied().unwrap_or(b'0');
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The last chunk and the trailers.
pub fn end(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.write_to(out);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of `size`; the data and trailers, or the error.
    fn decode(bytes: &[u8], size: usize) -> Result<(Vec<u8>, Option<Fields>, usize), Error> {
        let (mut chunked, mut input, mut out) = (Chunked::default(), Input::default(), Vec::new());
        let mut fed = Vec::new();
        for piece in bytes.chunks(size) {
            fed.extend_from_slice(piece);
            let mut rest = input.take();
            rest.extend_from_slice(piece);
            input = Input::holding(rest);
            loop {
                match chunked.step(&mut input, &mut out, 7)? {
                    Step::More => break,
                    Step::Data(_) => {}
                    Step::End(trailers) => return Ok((out, trailers, fed.len() - input.unread().len())),
                }
            }
        }
        Err(Error::new(Kind::ResponseIncomplete))
    }

    #[test]
    fn decodes_in_any_pieces() {
        let body = b"5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nNEXT";
        for size in 1..=body.len() {
            let (data, trailers, used) = decode(body, size).unwrap();
            assert_eq!(data, b"hello0123456789");
            assert_eq!(trailers.unwrap().get("x-sum"), Some(&b"1"[..]));
            assert_eq!(used, body.len() - 4);
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for bad in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "\r\nhello\r\n",
            "g\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "-1\r\n",
            "11111111111111111\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "5;a\u{1}b\r\nhello\r\n0\r\n\r\n",
            "5;a=\"\r\nhello\r\n0\r\n\r\n",
            "5;a=\"\\\"\r\nhello\r\n0\r\n\r\n",
            "0\r\nbad header\r\n\r\n",
            "0\r\nx: 1\n\r\n",
            "0\r\nContent-Length: 5\r\n\r\n",
        ] {
            let result = decode(bad.as_bytes(), 64);
            assert!(matches!(&result, Err(e) if e.kind == Kind::BadRequest), "{bad:?}: {result:?}");
        }
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(2000));
        assert!(decode(long.as_bytes(), 4096).is_err());
    }

    #[test]
    fn encodes_what_it_decodes() {
        let mut out = Vec::new();
        let start = open_chunk(&mut out);
        close_chunk(&mut out, start);
        assert!(out.is_empty());
        let start = open_chunk(&mut out);
        out.extend(vec![b'x'; 0x1a2b]);
        close_chunk(&mut out, start);
        end(&mut out, None);
        assert!(out.starts_with(b"1a2b\r\nx"));
        assert_eq!(decode(&out, 1000).unwrap().0.len(), 0x1a2b);
    }
}
