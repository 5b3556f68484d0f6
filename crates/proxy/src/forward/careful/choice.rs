//! Which endpoint an attempt goes to, and whether its circuit breaker lets it.

use std::time::{Duration, Instant};

use portcullis_core::{Error, Kind};

use super::{Admitted, Run, nobody};

/// Endpoints that were asked last.
#[derive(Default)]
pub(super) struct Asked {
    list: [usize; 8],
    count: usize,
}

impl Asked {
    pub(super) fn note(&mut self, index: usize) {
        if self.count == self.list.len() {
            self.list.rotate_left(1);
            self.count -= 1;
        }
        if let Some(slot) = self.list.get_mut(self.count) {
            *slot = index;
            self.count += 1;
        }
    }

    pub(super) fn all(&self) -> &[usize] {
        self.list.get(..self.count).unwrap_or_default()
    }

    pub(super) fn last(&self) -> &[usize] {
        self.all().get(self.count.saturating_sub(1)..).unwrap_or_default()
    }
}

impl<'a> Run<'a> {
    /// An endpoint, and the leave of its circuit breaker.
    pub(super) fn admitted(
        &self,
        bound: Option<usize>,
        key: Option<u64>,
        now: Instant,
    ) -> Result<Admitted<'a>, Error> {
        let Some(breakers) = self.breakers else {
            return Ok((self.choose(bound, key, &[], now)?, None));
        };
        if let Some(whole) = &breakers.whole {
            let permit = whole.admit(now, fastrand::f64()).map_err(|wait| self.shut(wait))?;
            return Ok((self.choose(bound, key, &[], now)?, Some((whole, permit))));
        }
        let (mut shut, mut soonest): (Vec<usize>, Option<Duration>) = (Vec::new(), None);
        loop {
            let index = match (self.choose(bound, key, &shut, now), soonest) {
                (Ok(index), _) => index,
                (Err(_), Some(wait)) => return Err(self.shut(wait)),
                (Err(error), None) => return Err(error),
            };
            let Some(breaker) = breakers.each.get(index) else { return Ok((index, None)) };
            match breaker.admit(now, fastrand::f64()) {
                Ok(permit) => return Ok((index, Some((breaker, permit)))),
                Err(wait) => {
                    shut.push(index);
                    soonest = Some(soonest.map_or(wait, |known| known.min(wait)));
                }
            }
        }
    }

    fn shut(&self, wait: Duration) -> Error {
        Error::because(Kind::CircuitOpen, self.parts.service.name.to_string()).retry_after(wait)
    }

    /// Another endpoint than those that were asked, else another than the last, else any; but none of these.
    fn choose(
        &self,
        bound: Option<usize>,
        key: Option<u64>,
        without: &[usize],
        now: Instant,
    ) -> Result<usize, Error> {
        let service = self.parts.service;
        let choose = |tried: &[usize]| match without {
            [] => service.choose(bound, key, tried, now),
            _ => service.choose(bound, key, &[tried, without].concat(), now),
        };
        choose(self.asked.all())
            .or_else(|| choose(self.asked.last()))
            .or_else(|| choose(&[]))
            .ok_or_else(|| nobody(service))
    }
}
