//! `retry`, of services and routes.

use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{
    Lit, OneOrMany, OrTable,
    literal::{Literal, MethodName, Ratio, Size},
};
use crate::{
    model::{GrpcCode, StatusRange},
    scalar::{self, Problem},
};

/// Sending a request once more. Beside this, a request that certainly reached nobody goes to another endpoint by itself.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, the first included: 1 to 10. Default 3.
    pub attempts: Option<u32>,
    /// What is tried again: `connect_error` (it certainly reached nobody), `reset` (the connection ended before the
    /// answer), `timeout`, statuses (`503`, `5xx`, `502-504`), names of gRPC statuses (`unavailable`).
    /// Default `connect_error`, `reset` and `502-504`; and `timeout` where `try_timeout` is written.
    pub on: Option<OneOrMany<Lit<RetryCause>>>,
    /// Methods of requests that an endpoint may have seen before they are sent again. What certainly reached nobody is
    /// sent again whatever its method. Default: the idempotent ones, `GET`, `HEAD`, `OPTIONS`, `TRACE`, `PUT`, `DELETE`.
    pub methods: Option<OneOrMany<Lit<MethodName>>>,
    /// How long to wait before a retry. A duration is its `base`.
    pub backoff: Option<OrTable<Backoff>>,
    /// From the start of an attempt to the head of its answer. Default: as long as the request may take.
    pub try_timeout: Option<Lit<Duration>>,
    /// So much of a request's body is kept to be sent again; a longer one is sent once. At most 16 MiB. Default 64 KiB.
    pub body_buffer: Option<Lit<Size>>,
    /// Make another attempt beside one that is late, and take the first good answer. `true` for the defaults; a share is its
    /// `quantile`. Only for requests that may be sent twice. Default: never.
    pub hedge: Option<OrTable<Hedge>>,
    /// How many retries the service gets in all, so that they make no outage worse. A share is its `ratio`. At services
    /// only.
    pub budget: Option<OrTable<RetryBudget>>,
}

/// Why a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryCause {
    /// It certainly reached nobody.
    ConnectError,
    /// The connection ended before the answer.
    Reset,
    /// The answer did not begin in time.
    Timeout,
    /// These statuses.
    Statuses(StatusRange),
    /// This status of gRPC.
    Grpc(GrpcCode),
}

/// How long to wait before a retry: a random time up to `base`, which doubles with each retry up to `max`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// The longest wait before the first retry. Default 25 ms.
    pub base: Option<Lit<Duration>>,
    /// The longest wait before any. Default ten times `base`.
    pub max: Option<Lit<Duration>>,
}

/// When an attempt is late, so that another is made beside it: one for each attempt at most, within `attempts` and `budget`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// It takes longer than this share of the service's answers, over the last half a minute: 50 % to 99.9 %. Default 95 %.
    pub quantile: Option<Lit<Ratio>>,
    /// And longer than this. Default 10 ms.
    pub min: Option<Lit<Duration>>,
    /// At the latest after this, also while too few answers tell how long they take. Default: no such bound.
    pub max: Option<Lit<Duration>>,
}

/// How many retries a service gets in all, counted over the last ten seconds and all workers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBudget {
    /// Retries for each request: 20 % lets a service that fails get at most 1.2 times its load. Default 20 %.
    pub ratio: Option<Lit<Ratio>>,
    /// So many more each second, for services with little to do. Default 10.
    pub min_per_second: Option<f64>,
}

impl Literal for RetryCause {
    const EXPECTED: &'static str = "what to try again, such as \"reset\", \"502-504\" or \"unavailable\"";

    fn text(text: &str) -> Result<Self, Problem> {
        const NAMES: [&str; 3] = ["connect_error", "reset", "timeout"];
        match text.to_ascii_lowercase().replace('-', "_").as_str() {
            "connect_error" => return Ok(RetryCause::ConnectError),
            "reset" => return Ok(RetryCause::Reset),
            "timeout" => return Ok(RetryCause::Timeout),
            _ => {}
        }
        if let Some(code) = GrpcCode::named(text).filter(|code| code.0 != 0) {
            return Ok(RetryCause::Grpc(code));
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return scalar::statuses(text).map(RetryCause::Statuses);
        }
        let names = NAMES.iter().chain(GrpcCode::NAMES.iter().skip(1)).copied();
        let help = crate::diagnostic::suggestion(text, names, "causes");
        Err(Problem::new(format!("`{text}` is nothing that can be tried again"), help))
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(scalar::statuses(&value.to_string()).map(RetryCause::Statuses))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "title": "what to try again",
            "examples": ["connect_error", "reset", "timeout", 503, "502-504", "unavailable"],
        })
    }
}

impl Literal for Retry {
    const EXPECTED: &'static str = "a number of attempts, `true`";

    fn text(text: &str) -> Result<Self, Problem> {
        Err(Problem::new(format!("`{text}` is no number of attempts"), "write retry = 3, or a table"))
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        let attempts = u32::try_from(value).unwrap_or(0);
        Some(Ok(Retry { attempts: Some(attempts), ..Retry::default() }))
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        let attempts = if value { None } else { Some(1) };
        Some(Ok(Retry { attempts, ..Retry::default() }))
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 10 }, { "type": "boolean" }] })
    }
}

impl Literal for Backoff {
    const EXPECTED: &'static str = "a duration such as \"25ms\"";

    fn text(text: &str) -> Result<Self, Problem> {
        let base = scalar::duration(text)?;
        Ok(Backoff { base: Some(Lit(base)), max: None })
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Some(Self::text(&value.to_string()))
    }

    fn schema() -> Schema {
        <Duration as Literal>::schema()
    }
}

impl Literal for Hedge {
    const EXPECTED: &'static str = "`true`, a share such as \"95%\"";

    fn text(text: &str) -> Result<Self, Problem> {
        let quantile = <Ratio as Literal>::text(text)?;
        Ok(Hedge { quantile: Some(Lit(quantile)), ..Hedge::default() })
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Self::float(value as f64)
    }

    fn float(value: f64) -> Option<Result<Self, Problem>> {
        let quantile = <Ratio as Literal>::float(value)?;
        Some(quantile.map(|quantile| Hedge { quantile: Some(Lit(quantile)), ..Hedge::default() }))
    }

    fn boolean(value: bool) -> Option<Result<Self, Problem>> {
        let off = || Problem::new("there is no hedging by default", "leave `hedge` away");
        Some(if value { Ok(Hedge::default()) } else { Err(off()) })
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [{ "const": true }, <Ratio as Literal>::schema()] })
    }
}

impl Literal for RetryBudget {
    const EXPECTED: &'static str = <Ratio as Literal>::EXPECTED;

    fn text(text: &str) -> Result<Self, Problem> {
        let ratio = <Ratio as Literal>::text(text)?;
        Ok(RetryBudget { ratio: Some(Lit(ratio)), min_per_second: None })
    }

    fn integer(value: i64) -> Option<Result<Self, Problem>> {
        Self::float(value as f64)
    }

    fn float(value: f64) -> Option<Result<Self, Problem>> {
        let ratio = <Ratio as Literal>::float(value)?;
        Some(ratio.map(|ratio| RetryBudget { ratio: Some(Lit(ratio)), min_per_second: None }))
    }

    fn schema() -> Schema {
        <Ratio as Literal>::schema()
    }
}
