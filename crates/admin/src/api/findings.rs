//! How the last reload went, with every finding; and what is quarantined.

use portcullis_config::model::{Model, Target};
use portcullis_proxy::observe::rfc3339;
use serde_json::{Value, json};

use crate::Outcome;

/// The last outcome, `null` before the first, and the routes that answer 503 because of a mistake.
pub(super) fn document(last: Option<&Outcome>, quarantined: Vec<Value>) -> Value {
    json!({ "last_reload": last.map(outcome), "quarantined": quarantined })
}

/// One outcome.
pub(super) fn outcome(outcome: &Outcome) -> Value {
    json!({
        "at": rfc3339(outcome.at),
        "cause": outcome.cause,
        "ok": outcome.ok,
        "generation": outcome.generation,
        "findings": outcome.findings,
        "problems": outcome.problems,
    })
}

/// Routes that lead nowhere, and why.
pub(super) fn quarantined(model: &Model) -> Vec<Value> {
    let reason = |target: &Target| match target {
        Target::Quarantined(reason) => Some(reason.to_string()),
        Target::Service(_) | Target::Builtin(_) => None,
    };
    let routes = model.routes.iter();
    routes
        .filter_map(|route| Some(json!({ "route": &*route.name, "reason": reason(&route.target)? })))
        .collect()
}
