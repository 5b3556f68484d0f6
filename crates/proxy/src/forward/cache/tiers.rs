//! What stands behind the cache's memory: a disk of this machine, a store that gateways share, both, in any order.
//!
//! ```text
//! find:  memory ─ no ─► first tier ─ no ─► second tier ─ no ─► the service
//!           ▲               │  ▲               │
//!           └── brought ────┘  └─── forward ───┘
//! put:   all of them.   purge, invalidate, forget: all of them.
//! ```

use std::{sync::Arc, time::Duration};

use portcullis_cache::{Object, date};
use portcullis_core::Fields;

use super::{disk::Disk, far::Far, purge::Purge, shelf::Entry, stock::Stock};

/// All tiers, the nearest first; none where memory stands alone.
#[derive(Default)]
pub struct Tiers(Vec<Tier>);

/// One of them.
pub enum Tier {
    /// A disk of this machine.
    Disk(Arc<Disk>),
    /// A store that gateways share.
    Far(Arc<Far>),
}

/// What was found, and where.
pub struct Found {
    /// The answer.
    pub object: Object,
    /// What to say of it.
    pub detail: &'static str,
    at: usize,
}

/// A moment by the clock of each tier that gateways share and that answered.
#[derive(Debug, Default)]
pub struct Moment(Vec<Option<u64>>);

impl Tiers {
    /// In this order.
    pub fn new(tiers: Vec<Tier>) -> Tiers {
        Tiers(tiers)
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The disks among them.
    pub fn disks(&self) -> impl Iterator<Item = &Arc<Disk>> {
        self.0.iter().filter_map(|tier| match tier {
            Tier::Disk(disk) => Some(disk),
            Tier::Far(_) => None,
        })
    }

    /// The answer for a key and a request, from the nearest that has it. `by_path`: see [`Mark`](super::epochs::Mark).
    pub async fn find(&self, key: &[u8], request: &Fields, by_path: bool) -> Option<Found> {
        for (at, tier) in self.0.iter().enumerate() {
            let (found, detail) = match tier {
                Tier::Disk(disk) => (disk.find(key, request, by_path).await, "disk"),
                Tier::Far(far) => (far.find(key, request).await, "store"),
            };
            if let Some(object) = found {
                return Some(Found { object, detail, at });
            }
        }
        None
    }

    /// Now, by the clocks of those that gateways share: to be asked before the service is, and told when its answer is put
    /// there.
    pub async fn moment(&self) -> Moment {
        let mut clocks = Vec::new();
        for tier in &self.0 {
            clocks.push(match tier {
                Tier::Disk(_) => None,
                Tier::Far(far) => far.now().await,
            });
        }
        Moment(clocks)
    }

    /// Keeps an answer that was asked for at that moment in all of them; what was found in one, in those before it.
    pub async fn put(
        &self,
        stock: &Arc<Stock>,
        entry: &Arc<Entry>,
        vary: &[Box<str>],
        moment: &Moment,
        found: Option<&Found>,
    ) {
        // What was found here is as old as it is, and may have been purged by other gateways since.
        let age = found.map_or(0, |found| 1 + date::now().saturating_sub(found.object.times.received));
        let tiers = self.0.iter().zip(&moment.0).take(found.map_or(usize::MAX, |found| found.at));
        for tier in tiers {
            match tier {
                (Tier::Disk(disk), _) => disk.put(stock, entry, vary),
                (Tier::Far(far), Some(moment)) => {
                    let since = moment.saturating_sub(age.saturating_mul(1_000_000));
                    if !far.put(entry, vary, since).await {
                        // What another gateway purged while it was on its way here.
                        stock.forget(entry);
                        self.forget(entry);
                        return;
                    }
                    // It may have been purged on its way there, and arrived behind the purge.
                    if !stock.may_keep(entry) {
                        far.forget(entry).await;
                    }
                }
                (Tier::Far(_), None) => {}
            }
        }
    }

    /// What is kept for a URI is not valid any longer.
    pub async fn invalidate(&self, uri: &[u8], stock: &Stock) {
        for tier in &self.0 {
            match tier {
                Tier::Disk(disk) => disk.invalidate(uri, stock).await,
                Tier::Far(far) => {
                    far.invalidate(uri).await;
                    // Whoever read it there in the meantime must not bring it back.
                    stock.epochs.invalidate(uri);
                }
            }
        }
    }

    /// Throws one answer away, here; it is not known to be wrong for others.
    pub fn forget(&self, entry: &Entry) {
        let vary = entry.vary();
        self.disks().for_each(|disk| disk.forget(entry, &vary));
    }

    /// Takes answers out; tells how many there were where there were most.
    pub async fn purge(&self, purge: &Purge) -> u64 {
        let mut most = 0;
        for tier in &self.0 {
            let count = match tier {
                Tier::Disk(disk) => disk.purge(purge).await,
                Tier::Far(far) => far.purge(purge).await,
            };
            most = most.max(count);
        }
        most
    }

    /// Leaves all that only one process may use to another one, for good.
    pub fn leave(&self) {
        self.disks().for_each(|disk| disk.leave());
    }

    /// Waits until what is to be kept is kept, for so long at most.
    pub fn settle(&self, within: Duration) {
        self.disks().for_each(|disk| disk.settle(within));
    }
}
