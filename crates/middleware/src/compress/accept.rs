//! `Accept-Encoding` (RFC 9110 §12.5.3): which codings a client takes, and which it likes better.

use portcullis_core::{Fields, Known};

use super::coding::Coding;

/// What a client takes: a quality from 0 (not at all) to 1000 for each coding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    zstd: u16,
    br: u16,
    gzip: u16,
    identity: u16,
}

impl Accepted {
    /// Reads all `Accept-Encoding` fields; `None` when the client takes no coding of ours, or says nothing.
    pub fn of(fields: &Fields) -> Option<Accepted> {
        let (mut zstd, mut br, mut gzip, mut identity, mut any) = (None, None, None, None, None);
        for line in fields.known_all(Known::AcceptEncoding) {
            for element in line.split(|b| *b == b',') {
                // An element that is not well formed is as if it were not there: better plain than wrong.
                let Some((name, quality)) = element_of(element) else { continue };
                let place = match () {
                    () if name.eq_ignore_ascii_case(b"zstd") => &mut zstd,
                    () if name.eq_ignore_ascii_case(b"br") => &mut br,
                    // RFC 9110 §8.4.1.3: "x-gzip" is to be taken as "gzip".
                    () if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") => {
                        &mut gzip
                    }
                    () if name.eq_ignore_ascii_case(b"identity") => &mut identity,
                    () if name == b"*" => &mut any,
                    () => continue,
                };
                // Named twice: the first counts.
                place.get_or_insert(quality);
            }
        }
        let [zstd, br, gzip] = [zstd, br, gzip].map(|named| named.or(any).unwrap_or(0));
        // Not named, identity is acceptable, and second to any coding that is.
        let accepted = Accepted { zstd, br, gzip, identity: identity.unwrap_or(0) };
        (zstd.max(br).max(gzip) > 0).then_some(accepted)
    }

    /// The best of the codings on offer; the first offered wins among equals. `None`: plain.
    pub fn choose(self, offered: &[Coding]) -> Option<Coding> {
        let mut best: Option<(Coding, u16)> = None;
        for &coding in offered {
            let quality = self.quality(coding);
            if quality > best.map_or(0, |(_, quality)| quality) {
                best = Some((coding, quality));
            }
        }
        best.filter(|(_, quality)| *quality >= self.identity).map(|(coding, _)| coding)
    }

    fn quality(self, coding: Coding) -> u16 {
        match coding {
            Coding::Zstd => self.zstd,
            Coding::Br => self.br,
            Coding::Gzip => self.gzip,
        }
    }
}

/// `gzip;q=0.5` as name and quality.
fn element_of(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = element.split(|b| *b == b';');
    let name = parts.next()?.trim_ascii();
    let quality = match parts.next() {
        None => 1000,
        Some(parameter) => {
            let (key, value) = parameter.trim_ascii().split_at_checked(2)?;
            key.eq_ignore_ascii_case(b"q=").then(|| thousandths(value))??
        }
    };
    (!name.is_empty() && parts.next().is_none()).then_some((name, quality))
}

/// `qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )` (RFC 9110 §12.4.2), in thousandths.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (first, rest) = value.split_first()?;
    let digits = match rest.split_first() {
        None => rest,
        Some((b'.', digits)) if digits.len() <= 3 => digits,
        Some(_) => return None,
    };
    let mut fraction = 0;
    for place in 0..3 {
        let digit = match digits.get(place) {
            Some(digit) if digit.is_ascii_digit() => u16::from(digit - b'0'),
            Some(_) => return None,
            None => 0,
        };
        fraction = fraction * 10 + digit;
    }
    match (first, fraction) {
        (b'0', fraction) => Some(fraction),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

    fn chosen(lines: &[&str], offered: &[Coding]) -> Option<Coding> {
        let mut fields = Fields::new();
        lines.iter().for_each(|line| fields.append("accept-encoding", line));
        Accepted::of(&fields).and_then(|accepted| accepted.choose(offered))
    }

    #[test]
    fn qualities() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("0.", Some(0)),
            ("1.", Some(1000)),
            ("0.5", Some(500)),
            ("0.001", Some(1)),
            ("0.25", Some(250)),
            ("1.000", Some(1000)),
            ("0.000", Some(0)),
            ("", None),
            (".5", None),
            ("1.001", None),
            ("2", None),
            ("0.0001", None),
            ("00", None),
            ("-1", None),
            ("0,5", None),
            ("0.x", None),
            ("1e0", None),
            (" 1", None),
            ("0.5 ", None),
        ] {
            assert_eq!(thousandths(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn choices() {
        use Coding::{Br, Gzip, Zstd};
        for (lines, expected) in [
            (vec![], None),
            (vec![""], None),
            (vec!["gzip"], Some(Gzip)),
            (vec!["GZip"], Some(Gzip)),
            (vec!["x-gzip"], Some(Gzip)),
            (vec!["gzip, deflate, br, zstd"], Some(Zstd)),
            (vec!["gzip, deflate, br"], Some(Br)),
            (vec!["gzip", "br"], Some(Br)),
            (vec!["br;q=0.5, gzip"], Some(Gzip)),
            (vec!["br;q=0, gzip;q=0.001"], Some(Gzip)),
            (vec!["br;q=0, gzip;q=0, zstd;q=0"], None),
            (vec!["*"], Some(Zstd)),
            (vec!["*;q=0"], None),
            (vec!["zstd;q=0, *"], Some(Br)),
            (vec!["gzip;q=0.5, *;q=0.1"], Some(Gzip)),
            (vec!["identity"], None),
            (vec!["identity, gzip;q=0.5"], None),
            (vec!["identity;q=0.5, gzip;q=0.5"], Some(Gzip)),
            (vec!["identity;q=0, gzip;q=0.2"], Some(Gzip)),
            (vec!["identity;q=0"], None),
            (vec!["deflate, compress"], None),
            (vec!["gzip;q=2"], None),
            (vec!["gzip;q=0.5;x=y"], None),
            (vec!["gzip;level=9"], None),
            (vec![" gzip ; q=0.5 ,, br ; Q=0.4"], Some(Gzip)),
            (vec!["gzip;q=0, gzip"], None),
            (vec!["gzipp, zst"], None),
        ] {
            assert_eq!(chosen(&lines, &ALL), expected, "{lines:?}");
        }
        assert_eq!(chosen(&["gzip, br, zstd"], &[Gzip, Br]), Some(Gzip));
        assert_eq!(chosen(&["zstd"], &[Gzip, Br]), None);
    }

    #[test]
    fn any_bytes_are_read_without_harm_and_no_coding_is_made_up() {
        let alphabet: Vec<&str> =
            ["gzip", "br", "zstd", "*", ",", ";", "q", "=", "0", ".", "1", "5", " ", "\t", "é"].into();
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let line: String = (0..random.usize(0..12)).map(|_| *random.choice(&alphabet).unwrap()).collect();
            if let Some(coding) = chosen(&[&line], &ALL) {
                assert!(line.contains(coding.name()) || line.contains('*'), "{line:?} gave {coding:?}");
            }
        }
    }
}
