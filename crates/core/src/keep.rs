//! What survives a reload: state by identity. Kind + qualified name + fingerprint of the settings that matter give the
//! same state as before.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Kind and identity.
type Identity = (&'static str, String);

/// A store of state by identity. Whoever still holds the state keeps it alive; the store itself only remembers.
#[derive(Default)]
pub struct Keep {
    entries: Mutex<HashMap<Identity, Weak<dyn Any + Send + Sync>>>,
}

impl Keep {
    /// The state of this kind and identity: the one in use, or a new one.
    pub fn get<T: Any + Send + Sync>(
        &self,
        kind: &'static str,
        identity: &str,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // Forget the dead whenever the store would grow: amortised, each entry is looked at a bounded number of times.
        if entries.len() == entries.capacity() {
            entries.retain(|_, state| state.strong_count() > 0);
        }
        let key = (kind, identity.to_owned());
        let known = entries.get(&key).and_then(Weak::upgrade).and_then(|state| state.downcast::<T>().ok());
        known.unwrap_or_else(|| {
            let state = Arc::new(make());
            let shared: Arc<dyn Any + Send + Sync> = state.clone();
            entries.insert(key, Arc::downgrade(&shared));
            state
        })
    }
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keep")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_identity_is_the_same_state_while_somebody_holds_it() {
        let keep = Keep::default();
        let one = keep.get("number", "a", || 1_u32);
        assert!(Arc::ptr_eq(&one, &keep.get("number", "a", || 2)));
        assert_eq!(*keep.get("number", "b", || 3_u32), 3);
        drop(one);
        assert_eq!(*keep.get("number", "a", || 4_u32), 4);
    }
}
