//! Which endpoint an attempt goes to.

use std::time::{Duration, Instant};

use portcullis_core::{Error, Kind};

use super::{Run, nobody};

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

impl Run<'_> {
    pub(super) fn shut(&self, wait: Duration) -> Error {
        Error::because(Kind::CircuitOpen, self.parts.service.name.to_string()).retry_after(wait)
    }

    /// Another endpoint than those that were asked, else another than the last, else any; but none of these.
    pub(super) fn choose(
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
