//! A client that speaks HTTP without TLS to a port of TLS: a link with the wrong scheme, most often. TLS could only tell it
//! with an alert, which no browser shows; so it is told in its own words, and nothing else is done with its request.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 54\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n\r\n\
    This port speaks TLS: ask again with https:// before.\n";
/// Reading on for so long, and so much of it: a close with bytes unread would reset the connection before the answer is read.
const LINGER: Duration = Duration::from_secs(1);
const MOST: u64 = 64 * 1024;

/// Does it begin as a request does, instead of a handshake (RFC 8446 §5.1: its first byte is 22)? Waits for the first byte.
///
/// # Errors
/// The socket's.
pub async fn is(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    Ok(first.iter().all(u8::is_ascii_uppercase))
}

/// Tells the client.
pub async fn answer(mut stream: TcpStream) {
    let told = async {
        stream.write_all(ANSWER).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(MOST), &mut tokio::io::sink()).await
    };
    // Nothing is lost when it does not come to an end.
    let _ = timeout(LINGER, told).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_length_is_right() {
        let answer = std::str::from_utf8(ANSWER).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
