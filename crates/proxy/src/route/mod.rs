//! From a request to its route.
//!
//! ```text
//! host ──┬─ exact name ──┐            ┌─ whole path (hash map)
//!        ├─ *.domain ────┼─► paths ──►├─ prefix of bytes (tree)   ──► candidates ──► rest of the condition
//!        └─ any ─────────┘            ├─ template /a/{b}/* (tree)     by rank
//!                                     └─ anywhere
//! ```
//!
//! All routes of a listener are put into one order: by priority, the highest first; among equals as they were written.
//! The route of a request is the first in that order whose rule holds. The maps and trees only spare asking those whose
//! host or path cannot fit; whatever a rule says beyond them (methods, headers, queries, regular expressions, "or" and
//! "not" across hosts and paths) stays with the candidate as the rest of its condition, and is asked last.
//!
//! Everything is made when the configuration is compiled. Finding a route copies nothing, unless the path holds a
//! percent-escape.

mod condition;
mod explain;
mod hosts;
mod key;
mod methods;
mod names;
mod paths;
mod query_string;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use portcullis_config::rule::{PathTemplate, Rule, Segment};
use portcullis_core::{Exchange, Fields, path};

pub use explain::{Explanation, Loser};

use condition::{Condition, Test, View};
use hosts::Hosts;
use key::Key;
use methods::Methods;
use paths::{Candidate, List};

/// A route as the router needs it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The caller's number for it, which [`Found`] gives back.
    pub index: usize,
    /// Its condition.
    pub rule: &'a Rule,
    /// Higher goes first.
    pub priority: i64,
    /// For explanations and errors.
    pub name: &'a str,
}

/// A rule that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("route `{name}`: {reason}")]
pub struct CompileError {
    /// The route's number.
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// What is wrong.
    pub reason: Reason,
}

/// Why a rule cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// A regular expression is none, or too large.
    #[error(transparent)]
    Regex(#[from] regex::Error),
    /// The rules of one listener speak of more than 64 methods.
    #[error("the rules speak of more than 64 different methods")]
    TooManyMethods,
}

/// What a route is found by.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// As [`portcullis_core::Request::host`] gives it: lower-case, without port and trailing dot.
    pub host: &'a str,
    /// The canonical path.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The header fields.
    pub fields: &'a Fields,
    /// The TCP peer.
    pub peer: IpAddr,
    /// The client after trusted proxies.
    pub client: IpAddr,
}

impl<'a> Query<'a> {
    /// What an exchange asks for.
    pub fn of(x: &'a Exchange) -> Query<'a> {
        Query {
            host: x.request.host(),
            path: x.request.path(),
            query: x.request.query(),
            method: x.request.method.as_str(),
            fields: &x.request.fields,
            peer: x.connection.peer.ip(),
            client: x.client,
        }
    }
}

/// What was found.
#[derive(Debug, Clone)]
pub enum Found<'a> {
    /// This route takes the request.
    Route {
        /// Its [`Entry::index`].
        index: usize,
        /// The values of the `{parameters}` of its template.
        parameters: Parameters<'a>,
    },
    /// Some route would take it, had it one of these methods (for `Allow`). A CORS preflight that gets here may be asked
    /// again with the method that it asks for.
    MethodNotAllowed(Vec<&'a str>),
    /// No route.
    None,
}

/// The values of a template's parameters, in the order of the path: name, and value as it stands in the path (still
/// percent-encoded).
#[derive(Debug, Clone)]
pub struct Parameters<'a> {
    segments: &'a [Segment],
    path: std::str::Split<'a, char>,
}

impl<'a> Parameters<'a> {
    fn new(template: Option<&'a PathTemplate>, path: &'a str) -> Parameters<'a> {
        let segments = template.map(|template| &*template.segments).unwrap_or_default();
        Parameters { segments, path: path.strip_prefix('/').unwrap_or(path).split('/') }
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a Arc<str>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (segment, rest) = self.segments.split_first()?;
            self.segments = rest;
            let part = self.path.next()?;
            if let Segment::Parameter(name) = segment {
                return Some((name, part));
            }
        }
    }
}

/// All routes of a listener, ready to be found. Immutable.
#[derive(Debug, Default)]
pub struct Router {
    hosts: Hosts,
    /// In order of rank.
    routes: Vec<Compiled>,
    methods: Methods,
}

