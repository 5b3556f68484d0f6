//! `portcullis reload`: asks a running gateway, over its admin listener, to read its configuration again.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde_json::Value;

use super::ask::Asking;

/// How long the gateway may take to answer; it compiles the configuration meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `reload` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    asking: Asking,
}

impl Arguments {
    /// Asks, and prints the answer.
    pub fn run(&self) -> ExitCode {
        self.asking.ask("/reload", "send SIGHUP instead", Some(PATIENCE), text)
    }
}

/// The outcome for people: every finding with its place, then how it went.
fn text(outcome: &Value) -> Option<String> {
    let field = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    for finding in outcome.get("findings")?.as_array()? {
        let number = |key: &str| finding.get(key).and_then(Value::as_u64).unwrap_or(0);
        let (severity, code) = (field(finding, "severity"), field(finding, "code"));
        let (file, line, column) = (field(finding, "file"), number("line"), number("column"));
        lines.push(format!("{severity}[{code}]: {file}:{line}:{column}: {}", field(finding, "message")));
        let help = field(finding, "help");
        if !help.is_empty() {
            lines.push(format!("  help: {help}"));
        }
    }
    for problem in outcome.get("problems").and_then(Value::as_array)? {
        lines.push(format!("error: {}", problem.as_str().unwrap_or_default()));
    }
    let generation = outcome.get("generation")?.as_u64()?;
    lines.push(match outcome.get("ok")?.as_bool()? {
        true => format!("configuration {generation} is in force"),
        false => format!("refused; configuration {generation} stays in force"),
    });
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn outcomes_for_people() {
        let refused = json!({
            "ok": false, "generation": 2, "problems": ["listener web: in use"],
            "findings": [{
                "severity": "error", "code": "unknown-key", "file": "g.toml", "line": 7, "column": 1,
                "message": "unknown key `pth`", "help": "did you mean `path`?",
            }],
        });
        let expected = "error[unknown-key]: g.toml:7:1: unknown key `pth`\n  help: did you mean `path`?\n\
                        error: listener web: in use\nrefused; configuration 2 stays in force";
        assert_eq!(text(&refused).as_deref(), Some(expected));
        let fine = json!({ "ok": true, "generation": 3, "problems": [], "findings": [] });
        assert_eq!(text(&fine).as_deref(), Some("configuration 3 is in force"));
        assert_eq!(text(&json!({ "title": "Forbidden" })), None);
    }
}
