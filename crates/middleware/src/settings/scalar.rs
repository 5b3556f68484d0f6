//! Sizes (`"1 MiB"`) and times (`"10m"`), in the same grammar as everywhere in the configuration.

use std::{borrow::Cow, fmt, time::Duration};

use portcullis_config::scalar;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

/// A number of bytes: a whole number, or text such as `"64 KiB"`, `"10 MB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A length of time: text such as `"250ms"`, `"10m"`, `"1h30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

/// The number with the largest unit that divides it.
fn in_units(number: u64, units: &[(&str, u64)], space: &str) -> Option<String> {
    let fits = |&&(_, scale): &&(&str, u64)| number > 0 && number.is_multiple_of(scale);
    let (name, scale) = units.iter().filter(fits).max_by_key(|(_, scale)| *scale)?;
    Some(format!("{}{space}{name}", number / scale))
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match in_units(self.0, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)], " ") {
            Some(text) => serializer.serialize_str(&text),
            None => serializer.serialize_u64(self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        serializer.serialize_str(
            &in_units(millis, &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)], "")
                .unwrap_or_else(|| "0s".to_owned()),
        )
    }
}

struct Reader<T> {
    expected: &'static str,
    number: fn(u64) -> Option<T>,
    text: fn(&str) -> Result<T, scalar::Problem>,
}

impl<T> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.number)(number).ok_or_else(|| E::invalid_type(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let whole = u64::try_from(number).ok().and_then(self.number);
        whole.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.text)(text).map_err(|problem| E::custom(format!("{}; {}", problem.message, problem.help)))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        let expected = "a size: a number of bytes, or text such as \"64 KiB\" or \"10 MB\"";
        let text = |text: &str| scalar::size(text).map(Size);
        deserializer.deserialize_any(Reader { expected, number: |bytes| Some(Size(bytes)), text })
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let expected = "a time with its unit, such as \"250ms\", \"10m\" or \"1h30m\"";
        let text = |text: &str| scalar::duration(text).map(Time);
        deserializer.deserialize_any(Reader { expected, number: |_| None, text })
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
        json_schema!({"type": "string", "format": "time"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::{from_value, json};

    #[test]
    fn sizes_and_times() {
        assert_eq!(from_value::<Size>(json!(17)).unwrap(), Size(17));
        assert_eq!(from_value::<Size>(json!("64 KiB")).unwrap(), Size(65536));
        assert_eq!(from_value::<Time>(json!("1h30m")).unwrap(), Time(Duration::from_secs(5400)));
        for wrong in [json!(-1), json!("1 XB"), json!(true), json!(null)] {
            assert!(from_value::<Size>(wrong).is_err());
        }
        let error = from_value::<Time>(json!(600)).unwrap_err().to_string();
        assert!(error.contains("a time with its unit"), "{error}");
        let error = from_value::<Time>(json!("600")).unwrap_err().to_string();
        assert!(error.contains("write `600s`"), "{error}");
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for bytes in [0, 1, 1023, 1024, 1536, 1 << 20, 3 << 30, u64::MAX] {
            let text = serde_json::to_value(Size(bytes)).unwrap();
            assert_eq!(serde_json::from_value::<Size>(text).unwrap(), Size(bytes));
        }
        for millis in [0, 1, 1500, 60_000, 5_400_000] {
            let time = Time(Duration::from_millis(millis));
            assert_eq!(serde_json::from_value::<Time>(serde_json::to_value(time).unwrap()).unwrap(), time);
        }
        assert_eq!(serde_json::to_value(Size(2048)).unwrap(), "2 KiB");
        assert_eq!(serde_json::to_value(Time(Duration::from_secs(5400))).unwrap(), "90m");
    }
}
