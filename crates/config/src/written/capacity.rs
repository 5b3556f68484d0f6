//! `capacity`, of services, and `concurrency` and `rate` of endpoints.

use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{Lit, OrTable, literal::Literal};
use crate::scalar::{self, Problem};

/// How much a service and its endpoints bear. An endpoint that has as much as it bears is passed over; when all have, requests
/// wait in a bounded line, first come, first served, or are answered 503.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Requests under way at once, to all endpoints together: a number, or `"adaptive"`. Default: unbounded.
    pub concurrency: Option<OrTable<Concurrency>>,
    /// Requests under way at once to each endpoint: a number, or `"adaptive"`. Default: unbounded.
    pub endpoint_concurrency: Option<OrTable<Concurrency>>,
    /// How often each endpoint is asked: `"100/s"`, `"50/10s"`, a number for each second. Default: unbounded.
    pub endpoint_rate: Option<OrTable<Rate>>,
    /// So many requests wait for their turn; what comes beyond is refused at once. Default 0.
    pub queue: Option<u32>,
    /// For so long at most; who still waits then is refused. Default 1 s.
    pub queue_timeout: Option<Lit<Duration>>,
}

/// How many requests at once: a number; or found from how long answers take, within these bounds.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// The number itself, where it was written as one.
    #[serde(skip)]
    pub fixed: Option<u32>,
    /// Never less at once. Default 4.
    pub min: Option<u32>,
    /// Never more at once. Default 1000.
    pub max: Option<u32>,
    /// At the start. Default 20.
    pub initial: Option<u32>,
}

/// So many requests in so much time, refilling steadily.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many requests may pass in that time.
    pub requests: u32,
    /// In which time. Default 1 s.
    pub per: Option<Lit<Duration>>,
    /// At once, after a rest. Default: what one second allows, at least 1.
    pub burst: Option<u32>,
}

impl Literal for Capacity {
    const EXPECTED: &'static str = "a number of requests at once, \"adaptive\"";

    fn text(text: &str) -> Result<Self, Problem> {
        let concurrency = <Concurrency as Literal>::text(text)?;
        Ok(Capacity { concurrency: Some(OrTable(concurrency)), ..Capacity::default() })
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        let concurrency = <Concurrency as Literal>::integer(value)?;
        let of = |concurrency| Capacity { concurrency: Some(OrTable(concurrency)), ..Capacity::default() };
        Some(concurrency.map(of))
    }

    fn schema() -> Schema {
        <Concurrency as Literal>::schema()
    }
}

impl Literal for Concurrency {
    const EXPECTED: &'static str = "a number of requests at once, \"adaptive\"";

    fn text(text: &str) -> Result<Self, Problem> {
        match text {
            "adaptive" => Ok(Concurrency::default()),
            _ => Err(Problem::new(
                format!("`{text}` is no number of requests"),
                "write a number such as 100, \"adaptive\", or { min = 4, max = 1000 }",
            )),
        }
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        let fixed = u32::try_from(value).unwrap_or(0);
        Some(Ok(Concurrency { fixed: Some(fixed), ..Concurrency::default() }))
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "const": "adaptive" }] })
    }
}

impl Literal for Rate {
    const EXPECTED: &'static str = "a rate such as \"100/s\"";

    fn text(text: &str) -> Result<Self, Problem> {
        const HELP: &str = "write a number and a time: \"100/s\", \"10/m\", \"50/10s\"";
        let bad = || Problem::new(format!("`{text}` is no rate"), HELP);
        let (requests, per) = text.split_once('/').ok_or_else(bad)?;
        let requests = requests.trim().replace('_', "").parse().map_err(|_| bad())?;
        let per = per.trim();
        let per = match per.starts_with(|c: char| c.is_ascii_digit()) {
            true => scalar::duration(per),
            false => scalar::duration(&format!("1{per}")),
        };
        Ok(Rate { requests, per: Some(Lit(per.map_err(|_| bad())?)), burst: None })
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(Ok(Rate { requests: u32::try_from(value).unwrap_or(0), per: None, burst: None }))
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "title": "rate", "examples": ["100/s", "10/m", "50/10s", 100] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let of =
            |text| <Rate as Literal>::text(text).map(|rate| (rate.requests, rate.per.unwrap().0.as_secs()));
        for (text, expected) in
            [("100/s", (100, 1)), ("10/m", (10, 60)), ("50/10s", (50, 10)), ("1_000 / h", (1000, 3600))]
        {
            assert_eq!(of(text).ok(), Some(expected), "{text}");
        }
        for text in ["", "100", "/s", "x/s", "1/", "1/fortnight", "1.5/s", "-1/s"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
