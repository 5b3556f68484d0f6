//! Rewritten paths: what a middleware makes of a canonical path must be canonical again, or the request is refused.
//! Otherwise a rewriting could build what the listener would have refused (`/a` stripped from `/a../x`).

use portcullis_core::{
    Error, Exchange, Kind,
    middleware::Problem,
    path::{self, Delimiters, Policy},
};

/// A path in settings, judged.
pub fn setting(path: &str, value: &str) -> Result<(), Problem> {
    let mut out = String::new();
    let policy = Policy { merge_slashes: true, delimiters: Delimiters::Keep };
    match path::canonical(value.as_bytes(), policy, &mut out) {
        Ok(canonical) if canonical == value => Ok(()),
        Ok(canonical) => {
            let message = format!("`{}` is not how this path is sent", value.escape_debug());
            Err(Problem::at(path, message).help(format!("`{canonical}`")))
        }
        Err(error) => {
            let message = format!("`{}`: {error}", value.escape_debug());
            Err(Problem::at(path, message).help("a path without query, such as `/api/caf%C3%A9`"))
        }
    }
}

/// Is there a path to rewrite? `OPTIONS *` has none.
pub fn has_path(x: &Exchange) -> bool {
    x.request.path().starts_with('/')
}

/// What a path that comes from this one by rewriting must hold to: empty segments may stand in it only if there were
/// some before, which the listener let pass.
pub fn policy_of(path: &str) -> Policy {
    Policy { merge_slashes: !path.contains("//"), delimiters: Delimiters::Keep }
}

/// Judges a rewritten path.
///
/// # Errors
/// `Kind::BadPath` when it is not canonical.
pub fn judge(path: &str, policy: Policy) -> Result<(), Error> {
    if path::is_canonical(path, policy) { Ok(()) } else { Err(refused("is not in canonical form")) }
}

/// Puts a rewritten path in place.
///
/// # Errors
/// `Kind::BadPath` when it is not canonical.
pub fn rewrite(x: &mut Exchange, path: &str) -> Result<(), Error> {
    judge(path, policy_of(x.request.path()))?;
    x.request.set_path(path);
    Ok(())
}

/// The error for a target that a rewriting may not make.
pub fn refused(fault: &'static str) -> Error {
    Error::because(Kind::BadPath, format!("the rewritten target {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_say_what_would_be_right() {
        for path in ["/", "/a", "/a/", "/a.b/..c/...", "/caf%C3%A9", "/a%2Fb", "/~x/@:!$&'()*+"] {
            assert_eq!(setting("path", path), Ok(()), "{path}");
        }
        for (path, right) in [
            ("/a//b", Some("`/a/b`")),
            ("/a/../b", Some("`/b`")),
            ("/%41", Some("`/A`")),
            ("/%2f", Some("`/%2F`")),
            ("/é", Some("`/%C3%A9`")),
            ("", None),
            ("a", None),
            ("/%", None),
            ("/a?b", None),
            ("/a b", None),
            ("/a\\b", None),
        ] {
            let problem = setting("path", path).unwrap_err();
            assert!(right.is_none_or(|right| problem.help.as_deref() == Some(right)), "{path}: {problem:?}");
        }
    }
}
