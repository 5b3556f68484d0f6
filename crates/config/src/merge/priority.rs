//! The priority of a route that names none.

use crate::rule::{Matcher, PathTemplate};

/// For an exact host; whatever its path, such a route comes before one without a host.
const EXACT_HOST: i64 = 1000;
/// For a wildcard host.
const WILDCARD_HOST: i64 = 500;

/// How specific the short conditions are.
#[derive(Default)]
pub(super) struct Specificity(i64);

impl Specificity {
    /// The least specific of the hosts decides, so that a list never outranks what its members would.
    pub(super) fn hosts<'a>(&mut self, hosts: impl Iterator<Item = &'a Matcher>) {
        let weigh = |host: &Matcher| match host {
            Matcher::Host(_) => EXACT_HOST,
            Matcher::HostSuffix(_) => WILDCARD_HOST,
            _ => 0,
        };
        self.0 += hosts.map(weigh).min().unwrap_or(0);
    }

    pub(super) fn path(&mut self, path: &PathTemplate) {
        self.0 += path.specificity();
    }

    /// So many further conditions.
    pub(super) fn further(&mut self, conditions: usize) {
        self.0 = self.0.saturating_add(i64::try_from(conditions).unwrap_or(i64::MAX));
    }

    /// Traefik's default: the length of the rule in bytes.
    pub(super) fn rule(&mut self, rule: &str) {
        self.further(rule.len());
    }

    pub(super) fn sum(self) -> i64 {
        self.0
    }
}
