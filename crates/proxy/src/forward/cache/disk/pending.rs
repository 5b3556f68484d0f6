//! What was taken out while not all of the disk was known: whatever is found there later and is older goes too.

use std::collections::HashMap;

use super::{super::purge::Purge, index::Record};

/// How much is remembered one by one. Beyond that, all that is older is distrusted.
const MOST: usize = 100_000;

/// What was taken out, and when.
#[derive(Debug, Default)]
pub(super) struct Pending {
    uris: HashMap<u64, u64>,
    purges: Vec<(u64, Purge)>,
    everything: u64,
}

impl Pending {
    /// All answers for a URI.
    pub fn uri(&mut self, uri: u64, stamp: u64) {
        if self.uris.len() >= MOST {
            self.everything = stamp;
            self.uris.clear();
        }
        self.uris.insert(uri, stamp);
    }

    /// What a purge takes.
    pub fn purge(&mut self, purge: &Purge, stamp: u64) {
        if *purge == Purge::Everything || self.purges.len() >= MOST / 10 {
            self.everything = stamp;
            self.purges.clear();
            return;
        }
        self.purges.push((stamp, purge.clone()));
    }

    /// Does any of it take this file?
    pub fn takes(&self, record: &Record) -> bool {
        let stamp = record.id.stamp;
        let takes = |purge: &Purge| purge.takes(&record.uri, record.by_path, &record.tags);
        self.everything > stamp
            || self.uris.get(&record.id.uri).is_some_and(|taken| *taken > stamp)
            || self.purges.iter().any(|(taken, purge)| *taken > stamp && takes(purge))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::names::Id, *};

    fn takes(pending: &Pending, hash: u64, uri: &str, stamp: u64) -> bool {
        let id = Id { uri: hash, object: 1, stamp };
        let (uri, names) = (uri.as_bytes().into(), Vec::new().into());
        pending.takes(&Record {
            id,
            key: 1,
            length: 1,
            until: 1,
            uri,
            by_path: false,
            names,
            tags: [].into(),
        })
    }

    #[test]
    fn what_is_older_goes_and_too_much_is_everything() {
        let mut pending = Pending::default();
        pending.uri(7, 10);
        pending.purge(&Purge::Prefix("http://a/".into()), 20);
        assert!(takes(&pending, 7, "http://b/", 9) && !takes(&pending, 7, "http://b/", 10));
        assert!(takes(&pending, 8, "http://a/x", 19) && !takes(&pending, 8, "http://a/x", 21));
        pending.purge(&Purge::Everything, 30);
        assert!(takes(&pending, 9, "", 29) && !takes(&pending, 9, "", 30));
        (0..=MOST as u64).for_each(|uri| pending.uri(uri, 40));
        assert!(takes(&pending, MOST as u64 * 2, "", 39));
    }
}
