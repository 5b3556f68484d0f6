//! What is taken out of the cache at somebody's word.

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// All answers for one URI, whatever they vary by: as in keys, without a default port.
    Url(Box<str>),
    /// All answers whose URI begins like this.
    Prefix(Box<str>),
    /// All answers that named this tag in `Cache-Tag` or `Surrogate-Key`.
    Tag(Box<str>),
    /// All.
    Everything,
}

impl Purge {
    /// Does it take an answer with this URI and these tags? Where the URI is that of a key for several (`by_path`), which
    /// has only the parameters that count, all that the URL has must be able to be one of them.
    pub fn takes(&self, uri: &[u8], by_path: bool, tags: &[Box<str>]) -> bool {
        match self {
            Purge::Url(url) if by_path => is_of(uri, url.as_bytes()),
            Purge::Url(url) => uri == url.as_bytes(),
            Purge::Prefix(prefix) => uri.starts_with(prefix.as_bytes()),
            Purge::Tag(tag) => tags.iter().any(|each| each == tag),
            Purge::Everything => true,
        }
    }

    /// Reads an absolute URL (or the beginning of one) as keys have it: the scheme and host in lower case, without a
    /// default port, the path in canonical form.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn url(text: &str, is_prefix: bool) -> Result<Purge, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or("a URL begins with http:// or https://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            other => return Err(format!("a URL begins with http:// or https://, not with {other}://")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains(['@', ' ']) {
            return Err("the URL names no host".into());
        }
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = if path.is_empty() && !is_prefix { "/" } else { path };
        let mut buffer = String::new();
        let policy = portcullis_core::path::Policy::LENIENT;
        let path = match path {
            "" => "",
            path => portcullis_core::path::canonical(path.as_bytes(), policy, &mut buffer)
                .map_err(|error| error.to_string())?,
        };
        let mut out = Vec::new();
        let authority = authority.to_ascii_lowercase();
        portcullis_cache::key::write_uri(&mut out, secure, &authority, path, query);
        let text = String::from_utf8_lossy(&out).into_owned().into_boxed_str();
        Ok(if is_prefix { Purge::Prefix(text) } else { Purge::Url(text) })
    }
}

/// A URI without its query.
pub(super) fn path_of(uri: &[u8]) -> &[u8] {
    uri.split(|&byte| byte == b'?').next().unwrap_or_default()
}

/// Could the key's URI be that of this URL, with some of its parameters left away?
fn is_of(uri: &[u8], url: &[u8]) -> bool {
    fn parameters(text: &[u8]) -> impl Iterator<Item = &[u8]> {
        let query = text.get(path_of(text).len() + 1..).unwrap_or_default();
        query.split(|&byte| byte == b'&').filter(|each| !each.is_empty())
    }
    path_of(uri) == path_of(url) && parameters(uri).all(|own| parameters(url).any(|each| each == own))
}

/// The tags of an answer: `Cache-Tag` between commas, `Surrogate-Key` between spaces. At most 64.
pub fn tags(fields: &portcullis_core::Fields) -> Option<Box<[Box<str>]>> {
    let by_comma = fields.get_all("cache-tag").flat_map(|line| line.split(|&byte| byte == b','));
    let by_space = fields.get_all("surrogate-key").flat_map(|line| line.split(u8::is_ascii_whitespace));
    let all =
        by_comma.chain(by_space).map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty() && tag.len() <= 256);
    let mut tags: Vec<Box<str>> =
        all.filter_map(|tag| std::str::from_utf8(tag).ok()).map(Box::from).take(64).collect();
    tags.sort_unstable();
    tags.dedup();
    (!tags.is_empty()).then(|| tags.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_keys_have_them() {
        for (text, url) in [
            ("HTTP://Example.com:80", "http://example.com/"),
            ("https://a:443/x/../y?q=1#f", "https://a/y?q=1"),
            ("http://a:8080/%7euser", "http://a:8080/~user"),
        ] {
            assert_eq!(Purge::url(text, false), Ok(Purge::Url(url.into())));
        }
        assert_eq!(Purge::url("http://a", true), Ok(Purge::Prefix("http://a".into())));
        for bad in ["/x", "ftp://a/", "http:///x", "http://u@a/", "http://a/%zz"] {
            assert!(Purge::url(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_for_several_uris() {
        let purge = Purge::Url("http://a/b?x=1&utm=2".into());
        for (uri, exactly, by_path) in [
            ("http://a/b?x=1&utm=2", true, true),
            ("http://a/b?x=1", false, true),
            ("http://a/b", false, true),
            ("http://a/b?x=2", false, false),
            ("http://a/c?x=1", false, false),
        ] {
            assert_eq!(purge.takes(uri.as_bytes(), false, &[]), exactly, "{uri}");
            assert_eq!(purge.takes(uri.as_bytes(), true, &[]), by_path, "{uri}");
        }
    }

    #[test]
    fn tags_of_both_fields() {
        let fields = [("Cache-Tag", "a, b b,,"), ("Surrogate-Key", "c d a")].into_iter().collect();
        assert_eq!(tags(&fields).unwrap().iter().map(|t| &**t).collect::<Vec<_>>(), ["a", "b b", "c", "d"]);
    }
}
