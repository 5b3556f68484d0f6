//! Asking a running gateway for something, over its admin listener.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use portcullis::rehearse::load_file;
use serde_json::Value;

use super::{ConfigFile, FAILED, OutputFormat, UNUSABLE, address, complain, print};

/// The longest answer read.
const MOST_BYTES: u64 = 16 << 20;

/// Which gateway, and how its answer is told.
#[derive(Debug, Args)]
pub struct Asking {
    /// Address of the admin listener [default: the one that the configuration file names]
    #[arg(long, value_name = "ADDRESS", value_parser = address::admin)]
    admin: Option<SocketAddr>,
    /// How the outcome is told
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    file: ConfigFile,
}

impl Asking {
    /// Asks, and prints the answer; where there is no admin listener, people are told what to do `instead`. The gateway
    /// may take `patience` to answer.
    pub fn ask(
        &self,
        path: &str,
        instead: &str,
        patience: Option<Duration>,
        text: fn(&Value) -> Option<String>,
    ) -> ExitCode {
        let admin = match self.admin.map_or_else(|| self.configured(instead), Ok) {
            Ok(admin) => admin,
            Err(code) => return code,
        };
        match post(admin, path, patience) {
            Ok((status, body)) => {
                print(&format!("{}\n", self.outcome(&body, text)));
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
    fn outcome(&self, body: &str, text: fn(&Value) -> Option<String>) -> String {
        let told = serde_json::from_str::<Value>(body).ok().filter(|_| self.format == OutputFormat::Text);
        told.as_ref().and_then(text).unwrap_or_else(|| body.trim_end().to_owned())
    }

    /// The admin listener of the file. A file with mistakes may still be the one that is meant: the running gateway tells
    /// what it thinks of it, if only we know where it is.
    fn configured(&self, instead: &str) -> Result<SocketAddr, ExitCode> {
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
            complain(&format!("{} has no admin listener; {instead}", file.display()));
            ExitCode::from(FAILED)
        })
    }
}

/// Posts nothing to a path; gives status and body.
fn post(address: SocketAddr, path: &str, patience: Option<Duration>) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(patience)?;
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
