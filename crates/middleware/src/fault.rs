//! `fault`: delays or aborts a share of the requests on purpose, for people's own tests.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use portcullis_core::{
    Answer, Decision, Error, Exchange, Flow, Middleware,
    meter::Counter,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::{self, Time};

/// Settings of `fault`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Makes requests wait before they go on.
    pub delay: Option<Delay>,
    /// Answers requests instead of passing them on.
    pub abort: Option<Abort>,
    /// Only requests with this header, such as `X-Chaos`; without it, all.
    pub header: Option<String>,
}

/// Makes requests wait.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// For so long.
    pub time: Time,
    /// Which share of them, in percent.
    #[serde(default = "every")]
    pub percent: f64,
}

/// Answers requests.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Abort {
    /// With this status, from 400 to 599.
    #[serde(default = "unavailable")]
    pub status: u16,
    /// Which share of them, in percent.
    #[serde(default = "every")]
    pub percent: f64,
}

fn every() -> f64 {
    100.0
}

fn unavailable() -> u16 {
    503
}

struct Rule {
    delay: Option<(Duration, f64)>,
    abort: Option<(StatusCode, f64)>,
    header: Option<String>,
    delayed: Arc<Counter>,
    aborted: Arc<Counter>,
}

impl MiddlewareKind for Fault {
    const NAME: &'static str = "fault";
    const SUMMARY: &'static str =
        "Delays or aborts a share of the requests on purpose, for tests of what asks.";
    const EXAMPLE: &'static str = "delay = { time = \"2s\", percent = 10.0 }\nabort = { status = 503, percent = 1.0 }\nheader = \"X-Chaos\"";

    fn build(self, around: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        if self.delay.is_none() && self.abort.is_none() {
            let help = "add `delay = { time = \"2s\" }` or `abort = { status = 503 }`";
            return Err(Problem::at("", "neither `delay` nor `abort` is there: nothing happens").help(help));
        }
        let shares = [
            ("delay", self.delay.as_ref().map(|d| d.percent)),
            ("abort", self.abort.as_ref().map(|a| a.percent)),
        ];
        for (key, percent) in shares {
            if percent.is_some_and(|percent| !(percent > 0.0 && percent <= 100.0)) {
                let help = "write more than 0 and at most 100";
                return Err(Problem::at(format!("{key}.percent"), "this is no share in percent").help(help));
            }
        }
        if let Some(header) = &self.header {
            settings::name("header", header)?;
        }
        let abort = self.abort.map(|abort| {
            let status = StatusCode::from_u16(abort.status)
                .ok()
                .filter(|status| (400..600).contains(&status.as_u16()));
            status.map(|status| (status, abort.percent)).ok_or_else(|| {
                let message = format!("{} is not the status of an error", abort.status);
                Problem::at("abort.status", message).help("write one from 400 to 599")
            })
        });
        let count = |fault: &str| {
            let labels = [("middleware", around.name), ("fault", fault)];
            around.meters.counter("gateway_faults_injected_total", "Faults made on purpose.", &labels)
        };
        Ok(Arc::new(Rule {
            delay: self.delay.map(|delay| (delay.time.0, delay.percent)),
            abort: abort.transpose()?,
            header: self.header,
            delayed: count("delay"),
            aborted: count("abort"),
        }))
    }
}

/// Does it meet one of so many in a hundred?
fn meets(percent: f64) -> bool {
    fastrand::f64() * 100.0 < percent
}

impl Rule {
    fn abort(&self) -> Option<Answer> {
        let (status, percent) = self.abort?;
        meets(percent).then(|| {
            self.aborted.inc();
            Answer::with_body(status, "fault", "text/plain; charset=utf-8", "A fault made on purpose.\n")
        })
    }
}

impl Middleware for Rule {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        if self.header.as_ref().is_some_and(|name| !x.request.fields.contains(name)) {
            return Ok(Flow::Next);
        }
        match self.delay.filter(|(_, percent)| meets(*percent)) {
            Some((time, _)) => {
                self.delayed.inc();
                Ok(Flow::Wait(Box::pin(async move {
                    tokio::time::sleep(time).await;
                    Ok(self.abort().map_or(Decision::Next, Decision::Answer))
                })))
            }
            None => Ok(self.abort().map_or(Flow::Next, Flow::Answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::{Decision, Flow};
    use serde_json::json;

    use crate::testing::{answered, build, passed, problem, request};

    #[test]
    fn a_share_is_aborted() {
        let fault = build("fault", json!({"abort": {"status": 418, "percent": 30}}));
        let aborted = |_: &u32| match fault.on_request(&mut request("/")).unwrap() {
            Flow::Answer(answer) => {
                assert_eq!(answer.status, 418);
                true
            }
            Flow::Next => false,
            Flow::Wait(_) => panic!("it waits"),
        };
        let count = (0..10_000).filter(aborted).count();
        assert!((2700..3300).contains(&count), "{count} of 10000");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_comes_before_an_abort() {
        let fault = build("fault", json!({"delay": {"time": "3s"}, "abort": {}}));
        let (begun, mut x) = (tokio::time::Instant::now(), request("/"));
        let Ok(Flow::Wait(waiting)) = fault.on_request(&mut x) else { panic!("it waits") };
        let Ok(Decision::Answer(answer)) = waiting.await else { panic!("it answers") };
        assert_eq!((answer.status.as_u16(), begun.elapsed().as_secs()), (503, 3));
    }

    #[test]
    fn only_who_asks_for_it_where_a_header_is_named() {
        let fault = build("fault", json!({"abort": {}, "header": "X-Chaos"}));
        passed(fault.on_request(&mut request("/")).unwrap());
        let mut x = request("/");
        x.request.fields.append("x-chaos", "1");
        assert_eq!(answered(fault.on_request(&mut x).unwrap()).status, 503);
    }

    #[test]
    fn settings_are_judged() {
        let path = |settings| problem("fault", settings).path;
        assert_eq!(path(json!({})), "");
        assert_eq!(path(json!({"abort": {"status": 200}})), "abort.status");
        assert_eq!(path(json!({"abort": {"percent": 0}})), "abort.percent");
        assert_eq!(path(json!({"delay": {"time": "1s", "percent": 101}})), "delay.percent");
        assert_eq!(path(json!({"delay": {}})), "delay");
        assert_eq!(path(json!({"abort": {}, "header": "a b"})), "header");
    }
}
