//! Candidates by host: exact names, names below a domain, any.

use super::{
    condition::parent,
    key::{HostKey, Key},
    names::Names,
    paths::{Candidate, List, Paths},
};

/// All candidates of a listener.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: Names<Paths>,
    /// By what stands after the first label.
    suffix: Names<Paths>,
    any: Paths,
}

impl Hosts {
    /// Files candidates, which come in order of rank.
    pub(super) fn build(candidates: impl Iterator<Item = (Key, Candidate)>) -> Hosts {
        let mut exact: Names<Vec<_>> = Names::default();
        let mut suffix: Names<Vec<_>> = Names::default();
        let mut any = Vec::new();
        for (key, candidate) in candidates {
            let list = match key.host {
                HostKey::Any => &mut any,
                HostKey::Exact(host) => exact.entry(host).or_default(),
                HostKey::Suffix(domain) => suffix.entry(domain).or_default(),
            };
            list.push((key.path, candidate));
        }
        let build =
            |lists: Names<Vec<_>>| lists.into_iter().map(|(host, list)| (host, Paths::build(list))).collect();
        Hosts { exact: build(exact), suffix: build(suffix), any: Paths::build(any) }
    }

    /// Shows every list that may hold a route for this host and path, but for those whose routes all come after the
    /// rank that `best` gives.
    pub(super) fn visit<'a, S>(
        &'a self,
        host: &str,
        path: &str,
        state: &mut S,
        best: impl Fn(&S) -> u32,
        show: impl Fn(&mut S, &'a List),
    ) {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        let suffix =
            if self.suffix.is_empty() { None } else { parent(host).and_then(|p| self.suffix.get(p)) };
        for paths in [exact, suffix, Some(&self.any)].into_iter().flatten() {
            if paths.first < best(state) {
                paths.visit(path, &mut |list| show(state, list));
            }
        }
    }
}
