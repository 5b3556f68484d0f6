//! What files are called.
//!
//! `objects/3/f2/<digest of the object>-<stamp>`: the folder is by the URI, so that all answers for one URI are in one; the
//! stamp is never used twice, so that what is being replaced, read and removed at the same time is not mixed up.

use std::path::{Path, PathBuf};

use ring::digest;

use super::super::purge::path_of;

/// Folders of files.
pub(super) const LEAVES: usize = 4096;
/// Where files are, below the store's folder.
pub(super) const OBJECTS: &str = "objects-1";
/// Where files are made, below the store's folder.
pub(super) const UNFINISHED: &str = "unfinished-1";

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    /// Hash of its URI.
    pub uri: u64,
    /// Digest of its key and variant.
    pub object: u128,
    /// Later files have greater ones.
    pub stamp: u64,
}

impl Id {
    /// The folder in which it is.
    pub fn leaf(&self) -> usize {
        leaf_of(self.uri)
    }

    /// Where it is.
    pub fn path(&self, root: &Path) -> PathBuf {
        leaf_path(root, self.leaf()).join(self.file_name())
    }

    /// What it is called.
    pub fn file_name(&self) -> String {
        format!("{:032x}-{:016x}", self.object, self.stamp)
    }
}

/// Digest and stamp of a file's name; `None` for what is not ours.
pub(super) fn parse(name: &str) -> Option<(u128, u64)> {
    let (object, stamp) = name.split_once('-')?;
    let is_hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let ours = is_hex(object, 32) && is_hex(stamp, 16);
    ours.then(|| Some((u128::from_str_radix(object, 16).ok()?, u64::from_str_radix(stamp, 16).ok()?)))?
}

/// The folder of a URI.
pub(super) fn leaf_of(uri: u64) -> usize {
    (uri >> 52) as usize
}

/// Where that is.
pub(super) fn leaf_path(root: &Path, leaf: usize) -> PathBuf {
    root.join(OBJECTS).join(format!("{:x}", leaf >> 8)).join(format!("{:02x}", leaf & 0xff))
}

/// The hash by which answers for a URI are found: of the URI, or for keys of several URIs of what they have in common.
pub(super) fn uri_hash(uri: &[u8], by_path: bool) -> u64 {
    let sum = if by_path { sum(&[b"path", path_of(uri)]) } else { sum(&[uri]) };
    (sum >> 64) as u64
}

/// The digest of a key.
pub(super) fn key_digest(key: &[u8]) -> u128 {
    sum(&[b"key", key])
}

/// The digest of an object: its key, what it varies by, and what the request said there.
pub(super) fn object_digest(key: u128, names: &[Box<str>], variant: &[u8]) -> u128 {
    let key = key.to_le_bytes();
    let names = names.join("\n");
    sum(&[&key, names.as_bytes(), variant])
}

fn sum(parts: &[&[u8]]) -> u128 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let sum = context.finish();
    let first = sum.as_ref().first_chunk::<16>().copied().unwrap_or_default();
    u128::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_back_and_nothing_else() {
        let id = Id { uri: uri_hash(b"http://a/", false), object: key_digest(b"k"), stamp: 0x1234 };
        assert_eq!(parse(&id.file_name()), Some((id.object, id.stamp)));
        let path = id.path(Path::new("/c"));
        assert!(path.starts_with(leaf_path(Path::new("/c"), id.leaf())) && id.leaf() < LEAVES);
        for other in
            ["", "a", "passwd", "0-0", &format!("{}x", id.file_name()), &id.file_name().to_uppercase()]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let names = |text: &str| text.split(' ').map(Box::from).collect::<Vec<Box<str>>>();
        assert_ne!(object_digest(1, &names("a b"), b"x"), object_digest(1, &names("a"), b"x"));
        assert_ne!(object_digest(1, &names("a"), b"bx"), object_digest(1, &names("ab"), b"x"));
        assert_ne!(key_digest(b"a"), key_digest(b"b"));
        let coarse = |uri: &str| uri_hash(uri.as_bytes(), true);
        assert_eq!(coarse("http://a/b?x=1"), coarse("http://a/b?y"));
        assert_ne!(coarse("http://a/b"), uri_hash(b"http://a/b", false));
    }
}
