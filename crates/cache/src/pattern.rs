//! Patterns of paths and names: text in which `*` stands for anything.

/// `/users/*`, `utm_*`, `*.js`. As in a route's path, `/users/*` takes `/users` too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    /// Where there is no star, or only one at the end, nothing needs to be searched.
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Exact,
    Prefix,
    Any,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Pattern {
        let shape = match text.find('*') {
            None => Shape::Exact,
            Some(at) if at + 1 == text.len() => Shape::Prefix,
            Some(_) => Shape::Any,
        };
        Pattern { text: text.into(), shape }
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Does it match?
    pub fn matches(&self, text: &str) -> bool {
        let stem = self.text.strip_suffix("/*");
        if stem.is_some_and(|stem| !stem.is_empty() && stem == text) {
            return true;
        }
        match self.shape {
            Shape::Exact => *self.text == *text,
            Shape::Prefix => self.text.strip_suffix('*').is_some_and(|start| text.starts_with(start)),
            Shape::Any => glob(&self.text, text),
        }
    }
}

/// Each part between stars is looked for in turn, the first at the start and the last at the end.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part).and_then(|at| rest.get(at + part.len()..)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars() {
        for (pattern, yes, no) in [
            ("/login", vec!["/login"], vec!["/login/", "/logins", "/"]),
            ("/users/*", vec!["/users", "/users/", "/users/1/x"], vec!["/usersx", "/user"]),
            ("*.js", vec!["/a.js", ".js"], vec!["/a.jsx", "/js"]),
            ("/a*b*c", vec!["/abc", "/aXbYc", "/abbcc"], vec!["/acb", "/ab", "/xabc"]),
            ("ab*ba", vec!["abba", "abXba"], vec!["aba"]),
            ("*", vec!["", "/", "/x"], vec![]),
            ("/*", vec!["/", "/x"], vec!["x"]),
        ] {
            let pattern = Pattern::new(pattern);
            yes.iter().for_each(|text| assert!(pattern.matches(text), "{pattern:?} {text}"));
            no.iter().for_each(|text| assert!(!pattern.matches(text), "{pattern:?} {text}"));
        }
    }
}
