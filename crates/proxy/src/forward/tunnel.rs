//! Bytes both ways after an upgrade, until both sides have closed or nothing has moved for too long.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use portcullis_core::answer::Duplex;
use tokio::io::ReadBuf;

use crate::{buffers, clock::Watch};

/// What went through a tunnel.
#[derive(Debug, Default, Clone, Copy)]
pub struct Moved {
    /// From the client.
    pub up: u64,
    /// To the client.
    pub down: u64,
}

/// Moves bytes until both directions are closed, one breaks, or `idle` passes without a byte (zero = for ever).
/// Returns what moved, and the error that ended it, if one did.
pub async fn run(
    client: &mut dyn Duplex,
    endpoint: &mut dyn Duplex,
    idle: Duration,
    watch: &Watch,
) -> (Moved, io::Result<()>) {
    let (mut up, mut down) = (Way::new(), Way::new());
    watch.set(idle);
    let result = poll_fn(|cx| {
        let before = up.moved + down.moved;
        let first = up.poll(cx, client, endpoint)?;
        let second = down.poll(cx, endpoint, client)?;
        if first.is_ready() && second.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if up.moved + down.moved != before {
            watch.set(idle);
        }
        watch.poll_expired(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await;
    let moved = Moved { up: up.moved, down: down.moved };
    buffers::give(up.buffer);
    buffers::give(down.buffer);
    (moved, result)
}

/// One direction.
struct Way {
    buffer: Vec<u8>,
    sent: usize,
    moved: u64,
    ended: bool,
    shut: bool,
}

impl Way {
    fn new() -> Way {
        Way { buffer: buffers::take(), sent: 0, moved: 0, ended: false, shut: false }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut dyn Duplex,
        to: &mut dyn Duplex,
    ) -> Poll<io::Result<()>> {
        while !self.shut {
            while let Some(rest) = self.buffer.get(self.sent..).filter(|rest| !rest.is_empty()) {
                match ready!(Pin::new(&mut *to).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => {
                        self.sent += count;
                        self.moved += count as u64;
                    }
                }
            }
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.shut = true;
                break;
            }
            self.buffer.resize(self.buffer.capacity(), 0);
            let mut room = ReadBuf::new(&mut self.buffer);
            let read = Pin::new(&mut *from).poll_read(cx, &mut room);
            let filled = room.filled().len();
            self.buffer.truncate(filled);
            self.sent = 0;
            match read {
                Poll::Ready(Ok(())) => self.ended = filled == 0,
                Poll::Ready(Err(error)) => {
                    self.buffer.clear();
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    self.buffer.clear();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clock::Clock;

    #[tokio::test(start_paused = true)]
    async fn bytes_go_both_ways_and_half_closes_pass() {
        let (mut client, mut ours) = tokio::io::duplex(64);
        let (mut theirs, mut endpoint) = tokio::io::duplex(64);
        let watch = Clock::new().watch();
        let tunnel = tokio::spawn(async move { run(&mut ours, &mut theirs, Duration::ZERO, &watch).await });
        client.write_all(&[1; 64]).await.unwrap();
        let mut got = vec![0; 64];
        assert!(endpoint.read(&mut got).await.unwrap() > 0);
        drop(client);
        drop(endpoint);
        let (moved, _) = tunnel.await.unwrap();
        assert!(moved.up > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let clock = Clock::new();
        tokio::spawn(clock.clone().run());
        let (_client, mut ours) = tokio::io::duplex(64);
        let (mut theirs, _endpoint) = tokio::io::duplex(64);
        let (moved, result) = run(&mut ours, &mut theirs, Duration::from_secs(5), &clock.watch()).await;
        assert_eq!((moved.up, moved.down), (0, 0));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
