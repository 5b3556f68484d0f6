//! `fallback` and `errors`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Merger, Source, shared};
use crate::{
    diagnostic::{Code, suggestion},
    document::Path,
    model::{ERRORS, Fallback, Instead, StatusRange, Target},
    scalar::{self, Problem},
    written::{self, FallbackCause, OneOrMany},
};

impl Merger<'_> {
    pub(super) fn fallback(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Fallback,
    ) -> Option<Fallback> {
        let path = path.key("fallback");
        let (errors, statuses) = causes(written);
        let fixed = [
            ("status", written.status.is_some()),
            ("body", written.body.is_some()),
            ("content_type", written.content_type.is_some()),
            ("headers", !written.headers.is_empty()),
        ];
        let instead = match &written.service {
            Some(service) => {
                for (key, _) in fixed.iter().filter(|(_, is_written)| *is_written) {
                    let message = format!("`service` and `{key}` are both written");
                    let help = "a fallback is what another service answers, or a fixed answer";
                    self.error(source, &path.key(key), Code::Conflict, message, help);
                }
                match self.reference(source, &path.key("service"), service) {
                    Target::Service(name) => Instead::Service(name),
                    _ => {
                        let help = "name a service with endpoints, or write a fixed answer";
                        let message = "a built-in service is no fallback";
                        self.error(source, &path.key("service"), Code::BadValue, message, help);
                        return None;
                    }
                }
            }
            None if fixed.iter().any(|(_, is_written)| *is_written) => {
                self.fixed_answer(source, &path, written)
            }
            None if written.stale.is_some() => {
                if written.on.is_some() {
                    let message = "a stale answer stands in for every error, and for 500, 502, 503 and 504";
                    let help = "take `on` away, or write `service` or `body` beside `stale`";
                    self.error(source, &path.key("on"), Code::Conflict, message, help);
                }
                return None;
            }
            None => {
                if !source.broken(&path) {
                    let help = "write `stale`, `service`, or `status` and `body`";
                    self.error(source, &path, Code::MissingKey, "a fallback to nothing", help);
                }
                return None;
            }
        };
        Some(Fallback { errors, statuses, instead })
    }

    /// How stale an answer may be that stands in for an error.
    pub(super) fn stale(
        &mut self,
        source: &Source,
        path: &Path,
        written: Option<&written::Fallback>,
    ) -> Option<Duration> {
        let stale = written?.stale?.0;
        let path = path.key("fallback").key("stale");
        if stale.is_zero() {
            let help = "a time such as 1h, or leave `stale` away";
            self.error(source, &path, Code::BadValue, "`stale` of 0 stands in for nothing", help);
        } else if stale.subsec_nanos() != 0 {
            self.error(source, &path, Code::BadValue, "a part of a second", "caches count in whole seconds");
        } else if stale > super::cache::LONGEST {
            self.error(source, &path, Code::BadValue, "longer than 68 years", "at most 2147483648s");
        }
        Some(stale)
    }

    fn fixed_answer(&mut self, source: &Source, path: &Path, written: &written::Fallback) -> Instead {
        let status = written.status.unwrap_or(200);
        if !(200..=599).contains(&status) {
            let message = format!("{status} is not the status of an answer");
            self.error(source, &path.key("status"), Code::BadValue, message, "200 to 599");
        }
        let body = written.body.as_deref().unwrap_or_default();
        let looks_like_json = body.trim_start().starts_with(['{', '[']);
        let usual = if looks_like_json { "application/json" } else { "text/plain; charset=utf-8" };
        let mut headers: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        if !body.is_empty() || written.content_type.is_some() {
            headers.push((shared("content-type"), shared(written.content_type.as_deref().unwrap_or(usual))));
        }
        headers.extend(written.headers.iter().map(|(name, value)| (shared(name), shared(value))));
        for (name, value) in &headers {
            let judged = scalar::header_name(name)
                .and_then(|_| scalar::header_value(value))
                .and_then(|_| not_of_framing(name));
            if let Err(problem) = judged {
                let at = if written.headers.contains_key(&**name) {
                    path.key("headers").key(name)
                } else {
                    path.key("content_type")
                };
                self.error(source, &at, Code::BadValue, problem.message, problem.help);
            }
        }
        Instead::Answer { status, headers, body: shared(body) }
    }

    /// Statuses of the gateway's own errors, by slug.
    pub(super) fn error_statuses(
        &mut self,
        source: &Source,
        path: &Path,
        written: &BTreeMap<String, u16>,
    ) -> BTreeMap<Arc<str>, u16> {
        let path = path.key("errors");
        let mut statuses = BTreeMap::new();
        for (name, status) in written {
            let own = path.key(name);
            let Some((slug, _)) = written::slug(name) else {
                let slugs = ERRORS.iter().map(|(slug, _)| *slug);
                let help = suggestion(&name.replace('_', "-"), slugs, "errors");
                self.error(source, &own, Code::BadValue, format!("there is no error `{name}`"), help);
                continue;
            };
            if !(400..=599).contains(status) {
                let message = format!("{status} is not the status of an error");
                self.error(source, &own, Code::BadValue, message, "400 to 599");
            }
            statuses.insert(shared(slug), *status);
        }
        statuses
    }
}

/// How an answer is framed is decided when it is written, for each version of HTTP (RFC 9110 §7.6.1).
fn not_of_framing(name: &str) -> Result<(), Problem> {
    const OURS: [&str; 8] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
        let help = "take it away: the gateway writes what belongs to the body and the connection";
        return Err(Problem::new(format!("`{name}` is not for a fixed answer to say"), help));
    }
    Ok(())
}

fn causes(written: &written::Fallback) -> (Vec<Arc<str>>, Vec<StatusRange>) {
    let any = [written::Lit(FallbackCause::Any)];
    let list = match &written.on {
        Some(OneOrMany(list)) => list.as_slice(),
        None => any.as_slice(),
    };
    let (mut errors, mut statuses): (Vec<Arc<str>>, Vec<StatusRange>) = (Vec::new(), Vec::new());
    for cause in list {
        match cause.0 {
            FallbackCause::Any => {
                errors
                    .extend(ERRORS.iter().filter(|(_, is_behind)| *is_behind).map(|(slug, _)| shared(slug)));
            }
            FallbackCause::Error(slug) => errors.push(shared(slug)),
            FallbackCause::Statuses(range) => statuses.push(range),
        }
    }
    (errors, statuses)
}
