//! The end of a client's connection: so that it sees the last answer, and not a reset in its place.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::AsyncWrite;

use super::incoming::{Link, State};
use crate::{clock::Watch, io::Io};

/// How long a closing connection is read from.
pub const LINGER: Duration = Duration::from_secs(2);
/// The same where nothing is under way, whose last answer arrived long ago: what may come is a request that crossed our
/// end on its way, which its client sends again when it finds the end (RFC 9112 §9.3.1), not a reset.
pub const IDLE_LINGER: Duration = Duration::from_millis(200);
/// How much is read then.
const BUDGET: usize = 1 << 20;

/// Closes our side first; then what the client still sends is read for a while, since unread bytes make the system reset
/// the connection, and what of the answer is still on its way with it. `is_over`: the client has said that it sends
/// nothing more, and all that it sent was read; then, unless it did not mean it, nothing is waited for.
pub async fn close(link: &Link, watch: &Watch, linger: Duration, is_over: bool) {
    let reads_on = {
        let state = &mut *link.lock();
        if state.gone || matches!(state.io, Io::Gone) {
            return;
        }
        let is_over = is_over && state.input.is_empty() && state.io.is_quiet();
        if is_over && state.io.says_nothing_at_its_end() {
            return;
        }
        !is_over
    };
    watch.set(linger);
    let (mut shut, mut budget) = (false, BUDGET);
    poll_fn(|cx| {
        let state = &mut *link.lock();
        if !shut {
            match Pin::new(&mut state.io).poll_shutdown(cx) {
                Poll::Pending => return watch.poll_expired(cx),
                Poll::Ready(_) => shut = true,
            }
        }
        if !reads_on || poll_discard(state, cx, &mut budget).is_ready() {
            return Poll::Ready(());
        }
        watch.poll_expired(cx)
    })
    .await;
}

/// Reads and forgets; ready at the end, or when it was too much.
fn poll_discard(state: &mut State, cx: &mut Context<'_>, budget: &mut usize) -> Poll<()> {
    loop {
        let unread = state.input.unread().len();
        state.input.consume(unread);
        match std::task::ready!(state.input.poll_fill(&mut state.io, cx, 4096)) {
            Ok(count) if count > 0 && count < *budget => *budget -= count,
            _ => return Poll::Ready(()),
        }
    }
}
