//! The admin API: one built-in service behind the admin listener, which routes by path. One file per resource, one row
//! each in [`RESOURCES`]; the description for programs is `openapi.json`, and a test holds the two together.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use http::{Method, StatusCode};
use portcullis_core::{Answer, BoxFuture, Error, Exchange, Kind, builtin::Builtin};
use portcullis_proxy::runtime::Runtime;
use serde_json::{Value, json};

use crate::{Gateway, Outcome, Upgraded, for_routes, reply};

mod cache;
mod findings;
mod guard;
mod listeners;
mod middlewares;
mod overview;
mod redact;
mod routes;
mod services;
mod shape;

/// The description of all resources, OpenAPI 3.1.
const OPENAPI: &str = include_str!("openapi.json");

/// Who answers, for the log.
const NAME: &str = "admin";

/// The admin API.
pub struct AdminApi {
    gateway: Arc<dyn Gateway>,
    builtins: BTreeMap<&'static str, Arc<dyn Builtin>>,
    born: Instant,
}

/// One thing that is served.
struct Resource {
    method: Method,
    path: &'static str,
    /// May be asked for under any host: what probes ask for, who often know us by a name of their own.
    any_host: bool,
    show: Show,
}

/// How it is answered.
#[derive(Clone, Copy)]
enum Show {
    /// A document made from what runs.
    Document(fn(&View) -> Value),
    /// The last reload.
    Findings,
    /// A reload now.
    Reload,
    /// A new process of the binary now.
    Upgrade,
    /// Takes answers out of the cache.
    Purge,
    /// The list of resources.
    Index,
    /// The description.
    OpenApi,
    /// What routes too may lead to.
    Builtin(&'static str),
}

/// What documents are made from.
pub(crate) struct View {
    pub gateway: Arc<dyn Gateway>,
    pub runtime: Arc<Runtime>,
    pub born: Instant,
}

const fn get(path: &'static str, show: Show) -> Resource {
    Resource { method: Method::GET, path, any_host: false, show }
}

const fn probe(path: &'static str, name: &'static str) -> Resource {
    Resource { method: Method::GET, path, any_host: true, show: Show::Builtin(name) }
}

/// Everything that is served.
static RESOURCES: [Resource; 19] = [
    get("/", Show::Index),
    get("/api/overview", Show::Document(overview::document)),
    get("/api/listeners", Show::Document(listeners::document)),
    get("/api/routes", Show::Document(routes::document)),
    get("/api/services", Show::Document(services::document)),
    get("/api/middlewares", Show::Document(middlewares::document)),
    get("/api/cache", Show::Document(cache::document)),
    Resource { method: Method::POST, path: "/api/cache/purge", any_host: false, show: Show::Purge },
    get("/api/findings", Show::Findings),
    get("/api/openapi.json", Show::OpenApi),
    Resource { method: Method::POST, path: "/reload", any_host: false, show: Show::Reload },
    Resource { method: Method::POST, path: "/upgrade", any_host: false, show: Show::Upgrade },
    get("/metrics", Show::Builtin("metrics")),
    probe("/health", "health"),
    probe("/healthz", "healthz"),
    probe("/ready", "ready"),
    get("/stats", Show::Builtin("stats")),
    get("/info", Show::Builtin("info")),
    get("/echo", Show::Builtin("echo")),
];

impl AdminApi {
    /// The admin API of a gateway.
    pub fn new(gateway: Arc<dyn Gateway>) -> AdminApi {
        AdminApi { builtins: for_routes(&gateway), gateway, born: Instant::now() }
    }

    async fn serve(&self, x: &mut Exchange) -> Result<Answer, Error> {
        let runtime = self.gateway.runtime().ok_or_else(reply::starting)?;
        let path = x.request.path();
        let here = || RESOURCES.iter().filter(|resource| resource.path == path);
        if !here().any(|resource| resource.any_host) {
            guard::check(x, runtime.model.admin.as_ref())?;
        }
        let asked = if x.request.method == Method::HEAD { &Method::GET } else { &x.request.method };
        let Some(resource) = here().find(|resource| resource.method == *asked) else {
            return here().next().map_or(Err(Kind::NoRoute.into()), not_allowed);
        };
        match resource.show {
            Show::Document(make) => {
                let view = View { gateway: self.gateway.clone(), runtime, born: self.born };
                reply::aside(move || reply::json(StatusCode::OK, NAME, &make(&view))).await
            }
            Show::Findings => {
                let last = self.gateway.last_reload();
                let quarantined = findings::quarantined(&runtime.model);
                reply::json(StatusCode::OK, NAME, &findings::document(last.as_ref(), quarantined))
            }
            Show::Reload => reloaded(self.gateway.reload().await.as_ref()),
            Show::Upgrade => upgraded(&self.gateway.upgrade().await),
            Show::Purge => {
                let view = View { gateway: self.gateway.clone(), runtime, born: self.born };
                let query = x.request.query().map(str::to_owned);
                cache::purge(view, query.as_deref()).await
            }
            Show::Index => reply::json(StatusCode::OK, NAME, &index()),
            Show::OpenApi => {
                let mut answer = reply::text(StatusCode::OK, NAME, OPENAPI);
                answer.fields.set("content-type", "application/json");
                Ok(answer)
            }
            Show::Builtin(name) => match self.builtins.get(name) {
                Some(builtin) => builtin.answer(x).await,
                None => Err(Kind::NoRoute.into()),
            },
        }
    }
}

impl Builtin for AdminApi {
    fn answer<'a>(&'a self, x: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(self.serve(x))
    }
}

/// 200 when the configuration is in force, 422 when it was refused.
fn reloaded(outcome: Option<&Outcome>) -> Result<Answer, Error> {
    let outcome = outcome.ok_or(Kind::ShuttingDown)?;
    let status = if outcome.ok { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    reply::json(status, NAME, &findings::outcome(outcome))
}

/// 200 when the new process serves, 422 when this one goes on.
fn upgraded(outcome: &Upgraded) -> Result<Answer, Error> {
    let Upgraded { ok, pid, version, problem } = outcome;
    let status = if *ok { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    reply::json(status, NAME, &json!({ "ok": ok, "pid": pid, "version": version, "problem": problem }))
}

/// The error itself would leave out `Allow`, which RFC 9110 §15.5.6 demands.
fn not_allowed(resource: &Resource) -> Result<Answer, Error> {
    let allow = if resource.method == Method::GET { "GET, HEAD" } else { resource.method.as_str() };
    let mapping = portcullis_core::answer::mapping(Kind::MethodNotAllowed);
    let body = json!({
        "type": format!("https://portcullis.dev/problems/{}", mapping.slug),
        "title": mapping.title,
        "status": mapping.status.as_u16(),
        "detail": format!("This resource takes {allow}."),
    });
    let mut answer = reply::typed(mapping.status, NAME, "application/problem+json", &body)?;
    answer.fields.append("allow", allow);
    Ok(answer)
}

fn index() -> Value {
    let resources: Vec<String> =
        RESOURCES.iter().map(|resource| format!("{} {}", resource.method, resource.path)).collect();
    json!({ "service": "portcullis", "version": env!("CARGO_PKG_VERSION"), "resources": resources })
}

#[cfg(test)]
mod tests;
