//! Paths as the native fields write them: `/users/{id}/files/*`.

use std::sync::Arc;

use super::{PathTemplate, Segment};
use crate::scalar::Problem;

impl PathTemplate {
    /// Reads a template. It must start with `/`, be in the canonical form in which request paths are matched,
    /// hold `*` only as a trailing `/*`, and name each parameter once.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let Some(rest) = text.strip_prefix('/') else {
            let help = format!("write `/{}`", text.trim_start_matches('/'));
            return Err(Problem::new(format!("the path `{text}` must start with `/`"), help));
        };
        let (body, tail) = match rest {
            "*" => ("", true),
            _ => rest.strip_suffix("/*").map_or((rest, false), |body| (body, true)),
        };
        if tail && body.ends_with('/') {
            return Err(Problem::new("an empty segment (`//`) before `/*`", "write a single `/`"));
        }
        let mut names: Vec<&str> = Vec::new();
        let mut segments = Vec::new();
        let parts: Vec<&str> = if tail && body.is_empty() { Vec::new() } else { body.split('/').collect() };
        let last = parts.len().saturating_sub(1);
        for (index, part) in parts.into_iter().enumerate() {
            if part.is_empty() && index != last {
                return Err(Problem::new(
                    format!("an empty segment (`//`) in `{text}`"),
                    "write a single `/`",
                ));
            }
            let segment = segment(part)?;
            if let Some(name) = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                if names.contains(&name) {
                    let message = format!("the parameter `{name}` stands twice in `{text}`");
                    return Err(Problem::new(message, "give each parameter a name of its own"));
                }
                names.push(name);
            }
            segments.push(segment);
        }
        Ok(Self { text: text.into(), segments, tail })
    }

    /// The bytes before the first parameter or the tail, without a `/` at the end: what `strip_path` takes away.
    /// Empty for `/*` and `/{id}`.
    pub fn literal_prefix(&self) -> Arc<str> {
        let mut prefix = String::new();
        for segment in &self.segments {
            let Segment::Literal(text) = segment else { break };
            prefix.push('/');
            prefix.push_str(text);
        }
        prefix.trim_end_matches('/').into()
    }

    /// How specific it is: its literal bytes, 1 for each parameter, 1 more when nothing may follow.
    pub fn specificity(&self) -> i64 {
        let mut sum = 0_i64;
        for segment in &self.segments {
            sum += match segment {
                Segment::Literal(text) => 1 + i64::try_from(text.len()).unwrap_or(i64::from(u16::MAX)),
                Segment::Parameter(_) => 2,
            };
        }
        sum + i64::from(!self.tail)
    }

    /// Whether a path in canonical form matches.
    pub fn matches(&self, path: &str) -> bool {
        let Some(mut rest) = path.strip_prefix('/') else { return false };
        let mut left = true;
        for segment in &self.segments {
            if !left {
                return false;
            }
            let (part, after) = match rest.split_once('/') {
                Some((part, after)) => (part, Some(after)),
                None => (rest, None),
            };
            let fits = match segment {
                Segment::Literal(text) => **text == *part,
                Segment::Parameter(_) => !part.is_empty(),
            };
            if !fits {
                return false;
            }
            left = after.is_some();
            rest = after.unwrap_or("");
        }
        self.tail || !left
    }
}

