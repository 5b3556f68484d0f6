//! Whether a request is sent once more, compiled: causes, methods, waits, budget.

use std::time::Duration;

use http::Method;
use portcullis_config::model;
use portcullis_core::{Answer, Error, Fault, Fields, Kind};

use super::tail::Late;
use crate::health::statuses::Statuses;

/// When requests to a service are sent once more.
pub struct Retry {
    settings: model::Retry,
    statuses: Statuses,
    methods: Vec<Method>,
    hedge: Option<Late>,
}

impl Retry {
    /// Compiled. What all retries of a service may cost is the service's [`super::budget::Allowance`].
    pub fn new(settings: &model::Retry) -> Retry {
        Retry {
            statuses: Statuses::new(&settings.on.statuses),
            methods: settings.methods.iter().filter_map(|name| name.parse().ok()).collect(),
            hedge: settings.hedge.map(Late::from),
            settings: settings.clone(),
        }
    }

    /// Attempts in all.
    pub fn attempts(&self) -> u32 {
        self.settings.attempts
    }

    /// See the model.
    pub fn try_timeout(&self) -> Option<Duration> {
        self.settings.try_timeout
    }

    /// When an attempt is late, and another is made beside it.
    pub fn hedge(&self) -> Option<Late> {
        self.hedge
    }

    /// So much of a body is kept.
    pub fn body_buffer(&self) -> u64 {
        self.settings.body_buffer
    }

    /// Is this an outcome after which a request of this method may be sent again?
    pub fn covers(&self, method: &Method, result: &Result<Answer, Error>) -> bool {
        let on = &self.settings.on;
        let (matches, unsent) = match result {
            Ok(answer) => {
                (self.statuses.contain(answer.status.as_u16()) || self.covers_grpc(&answer.fields), false)
            }
            Err(error) if error.fault() != Fault::Upstream => (false, false),
            Err(error) => {
                let matches = match error.kind {
                    Kind::ConnectionTerminated | Kind::ResponseIncomplete => on.reset,
                    Kind::ResponseTimeout | Kind::WriteTimeout | Kind::ConnectTimeout => on.timeout,
                    _ => false,
                };
                (matches || (error.unsent && on.connect_error), error.unsent)
            }
        };
        matches && (unsent || self.repeats(method))
    }

    /// May requests of this method be sent again after an endpoint may have seen them?
    pub fn repeats(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    /// Is it an answer of gRPC that is nothing but a status, one of those? (Trailers-Only: the status stands in its head.)
    fn covers_grpc(&self, fields: &Fields) -> bool {
        let codes = &self.settings.on.grpc;
        if codes.is_empty() {
            return false;
        }
        let code = fields.get_str("grpc-status").and_then(|text| text.trim().parse::<u8>().ok());
        code.is_some_and(|code| codes.iter().any(|known| known.0 == code))
    }

    /// How long to wait before the n-th retry (from 0), by chance between nothing and a bound that doubles: "full
    /// jitter", so that those who failed together do not come back together.
    pub fn wait(&self, retry: u32, chance: f64) -> Duration {
        let longest = self.settings.backoff_base.saturating_mul(1 << retry.min(20));
        longest.min(self.settings.backoff_max).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use portcullis_config::model::{GrpcCode, RetryBudget, RetryOn, StatusRange};

    use super::*;

    fn retry(on: RetryOn) -> Retry {
        let millis = Duration::from_millis;
        let settings = model::Retry {
            attempts: 3,
            on,
            methods: vec!["GET".into()],
            backoff_base: millis(20),
            backoff_max: millis(100),
            try_timeout: None,
            body_buffer: 1,
            hedge: None,
            budget: RetryBudget { ratio: 0.2, min_per_second: 10.0 },
        };
        Retry::new(&settings)
    }

    fn answer(status: u16) -> Result<Answer, Error> {
        Ok(Answer::new(StatusCode::from_u16(status).unwrap(), "test"))
    }

    #[test]
    fn only_what_is_named_is_tried_again_and_only_where_that_is_safe() {
        let all = retry(RetryOn {
            connect_error: true,
            reset: true,
            timeout: true,
            statuses: vec![StatusRange { from: 503, to: 503 }],
            grpc: Vec::new(),
        });
        let none = retry(RetryOn::default());
        let cases = [
            (answer(503), true, false),
            (answer(500), false, false),
            (Err(Error::new(Kind::ConnectionRefused).unsent()), true, true),
            (Err(Error::new(Kind::ConnectTimeout).unsent()), true, true),
            (Err(Error::new(Kind::ConnectionTerminated)), true, false),
            (Err(Error::new(Kind::ResponseTimeout)), true, false),
            (Err(Error::new(Kind::BadResponse)), false, false),
            (Err(Error::new(Kind::ClientGone)), false, false),
            (Err(Error::new(Kind::TotalTimeout)), false, false),
            (Err(Error::new(Kind::RequestTimeout)), false, false),
        ];
        for (result, safe, unsafe_too) in cases {
            assert_eq!(all.covers(&Method::GET, &result), safe, "GET {result:?}");
            assert_eq!(all.covers(&Method::POST, &result), unsafe_too, "POST {result:?}");
            assert!(!none.covers(&Method::GET, &result), "{result:?}");
        }
    }

    #[test]
    fn grpc_statuses_by_name() {
        let retry =
            retry(RetryOn { grpc: vec![GrpcCode::named("unavailable").unwrap()], ..RetryOn::default() });
        let mut said = Answer::new(StatusCode::OK, "test");
        assert!(!retry.covers(&Method::GET, &Ok(Answer::new(StatusCode::OK, "test"))));
        said.fields.append("grpc-status", "14");
        assert!(retry.covers(&Method::GET, &Ok(said)));
        let mut other = Answer::new(StatusCode::OK, "test");
        other.fields.append("grpc-status", "5");
        assert!(!retry.covers(&Method::GET, &Ok(other)));
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let retry = retry(RetryOn::default());
        let longest: Vec<_> = (0..5).map(|n| retry.wait(n, 1.0).as_millis()).collect();
        assert_eq!(longest, [20, 40, 80, 100, 100]);
        assert_eq!((retry.wait(1, 0.0), retry.wait(1, 0.5)), (Duration::ZERO, Duration::from_millis(20)));
        assert_eq!(retry.wait(u32::MAX, 1.0), Duration::from_millis(100));
    }
}
