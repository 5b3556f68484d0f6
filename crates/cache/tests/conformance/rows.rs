//! Rows, as they stand in the files.

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rows: Vec<Row>,
}

/// A rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What the standard says, and where.
    pub rule: String,
    /// Settings of the route's cache, as configured.
    #[serde(default)]
    pub policy: toml::Table,
    /// The first answer of the origin: fields, and `:status`, `:body`.
    #[serde(default)]
    pub origin: Vec<String>,
    /// The first request: fields, and `:method`, `:path`, `:host`.
    #[serde(default)]
    pub ask: Vec<String>,
    /// Seconds between the two.
    #[serde(default)]
    pub after: u64,
    /// The second request; where it says no `:path` or `:host`, that of the first.
    #[serde(default)]
    pub again: Vec<String>,
    /// The second answer of the origin. By default a 200 with another body.
    #[serde(default)]
    pub origin2: Vec<String>,
    /// What must become of the last request.
    #[serde(default)]
    pub then: String,
    /// Fields that the last answer has (`name: value`, or only a name).
    #[serde(default)]
    pub has: Vec<String>,
    /// Fields that it has not.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// Its body.
    pub body: Option<String>,
    /// Fields that the origin is asked with.
    #[serde(default)]
    pub sent: Vec<String>,
    /// Fields that it is not asked with.
    #[serde(default)]
    pub unsent: Vec<String>,
    /// Parts of `Cache-Status` (RFC 9211).
    #[serde(default)]
    pub says: Vec<String>,
    /// Names of its parameters that are not there.
    #[serde(default)]
    pub unsaid: Vec<String>,
    /// More than two exchanges, instead.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// From which file.
    #[serde(skip)]
    pub file: &'static str,
}

/// One exchange.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Seconds since the one before.
    #[serde(default)]
    pub after: u64,
    #[serde(default)]
    pub ask: Vec<String>,
    #[serde(default)]
    pub origin: Vec<String>,
    /// Seconds that the origin takes.
    #[serde(default)]
    pub delay: u64,
    #[serde(default)]
    pub then: String,
    #[serde(default)]
    pub has: Vec<String>,
    #[serde(default)]
    pub lacks: Vec<String>,
    pub body: Option<String>,
    #[serde(default)]
    pub sent: Vec<String>,
    #[serde(default)]
    pub unsent: Vec<String>,
    #[serde(default)]
    pub says: Vec<String>,
    #[serde(default)]
    pub unsaid: Vec<String>,
}

impl Step {
    /// Does `Cache-Status` say what it must? `exactly` compares the seconds of `ttl` too.
    pub fn is_said(&self, status: &str, exactly: bool) -> Result<(), String> {
        let parts: Vec<&str> = status.split("; ").skip(1).collect();
        let name = |part: &str| part.split('=').next().unwrap_or_default().to_owned();
        for expected in &self.says {
            let loosely = !exactly && expected.starts_with("ttl=");
            if !parts.iter().any(|part| part == expected || (loosely && name(part) == "ttl")) {
                return Err(format!("`{expected}` is not said: {status}"));
            }
        }
        match self.unsaid.iter().find(|unsaid| parts.iter().any(|part| name(part) == **unsaid)) {
            Some(unsaid) => Err(format!("`{unsaid}` is said: {status}")),
            None => Ok(()),
        }
    }
}

impl Row {
    /// All exchanges.
    pub fn exchanges(&self) -> Vec<Step> {
        if !self.steps.is_empty() {
            return self.steps.clone();
        }
        let mut again = self.again.clone();
        for pseudo in [":path", ":host", ":scheme"] {
            let said = |list: &[String]| list.iter().find(|line| line.starts_with(pseudo)).cloned();
            if said(&again).is_none() {
                again.extend(said(&self.ask));
            }
        }
        let first = Step { ask: self.ask.clone(), origin: self.origin.clone(), ..Step::default() };
        let second = Step {
            after: self.after,
            delay: 0,
            ask: again,
            origin: self.origin2.clone(),
            then: self.then.clone(),
            has: self.has.clone(),
            lacks: self.lacks.clone(),
            body: self.body.clone(),
            sent: self.sent.clone(),
            unsent: self.unsent.clone(),
            says: self.says.clone(),
            unsaid: self.unsaid.clone(),
        };
        vec![first, second]
    }
}

/// All rows of all files.
pub fn all() -> Vec<Row> {
    let files = [
        ("freshness", include_str!("freshness.toml")),
        ("storing", include_str!("storing.toml")),
        ("requests", include_str!("requests.toml")),
        ("validation", include_str!("validation.toml")),
        ("vary", include_str!("vary.toml")),
        ("stale", include_str!("stale.toml")),
        ("targeted", include_str!("targeted.toml")),
        ("invalidation", include_str!("invalidation.toml")),
        ("ranges", include_str!("ranges.toml")),
        ("status", include_str!("status.toml")),
        ("policy", include_str!("policy.toml")),
    ];
    let read = |(file, text): (&'static str, &str)| {
        let rows: File = toml::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        rows.rows.into_iter().map(move |row| Row { file, ..row })
    };
    files.into_iter().flat_map(read).collect()
}
