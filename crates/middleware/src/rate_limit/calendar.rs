//! Windows of the calendar, in UTC.

use std::time::{Duration, SystemTime};

/// What a quota is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Minute,
    Hour,
    Day,
    Month,
}

/// A window: its beginning and its end, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub starts: u64,
    pub ends: u64,
}

const DAY: u64 = 86_400;

impl Unit {
    pub fn of(name: &str) -> Option<Unit> {
        [Unit::Minute, Unit::Hour, Unit::Day, Unit::Month].into_iter().find(|unit| unit.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
            Unit::Month => "month",
        }
    }

    /// Its length in seconds; of a month, the longest.
    pub fn seconds(self) -> u64 {
        match self {
            Unit::Minute => 60,
            Unit::Hour => 3600,
            Unit::Day => DAY,
            Unit::Month => 31 * DAY,
        }
    }

    /// The window that holds a time.
    pub fn window(self, at: SystemTime) -> Window {
        let now = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match self {
            Unit::Month => month(now / DAY),
            unit => {
                let starts = now - now % unit.seconds();
                Window { starts, ends: starts + unit.seconds() }
            }
        }
    }
}

impl Window {
    pub fn end(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.ends)
    }
}

/// The month of a day since 1970, by Howard Hinnant's `civil_from_days`: years begin with March there, so that the day
/// that is there only sometimes is the last.
fn month(day: u64) -> Window {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let first = |month: u64| (153 * month + 2) / 5;
    let starts = day - (of_year - first(month));
    let days = match month {
        // February, as the last month of its year.
        11 => {
            let civil = era * 400 + year + 1;
            28 + u64::from(
                civil.is_multiple_of(4) && (!civil.is_multiple_of(100) || civil.is_multiple_of(400)),
            )
        }
        _ => first(month + 1) - first(month),
    };
    Window { starts: starts * DAY, ends: (starts + days) * DAY }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(unit: Unit, at: u64) -> (u64, u64) {
        let Window { starts, ends } = unit.window(SystemTime::UNIX_EPOCH + Duration::from_secs(at));
        (starts, ends)
    }

    #[test]
    fn windows_begin_with_their_unit() {
        // 2026-11-21T05:38:52Z
        let at = 1_795_239_532;
        assert_eq!(window(Unit::Minute, at), (1_795_239_480, 1_795_239_540));
        assert_eq!(window(Unit::Hour, at), (1_795_237_200, 1_795_240_800));
        assert_eq!(window(Unit::Day, at), (1_795_219_200, 1_795_305_600));
        // 2026-11-01 to 2026-12-01
        assert_eq!(window(Unit::Month, at), (1_793_491_200, 1_796_083_200));
        // 2024-02-29 and the last second of it
        assert_eq!(window(Unit::Month, 1_709_164_800), (1_706_745_600, 1_709_251_200));
        assert_eq!(window(Unit::Month, 1_709_251_199), (1_706_745_600, 1_709_251_200));
        assert_eq!(window(Unit::Month, 0), (0, 31 * DAY));
    }

    #[test]
    fn months_follow_each_other_without_gap_for_centuries() {
        let (mut at, mut count) = (0, 0);
        while count < 12 * 430 {
            let (starts, ends) = window(Unit::Month, at);
            assert_eq!(starts, at, "month {count}");
            assert!((28..=31).contains(&((ends - starts) / DAY)), "month {count}");
            assert_eq!(window(Unit::Month, ends - 1), (starts, ends));
            (at, count) = (ends, count + 1);
        }
        // 2400-01-01 is 430 years after 1970: 104 leap years among them.
        assert_eq!(at / DAY, 430 * 365 + 104);
    }
}
