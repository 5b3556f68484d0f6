//! What serde says of a middleware's settings, in the words of all other findings.

use crate::{
    diagnostic::{Code, Finding, suggestion},
    kinds::KindProblem,
};

/// The finding of a problem that is no unknown key.
pub(super) fn finding(problem: &KindProblem) -> Finding {
    let said = problem.message.as_str();
    if let Some(key) = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        let help = if problem.help.is_empty() { format!("add `{key}`") } else { problem.help.clone() };
        return Finding::error(Code::MissingKey, format!("`{key}` is missing")).help(help);
    }
    if let Some((word, choices)) =
        said.strip_prefix("unknown variant `").and_then(|rest| rest.split_once('`'))
    {
        let known: Vec<&str> = choices.split('`').skip(1).step_by(2).collect();
        let message = format!("`{word}` is none of the choices");
        return Finding::error(Code::BadSettings, message).help(suggestion(word, known, "choices"));
    }
    let typed = said.strip_prefix("invalid type: ").or_else(|| said.strip_prefix("invalid value: "));
    if let Some((found, expected)) = typed.and_then(|rest| rest.rsplit_once(", expected ")) {
        let (expected, help) = wanted(expected);
        let help = if problem.help.is_empty() { help.to_owned() } else { problem.help.clone() };
        let message = format!("expected {expected}, found {}", shown(found));
        return Finding::error(Code::BadSettings, message).help(help);
    }
    match said.split_once("; write ") {
        Some((message, right)) if problem.help.is_empty() => {
            Finding::error(Code::BadSettings, message).help(format!("write {right}"))
        }
        _ => Finding::error(Code::BadSettings, said).help(problem.help.clone()),
    }
}

/// `string "x"` as everywhere else.
fn shown(found: &str) -> String {
    let plain = |rest: &str| rest.trim_matches('`').to_owned();
    match found.split_once(' ') {
        Some(("string", text)) => format!("the text {text}"),
        Some(("integer", number)) => format!("the number {}", plain(number)),
        Some(("floating", rest)) => format!("the number {}", plain(rest.trim_start_matches("point "))),
        Some(("boolean", value)) => format!("the boolean {value}"),
        _ => match found {
            "sequence" => "a list".to_owned(),
            "map" => "a table".to_owned(),
            "null" | "unit value" => "nothing".to_owned(),
            other => other.to_owned(),
        },
    }
}

/// What was expected, and how that is written.
fn wanted(expected: &str) -> (&str, &'static str) {
    const NUMBER: &str = "write the number without quotes";
    match expected {
        "a string" => ("a text", "write it in quotes"),
        "a boolean" => ("`true` or `false`", "write it without quotes"),
        "a map" | "a table" => ("a table", "write its settings as a table: { key = value }"),
        "a sequence" => ("a list", "write [\"…\"]"),
        "u8" => ("a whole number from 0 to 255", NUMBER),
        "u16" => ("a whole number from 0 to 65535", NUMBER),
        "u32" => ("a whole number from 0 to 4294967295", NUMBER),
        "u64" | "usize" => ("a whole number from 0", NUMBER),
        "a nonzero u8" => ("a whole number from 1 to 255", NUMBER),
        "a nonzero u16" => ("a whole number from 1 to 65535", NUMBER),
        "a nonzero u32" => ("a whole number from 1 to 4294967295", NUMBER),
        "a nonzero u64" | "a nonzero usize" => ("a whole number from 1", NUMBER),
        "i8" | "i16" | "i32" | "i64" => ("a whole number", NUMBER),
        "f32" | "f64" => ("a number", NUMBER),
        other => (other, ""),
    }
}

/// The word here for a word of other gateways.
pub(super) fn elsewhere<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = written.to_ascii_lowercase().replace(['_', '-'], "");
    let ours: &[&str] = match plain.as_str() {
        "hsts" | "stsmaxage" => &["sts_seconds"],
        "alloworigins" | "allowedorigins" | "accesscontrolalloworiginlist" => &["origins"],
        "allowmethods" | "allowedmethods" => &["methods"],
        "allowheaders" | "allowedheaders" => &["headers"],
        "allowcredentials" => &["credentials"],
        "exposeheaders" | "exposedheaders" => &["expose"],
        "average" | "rate" | "rps" => &["requests_per_second"],
        "sourcerange" | "addresses" | "ips" | "cidrs" | "networks" => &["ranges"],
        "set" | "add" | "remove" | "customrequestheaders" => &["request"],
        "limit" | "maxbytes" | "maxrequestbodybytes" => &["max"],
        _ => return None,
    };
    known.iter().copied().find(|key| ours.contains(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_all_findings() {
        let told = |message: &str| {
            let problem = KindProblem { message: message.into(), ..KindProblem::default() };
            let finding = finding(&problem);
            format!("{} | {}", finding.message, finding.help)
        };
        for (said, expected) in [
            ("missing field `max`", "`max` is missing | add `max`"),
            (
                "unknown variant `ftp`, expected `http` or `https`",
                "`ftp` is none of the choices | the choices are `http`, `https`",
            ),
            (
                "invalid type: integer `0`, expected a table",
                "expected a table, found the number 0 | write its settings as a table: { key = value }",
            ),
            (
                "invalid type: string \"abc\", expected a nonzero u16",
                "expected a whole number from 1 to 65535, found the text \"abc\" | write the number without quotes",
            ),
            (
                "invalid type: floating point `1.5`, expected u32",
                "expected a whole number from 0 to 4294967295, found the number 1.5 | write the number without quotes",
            ),
            ("`x` is not a size; write bytes", "`x` is not a size | write bytes"),
            ("anything else", "anything else | "),
        ] {
            assert_eq!(told(said), expected);
        }
        assert_eq!(elsewhere("allow_origins", &["origins", "methods"]), Some("origins"));
        assert_eq!(elsewhere("hsts", &["origins"]), None);
    }
}
