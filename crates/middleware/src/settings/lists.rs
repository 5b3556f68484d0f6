//! Lists that may be written as one string.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};

/// A string, or a list of strings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Strings(pub Vec<String>);

/// A list of words; one string may hold several, with commas between (as an environment variable would).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Words(pub Vec<String>);

struct ListReader;

impl<'de> Visitor<'de> for ListReader {
    type Value = Strings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Strings, E> {
        Ok(Strings(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Strings, A::Error> {
        let mut all = Vec::new();
        while let Some(text) = list.next_element()? {
            all.push(text);
        }
        Ok(Strings(all))
    }
}

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strings, D::Error> {
        deserializer.deserialize_any(ListReader)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        let Strings(list) = Strings::deserialize(deserializer)?;
        let words = list.iter().flat_map(|text| text.split(',')).map(str::trim);
        Ok(Words(words.filter(|word| !word.is_empty()).map(str::to_owned).collect()))
    }
}

impl From<&[&str]> for Words {
    fn from(words: &[&str]) -> Words {
        Words(words.iter().map(|word| (*word).to_owned()).collect())
    }
}

fn list_schema() -> Schema {
    json_schema!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
}

impl JsonSchema for Strings {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "strings".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        list_schema()
    }
}

impl JsonSchema for Words {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "words".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        list_schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn one_or_many() {
        assert_eq!(from_value::<Strings>(json!("a, b")).unwrap().0, ["a, b"]);
        assert_eq!(from_value::<Words>(json!("a, b,")).unwrap().0, ["a", "b"]);
        assert_eq!(from_value::<Words>(json!(["a", "b,c"])).unwrap().0, ["a", "b", "c"]);
        let error = from_value::<Strings>(json!(7)).unwrap_err().to_string();
        assert!(error.contains("a string or a list of strings"), "{error}");
    }
}
