//! Middlewares: named ones, those written in place, and those that `[middleware]` switches on.

use serde_json::{Map, Value as Json, json};

use super::{Merger, Source, shared};
use crate::{
    diagnostic::{Code, Finding, suggestion},
    document::{Path, Step, Value},
    kinds::KindProblem,
    model::{Middleware, Name},
    written,
};

/// Findings about one middleware's settings before giving up on it.
const MAX_FINDINGS: usize = 16;

impl Merger<'_> {
    pub(super) fn middlewares(&mut self) {
        for source in self.sources {
            for (name, middleware) in &source.written.middlewares {
                let path = Path::root().key("middlewares").key(name);
                self.middleware(source, source.qualified(name), &path, middleware);
            }
        }
    }

    /// Takes a middleware in when its kind exists and accepts its settings.
    pub(super) fn middleware(
        &mut self,
        source: &Source,
        name: Name,
        path: &Path,
        written: &written::Middleware,
    ) {
        let settings_path = path.key(&written.kind);
        let Some(kind) = self.kind(source, &settings_path, &written.kind) else { return };
        let settings = self.settings(source, &kind, &settings_path, written.settings.0.clone());
        let middleware =
            Middleware { name: name.clone(), kind: shared(&kind), settings, origin: source.origin(path) };
        self.middlewares.insert(name, middleware);
    }

    fn kind(&mut self, source: &Source, path: &Path, written: &str) -> Option<String> {
        let kind = written.to_ascii_lowercase().replace('-', "_");
        let kinds = self.kinds.names();
        if kinds.is_empty() || kinds.contains(&kind.as_str()) {
            return Some(kind);
        }
        let help = suggestion(written, kinds.iter().copied(), "kinds");
        let finding =
            Finding::error(Code::UnknownKind, format!("unknown kind of middleware `{written}`")).help(help);
        self.note_key(source, path, finding);
        None
    }

    /// Asks the kind about the settings until it has nothing more to say. A text that came from one variable
    /// becomes a number or a boolean where the kind refuses it as a text.
    fn settings(&mut self, source: &Source, kind: &str, path: &Path, mut settings: Json) -> Json {
        let mut judged = settings.clone();
        let mut removed: Vec<Path> = Vec::new();
        for _ in 0..MAX_FINDINGS {
            let Err(problem) = self.kinds.check(kind, &judged, &self.stores) else { break };
            let within = Path::parse(&problem.path);
            if let Some(typed) = typed(source, &path.join(&within)) {
                let replaced = replace(&mut settings, &within, typed.clone());
                if replaced && replace(&mut judged, &within, typed) {
                    continue;
                }
            }
            // What is wrong with a whole of which a part could not be read is a consequence.
            if source.broken(&path.join(&within)) {
                break;
            }
            // So is what is missing where something was taken out before.
            if removed.iter().any(|gone| within.contains(gone) && *gone != within)
                && problem.message.contains("missing")
            {
                break;
            }
            let (finding, at) = settings_finding(&problem, &within);
            let on_key = finding.code == Code::UnknownKey;
            self.findings.push(source.place(finding, &path.join(&at), on_key));
            if at == Path::root() || !remove(&mut judged, &at) {
                break;
            }
            removed.push(at);
        }
        settings
    }

    /// Settings of a switch that is off.
    fn without_effect(&mut self, source: &Source, section: &str, switch: &str, on: bool) {
        let path = Path::root().key(section);
        if !on && source.document.root.at(&path).is_some() && !source.broken(&Path::root().key("middleware"))
        {
            let message = format!("`[{section}]` does nothing without `{switch}`");
            let help = format!("add {switch} = true to [middleware], or take it away");
            self.note_key(source, &path, Finding::warning(Code::Conflict, message).help(help));
        }
    }

    /// The middlewares of `[middleware]`, in the order in which they are asked.
    pub(super) fn switched_on(&mut self) -> Vec<Name> {
        let Some(source) = self.main() else { return Vec::new() };
        let none = written::Switches::default();
        let switches = source.written.middleware.as_ref().unwrap_or(&none);
        let mut names = Vec::new();
        let on = |switch: Option<bool>| switch == Some(true);
        self.without_effect(source, "cors", "enable_cors", on(switches.enable_cors));
        self.without_effect(
            source,
            "rate_limiting",
            "enable_rate_limiting",
            on(switches.enable_rate_limiting),
        );
        let mut add = |merger: &mut Self, kind: &str, key: &str, section: &str, settings: Json| {
            let name = source.qualified(&format!("middleware.{kind}"));
            let switch = Path::root().key("middleware").key(key);
            let path = Path::root().key(section);
            if merger.kind(source, &switch, kind).is_none() {
                return;
            }
            let settings = merger.settings(source, kind, &path, settings);
            let origin = source.origin(&switch);
            let middleware = Middleware { name: name.clone(), kind: shared(kind), settings, origin };
            merger.middlewares.insert(name.clone(), middleware);
            merger.used.insert(name.clone());
            names.push(name);
        };
        if on(switches.enable_request_id) {
            add(self, "request_id", "enable_request_id", "middleware", json!({}));
        }
        if on(switches.enable_cors) {
            add(self, "cors", "enable_cors", "cors", cors(source.written.cors.as_ref()));
        }
        if on(switches.enable_rate_limiting) {
            let settings = rate_limit(source.written.rate_limiting.as_ref());
            add(self, "rate_limit", "enable_rate_limiting", "rate_limiting", settings);
        }
        if on(switches.enable_compression) {
            add(self, "compress", "enable_compression", "middleware", json!({}));
        }
        names
    }
}

