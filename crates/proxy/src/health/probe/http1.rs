//! A probe in HTTP/1.1: the request is written, the head of the answer read, the rest let go.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Failure, ask::Ask};

/// The largest head of an answer, interim answers included.
const HEAD_BYTES: usize = 16 * 1024;
/// The most fields in it.
const FIELDS: usize = 128;

/// Asks over this connection; tells the status of the final answer.
pub(super) async fn status(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    ask: &Ask,
) -> Result<u16, Failure> {
    stream.write_all(&ask.http1).await.map_err(Failure::Broken)?;
    stream.flush().await.map_err(Failure::Broken)?;
    let mut head = Vec::with_capacity(1024);
    let mut limited = stream.take(HEAD_BYTES as u64);
    loop {
        if limited.read_buf(&mut head).await.map_err(Failure::Broken)? == 0 {
            let too_large = limited.limit() == 0;
            return Err(if too_large {
                Failure::Protocol(format!("head larger than {HEAD_BYTES} bytes"))
            } else {
                Failure::Broken(io::ErrorKind::UnexpectedEof.into())
            });
        }
        if let Some(status) = final_status(&mut head)? {
            return Ok(status);
        }
    }
}

/// The status of the final answer, once its head is there whole. Interim answers are taken away (RFC 9110 §15.2).
fn final_status(head: &mut Vec<u8>) -> Result<Option<u16>, Failure> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut answer = httparse::Response::new(&mut fields);
        let parsed = answer.parse(head).map_err(|error| Failure::Protocol(error.to_string()))?;
        match (parsed, answer.code) {
            (httparse::Status::Complete(end), Some(100 | 102..=199)) => drop(head.drain(..end)),
            (httparse::Status::Complete(_), status) => return Ok(status),
            (httparse::Status::Partial, _) => return Ok(None),
        }
    }
}
