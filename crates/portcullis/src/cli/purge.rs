//! `portcullis purge`: asks a running gateway, over its admin listener, to take answers out of its cache.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde_json::Value;

use super::ask::Asking;

/// How long the gateway may take to answer; it looks at everything that is stored.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `purge` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    asking: Asking,
}

/// What shall go.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// All answers for this URL, whatever they vary by
    #[arg(long)]
    url: Option<String>,
    /// All answers whose URL begins like this: `https://example.com/images/`
    #[arg(long)]
    prefix: Option<String>,
    /// All answers that named this tag in `Cache-Tag` or `Surrogate-Key`
    #[arg(long)]
    tag: Option<String>,
    /// All answers
    #[arg(long)]
    all: bool,
}

impl Arguments {
    /// Asks, and prints the answer.
    pub fn run(&self) -> ExitCode {
        let path = format!("/api/cache/purge?{}", self.what.query());
        self.asking.ask(&path, "purging needs one: write admin = true", Some(PATIENCE), text)
    }
}

impl What {
    fn query(&self) -> String {
        let named = [("url", &self.url), ("prefix", &self.prefix), ("tag", &self.tag)];
        let written = named.iter().find_map(|(name, value)| Some((name, value.as_deref()?)));
        match written {
            Some((name, value)) => format!("{name}={}", escaped(value)),
            None => "all=true".to_owned(),
        }
    }
}

/// As a value of a query.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The outcome for people.
fn text(outcome: &Value) -> Option<String> {
    let purged = outcome.get("purged")?.as_u64()?;
    Some(match outcome.get("ok")?.as_bool()? {
        true if purged == 1 => "1 answer purged".to_owned(),
        true => format!("{purged} answers purged"),
        false => outcome.get("problem")?.as_str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked_for_and_told() {
        let what = What { url: Some("http://a/b?x=1&y=ü".into()), prefix: None, tag: None, all: false };
        assert_eq!(what.query(), "url=http://a/b%3Fx%3D1%26y%3D%C3%BC");
        let all = What { url: None, prefix: None, tag: None, all: true };
        assert_eq!(all.query(), "all=true");
        let told = json!({ "ok": true, "purged": 3, "problem": null });
        assert_eq!(text(&told).as_deref(), Some("3 answers purged"));
    }
}
