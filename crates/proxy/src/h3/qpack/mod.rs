//! QPACK (RFC 9204) without its dynamic table: we announce none, so that no field section refers to one, and encode
//! without one. Nothing is remembered between sections, nothing can be bloated or blocked, and the two streams that would
//! carry the table's changes carry nothing.

use portcullis_core::Error;

mod huffman;
mod table;

/// What a field counts beside its name and value (RFC 9114 §4.2.2).
const OVERHEAD: usize = 32;

/// Why a section cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is none (QPACK_DECOMPRESSION_FAILED).
    Broken,
    /// It holds more than allowed.
    TooLarge,
    /// Whoever took the fields refused one.
    Refused(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Refused(error)
    }
}

/// Decodes a section, field by field. All fields together may count as much as `most`.
pub(super) fn decode(
    section: &[u8],
    most: usize,
    mut field: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Fault> {
    let mut reader = Reader { rest: section };
    // §4.5.1: a section that needs entries of a dynamic table needs what there is not.
    if reader.integer(8)?.1 != 0 {
        return Err(Fault::Broken);
    }
    // §4.5.1.2: a base before the table's begin.
    if reader.integer(7)?.0 != 0 {
        return Err(Fault::Broken);
    }
    let (mut names, mut values) = (Vec::new(), Vec::new());
    let mut left = most;
    while let Some(&first) = reader.rest.first() {
        names.clear();
        values.clear();
        let (name, value): (&[u8], &[u8]) = if first & 0x80 != 0 {
            // §4.5.2: an entry of the static table.
            let (flags, number) = reader.integer(6)?;
            let (name, value) = entry(flags & 1 != 0, number)?;
            (name.as_bytes(), value.as_bytes())
        } else if first & 0x40 != 0 {
            // §4.5.4: the name of one.
            let (flags, number) = reader.integer(4)?;
            let (name, _) = entry(flags & 1 != 0, number)?;
            (name.as_bytes(), reader.string(7, &mut values)?)
        } else if first & 0x20 != 0 {
            // §4.5.6: both as they are.
            (reader.string(3, &mut names)?, reader.string(7, &mut values)?)
        } else {
            // §4.5.3, §4.5.5: an entry of the dynamic table.
            return Err(Fault::Broken);
        };
        left = left.checked_sub(name.len() + value.len() + OVERHEAD).ok_or(Fault::TooLarge)?;
        field(name, value)?;
    }
    Ok(())
}

fn entry(is_static: bool, number: u64) -> Result<(&'static str, &'static str), Fault> {
    let number = usize::try_from(number).ok().filter(|_| is_static);
    number.and_then(|number| table::TABLE.get(number)).copied().ok_or(Fault::Broken)
}

/// A section being read.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let (first, rest) = self.rest.split_first().ok_or(Fault::Broken)?;
        self.rest = rest;
        Ok(*first)
    }

    /// An integer in the last `bits` of a byte and those that follow (RFC 7541 §5.1), and what is before it in that byte.
    fn integer(&mut self, bits: u32) -> Result<(u8, u64), Fault> {
        let first = self.byte()?;
        let most = u8::MAX >> (8 - bits);
        let flags = u8::try_from(u32::from(first) >> bits).unwrap_or_default();
        let mut value = u64::from(first & most);
        if value < u64::from(most) {
            return Ok((flags, value));
        }
        // §4.1.1: 62 bits must be understood; nothing here is ever that large.
        for shift in (0..56).step_by(7) {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((flags, value));
            }
        }
        Err(Fault::Broken)
    }

    /// A string whose length is in the last `bits` of a byte, behind the flag that it is compressed.
    fn string<'s>(&mut self, bits: u32, room: &'s mut Vec<u8>) -> Result<&'s [u8], Fault>
    where
        'a: 's,
    {
        let (flags, length) = self.integer(bits)?;
        let length = usize::try_from(length).map_err(|_| Fault::Broken)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Fault::Broken)?;
        self.rest = rest;
        if flags & 1 == 0 {
            return Ok(text);
        }
        huffman::decode(text, room).ok_or(Fault::Broken)?;
        Ok(room)
    }
}

