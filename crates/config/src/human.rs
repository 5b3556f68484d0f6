//! How values of the model are printed: as people would write them.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use crate::{model::StatusRange, rule::Rule};

/// `1m30s`, `250ms`; reads back as the same duration.
pub(crate) fn text(time: Duration) -> String {
    let (mut seconds, nanos) = (time.as_secs(), time.subsec_nanos());
    let mut out = String::new();
    for (unit, length) in [("h", 3600), ("m", 60), ("s", 1)] {
        if seconds >= length {
            out.push_str(&format!("{}{unit}", seconds / length));
            seconds %= length;
        }
    }
    for (unit, length) in [("ms", 1_000_000), ("us", 1_000), ("ns", 1)] {
        let count = if unit == "ms" { nanos / length } else { nanos / length % 1000 };
        if count > 0 {
            out.push_str(&format!("{count}{unit}"));
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

pub(crate) fn time<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*time))
}

pub(crate) fn maybe_time<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(text).serialize(serializer)
}

/// Durations by what they are for, as a table.
pub(crate) fn times<S: Serializer>(
    times: &[(std::sync::Arc<str>, Duration)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(times.iter().map(|(name, time)| (name, text(*time))))
}

/// The canonical text of a rule.
pub(crate) fn rule<S: Serializer>(rule: &Rule, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(rule)
}

/// `404`, `5xx`, `500-504`.
impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.from / 100;
        if self.from == self.to {
            write!(f, "{}", self.from)
        } else if self.from == class * 100 && self.to == self.from + 99 {
            write!(f, "{class}xx")
        } else {
            write!(f, "{}-{}", self.from, self.to)
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar;

    #[test]
    fn what_is_printed_reads_back() {
        for nanos in [
            0,
            1,
            999,
            1_000_000,
            250_000_000,
            1_500_000_000,
            90_000_000_000,
            3_600_000_000_000,
            3_661_001_002_003,
        ] {
            let time = Duration::from_nanos(nanos);
            assert_eq!(scalar::duration(&text(time)), Ok(time), "{}", text(time));
        }
        for statuses in ["404", "5xx", "500-504", "200-399"] {
            assert_eq!(scalar::statuses(statuses).unwrap().to_string(), statuses);
        }
    }
}
