//! Candidates by path: whole paths in a hash map, prefixes in a tree of bytes, templates in a tree of segments.

use std::sync::Arc;

use portcullis_config::rule::{PathTemplate, Segment};

use super::{condition::Condition, key::PathKey, names::Names};

/// A route that may take a request.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Its place among all routes; lower goes first.
    pub(super) rank: u32,
    /// What is still to be asked.
    pub(super) rest: Condition,
}

/// Candidates, lowest rank first.
pub(super) type List = Vec<Candidate>;

/// All candidates of one host.
#[derive(Debug, Default)]
pub(super) struct Paths {
    anywhere: List,
    exact: Names<List>,
    prefixes: Prefix,
    templates: Branch,
    /// The lowest rank in here.
    pub(super) first: u32,
}

/// A node of the tree of prefixes: its bytes come after those of its parents.
#[derive(Debug, Default)]
struct Prefix {
    bytes: Box<[u8]>,
    list: List,
    /// The first byte of each child, for a search that stays in one cache line.
    firsts: Vec<u8>,
    children: Vec<Prefix>,
}

/// A node of the tree of templates: one segment.
#[derive(Debug, Default)]
struct Branch {
    literals: Literals,
    parameter: Option<Box<Branch>>,
    /// Templates that end here.
    ends: List,
    /// Templates with `/*` here.
    tails: List,
}

/// Branches by their literal segment: most nodes have one or two, for which a map would be large and slow.
#[derive(Debug)]
enum Literals {
    Few(Vec<(Arc<str>, Branch)>),
    Many(Names<Branch>),
}

/// From here on a map is quicker than comparing with each.
const MANY: usize = 8;

impl Paths {
    /// Files candidates, which come in order of rank.
    pub(super) fn build(candidates: Vec<(PathKey, Candidate)>) -> Paths {
        let mut paths =
            Paths { first: candidates.first().map_or(u32::MAX, |(_, c)| c.rank), ..Paths::default() };
        for (key, candidate) in candidates {
            let list = match key {
                PathKey::Any => &mut paths.anywhere,
                PathKey::Exact(path) => paths.exact.entry(path).or_default(),
                PathKey::Prefix(prefix) => paths.prefixes.list(prefix.as_bytes()),
                PathKey::Template(template) => paths.templates.list(&template.0),
            };
            list.push(candidate);
        }
        paths
    }

    /// Shows every list that may hold a route for this path.
    pub(super) fn visit<'a>(&'a self, path: &str, show: &mut impl FnMut(&'a List)) {
        show(&self.anywhere);
        if !self.exact.is_empty()
            && let Some(list) = self.exact.get(path)
        {
            show(list);
        }
        self.prefixes.visit(path.as_bytes(), show);
        if let Some(rest) = path.strip_prefix('/') {
            self.templates.visit(Some(rest), show);
        }
    }
}

impl Prefix {
    /// The list of the prefix that goes on from this node with `rest`.
    fn list(&mut self, rest: &[u8]) -> &mut List {
        let Some(&first) = rest.first() else { return &mut self.list };
        let child = memchr::memchr(first, &self.firsts).unwrap_or_else(|| {
            self.firsts.push(first);
            self.children.push(Prefix { bytes: rest.into(), ..Prefix::default() });
            self.children.len() - 1
        });
        // It was found or put there just now; without it the list of this node is the only one there is.
        let Some(child) = self.children.get_mut(child) else { return &mut self.list };
        let common = child.bytes.iter().zip(rest).take_while(|(a, b)| a == b).count();
        if common < child.bytes.len() {
            let (upper, lower) = child.bytes.split_at_checked(common).unwrap_or_default();
            let (upper, lower): (Box<[u8]>, Box<[u8]>) = (upper.into(), lower.into());
            let firsts = lower.iter().take(1).copied().collect();
            let lower = Prefix { bytes: lower, ..std::mem::take(child) };
            *child = Prefix { bytes: upper, list: List::new(), firsts, children: vec![lower] };
        }
        child.list(rest.get(common..).unwrap_or_default())
    }

    fn visit<'a>(&'a self, path: &[u8], show: &mut impl FnMut(&'a List)) {
        let (mut node, mut rest) = (self, path);
        loop {
            if !node.list.is_empty() {
                show(&node.list);
            }
            let Some(&first) = rest.first() else { return };
            let found = memchr::memchr(first, &node.firsts).and_then(|at| node.children.get(at));
            let Some(child) = found else { return };
            let Some(after) = rest.strip_prefix(&*child.bytes) else { return };
            (node, rest) = (child, after);
        }
    }
}

impl Branch {
    /// The list of a template.
    fn list(&mut self, template: &PathTemplate) -> &mut List {
        let mut branch = self;
        for segment in &template.segments {
            branch = match segment {
                Segment::Literal(text) => branch.literals.entry(text),
                Segment::Parameter(_) => branch.parameter.get_or_insert_default(),
            };
        }
        if template.tail { &mut branch.tails } else { &mut branch.ends }
    }

    /// `rest` is what follows the next slash; `None` when the path has ended. As [`PathTemplate::matches`], for many
    /// templates at once.
    fn visit<'a>(&'a self, rest: Option<&str>, show: &mut impl FnMut(&'a List)) {
        if !self.tails.is_empty() {
            show(&self.tails);
        }
        let Some(rest) = rest else {
            if !self.ends.is_empty() {
                show(&self.ends);
            }
            return;
        };
        let (part, after) = match memchr::memchr(b'/', rest.as_bytes()) {
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
            None => (rest, None),
        };
        if let Some(branch) = self.literals.get(part) {
            branch.visit(after, show);
        }
        if let Some(branch) = self.parameter.as_ref().filter(|_| !part.is_empty()) {
            branch.visit(after, show);
        }
    }
}

impl Default for Literals {
    fn default() -> Literals {
        Literals::Few(Vec::new())
    }
}

impl Literals {
    fn get(&self, segment: &str) -> Option<&Branch> {
        match self {
            Literals::Few(few) => few.iter().find(|(text, _)| **text == *segment).map(|(_, branch)| branch),
            Literals::Many(many) => many.get(segment),
        }
    }

    /// The branch of a segment, made when there is none.
    #[allow(clippy::indexing_slicing)] // the index was found, or is that of what was pushed
    fn entry(&mut self, segment: &Arc<str>) -> &mut Branch {
        let crowded = matches!(self, Literals::Few(few) if few.len() >= MANY);
        if crowded
            && self.get(segment).is_none()
            && let Literals::Few(few) = std::mem::take(self)
        {
            *self = Literals::Many(few.into_iter().collect());
        }
        match self {
            Literals::Many(many) => many.entry(segment.clone()).or_default(),
            Literals::Few(few) => {
                let at = few.iter().position(|(text, _)| text == segment).unwrap_or(few.len());
                if at == few.len() {
                    few.reserve_exact(1);
                    few.push((segment.clone(), Branch::default()));
                }
                &mut few[at].1
            }
        }
    }
}
