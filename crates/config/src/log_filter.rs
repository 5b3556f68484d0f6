//! Is a log filter one that will be understood? The logging library skips what it does not understand, and whoever
//! mistyped a level would wait for lines that never come.

use crate::{diagnostic::closest, scalar::Problem};

/// Levels by name, and by number as the library takes them.
const LEVELS: [&str; 12] = ["error", "warn", "info", "debug", "trace", "off", "0", "1", "2", "3", "4", "5"];

/// Checks `info`, `info,portcullis_proxy=debug`, `warn,portcullis[request{route=a}]=trace`.
///
/// # Errors
/// The first piece that is no directive.
pub(crate) fn check(filter: &str) -> Result<(), Problem> {
    // A word alone is a target of which everything is wanted: seldom what a word near a level was meant to say.
    for piece in filter.split(',').map(str::trim) {
        if let Some(level) = meant(piece) {
            return Err(Problem::new(format!("`{piece}` is no level"), format!("did you mean `{level}`?")));
        }
    }
    match filter.split(',').map(str::trim).find(|piece| !piece.is_empty() && !is_directive(piece)) {
        Some(piece) => Err(Problem::new(
            format!("`{piece}` is no directive of a log filter"),
            "write a level (error, warn, info, debug, trace, off), or target=level: `info,portcullis_proxy=debug`",
        )),
        None => Ok(()),
    }
}

/// The level that a word which is none was meant to be.
fn meant(word: &str) -> Option<&'static str> {
    let lower = word.to_ascii_lowercase();
    if LEVELS.contains(&lower.as_str()) {
        return None;
    }
    match lower.as_str() {
        "warning" => Some("warn"),
        "err" | "fatal" | "critical" => Some("error"),
        "notice" | "information" => Some("info"),
        "debugging" => Some("debug"),
        "verbose" | "all" => Some("trace"),
        "none" | "quiet" | "silent" => Some("off"),
        _ => closest(&lower, LEVELS).filter(|level| level.len() > 1),
    }
}

/// A level; a target, all of whose events are wanted; or a target, perhaps with a span in brackets, and its level.
fn is_directive(piece: &str) -> bool {
    let is_level = |text: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    let is_target =
        |text: &str| text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '.'));
    let (target, rest) = match piece.split_once('[') {
        Some((target, rest)) => match rest.rsplit_once(']') {
            Some((_, rest)) => (target, rest),
            None => return false,
        },
        None => match piece.split_once('=') {
            Some(("", _)) => return false,
            Some((target, _)) => piece.split_at(target.len()),
            None => (piece, ""),
        },
    };
    is_target(target) && (rest.is_empty() || rest.strip_prefix('=').is_some_and(is_level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives() {
        for good in [
            "",
            "info",
            "WARN",
            "off",
            "info,portcullis=debug",
            "info, portcullis::reload=trace",
            "portcullis_proxy",
            "[request]=debug",
            "warn,a[b{c=\"d\"}]=trace",
            "a[b]",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "info,==",
            "=debug",
            "portcullis=loud",
            "a=",
            "a b",
            "info;warn",
            "a[b",
            "a[b]debug",
            "a=b=debug",
            "verbose",
            "debgu",
            "portcullis=debug,warning",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
