//! Who waits for a fetch, and then reads its body along, each at a speed of his own.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use portcullis_core::{Error, Frame, Kind, Stream};

use super::flight::{Flight, State};

/// A place at a fetch: from its beginning on, all of its body is kept for who has one.
pub struct Seat {
    flight: Arc<Flight>,
    /// The number of the piece that comes next.
    next: usize,
}

impl Seat {
    /// At the beginning of a flight that may still be joined.
    pub(super) fn take(flight: &Arc<Flight>) -> Seat {
        let mut state = flight.lock();
        state.readers += 1;
        match state.pieces.front_mut() {
            Some(piece) => piece.readers += 1,
            None => state.waiting += 1,
        }
        drop(state);
        Seat { flight: flight.clone(), next: 0 }
    }

    /// What it is a place at.
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// The stream of the body.
    pub fn read(self, length: Option<u64>) -> Reader {
        Reader { seat: self, position: 0, length }
    }

    fn leave(&self, state: &mut State) {
        let at = self.next.saturating_sub(state.gone);
        match state.pieces.get_mut(at) {
            Some(piece) => piece.readers = piece.readers.saturating_sub(1),
            None => state.waiting = state.waiting.saturating_sub(1),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flight.change(|state| {
            state.readers -= 1;
            self.leave(state);
            self.flight.trim(state);
        });
    }
}

/// Reads along.
pub struct Reader {
    seat: Seat,
    /// Bytes that were read.
    position: usize,
    length: Option<u64>,
}

impl Stream for Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let flight = self.seat.flight.clone();
        let mut state = flight.lock();
        if let Some(Ok(Some(entry))) = &state.end {
            let body = entry.object.body();
            let rest = body.get(self.position..).unwrap_or_default();
            if rest.is_empty() {
                return Poll::Ready(None);
            }
            self.position += rest.len();
            return Poll::Ready(Some(Ok(Frame::Data(body.slice_ref(rest)))));
        }
        let Some(at) = self.seat.next.checked_sub(state.gone) else {
            return Poll::Ready(Some(Err(Error::because(Kind::Internal, "a piece that is gone"))));
        };
        if let Some(piece) = state.pieces.get(at) {
            let bytes = piece.bytes.clone();
            self.seat.leave(&mut state);
            match state.pieces.get_mut(at + 1) {
                Some(next) => next.readers += 1,
                None => state.waiting += 1,
            }
            self.seat.next += 1;
            self.position += bytes.len();
            flight.trim(&mut state);
            let wakers = state.roomier();
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(Ok(Frame::Data(bytes))));
        }
        match &state.end {
            Some(Ok(_)) => Poll::Ready(None),
            Some(Err(kind)) => Poll::Ready(Some(Err(Error::new(*kind)))),
            None => {
                state.wait(cx);
                Poll::Pending
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.length.map(|length| length.saturating_sub(self.position as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use bytes::Bytes;

    use super::*;
    use crate::forward::cache::{baggage::Baggage, epochs::Epochs, flights::Flights};

    const PIECE: usize = 16 * 1024;

    async fn next(reader: &mut Reader) -> Option<usize> {
        match poll_fn(|cx| reader.poll_frame(cx)).await? {
            Ok(Frame::Data(bytes)) => Some(bytes.len()),
            other => panic!("{other:?}"),
        }
    }

    /// Would the fetch read on?
    async fn is_wanted(flight: &Flight) -> bool {
        let mut wanted = pin!(flight.wanted());
        poll_fn(|cx| Poll::Ready(wanted.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn who_reads_slowly_gets_all_of_it_and_little_is_kept() {
        let baggage = Arc::new(Baggage::new(1 << 30));
        let flights = Flights::new(baggage.clone());
        let mark = Epochs::new().mark(b"x", false);
        let (first, began) = flights.join(1, mark);
        let (second, joined) = flights.join(1, mark);
        let flight = first.flight().clone();
        assert!(began && !joined);
        let (mut quick, mut slow) = (first.read(None), second.read(None));
        for _ in 0..8 {
            flight.piece(vec![0; PIECE].into());
        }
        flights.leave(1, &flight);
        flight.keep_little();
        let (mut read, mut arrived) = (0, 8);
        for turn in 0..1000 {
            while is_wanted(&flight).await {
                flight.piece(vec![0; PIECE].into());
                arrived += 1;
            }
            while read < arrived {
                assert_eq!(next(&mut quick).await, Some(PIECE));
                read += 1;
            }
            assert_eq!(next(&mut slow).await, Some(PIECE));
            assert!(arrived - turn <= 10, "{arrived} pieces after {turn} that the slowest has read");
            assert!(baggage.used() <= 10 * (PIECE as u64 + 64), "{}", baggage.used());
        }
        // Who leaves holds nobody up.
        drop(slow);
        assert!(is_wanted(&flight).await);
        flight.end(Ok(None));
        while next(&mut quick).await.is_some() {
            read += 1;
        }
        assert_eq!(read, arrived);
        drop((quick, flight));
        assert_eq!(baggage.used(), 0);
    }

    #[tokio::test]
    async fn who_has_not_begun_to_read_keeps_the_beginning() {
        let flights = Flights::new(Arc::new(Baggage::new(1 << 30)));
        let mark = Epochs::new().mark(b"x", false);
        let (waits, _) = flights.join(1, mark);
        let (reads, _) = flights.join(1, mark);
        let flight = waits.flight().clone();
        let mut reads = reads.read(None);
        (0..8_u8).for_each(|number| flight.piece(Bytes::from(vec![number])));
        flights.leave(1, &flight);
        flight.keep_little();
        for _ in 0..8 {
            next(&mut reads).await.unwrap();
        }
        let mut waits = waits.read(None);
        match poll_fn(|cx| waits.poll_frame(cx)).await {
            Some(Ok(Frame::Data(bytes))) => assert_eq!(&bytes[..], [0]),
            other => panic!("{other:?}"),
        }
    }
}
