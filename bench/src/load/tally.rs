//! What the loads of our own count while they run.

use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{Errors, Load};
use crate::stats::percentiles;

/// What one task has seen, or all of them.
#[derive(Debug, Default)]
pub struct Tally {
    /// How long each took that succeeded, microseconds.
    pub micros: Vec<u32>,
    /// Bytes received.
    pub bytes: u64,
    /// The others.
    pub errors: Errors,
}

impl Tally {
    /// One that succeeded.
    pub fn done(&mut self, took: Duration) {
        self.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// As it is reported, of a run that began then and ends now.
    pub fn load(mut self, begun: Instant) -> Result<Load> {
        let seconds = begun.elapsed().as_secs_f64();
        let requests = self.micros.len() as u64;
        let Some([p50, p99, p999]) = percentiles(&mut self.micros, [0.5, 0.99, 0.999]) else {
            bail!("nothing succeeded: {:?}", self.errors);
        };
        Ok(Load { requests, bytes: self.bytes, seconds, p50, p99, p999, errors: self.errors })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.micros.extend(other.micros);
        self.bytes += other.bytes;
        self.errors += other.errors;
    }
}

impl AddAssign for Errors {
    fn add_assign(&mut self, other: Errors) {
        let Errors { connect, read, write, timeout, status } = other;
        self.connect += connect;
        self.read += read;
        self.write += write;
        self.timeout += timeout;
        self.status += status;
    }
}
