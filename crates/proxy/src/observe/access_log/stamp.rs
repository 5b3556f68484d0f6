//! Points in time as text, made once per second: thousands of lines share one.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The text of the second last asked for.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    /// Unix seconds, plus one so that zero is none.
    second: u64,
    text: String,
}

impl Stamp {
    /// `2025-01-31T23:59:59`, and the milliseconds.
    pub fn rfc3339(&mut self, at: SystemTime) -> (&str, u32) {
        self.text(at, |c| {
            format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second)
        })
    }

    /// `31/Jan/2025:23:59:59 +0000`.
    pub fn common(&mut self, at: SystemTime) -> &str {
        let make = |c: Civil| {
            let month = MONTHS.get(c.month as usize - 1).unwrap_or(&"Jan");
            format!("{:02}/{month}/{:04}:{:02}:{:02}:{:02} +0000", c.day, c.year, c.hour, c.minute, c.second)
        };
        self.text(at, make).0
    }

    /// `23:59:59`.
    pub fn clock(&mut self, at: SystemTime) -> &str {
        self.text(at, |c| format!("{:02}:{:02}:{:02}", c.hour, c.minute, c.second)).0
    }

    fn text(&mut self, at: SystemTime, make: impl FnOnce(Civil) -> String) -> (&str, u32) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs() + 1;
        if self.second != second {
            self.text = make(civil(since.as_secs()));
            self.second = second;
        }
        (&self.text, since.subsec_millis())
    }
}

/// A point in time as text: `2025-01-31T23:59:59.123Z`.
pub fn rfc3339(at: SystemTime) -> String {
    let mut stamp = Stamp::default();
    let (second, millis) = stamp.rfc3339(at);
    format!("{second}.{millis:03}Z")
}

/// Date and time of day, UTC.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

/// The civil date of Unix seconds, by Howard Hinnant's `civil_from_days`: years begin in March, so that the day that
/// comes and goes is the last one.
fn civil(seconds: u64) -> Civil {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let time = seconds % 86_400;
    Civil {
        year: year_of_era + era * 400 + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted + 2) / 5 + 1,
        hour: time / 3600,
        minute: time / 60 % 60,
        second: time % 60,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(Stamp::default().rfc3339(at).0, text);
        }
    }

    #[test]
    fn the_text_follows_the_second() {
        let mut stamp = Stamp::default();
        let at = UNIX_EPOCH + Duration::from_millis(1_000_000_000_123);
        assert_eq!(stamp.rfc3339(at), ("2001-09-09T01:46:40", 123));
        assert_eq!(stamp.rfc3339(at + Duration::from_secs(1)), ("2001-09-09T01:46:41", 123));
        assert_eq!(rfc3339(at), "2001-09-09T01:46:40.123Z");
        assert_eq!(Stamp::default().common(at), "09/Sep/2001:01:46:40 +0000");
        assert_eq!(Stamp::default().clock(at), "01:46:40");
    }
}
