//! A probe in HTTP/2, one request on a connection of its own.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Failure, ask::Ask};

/// The largest list of fields in an answer.
const HEAD_BYTES: u32 = 16 * 1024;

/// Asks over this connection; tells the status of the final answer.
pub(super) async fn status(stream: impl AsyncRead + AsyncWrite + Unpin, ask: &Ask) -> Result<u16, Failure> {
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(HEAD_BYTES);
    let (sender, connection) = builder.handshake::<_, bytes::Bytes>(stream).await.map_err(failure)?;
    let answer = async {
        let mut sender = sender.ready().await?;
        let (answer, _) = sender.send_request(ask.request(), true)?;
        Ok(answer.await?.status().as_u16())
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answered = &mut answer => return answered.map_err(failure),
        _ = connection => {}
    }
    // The connection ended; the answer may have come with its last bytes.
    answer.await.map_err(failure)
}

fn failure(error: h2::Error) -> Failure {
    if error.is_io() {
        let broken = io::Error::from(io::ErrorKind::ConnectionReset);
        return Failure::Broken(error.into_io().unwrap_or(broken));
    }
    Failure::Protocol(error.to_string())
}
