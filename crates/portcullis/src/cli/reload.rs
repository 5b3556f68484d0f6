//! `portcullis reload`: asks a running gateway, over its admin listener, to read its configuration again.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use portcullis::rehearse::load_file;

use super::{ConfigFile, FAILED, UNUSABLE, complain, print};

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
                print(&format!("{}\n", body.trim_end()));
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

/// Posts nothing to a path; gives status and body.
fn post(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/plain\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
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
