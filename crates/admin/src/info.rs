//! `@info`: what this is, and where its own pages are.

use std::{future::ready, sync::Arc};

use http::StatusCode;
use portcullis_config::{
    model::{Model, Target},
    rule::{Matcher, Rule},
};
use portcullis_core::{Answer, BoxFuture, Error, Exchange, builtin::Builtin};
use serde_json::{Map, Value};

use crate::{Gateway, reply};

/// Name, version, and the paths of the built-in services that are routed.
pub(crate) struct Info(pub Arc<dyn Gateway>);

impl Builtin for Info {
    fn answer<'a>(&'a self, _: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        let answer = self
            .0
            .runtime()
            .ok_or_else(reply::starting)
            .and_then(|runtime| reply::json(StatusCode::OK, "info", &about(&runtime.model)));
        Box::pin(ready(answer))
    }
}

/// `{"service", "version", "docs", "health", "metrics", "circuit_breakers", …}`: a link for each built-in service under
/// its own name, and one for documentation where a route serves exactly `/docs`.
fn about(model: &Model) -> Map<String, Value> {
    let mut about = Map::new();
    about.insert("service".into(), (&*model.gateway_name).into());
    about.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    let path = |wanted: &dyn Fn(&Target, &str) -> bool| {
        model.routes.iter().find_map(|route| {
            let path = literal_path(&route.rule)?;
            wanted(&route.target, path).then_some(path)
        })
    };
    if let Some(docs) = path(&|_, path| path == "/docs") {
        about.insert("docs".into(), docs.into());
    }
    for name in ["health", "healthz", "ready", "metrics", "stats", "circuit-breakers", "echo"] {
        let leads = |target: &Target, _: &str| matches!(target, Target::Builtin(to) if **to == *name);
        if let Some(link) = path(&leads) {
            about.insert(name.replace('-', "_"), link.into());
        }
    }
    about
}

/// The one path that a rule takes, where it takes exactly one.
fn literal_path(rule: &Rule) -> Option<&str> {
    match rule {
        Rule::And(parts) => parts.iter().find_map(literal_path),
        Rule::Match(Matcher::Path(path)) => Some(path),
        Rule::Match(Matcher::PathTemplate(template)) => {
            let literal = template
                .segments
                .iter()
                .all(|part| matches!(part, portcullis_config::rule::Segment::Literal(_)));
            (literal && !template.tail).then_some(&template.text)
        }
        _ => None,
    }
}
