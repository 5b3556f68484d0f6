//! What happens to the mistakes of providers that change by themselves: their objects are left out, and whatever
//! needs one of them answers 503. Nothing passes unprotected.

use crate::{
    diagnostic::Finding,
    document::{Path, Step},
    merge::Source,
    model::{Model, Name, Route, Target},
};

/// An object of a live provider that has a mistake. It is left out; what needs it answers 503.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Quarantine {
    /// `middleware`, `service`, `route`, or `fragment` for all of them.
    pub what: &'static str,
    /// Qualified name; of a fragment, the provider's.
    pub name: Name,
    /// The first mistake.
    pub reason: String,
}

/// Leaves out what has mistakes in live fragments, and makes routes that need it answer 503.
pub(crate) fn quarantine(model: &mut Model, sources: &[Source], findings: &[Finding]) -> Vec<Quarantine> {
    let mut out: Vec<Quarantine> = Vec::new();
    for source in sources.iter().filter(|source| source.live) {
        for finding in findings.iter().filter(|f| f.is_error() && f.provider == source.provider) {
            let (what, name) = object_of(model, source, &Path::parse(&finding.path));
            if !out.iter().any(|q| q.what == what && q.name == name) {
                out.push(Quarantine { what, name, reason: finding.message.clone() });
            }
        }
    }
    let Model { routes, services, middlewares, .. } = model;
    for route in routes {
        let missing = |name: &Name| !middlewares.contains_key(name);
        let lost = match &route.target {
            Target::Service(name) if !services.contains_key(name) => {
                Some(format!("there is no service {name}"))
            }
            _ => None,
        };
        let unprotected = route.middlewares.iter().find(|name| missing(name));
        let reason = blamed(&out, route)
            .or_else(|| unprotected.map(|name| format!("there is no middleware {name}")))
            .or(lost);
        if let Some(reason) = reason {
            route.target = Target::Quarantined(reason.into());
        }
        // Nothing that is asked may be unknown to whoever compiles the model.
        if matches!(route.target, Target::Quarantined(_)) {
            route.middlewares.clear();
        }
    }
    for quarantine in &out {
        match quarantine.what {
            "middleware" => drop(middlewares.remove(&quarantine.name)),
            "service" => drop(services.remove(&quarantine.name)),
            _ => {}
        }
    }
    out
}

/// The object in which a path lies.
fn object_of(model: &Model, source: &Source, path: &Path) -> (&'static str, Name) {
    match path.0.as_slice() {
        [Step::Key(section), Step::Key(name), ..] if **section == *"middlewares" => {
            ("middleware", source.qualified(name))
        }
        [Step::Key(section), Step::Key(name), ..] if **section == *"services" => {
            ("service", source.qualified(name))
        }
        [Step::Key(section), Step::Index(at), ..] if **section == *"routes" => {
            let place = format!("routes[{at}]");
            let same =
                |route: &&Route| route.origin.provider == source.provider && *route.origin.path == *place;
            let name = model.routes.iter().find(same).map(|route| route.name.clone());
            ("route", name.unwrap_or_else(|| source.qualified(&place)))
        }
        _ => ("fragment", source.provider.clone()),
    }
}

/// Why a route cannot run: itself, one of its middlewares, or its service.
fn blamed(quarantined: &[Quarantine], route: &Route) -> Option<String> {
    let find = |what: &str, name: &Name| quarantined.iter().find(|q| q.what == what && q.name == *name);
    let service = match &route.target {
        Target::Service(name) => find("service", name),
        Target::Builtin(_) | Target::Quarantined(_) => None,
    };
    let middleware = route.middlewares.iter().find_map(|name| find("middleware", name));
    let blamed = find("route", &route.name).or(middleware).or(service)?;
    Some(format!("{} {}: {}", blamed.what, blamed.name, blamed.reason))
}
