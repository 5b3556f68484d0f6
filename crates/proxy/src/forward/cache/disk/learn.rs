//! What stands in a folder that was not read yet: what is whole and of use is taken in, what is not is removed.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
    sync::atomic::Ordering::Relaxed,
};

use portcullis_cache::date::{self, Seconds};

use super::{
    super::far::lifetime,
    files::{Core, open, record_of},
    index::Record,
    layout,
    meters::Trouble,
    names::{self, leaf_path},
};

impl Core {
    /// Reads the folder of a leaf: what is whole and of use is taken in, what is not is removed.
    pub fn learn(&self, leaf: usize) {
        if self.index().knows(leaf) {
            return;
        }
        match fs::read_dir(leaf_path(&self.root, leaf)) {
            Ok(listed) => {
                for name in listed.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
                    if let Some((object, stamp)) = names::parse(&name) {
                        self.adopt(leaf, object, stamp, &name);
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.trouble(&error, "a folder cannot be read"),
        }
        let gone = {
            let mut index = self.index();
            index.learnt(leaf);
            index.shrink(self.limits.size.load(Relaxed))
        };
        if !gone.is_empty() {
            self.evicted(&gone);
            self.remove(&gone);
        }
    }

    /// What a file says of itself; `None` when it is damaged.
    fn known(&self, path: &Path, stamp: u64, now: Seconds) -> io::Result<Option<Record>> {
        let (file, length) = open(path)?;
        let Some((tail, _)) = self.tail(&file, length, layout::END)? else { return Ok(None) };
        let until = lifetime(&tail.object, now).map_or(0, |left| now.saturating_add(left.as_secs()));
        Ok(Some(record_of(&tail, stamp, length, until)))
    }

    fn adopt(&self, leaf: usize, object: u128, stamp: u64, name: &str) {
        self.later_than(stamp);
        let path = leaf_path(&self.root, leaf).join(name);
        let remove = || drop(fs::remove_file(&path));
        let now = date::now();
        let record = match self.known(&path, stamp, now) {
            Ok(Some(record)) if record.id.object == object && record.id.leaf() == leaf => record,
            Ok(_) => {
                self.meters.trouble(Trouble::Damaged, "a file is damaged", &path.display().to_string());
                return remove();
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return self.trouble(&error, "a file cannot be read"),
        };
        if record.until <= now {
            return remove();
        }
        let gone = {
            let mut index = self.index();
            if index.knows(leaf) {
                return;
            }
            if index.may_adopt(&record) { index.insert(record) } else { vec![record.id] }
        };
        self.remove(&gone);
    }
}
