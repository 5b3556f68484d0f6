//! Which origins a page may come from (the Fetch standard's `Origin`).

use std::collections::HashSet;

use portcullis_core::middleware::Problem;
use regex::Regex;

use crate::{
    pattern,
    settings::{Strings, Words},
};

/// The allowed origins.
#[derive(Debug)]
pub enum Origins {
    /// All of them.
    Any,
    /// Some.
    Some(List),
}

/// Origins by name, by wildcard and by expression.
#[derive(Debug, Default)]
pub struct List {
    exact: HashSet<Box<str>>,
    /// Scheme with `://`, and what stands behind the `*`, dot (and port) included.
    below: Vec<(String, String)>,
    expressions: Vec<Regex>,
}

impl Origins {
    /// Compiles `origins` and `origin_regex` of the settings.
    pub fn compile(words: &Words, expressions: &Strings) -> Result<Origins, Problem> {
        let mut list = List::default();
        for (index, word) in words.0.iter().enumerate() {
            let at = format!("origins[{index}]");
            if word == "*" {
                if words.0.len() > 1 || !expressions.0.is_empty() {
                    return Err(Problem::at(at, "`*` allows all origins; the others change nothing")
                        .help("keep `*`, or keep the others"));
                }
                return Ok(Origins::Any);
            }
            list.push(&at, word)?;
        }
        for (index, expression) in expressions.0.iter().enumerate() {
            // An expression is about the whole origin: `shop.example` must not match `https://shop.example.evil`.
            pattern::compile(&format!("origin_regex[{index}]"), expression)?;
            let whole = format!("^(?:{expression})$");
            list.expressions.push(pattern::compile(&format!("origin_regex[{index}]"), &whole)?);
        }
        Ok(Origins::Some(list))
    }

    /// Is the origin allowed?
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Origins::Any => true,
            Origins::Some(list) => {
                list.exact.contains(origin)
                    || list.below.iter().any(|(scheme, suffix)| is_below(origin, scheme, suffix))
                    || list.expressions.iter().any(|expression| expression.is_match(origin))
            }
        }
    }
}

impl List {
    fn push(&mut self, at: &str, word: &str) -> Result<(), Problem> {
        let problem = |fault: &str| {
            let message = format!("`{}` {fault}", word.escape_debug());
            Err(Problem::at(at, message)
                .help("such as `https://shop.example` or `https://*.shop.example`, or `*`"))
        };
        if word == "null" {
            return problem("is what any sandboxed page sends; it would let everybody in");
        }
        let Some((scheme, host)) = word.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return problem("has no scheme");
        };
        if host.contains(['/', '?', '#', '@']) {
            return problem("has more than a scheme, a host and a port");
        }
        if word.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii_graphic()) {
            return problem("is not as browsers send it, in lower case and with punycode");
        }
        // Browsers leave the scheme's own port out.
        let own_port =
            matches!(scheme, "http") && host.ends_with(":80") || scheme == "https" && host.ends_with(":443");
        if own_port {
            return problem("names the scheme's own port, which browsers leave out");
        }
        match host.strip_prefix('*') {
            Some(suffix) if suffix.len() > 1 && suffix.starts_with('.') && !suffix.contains('*') => {
                self.below.push((format!("{scheme}://"), suffix.to_owned()));
            }
            None if !host.is_empty() && !host.contains('*') => {
                self.exact.insert(word.into());
            }
            _ => return problem("has its `*` in a place where it means nothing"),
        }
        Ok(())
    }
}

/// The scheme of an origin: also those of browser extensions.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Is the origin `scheme`, at least one label, `suffix`?
fn is_below(origin: &str, scheme: &str, suffix: &str) -> bool {
    let labels = origin.strip_prefix(scheme).and_then(|rest| rest.strip_suffix(suffix));
    labels.is_some_and(|labels| {
        !labels.is_empty() && labels.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Words {
        Words::from(list)
    }

    fn expressions(list: &[&str]) -> Strings {
        Strings(list.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn allowed_or_not() {
        let origins = Origins::compile(
            &words(&[
                "https://a.example",
                "http://localhost:3000",
                "https://*.b.example",
                "https://*.c.example:8443",
            ]),
            &expressions(&["https://app-[0-9]+\\.d\\.example"]),
        )
        .unwrap();
        for (origin, allowed) in [
            ("https://a.example", true),
            ("http://a.example", false),
            ("https://a.example:444", false),
            ("https://a.example.evil", false),
            ("https://xa.example", false),
            ("http://localhost:3000", true),
            ("http://localhost", false),
            ("https://x.b.example", true),
            ("https://x.y.b.example", true),
            ("https://b.example", false),
            ("https://xb.example", false),
            ("https://evil/.b.example", false),
            ("https://evil@x.b.example", false),
            ("https://x.c.example:8443", true),
            ("https://x.c.example", false),
            ("https://app-7.d.example", true),
            ("https://app-7.d.example.evil", false),
            ("xhttps://app-7.d.example", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(origins.allow(origin), allowed, "{origin}");
        }
        assert!(Origins::compile(&words(&["*"]), &expressions(&[])).unwrap().allow("https://any.example"));
    }

    #[test]
    fn mistakes_are_explained() {
        for bad in [
            "shop.example",
            "https://shop.example/",
            "https://Shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "null",
            "https://*",
            "https://a.*.b",
            "https://",
            "https://é.example",
            "https://*.",
        ] {
            let problem =
                Origins::compile(&words(&["https://ok.example", bad]), &expressions(&[])).unwrap_err();
            assert_eq!(problem.path, "origins[1]", "{bad}");
        }
        assert!(Origins::compile(&words(&["*", "https://a.example"]), &expressions(&[])).is_err());
        assert!(Origins::compile(&words(&["*"]), &expressions(&["a"])).is_err());
        let problem = Origins::compile(&words(&[]), &expressions(&["a", "a)(b"])).unwrap_err();
        assert_eq!(problem.path, "origin_regex[1]");
    }
}
