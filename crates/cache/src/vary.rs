//! `Vary` (RFC 9111 §4.1): which stored answer was for a request like this one.

use portcullis_core::{Fields, Known};

/// What an answer varies by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    /// By nothing, or by these fields: in lower case, sorted, each once.
    Names(Vec<Box<str>>),
    /// `*`: no request is ever like another.
    Any,
}

impl Vary {
    /// What an answer says.
    pub fn of(fields: &Fields) -> Vary {
        Vary::read(fields.known_all(Known::Vary))
    }

    /// What a stored answer says.
    pub fn of_object(object: &crate::Object) -> Vary {
        Vary::read(object.get("vary"))
    }

    fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vary {
        let mut names: Vec<Box<str>> = Vec::new();
        for line in lines {
            for name in line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                match std::str::from_utf8(name) {
                    Ok("") => {}
                    Ok("*") | Err(_) => return Vary::Any,
                    Ok(name) => names.push(name.to_ascii_lowercase().into()),
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        Vary::Names(names)
    }
}

/// Writes what a request says in these fields, in one form for all ways to say the same.
pub fn write_variant(names: &[Box<str>], request: &Fields, out: &mut Vec<u8>) {
    for name in names {
        out.push(b'\n');
        match &**name {
            "accept-encoding" => accept_encoding(request, out),
            "accept" | "accept-language" | "accept-charset" => list(request, name, true, out),
            _ => list(request, name, false, out),
        }
    }
}

/// Several lines are one list (RFC 9110 §5.3); white space around its commas says nothing. Absent and empty differ.
fn list(request: &Fields, name: &str, lower: bool, out: &mut Vec<u8>) {
    let mut first = true;
    for line in request.get_all(name) {
        out.push(if std::mem::take(&mut first) { b':' } else { b',' });
        let start = out.len();
        let mut rest = line;
        let mut between = false;
        while !rest.is_empty() {
            let (member, after) = crate::directives::member(rest);
            if std::mem::replace(&mut between, true) {
                out.push(b',');
            }
            out.extend_from_slice(member.trim_ascii());
            rest = after;
        }
        if lower && let Some(written) = out.get_mut(start..) {
            written.make_ascii_lowercase();
        }
    }
}

/// The codings that a client takes, sorted: their order and weights are left to the origin, and each that is named is
/// good. So the hundred ways in which clients say `gzip, br` are one variant.
fn accept_encoding(request: &Fields, out: &mut Vec<u8>) {
    if !request.has(Known::AcceptEncoding) {
        return;
    }
    out.push(b':');
    let mut codings: Vec<Vec<u8>> = Vec::new();
    for member in request.known_all(Known::AcceptEncoding).flat_map(|line| line.split(|&byte| byte == b',')) {
        let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let mut coding = parts.next().unwrap_or_default().to_ascii_lowercase();
        let is_refused = parts.any(is_zero);
        if coding == b"x-gzip" {
            coding = b"gzip".to_vec();
        }
        // What is always acceptable says something only when it is not.
        if coding.is_empty() || (is_refused == (coding != b"identity" && coding != b"*")) {
            continue;
        }
        if is_refused {
            coding.insert(0, b'-');
        }
        codings.push(coding);
    }
    codings.sort_unstable();
    codings.dedup();
    out.extend_from_slice(&codings.join(&b","[..]));
}

/// `q=0`, `q=0.000`
fn is_zero(parameter: &[u8]) -> bool {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
    value.is_some_and(|value| !value.is_empty() && value.iter().all(|byte| matches!(byte, b'0' | b'.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(name: &str, lines: &[&str]) -> String {
        let request: Fields = lines.iter().map(|line| (name, *line)).collect();
        let mut out = Vec::new();
        write_variant(&[name.to_ascii_lowercase().into()], &request, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_one_list() {
        let of = |text: &str| Vary::of(&[("Vary", text)].into_iter().collect());
        assert_eq!(of("Accept,  COOKIE,accept"), Vary::Names(vec!["accept".into(), "cookie".into()]));
        assert_eq!((of(""), of("a, *")), (Vary::Names(vec![]), Vary::Any));
    }

    #[test]
    fn codings_are_a_set() {
        for same in
            ["br,gzip", "gzip;q=0.8, br", "GZIP , BR;q=1.0", "x-gzip, br, deflate;q=0", "br, gzip, gzip"]
        {
            assert_eq!(variant("Accept-Encoding", &[same]), "\n:br,gzip", "{same}");
        }
        assert_eq!(variant("Accept-Encoding", &["gzip", "br"]), "\n:br,gzip");
        assert_eq!(variant("Accept-Encoding", &["gzip, identity;q=0"]), "\n:-identity,gzip");
        assert_eq!(variant("Accept-Encoding", &[""]), "\n:");
        assert_eq!(variant("Accept-Encoding", &[]), "\n");
    }

    #[test]
    fn white_space_says_nothing_and_case_only_where_it_does() {
        assert_eq!(
            variant("Accept-Language", &["DE , en;q=0.5"]),
            variant("Accept-Language", &["de,en;q=0.5"])
        );
        assert_eq!(variant("X-A", &["a,b"]), variant("X-A", &["a", " b"]));
        assert_ne!(variant("X-A", &["a"]), variant("X-A", &["A"]));
        assert_ne!(variant("X-A", &[""]), variant("X-A", &[]));
        assert_ne!(variant("X-A", &["\"a, b\""]), variant("X-A", &["\"a,b\""]));
    }
}