/// A section being written.
pub struct Section {
    bytes: Vec<u8>,
}

impl Section {
    /// An empty one, behind so many bytes that are left free.
    pub(super) fn new(free: usize) -> Section {
        let mut bytes = Vec::with_capacity(256);
        bytes.resize(free + 2, 0);
        Section { bytes }
    }

    /// Appends a field, whose name is in whatever case.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        // Most names fit.
        let mut room = [0; 64];
        let long;
        let name = match room.get_mut(..name.len()) {
            Some(lower) => {
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                &*lower
            }
            None => {
                long = name.to_ascii_lowercase();
                &long
            }
        };
        match table::named(name) {
            Some(named) => match named.with(value) {
                Some(number) => self.integer(0xc0, 6, number),
                None => {
                    // Bit 5 says that it must never be put into a table (§4.5.4): there is none here.
                    self.integer(0x50, 4, named.first);
                    self.string(0, 7, value);
                }
            },
            None => {
                self.string(0x20, 3, name);
                self.string(0, 7, value);
            }
        }
    }

    /// All of it, with the bytes that were left free.
    pub(super) fn whole(self) -> Vec<u8> {
        self.bytes
    }

    fn integer(&mut self, flags: u8, bits: u32, value: usize) {
        let most = usize::from(u8::MAX >> (8 - bits));
        if value < most {
            self.bytes.push(flags | value as u8);
            return;
        }
        self.bytes.push(flags | most as u8);
        let mut rest = value - most;
        while rest >= 0x80 {
            self.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }

    fn string(&mut self, flags: u8, bits: u32, text: &[u8]) {
        self.integer(flags, bits, text.len());
        self.bytes.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(section: &[u8], most: usize) -> Result<Vec<(String, String)>, Fault> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        decode(section, most, |name, value| {
            fields.push((text(name), text(value)));
            Ok(())
        })?;
        Ok(fields)
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let long = "v".repeat(5000);
        let name = "x-".to_owned() + &"n".repeat(300);
        let fields = [
            (":status", "200"),
            (":status", "299"),
            ("Content-Type", "application/json"),
            ("content-type", "text/odd"),
            ("X-Own", ""),
            ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
            (&name, &long),
            ("x-frame-options", "sameorigin"),
        ];
        let mut section = Section::new(0);
        fields.iter().for_each(|(name, value)| section.add(name.as_bytes(), value.as_bytes()));
        let section = section.whole();
        let expected: Vec<_> =
            fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect();
        assert_eq!(decoded(&section, 9000).unwrap(), expected);
        assert!(matches!(decoded(&section, 5000), Err(Fault::TooLarge)));
        for cut in 0..section.len() {
            // Between two fields a section may end; nowhere else, and never in a panic.
            let _ = decoded(&section[..cut], 9000);
        }
    }

    /// RFC 9204, Appendix B.1, and compressed strings.
    #[test]
    fn what_others_encode_is_understood() {
        let section = b"\x00\x00\x51\x0b/index.html";
        assert_eq!(decoded(section, 100).unwrap(), [(":path".into(), "/index.html".into())]);
        let compressed = [
            &[0, 0, 0x50, 0x8c][..],
            &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
        ]
        .concat();
        assert_eq!(decoded(&compressed, 100).unwrap(), [(":authority".into(), "www.example.com".into())]);
    }

    #[test]
    fn what_is_no_section_is_broken() {
        let cases: [&[u8]; 10] = [
            b"",
            b"\x00",
            b"\x01\x00\x80",
            b"\x00\x00\x80",
            b"\x00\x00\x10",
            b"\x00\x00\x00\x00",
            b"\x00\x00\xff\x24",
            b"\x00\x00\x51\x0b/short",
            b"\x00\x00\x51\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x00\x00\x51\x81\x00",
        ];
        for bad in cases {
            assert!(matches!(decoded(bad, 1000), Err(Fault::Broken)), "{bad:x?}");
        }
        let refuse = |_: &[u8], _: &[u8]| Err(Error::new(portcullis_core::Kind::BadRequest));
        assert!(matches!(decode(b"\x00\x00\xd1", 1000, refuse), Err(Fault::Refused(_))));
    }
}
