//! `portcullis reload`: asks a running gateway, over its admin listener, to read its configuration again.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use portcullis::rehearse::load_file;
use serde_json::Value;

use super::{ConfigFile, FAILED, OutputFormat, UNUSABLE, complain, print};

/// How long the gateway may take to answer; it compiles the configuration meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer read.
const MOST_BYTES: u64 = 16 << 20;

/// What `reload` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Address of the admin listener [default: the one that the configuration file names]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// How the outcome is told
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    file: ConfigFile,
}

impl Arguments {
    /// Asks, and prints the answer.
    pub fn run(&self) -> ExitCode {
        let admin = match self.admin.map_or_else(|| self.configured(), Ok) {
            Ok(admin) => admin,
            Err(code) => return code,
        };
        match post(admin, "/reload") {
            Ok((status, body)) => {
                print(&format!("{}\n", self.outcome(&body)));
                if status == 200 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
            }
            Err(error) => {
                complain(&format!(
                    "no gateway answers on {admin}: {error}; `--admin ADDRESS` names another address"
                ));
                ExitCode::from(FAILED)
            }
        }
    }

    /// The answer as it was asked for; one that is no outcome as it is.
    fn outcome(&self, body: &str) -> String {
        let told = serde_json::from_str::<Value>(body).ok().filter(|_| self.format == OutputFormat::Text);
        told.as_ref().and_then(text).unwrap_or_else(|| body.trim_end().to_owned())
    }

    /// The admin listener of the file. A file with mistakes may still be the one that shall be reloaded: the running
    /// gateway tells what it thinks of it, if only we know where it is.
    fn configured(&self) -> Result<SocketAddr, ExitCode> {
        let file = self.file.find()?;
        let loaded = load_file(&file);
        if loaded.unreadable {
            complain(&format!("{} cannot be read; `--admin ADDRESS` names the gateway too", file.display()));
            return Err(ExitCode::from(UNUSABLE));
        }
        let Some(model) = loaded.model else {
            complain(&format!(
                "{} has errors (see `portcullis check`); the running gateway would refuse it",
                file.display()
            ));
            return Err(ExitCode::from(FAILED));
        };
        model.admin.as_ref().map(|admin| admin.address).ok_or_else(|| {
            complain(&format!("{} has no admin listener; send SIGHUP instead", file.display()));
            ExitCode::from(FAILED)
        })
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

/// Posts nothing to a path; gives status and body.
fn post(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "what answers there is no gateway");
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(head)) = response.parse(&answer) else { return Err(bad()) };
    let body = answer.get(head..).unwrap_or_default();
    Ok((response.code.ok_or_else(bad)?, String::from_utf8_lossy(body).into_owned()))
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