/// One route.
#[derive(Debug)]
struct Compiled {
    index: usize,
    name: Arc<str>,
    priority: i64,
    condition: Condition,
    /// Has its rule a template with parameters?
    has_parameters: bool,
}

/// The search so far.
struct Search<'a> {
    view: View<'a>,
    best: u32,
}

impl Router {
    /// Compiles routes.
    ///
    /// # Errors
    /// A regular expression that does not compile.
    pub fn compile(entries: &[Entry<'_>]) -> Result<Router, CompileError> {
        let mut sorted: Vec<&Entry<'_>> = entries.iter().collect();
        // Stable: ties stay in the order written.
        sorted.sort_by_key(|entry| std::cmp::Reverse(entry.priority));
        let (mut routes, mut methods) = (Vec::with_capacity(sorted.len()), Methods::default());
        for entry in sorted {
            let name: Arc<str> = entry.name.into();
            let condition = Condition::compile(entry.rule, &mut methods).map_err(|reason| CompileError {
                index: entry.index,
                name: name.clone(),
                reason,
            })?;
            let mut has_parameters = false;
            condition.each(&mut |test| {
                has_parameters |=
                    matches!(test, Test::PathTemplate(t) if t.segments.iter().any(is_parameter));
            });
            routes.push(Compiled {
                index: entry.index,
                name,
                priority: entry.priority,
                condition,
                has_parameters,
            });
        }
        let hosts =
            Hosts::build((0..).zip(&routes).flat_map(|(rank, route)| candidates(rank, &route.condition)));
        Ok(Router { hosts, routes, methods })
    }

    /// The route of a request.
    pub fn find<'a>(&'a self, q: &Query<'a>) -> Found<'a> {
        let mut scratch = String::new();
        let view = self.view(q, &mut scratch);
        match self.best(view) {
            Some(route) => {
                let template = if route.has_parameters { route.condition.template(view) } else { None };
                Found::Route { index: route.index, parameters: Parameters::new(template, q.path) }
            }
            None => {
                let allowed = self.allowed(view);
                if allowed.is_empty() { Found::None } else { Found::MethodNotAllowed(allowed) }
            }
        }
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    fn view<'a>(&self, query: &'a Query<'a>, scratch: &'a mut String) -> View<'a> {
        View { query, path: path::routing(query.path, scratch), method: self.methods.bit(query.method) }
    }

    fn best(&self, view: View<'_>) -> Option<&Compiled> {
        let mut search = Search { view, best: u32::MAX };
        self.hosts.visit(
            view.query.host,
            view.path,
            &mut search,
            |search| search.best,
            |search, list| {
                let open = list.iter().take_while(|candidate| candidate.rank < search.best);
                if let Some(found) = open.into_iter().find(|candidate| candidate.rest.holds(search.view)) {
                    search.best = found.rank;
                }
            },
        );
        self.routes.get(usize::try_from(search.best).ok()?)
    }

    /// The methods by which some route would take the request.
    fn allowed(&self, view: View<'_>) -> Vec<&str> {
        let mut found: Vec<&List> = Vec::new();
        self.hosts.visit(
            view.query.host,
            view.path,
            &mut found,
            |_| u32::MAX,
            |found, list| found.push(list),
        );
        let but_method = |test: &Test| match test {
            Test::Methods(_) => None,
            test => Some(test.holds(view)),
        };
        // Once for every candidate, then for the few that are left once for each method.
        let open: Vec<&Condition> = found
            .into_iter()
            .flatten()
            .map(|candidate| &candidate.rest)
            .filter(|rest| rest.decide(&but_method).is_none())
            .collect();
        let takes = |method: u64| open.iter().any(|rest| rest.holds(View { method, ..view }));
        self.methods.all().filter(|(bit, _)| takes(*bit)).map(|(_, name)| name).collect()
    }
}

/// Where a route is filed, and what is to be asked there.
fn candidates(rank: u32, condition: &Condition) -> Vec<(Key, Candidate)> {
    let rest = |key: &Key| condition.given(&|test| key.answers(test));
    let filed = Key::of(condition).into_iter().map(|key| (rest(&key), key));
    filed
        .filter(|(rest, _)| !matches!(rest, Condition::Never))
        .map(|(rest, key)| (key, Candidate { rank, rest }))
        .collect()
}

fn is_parameter(segment: &Segment) -> bool {
    matches!(segment, Segment::Parameter(_))
}
