//! What the integration tests share: kinds of middleware as the real table would have them.
#![allow(dead_code)]

use std::collections::BTreeMap;

use portcullis_config::{
    KindProblem, Kinds,
    model::{Name, Store},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// A handful of kinds with settings of their own.
pub struct TestKinds;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimit {
    requests_per_second: f64,
    #[allow(unused)]
    burst: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StripPrefix {
    prefixes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(unused)]
struct Cors {
    origins: Value,
    credentials: Option<bool>,
    max_age: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(unused)]
struct Headers {
    #[serde(default)]
    set: BTreeMap<String, String>,
}

fn read<T: DeserializeOwned>(settings: &Value) -> Result<T, KindProblem> {
    serde_path_to_error::deserialize(settings).map_err(|error| KindProblem {
        path: error.path().to_string(),
        message: error.inner().to_string(),
        help: String::new(),
    })
}

impl Kinds for TestKinds {
    fn names(&self) -> Vec<&'static str> {
        vec!["compress", "cors", "headers", "rate_limit", "request_id", "strip_prefix"]
    }

    fn check(&self, kind: &str, settings: &Value, _: &BTreeMap<Name, Store>) -> Result<(), KindProblem> {
        match kind {
            "rate_limit" => {
                let limit: RateLimit = read(settings)?;
                if limit.requests_per_second <= 0.0 {
                    return Err(KindProblem {
                        path: "requests_per_second".into(),
                        message: "a limit of nothing".into(),
                        help: "write a number above 0".into(),
                    });
                }
                Ok(())
            }
            "strip_prefix" => {
                let strip: StripPrefix = read(settings)?;
                match strip.prefixes.iter().position(|prefix| !prefix.starts_with('/')) {
                    None => Ok(()),
                    Some(at) => Err(KindProblem {
                        path: format!("prefixes[{at}]"),
                        message: format!("`{}` does not start with `/`", strip.prefixes[at]),
                        help: format!("write `/{}`", strip.prefixes[at]),
                    }),
                }
            }
            "cors" => read::<Cors>(settings).map(drop),
            "headers" => read::<Headers>(settings).map(drop),
            _ => read::<Nothing>(settings).map(drop),
        }
    }
}

/// Variables of the tests.
pub fn env() -> BTreeMap<String, String> {
    [
        ("PORT", "9001"),
        ("NAME", "from-env"),
        ("LIMIT", "7.5"),
        ("ON", "true"),
        ("HOST", "10.0.0.9"),
        ("EVIL", "\"]\n[admin]\n"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
