//! What hyper makes of the bytes that a client sends, and what we make of them: the same, or we refuse.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use portcullis_core::{Fields, Known};
use portcullis_proxy::{
    h1::{
        chunked::{Chunked, Step},
        framing::{self, Framing},
        head::{self, Scan},
    },
    io::Input,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A request as both see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    pub method: String,
    pub target: String,
    /// Names in lower case, in order; framing fields left out, since they are not passed on.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// What we make of it: all complete requests up to the first that is refused or incomplete.
pub fn ours(mut bytes: &[u8]) -> Vec<Meaning> {
    let mut requests = Vec::new();
    while let Some((request, used)) = one(bytes) {
        requests.push(request);
        bytes = &bytes[used..];
    }
    requests
}

fn one(bytes: &[u8]) -> Option<(Meaning, usize)> {
    let empty = if bytes.starts_with(b"\r\n\r\n") { 4 } else { 2 * usize::from(bytes.starts_with(b"\r\n")) };
    let rest = &bytes[empty..];
    let end = Scan::default().end(rest).ok()??;
    let head = head::request(&rest[..end], 100).ok()?;
    let framing = framing::of_request(&head.fields, head.http_10).ok()?;
    let target = String::from_utf8(head.fields.slice(head.target).to_vec()).ok()?;
    let after = &rest[end..];
    let (body, body_used) = match framing {
        Framing::None | Framing::Close => (Vec::new(), 0),
        Framing::Length(length) => {
            let length = usize::try_from(length).ok()?;
            (after.get(..length)?.to_vec(), length)
        }
        Framing::Chunked => chunks(after)?,
    };
    let meaning = Meaning { method: head.method.to_string(), target, fields: plain(&head.fields), body };
    Some((meaning, empty + end + body_used))
}

fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut chunked, mut input, mut out) = (Chunked::default(), Input::holding(bytes.to_vec()), Vec::new());
    loop {
        match chunked.step(&mut input, &mut out, usize::MAX).ok()? {
            Step::Data(_) => {}
            Step::End(_) => return Some((out, bytes.len() - input.unread().len())),
            Step::More => return None,
        }
    }
}

fn plain(fields: &Fields) -> Vec<(String, Vec<u8>)> {
    let framing = |known| matches!(known, Known::ContentLength | Known::TransferEncoding);
    let kept = fields.iter_known().filter(|(known, _, _)| !framing(*known));
    let mut all: Vec<_> = kept
        .map(|(_, name, value)| (String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
        .collect();
    // hyper keeps fields by name; the order between names says nothing.
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// What hyper makes of it.
pub async fn hypers(bytes: &[u8]) -> Vec<Meaning> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let record = seen.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let record = record.clone();
        async move {
            let (parts, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let mut fields: Vec<(String, Vec<u8>)> = parts
                    .headers
                    .iter()
                    .filter(|(name, _)| *name != "content-length" && *name != "transfer-encoding")
                    .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                    .collect();
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                record.lock().unwrap().push(Meaning {
                    method: parts.method.to_string(),
                    target: parts.uri.to_string(),
                    fields,
                    body: body.to_bytes().to_vec(),
                });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
    let feed = async {
        // The other side may have hung up already: then the rest is of no interest.
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let _ = tokio::join!(connection, feed);
    Arc::try_unwrap(seen).unwrap().into_inner().unwrap()
}

/// Panics where we see a request that hyper does not see, or see it otherwise. (Requests that end the connection, and
/// whatever comes behind them, hyper does not read; there our list may go on.)
pub async fn compare(bytes: &[u8]) {
    let ours = ours(bytes);
    if ours.is_empty() {
        return;
    }
    let theirs = hypers(bytes).await;
    for (index, our) in ours.iter().enumerate() {
        match theirs.get(index) {
            Some(their) => assert_eq!(
                our,
                &normal(their, our),
                "request {index} of {:?}",
                String::from_utf8_lossy(bytes)
            ),
            None if index > 0 => break,
            None => {
                // hyper parses the target as a URI; we leave that to the canonicaliser, which refuses more.
                let parses = our.target.parse::<hyper::Uri>().is_ok();
                assert!(!parses, "hyper refuses {:?}", String::from_utf8_lossy(bytes));
            }
        }
    }
}

/// hyper's `Uri` drops a fragment (which our canonicaliser refuses later), lowers the scheme, and prints `http://host`
/// as `http://host/`: no difference in meaning.
fn normal(their: &Meaning, our: &Meaning) -> Meaning {
    let mut their = their.clone();
    let plain = |target: &str| {
        let target = target.split('#').next().unwrap_or_default();
        match target.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                let rest = rest
                    .strip_prefix('/')
                    .filter(|rest| rest.is_empty() || rest.starts_with('?'))
                    .unwrap_or(rest);
                format!("{}://{authority}{rest}", scheme.to_ascii_lowercase())
            }
            _ => target.to_owned(),
        }
    };
    if plain(&their.target) == plain(&our.target) {
        their.target.clone_from(&our.target);
    }
    their
}
