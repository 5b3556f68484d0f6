//! Sizes (`"1 MiB"`) and times (`"10m"`).

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// A number of bytes: a whole number, or text such as `"64 KiB"`, `"10 MB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A length of time: a whole number of seconds, or text such as `"250ms"`, `"10m"`, `"1h30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

const SIZE_UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("kib", 1 << 10),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
];

const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Takes a whole number and the letters behind it from the front of a text.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(digits)?;
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(letters)?;
    Some((number.parse().ok()?, unit, rest))
}

fn scale(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|&(_, scale)| scale)
}

impl Size {
    fn parse(text: &str) -> Option<Size> {
        let (number, unit, rest) = number_and_unit(text.trim())?;
        let bytes = number.checked_mul(scale(&SIZE_UNITS, unit)?)?;
        rest.is_empty().then_some(Size(bytes))
    }
}

impl Time {
    fn parse(text: &str) -> Option<Time> {
        let (mut rest, mut millis) = (text.trim(), 0_u64);
        loop {
            let (number, unit, behind) = number_and_unit(rest)?;
            millis = millis.checked_add(number.checked_mul(scale(&TIME_UNITS, unit)?)?)?;
            rest = behind.trim_start();
            if rest.is_empty() {
                return Some(Time(Duration::from_millis(millis)));
            }
        }
    }
}

struct Reader<T> {
    expected: &'static str,
    number: fn(u64) -> T,
    text: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        Ok((self.number)(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let whole = u64::try_from(number);
        whole.map(self.number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self.expected))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.text)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self.expected))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        let expected = "a size: a number of bytes, or text such as \"64 KiB\" or \"10 MB\"";
        deserializer.deserialize_any(Reader { expected, number: Size, text: Size::parse })
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let expected = "a time: a number of seconds, or text such as \"250ms\", \"10m\" or \"1h30m\"";
        let number = |seconds| Time(Duration::from_secs(seconds));
        deserializer.deserialize_any(Reader { expected, number, text: Time::parse })
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"], "format": "size", "minimum": 0})
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"], "format": "time", "minimum": 0})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("17", 17), ("1 KiB", 1024), ("1kb", 1000), ("10 MB", 10_000_000), (" 2GiB ", 2 << 30)]
        {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "KiB", "1 XiB", "1.5 MiB", "-1", "1 KiB 2", "99999999999 GiB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, millis) in [("250ms", 250), ("10s", 10_000), ("1h30m", 5_400_000), ("1d", 86_400_000)] {
            assert_eq!(Time::parse(text), Some(Time(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "10", "s", "1.5h", "-1s", "1h x", "1y"] {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }
}
