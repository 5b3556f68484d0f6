//! What is found, thrown out, invalidated and purged.

use super::{super::names::*, *};

fn record(uri: &str, key: &str, names: &[&str], variant: &str, stamp: u64) -> Record {
    let names: Vec<Box<str>> = names.iter().map(|name| Box::from(*name)).collect();
    let key = key_digest(key.as_bytes());
    let object = object_digest(key, &names, variant.as_bytes());
    Record {
        id: Id { uri: uri_hash(uri.as_bytes(), false), object, stamp },
        key,
        length: 5000,
        until: 100,
        uri: uri.as_bytes().into(),
        by_path: false,
        names: names.into(),
        tags: ["all".into()].into(),
    }
}

fn find(index: &mut Index, record: &Record, request: &[(&str, &str)]) -> Option<u64> {
    let fields = request.iter().copied().collect();
    index.find(record.id.uri, record.key, &fields).map(|id| id.stamp)
}

#[test]
fn what_varies_is_found_by_what_the_request_says() {
    let mut index = Index::new();
    let plain = record("u", "k", &[], "", 1);
    assert!(index.insert(plain.clone()).is_empty());
    assert_eq!(find(&mut index, &plain, &[("x-a", "1")]), Some(1));
    let one = record("u", "k", &["x-a"], "\n:1", 2);
    assert_eq!(index.insert(one.clone()), [plain.id]);
    assert!(index.insert(record("u", "k", &["x-a"], "\n:2", 3)).is_empty());
    assert_eq!(find(&mut index, &plain, &[("x-a", "1")]), Some(2));
    assert_eq!(find(&mut index, &plain, &[("x-a", "2")]), Some(3));
    assert_eq!(find(&mut index, &plain, &[("x-a", "3")]), None);
    let again = record("u", "k", &["x-a"], "\n:1", 4);
    assert_eq!((index.insert(again.clone()), index.insert(one.clone())), (vec![one.id], vec![one.id]));
    assert_eq!((index.insert(again), index.filled()), (vec![], (2, 2 * 8192)));
    assert_eq!(index.insert(record("u", "k", &[], "", 5)).len(), 2);
    assert_eq!((index.filled().0, index.keys.len(), index.uris.len(), index.queue.len()), (1, 0, 1, 1));
}

#[test]
fn room_is_made_by_what_nobody_asked_for() {
    let mut index = Index::new();
    let all: Vec<Record> = (0..10).map(|n| record(&format!("u{n}"), &format!("k{n}"), &[], "", n)).collect();
    all.iter().for_each(|record| assert!(index.insert(record.clone()).is_empty()));
    for wanted in [0, 1, 5] {
        assert!(find(&mut index, &all[wanted], &[]).is_some());
    }
    let size = 10 * 8192;
    let gone = index.reserve(3 * 8192, size).unwrap();
    assert_eq!(gone.iter().map(|id| id.stamp).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(index.reserve(8 * 8192, size).is_none(), "too much is being written");
    index.release(3 * 8192);
    assert_eq!(index.shrink(8192).len(), 6);
    assert_eq!(index.filled().0, 1);
    assert_eq!(index.shrink(0).len(), 1);
    assert!(index.shrink(0).is_empty());
}

#[test]
fn invalidated_and_purged_also_where_nobody_looked_yet() {
    let mut index = Index::new();
    let (one, two) = (record("u", "k", &[], "", 5), record("u", "l", &[], "", 6));
    index.insert(one.clone());
    index.insert(two.clone());
    assert_eq!(index.invalidate(one.id.uri, 7).len(), 2);
    assert!(!index.may_adopt(&one) && index.may_adopt(&record("u", "k", &[], "", 8)));
    let other = record("v", "k", &[], "", 9);
    assert!(index.may_adopt(&other));
    index.purged(&Purge::Tag("all".into()), 10);
    assert!(!index.may_adopt(&other));
    (0..LEAVES).for_each(|leaf| index.learnt(leaf));
    assert!(index.knows_all() && index.may_adopt(&other));
    index.insert(other.clone());
    assert_eq!(index.remove_where(0, 100, |record| &*record.uri == b"v"), (vec![other.id], None));
    assert!(!index.remove(other.id));
}

#[test]
fn large_indices_are_gone_through_in_parts() {
    let mut index = Index::new();
    for n in 0..25 {
        index.insert(record(&format!("u{n}"), &format!("k{n}"), &[], "", n));
    }
    let (mut at, mut gone) = (Some(0), 0);
    while let Some(after) = at {
        let (ids, next) = index.remove_where(after, 10, |record| record.id.stamp % 2 == 0);
        (at, gone) = (next, gone + ids.len());
    }
    assert_eq!((gone, index.filled().0), (13, 12));
}
