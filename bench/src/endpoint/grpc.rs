//! The endpoint over HTTP/2 without TLS, for calls as gRPC makes them: the body is drained, the answer is a small
//! message and a trailer. `/echo` is as over HTTP/1.1: the fields of the request as they arrived.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use anyhow::Result;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use super::Answers;

/// How a connection of HTTP/2 begins (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a message with its prefix: not compressed, its length, twelve bytes of Protobuf.
pub const MESSAGE: usize = 5 + 12;

/// The message that goes both ways.
pub fn message() -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, 12, 0x0a, 10];
    out.extend_from_slice(b"0123456789");
    out
}

/// One connection, to its end.
pub async fn connection(stream: TcpStream, index: usize, answers: Arc<Answers>) -> Result<()> {
    let message = bytes(message());
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(1000).initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
    let mut connection = builder.handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        answers.requests.fetch_add(1, Relaxed);
        tokio::spawn(call(request, respond, index, message.clone()));
    }
    Ok(())
}

fn bytes(from: Vec<u8>) -> bytes::Bytes {
    bytes::Bytes::from(from)
}

async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<bytes::Bytes>,
    index: usize,
    message: bytes::Bytes,
) -> Result<()> {
    let (head, mut body) = request.into_parts();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let answer = if head.uri.path() == "/echo" { bytes(echo(&head, index).into_bytes()) } else { message };
    let response =
        Response::builder().header("content-type", "application/grpc").header("server", "endpoint");
    let mut stream = respond.send_response(response.body(())?, false)?;
    stream.send_data(answer, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}

fn echo(head: &http::request::Parts, index: usize) -> String {
    let mut out = format!("{} {}\r\n", head.method, head.uri.path());
    let mut line = |name: &str, value: &str| out.push_str(&format!("{name}: {value}\r\n"));
    // `:authority` is what `Host` is in HTTP/1.1; nginx sends `Host` in its place (RFC 9113 §8.3.1 lets it).
    if let Some(authority) = head.uri.authority() {
        line("host", authority.as_str());
    }
    for (name, value) in &head.headers {
        line(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
    }
    line("endpoint", &index.to_string());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_its_own_length() {
        let message = message();
        assert_eq!(message.len(), MESSAGE);
        assert_eq!(message[..5], [0, 0, 0, 0, 12]);
        assert_eq!(usize::from(message[6]), message.len() - 7);
    }
}
