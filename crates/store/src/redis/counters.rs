//! Counting in Redis: one script, one round trip, whatever the number of counters.

use std::time::{Duration, SystemTime};

use portcullis_core::{
    BoxFuture,
    store::{Bound, CounterStore, Failure, Take, Taken},
};
use redis::{Cmd, Value};

use super::{Purpose, Redis, odd};
use crate::meters::Operation;

impl CounterStore for Redis {
    fn take<'a>(&'a self, takes: &'a [Take], forced: bool) -> BoxFuture<'a, Result<Vec<Taken>, Failure>> {
        self.timed(Operation::Take, self.take_all(takes, forced))
    }
}

impl Redis {
    async fn take_all(&self, takes: &[Take], forced: bool) -> Result<Vec<Taken>, Failure> {
        if takes.is_empty() {
            // Is anybody there?
            return self.live(Purpose::Counters).await.map(|_| Vec::new());
        }
        let keys: Vec<String> = takes.iter().map(|take| self.key("limit", &take.key)).collect();
        let arguments = |command: &mut Cmd| write(command, takes, forced);
        let said = self.run(Purpose::Counters, |live| &live.take, &keys, arguments).await?;
        let Value::Array(rows) = &said else { return Err(odd(&said)) };
        let taken: Option<Vec<Taken>> = rows.iter().zip(takes).map(|(row, take)| taken(row, take)).collect();
        taken.filter(|taken| taken.len() == takes.len()).ok_or_else(|| odd(&said))
    }
}

/// What the script reads beside the keys.
fn write(command: &mut Cmd, takes: &[Take], forced: bool) {
    command.arg(u8::from(forced));
    for take in takes {
        match take.bound {
            Bound::Rate { interval, burst, more } => {
                command.arg("r").arg(interval / 1e3).arg(burst).arg(more)
            }
            Bound::Quota { quota, ends } => command.arg("q").arg(quota).arg(unix_millis(ends)).arg(0),
        };
        command.arg(take.cost).arg(take.back).arg(take.extra);
    }
}

fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// One row of the script's answer.
fn taken(row: &Value, take: &Take) -> Option<Taken> {
    let Value::Array(row) = row else { return None };
    let number = |at: usize| match row.get(at)? {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let enough = number(0)? == 1;
    let (wait, reset) = match take.bound {
        Bound::Rate { .. } => (Duration::from_micros(number(2)?), Duration::from_micros(number(3)?)),
        Bound::Quota { ends, .. } => {
            let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
            (if enough { Duration::ZERO } else { left }, left)
        }
    };
    let extra = u32::try_from(number(4)?).ok()?;
    Some(Taken { enough, extra, left: number(1)?, wait, reset })
}
