//! `portcullis upgrade`: asks a running gateway, over its admin listener, to hand over to the binary that is installed now.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::ask::Asking;

/// What `upgrade` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    asking: Asking,
}

impl Arguments {
    /// Asks, and prints the answer. The gateway always gives one: it knows how long it waits itself.
    pub fn run(&self) -> ExitCode {
        self.asking.ask("/upgrade", "send SIGUSR2 instead", None, text)
    }
}

/// The outcome for people.
fn text(outcome: &Value) -> Option<String> {
    let told = |key: &str| outcome.get(key).and_then(Value::as_str).unwrap_or_default();
    Some(match outcome.get("ok")?.as_bool()? {
        true => format!("version {} serves, as process {}", told("version"), outcome.get("pid")?),
        false => format!("upgrade failed, the running process goes on: {}", told("problem")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn outcomes_for_people() {
        let fine = json!({ "ok": true, "pid": 42, "version": "1.2.3", "problem": null });
        assert_eq!(text(&fine).as_deref(), Some("version 1.2.3 serves, as process 42"));
        let bad = json!({ "ok": false, "pid": null, "version": null, "problem": "no such file" });
        let expected = "upgrade failed, the running process goes on: no such file";
        assert_eq!(text(&bad).as_deref(), Some(expected));
        assert_eq!(text(&json!({ "title": "Forbidden" })), None);
    }
}