fn segment(part: &str) -> Result<Segment, Problem> {
    if let Some(inner) = part.strip_prefix('{') {
        let Some(name) = inner.strip_suffix('}') else {
            let message = format!("the parameter `{part}` must be a whole segment");
            return Err(Problem::new(
                message,
                "write `/{name}/`; parts of segments are matched by PathRegexp in `rule`",
            ));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() {
            return Err(Problem::new("a parameter without a name", "write `{name}`"));
        }
        if name.starts_with('*') {
            let message = format!("`{part}` is not a parameter");
            return Err(Problem::new(message, "write a trailing `/*` to match everything below"));
        }
        if !name.chars().all(plain) {
            let message = format!("`{name}` cannot name a parameter");
            return Err(Problem::new(
                message,
                "use letters, digits, `_` and `-`; patterns are matched by PathRegexp in `rule`",
            ));
        }
        return Ok(Segment::Parameter(name.into()));
    }
    if part.starts_with(':') {
        let name = part.trim_start_matches(':');
        return Err(Problem::new(format!("`{part}` is not a parameter here"), format!("write `{{{name}}}`")));
    }
    if part.contains(['{', '}']) {
        let message = format!("a parameter must be a whole segment, and `{part}` is not");
        return Err(Problem::new(
            message,
            "write `/{name}/`; parts of segments are matched by PathRegexp in `rule`",
        ));
    }
    if part.contains('*') {
        let message = match part {
            "*" => "`*` cannot stand before the end of a path".to_owned(),
            _ => format!("`*` cannot stand in `{part}`"),
        };
        return Err(Problem::new(
            message,
            "`*` stands only at the end, after a `/`: `/files/*`; one segment is `{name}`",
        ));
    }
    literal(part)?;
    Ok(Segment::Literal(part.into()))
}

/// A literal that no canonical path holds would never match, so it is refused here.
fn literal(part: &str) -> Result<(), Problem> {
    if part == "." || part == ".." {
        return Err(Problem::new(
            format!("a `{part}` segment never reaches a route"),
            "write the path without it",
        ));
    }
    if let Some(c) = part.chars().find(|c| matches!(c, '?' | '#' | '\\') || c.is_control()) {
        let help = match c {
            '?' => "the query is matched by `query = { name = \"value\" }`",
            _ => "write the path as it stands in a URL",
        };
        return Err(Problem::new(format!("{c:?} cannot stand in a path"), help));
    }
    let mut rest = part;
    while let Some(at) = rest.find('%') {
        let code = rest.get(at + 1..at + 3).filter(|d| d.chars().all(|c| c.is_ascii_hexdigit()));
        let Some(byte) = code.and_then(|d| u8::from_str_radix(d, 16).ok()) else {
            return Err(Problem::new(
                format!("`%` in `{part}` starts no percent-encoding"),
                "write `%25` for a `%`",
            ));
        };
        let canonical = format!("%{byte:02X}");
        if !b":/?#[]@!$&'()*+,;=%".contains(&byte) {
            let help = "request paths are decoded before they are matched; write the character itself";
            return Err(Problem::new(format!("`%{}` in `{part}` never matches", code.unwrap_or("")), help));
        }
        if code != canonical.get(1..) {
            let message = format!("`%{}` in `{part}` never matches", code.unwrap_or(""));
            return Err(Problem::new(message, format!("write `{canonical}`")));
        }
        rest = rest.get(at + 3..).unwrap_or("");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_whole_segments() {
        let cases = [
            ("/api/*", &["/api", "/api/", "/api/x/y"][..], &["/apix", "/", "/ap"][..]),
            ("/*", &["/", "/a", "/a/b"], &["*"]),
            ("/users/{id}", &["/users/7", "/users/a b"], &["/users", "/users/", "/users/7/", "/users/7/x"]),
            ("/users/{id}/*", &["/users/7", "/users/7/", "/users/7/x"], &["/users", "/users/"]),
            ("/", &["/"], &["/a", ""]),
            ("/a/", &["/a/"], &["/a", "/a/b"]),
        ];
        for (template, yes, no) in cases {
            let parsed = PathTemplate::parse(template).unwrap();
            for path in yes {
                assert!(parsed.matches(path), "{template} {path}");
            }
            for path in no {
                assert!(!parsed.matches(path), "{template} {path}");
            }
        }
    }

    #[test]
    fn the_literal_prefix_is_what_strip_path_takes() {
        for (template, prefix) in
            [("/api/users/*", "/api/users"), ("/a/{id}/b", "/a"), ("/*", ""), ("/{x}", ""), ("/a/b", "/a/b")]
        {
            assert_eq!(&*PathTemplate::parse(template).unwrap().literal_prefix(), prefix);
        }
    }

    #[test]
    fn more_specific_weighs_more() {
        let weigh = |t: &str| PathTemplate::parse(t).unwrap().specificity();
        assert_eq!(weigh("/api/users/*"), 10);
        assert_eq!(weigh("/api/users"), 11);
        assert_eq!(weigh("/users/{id}"), 9);
        assert!(weigh("/users/me") > weigh("/users/{id}"));
        assert!(weigh("/users/{id}") > weigh("/users/*"));
        assert!(weigh("/") > weigh("/*"));
    }

    #[test]
    fn refuses_what_can_never_match() {
        for bad in [
            "", "api", "*", "/a*", "/a/*/b", "/*/b", "/{}", "/{a}/{a}", "/{a", "/a{b}", "/{*rest}", "/:id",
            "//", "/a//b", "/a//*", "/a/../b", "/.", "/a?b", "/a#b", "/a\\b", "/%2f", "/%41", "/%zz", "/%",
            "/{a b}",
        ] {
            assert!(PathTemplate::parse(bad).is_err(), "{bad}");
        }
        for good in ["/", "/*", "/a/", "/%2F", "/a b/é", "/{a-b}/{c_d}/*", "/a.b/~c"] {
            assert!(PathTemplate::parse(good).is_ok(), "{good}");
        }
    }
}
