//! A body that is being taken in: as far as it may be stored, and otherwise no faster than it is read.

use std::sync::Arc;

use portcullis_cache::date;
use portcullis_core::{Body, Frame, Kind};

use super::{RouteCache, fetch::PASS, flight::Flight};
use crate::forward::detached::Detached;

/// Where a body goes that is being taken in.
pub(super) struct Intake<'a> {
    pub detached: &'a Detached,
    pub cache: &'a RouteCache,
    pub flight: &'a Arc<Flight>,
    pub place: u64,
    pub lane: u64,
}

impl Intake<'_> {
    /// Takes the body in; true when all of it is there and not too much to be stored.
    pub async fn body(&self, body: &mut Body, length: Option<u64>, mut keeps: bool) -> Result<bool, Kind> {
        let mut arrived: u64 = 0;
        if !keeps {
            self.pass_on();
        }
        loop {
            if !self.flight.wanted().await {
                return Err(Kind::ClientGone);
            }
            match self.detached.frame(body).await {
                Some(Ok(Frame::Data(piece))) => {
                    arrived += piece.len() as u64;
                    self.flight.piece(piece);
                    let is_large = arrived > self.cache.policy.max_object;
                    // What has said its length has its room.
                    let is_tight = length.is_none() && !self.flight.baggage.has_room();
                    if keeps && (is_large || is_tight) {
                        keeps = false;
                        self.pass_on();
                        if is_large {
                            // Nobody waits for the next of its kind.
                            self.cache.stock.shelf.pass(self.lane, date::now() + PASS);
                        }
                    }
                }
                // Trailers are not stored (RFC 9111 §3.1 lets a cache leave them away).
                Some(Ok(Frame::Trailers(_))) | None => break,
                Some(Err(error)) => return Err(error.kind),
            }
        }
        match length {
            Some(length) if length != arrived => Err(Kind::ResponseIncomplete),
            _ => Ok(keeps),
        }
    }

    /// It will not be stored: who reads along goes on, and nobody else joins.
    fn pass_on(&self) {
        self.cache.stock.flights.leave(self.place, self.flight);
        self.flight.keep_little();
    }
}
