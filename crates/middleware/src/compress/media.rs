//! Which media types are worth compressing.

use portcullis_core::middleware::Problem;

use crate::settings::Words;

/// Types that are compressed unless the settings name others: text in its many forms. Pictures, sound, films and
/// archives are compressed already.
pub const WORTH_IT: [&str; 22] = [
    "text/*",
    "application/*+json",
    "application/*+xml",
    "application/*+text",
    "application/dash+xml",
    "application/graphql",
    "application/javascript",
    "application/json",
    "application/manifest+json",
    "application/ndjson",
    "application/rtf",
    "application/vnd.apple.mpegurl",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xhtml+xml",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/svg+xml",
];

/// A set of media types: exact ones, `text/*`, `application/*+json`, `*/*`.
#[derive(Debug, Default)]
pub struct MediaTypes {
    exact: Vec<Box<str>>,
    /// What stands before and behind the `*`.
    patterns: Vec<(Box<str>, Box<str>)>,
}

impl MediaTypes {
    /// Compiles a list that stands at `path` in the settings.
    pub fn compile(path: &str, words: &Words) -> Result<MediaTypes, Problem> {
        let mut types = MediaTypes::default();
        for (index, word) in words.0.iter().enumerate() {
            let word = word.to_ascii_lowercase();
            let shape = word.split_once('/').filter(|(kind, rest)| {
                let part = |text: &str| {
                    !text.is_empty()
                        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&b))
                };
                part(kind)
                    && part(rest)
                    && (!kind.contains('*') || word == "*/*")
                    && rest.matches('*').count() <= 1
            });
            if shape.is_none() {
                let message = format!("`{}` is not a media type", word.escape_debug());
                let help = "such as `application/json`, `text/*` or `application/*+json`, without parameters";
                return Err(Problem::at(format!("{path}[{index}]"), message).help(help));
            }
            match word.split_once('*') {
                Some(_) if word == "*/*" => types.patterns.push(("".into(), "".into())),
                Some((before, behind)) => types.patterns.push((before.into(), behind.into())),
                None => types.exact.push(word.into()),
            }
        }
        Ok(types)
    }

    /// Is a type (in lower case, without parameters) in the set?
    pub fn contains(&self, media_type: &str) -> bool {
        let matches = |(before, behind): &(Box<str>, Box<str>)| {
            media_type.strip_prefix(&**before).is_some_and(|rest| rest.ends_with(&**behind))
        };
        self.exact.iter().any(|exact| &**exact == media_type) || self.patterns.iter().any(matches)
    }
}

/// Types that are never compressed: a gRPC message has its own compression, and an event must not wait for others.
pub fn never(media_type: &str) -> bool {
    media_type.starts_with("application/grpc") || media_type == "text/event-stream"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_patterns() {
        let types =
            MediaTypes::compile("include", &Words::from(["text/*", "application/*+json", "a/B"].as_slice()))
                .unwrap();
        for (text, inside) in [
            ("text/html", true),
            ("application/vnd.api+json", true),
            ("a/b", true),
            ("application/json", false),
            ("image/png", false),
            ("xtext/html", false),
            ("", false),
        ] {
            assert_eq!(types.contains(text), inside, "{text}");
        }
        assert!(MediaTypes::compile("", &Words::from(["*/*"].as_slice())).unwrap().contains("image/png"));
        assert!(
            MediaTypes::compile("", &Words::from(WORTH_IT.as_slice()))
                .unwrap()
                .contains("application/problem+json")
        );
    }

    #[test]
    fn mistakes_are_explained() {
        for bad in ["json", "text/", "/html", "*/json", "text/html; charset=utf-8", "a/*b*", "te*/html"] {
            let words = Words(vec!["text/html".into(), bad.into()]);
            assert_eq!(MediaTypes::compile("include", &words).unwrap_err().path, "include[1]", "{bad}");
        }
    }
}