fn cors(written: Option<&written::Settings>) -> Json {
    let mut settings = match written.map(|settings| settings.0.clone()) {
        Some(Json::Object(map)) => map,
        Some(other) => return other,
        None => Map::new(),
    };
    if !settings.contains_key("origins") && !settings.contains_key("origin_regex") {
        settings.insert("origins".into(), json!("*"));
    }
    Json::Object(settings)
}

fn rate_limit(written: Option<&written::RateLimiting>) -> Json {
    let rate = written.and_then(|settings| settings.requests_per_second).unwrap_or(100.0);
    let mut settings = Map::new();
    settings.insert("requests_per_second".into(), json!(rate));
    if let Some(burst) = written.and_then(|settings| settings.burst_size) {
        settings.insert("burst".into(), json!(burst));
    }
    Json::Object(settings)
}

/// The finding, and the path it is about. serde names an unknown field in its message only.
fn settings_finding(problem: &KindProblem, within: &Path) -> (Finding, Path) {
    let rest = problem.message.strip_prefix("unknown field `");
    let Some((field, expected)) = rest.and_then(|rest| rest.split_once('`')) else {
        return (super::said::finding(problem), within.clone());
    };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let help = super::said::elsewhere(field, &known)
        .map_or_else(|| suggestion(field, known, "keys here"), |key| format!("the word here is `{key}`"));
    let at =
        if within.0.last() == Some(&Step::Key(field.into())) { within.clone() } else { within.key(field) };
    (Finding::error(Code::UnknownKey, format!("unknown key `{field}`")).help(help), at)
}

/// What a text that came from one variable alone means as a number or a boolean.
fn typed(source: &Source, path: &Path) -> Option<Json> {
    let node = source.document.root.at(path).filter(|node| node.substituted)?;
    let Value::Text(text) = &node.value else { return None };
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return Some(json!(number));
    }
    match text {
        "true" => Some(json!(true)),
        "false" => Some(json!(false)),
        _ => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| json!(number)),
    }
}

fn find<'a>(json: &'a mut Json, path: &Path) -> Option<&'a mut Json> {
    path.0.iter().try_fold(json, |json, step| match step {
        Step::Key(key) => json.get_mut(&**key),
        Step::Index(index) => json.get_mut(*index),
    })
}

/// Puts a value in the place of a text; false when there is no text.
fn replace(json: &mut Json, path: &Path, value: Json) -> bool {
    match find(json, path) {
        Some(place @ Json::String(_)) => {
            *place = value;
            true
        }
        _ => false,
    }
}

fn remove(json: &mut Json, path: &Path) -> bool {
    let Some((last, above)) = path.0.split_last() else { return false };
    match (find(json, &Path(above.to_vec())), last) {
        (Some(Json::Object(map)), Step::Key(key)) => map.shift_remove(&**key).is_some(),
        // Elements keep their index, so that later findings point at the right ones.
        _ => false,
    }
}
