//! A sample endpoint: a small HTTP/1.1 server on a port that the system chooses.
//!
//! `/` greets, `/whoami` tells what it sees of a request, `/slow` takes a second, `/health` is what the gateway asks;
//! `POST /fail` makes it fail and `POST /heal` mends it.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Map, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The largest head that it reads.
const MOST_HEAD: usize = 64 * 1024;

/// One sample endpoint.
struct Sample {
    name: &'static str,
    fails: AtomicBool,
}

/// A request, as far as it matters here.
struct Asked {
    method: String,
    path: String,
    fields: Vec<(String, String)>,
    /// Bytes of its body; `None` when only the end of the connection tells.
    body: Option<usize>,
}

/// Starts one and tells where it is. It lives as long as the runtime.
pub async fn start(name: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let sample = Arc::new(Sample { name, fails: AtomicBool::new(false) });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sample = sample.clone();
            tokio::spawn(async move {
                // Whoever broke the connection knows.
                let _ = sample.connection(stream).await;
            });
        }
    });
    Ok(address)
}

impl Sample {
    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        loop {
            let Some((asked, head)) = read_head(&mut stream, &mut buffer).await? else { return Ok(()) };
            buffer.drain(..head);
            let last = match asked.body {
                Some(length) => {
                    skip(&mut stream, &mut buffer, length).await?;
                    asked.wants_to_close()
                }
                None => true,
            };
            let (status, kind, body) = self.answer(&asked).await;
            let connection = if last { "close" } else { "keep-alive" };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n",
                body.len()
            );
            let body = if asked.method == "HEAD" { "" } else { &body };
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
            if last {
                return stream.shutdown().await;
            }
        }
    }

    async fn answer(&self, asked: &Asked) -> (&'static str, &'static str, String) {
        const TEXT: &str = "text/plain; charset=utf-8";
        let name = self.name;
        let path = asked.path.split('?').next().unwrap_or_default();
        match (asked.method.as_str(), path) {
            ("POST", "/fail") => {
                self.fails.store(true, Relaxed);
                return ("200 OK", TEXT, format!("{name} fails from now on\n"));
            }
            ("POST", "/heal") => {
                self.fails.store(false, Relaxed);
                return ("200 OK", TEXT, format!("{name} has healed\n"));
            }
            _ => {}
        }
        if self.fails.load(Relaxed) {
            return ("503 Service Unavailable", TEXT, format!("{name} is failing\n"));
        }
        match path {
            "/" => ("200 OK", TEXT, format!("hello from {name}\n")),
            "/health" => ("200 OK", TEXT, "fine\n".into()),
            "/slow" => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                ("200 OK", TEXT, format!("{name} took its time\n"))
            }
            "/whoami" => ("200 OK", "application/json", self.whoami(asked)),
            _ => ("404 Not Found", TEXT, format!("{name} has no {path}\n")),
        }
    }

    fn whoami(&self, asked: &Asked) -> String {
        let fields: Map<String, serde_json::Value> =
            asked.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), json!(value))).collect();
        let seen =
            json!({ "endpoint": self.name, "method": asked.method, "path": asked.path, "headers": fields });
        format!("{seen:#}\n")
    }
}

impl Asked {
    fn field(&self, wanted: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    }

    fn wants_to_close(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads until there is a whole head; tells its length. `None` when the client has gone.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<(Asked, usize)>> {
    loop {
        if let Some(parsed) = parse(buffer)? {
            return Ok(Some(parsed));
        }
        if buffer.len() > MOST_HEAD || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(buffer: &[u8]) -> io::Result<Option<(Asked, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    let bad = |error: httparse::Error| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let httparse::Status::Complete(length) = request.parse(buffer).map_err(bad)? else { return Ok(None) };
    let value = |field: &httparse::Header<'_>| String::from_utf8_lossy(field.value).into_owned();
    let mut asked = Asked {
        method: request.method.unwrap_or_default().to_owned(),
        path: request.path.unwrap_or_default().to_owned(),
        fields: request.headers.iter().map(|field| (field.name.to_owned(), value(field))).collect(),
        body: Some(0),
    };
    let length_of_body = asked.field("content-length").and_then(|text| text.parse().ok());
    asked.body = if asked.field("transfer-encoding").is_some() { None } else { length_of_body.or(Some(0)) };
    Ok(Some((asked, length)))
}

/// Reads a body and forgets it.
async fn skip(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let here = length.min(buffer.len());
    buffer.drain(..here);
    let rest = u64::try_from(length - here).unwrap_or(u64::MAX);
    tokio::io::copy(&mut stream.take(rest), &mut tokio::io::sink()).await.map(|_| ())
}
