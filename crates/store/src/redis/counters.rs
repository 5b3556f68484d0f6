//! Counting in Redis: one script, one round trip, whatever the number of counters.

use std::time::{Duration, Instant, SystemTime};

use portcullis_core::{
    BoxFuture,
    store::{Bound, CounterStore, Failure, Take, Taken},
};
use redis::{Cmd, ServerErrorKind, Value};

use super::{Purpose, Redis, odd, scripts::Known};
use crate::meters::Operation;

impl CounterStore for Redis {
    fn take<'a>(&'a self, takes: &'a [Take], forced: bool) -> BoxFuture<'a, Result<Vec<Taken>, Failure>> {
        Box::pin(async move {
            let since = Instant::now();
            let result = self.take_all(takes, forced).await;
            self.seen(Operation::Take, since, result)
        })
    }
}

impl Redis {
    async fn take_all(&self, takes: &[Take], forced: bool) -> Result<Vec<Taken>, Failure> {
        let (link, mut live) = self.live(Purpose::Counters).await?;
        if takes.is_empty() {
            return Ok(Vec::new());
        }
        let run = |script: &Known, by_text: bool| self.command(script, by_text, takes, forced);
        let mut result = live.ask(&run(&live.take, false)).await;
        if matches!(&result, Err(error) if error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript))
        {
            // A server that was emptied, or another one behind the same name: EVAL makes it known again.
            result = live.ask(&run(&live.take, true)).await;
        }
        let said = link.judge(result)?;
        let Value::Array(rows) = &said else { return Err(odd(&said)) };
        let taken: Option<Vec<Taken>> = rows.iter().zip(takes).map(|(row, take)| taken(row, take)).collect();
        taken.filter(|taken| taken.len() == takes.len()).ok_or_else(|| odd(&said))
    }

    fn command(&self, script: &Known, by_text: bool, takes: &[Take], forced: bool) -> Cmd {
        let mut command = Cmd::new();
        match script.sha.as_ref().filter(|_| !by_text) {
            Some(sha) => command.arg("EVALSHA").arg(sha),
            None => command.arg("EVAL").arg(script.text),
        };
        command.arg(takes.len());
        for take in takes {
            command.arg(self.key("limit", &take.key));
        }
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
        command
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
