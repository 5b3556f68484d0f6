//! Variants of one key, and what is remembered beside answers.

use http::StatusCode;
use portcullis_cache::Times;

use super::*;
use crate::forward::cache::epochs::Epochs;

const KEY: &[u8] = b"http://a/b\nroute";

fn fields(list: &[(&str, &str)]) -> Fields {
    list.iter().copied().collect()
}

fn names(list: &[&str]) -> Vec<Box<str>> {
    list.iter().map(|name| Box::from(*name)).collect()
}

fn entry(epochs: &Epochs, key: &[u8], vary: &[&str], request: &Fields, body: &str) -> Arc<Entry> {
    let mut variant = Vec::new();
    write_variant(&names(vary), request, &mut variant);
    let said = vary.join(", ");
    let own: Fields = [("Vary", &*said)].into_iter().filter(|_| !vary.is_empty()).collect();
    let body = [bytes::Bytes::copy_from_slice(body.as_bytes())];
    let object = Object::new(key, &variant, StatusCode::OK, &own, &body, Times::default()).unwrap();
    let mark = epochs.mark(object.uri(), false);
    Arc::new(Entry { object, mark, tags: None, refreshing: AtomicBool::new(false) })
}

fn found(shelf: &Shelf, key: &[u8], request: &Fields) -> Result<String, Found> {
    let hash = shelf.hash(key);
    match shelf.find(hash, hash, key, request, 10) {
        Found::Entry(entry) => Ok(String::from_utf8(entry.object.body().to_vec()).unwrap()),
        other => Err(other),
    }
}

#[test]
fn of_several_that_would_do_the_newest() {
    let (shelf, epochs) = (Shelf::new(1 << 20, 1 << 16), Epochs::new());
    let both = fields(&[("foo", "1"), ("bar", "1")]);
    let put = |vary: &[&str], body| shelf.put(entry(&epochs, KEY, vary, &both, body), &names(vary));
    put(&["foo"], "by foo");
    put(&["bar"], "by bar");
    assert_eq!(found(&shelf, KEY, &both).unwrap(), "by bar");
    put(&["foo"], "by foo again");
    assert_eq!(found(&shelf, KEY, &both).unwrap(), "by foo again");
    assert_eq!(found(&shelf, KEY, &fields(&[("bar", "1")])).unwrap(), "by bar");
    let none = found(&shelf, KEY, &Fields::new());
    assert!(matches!(none, Err(Found::OtherVariant)), "{none:?}");
    // What varies by nothing is for all, and takes the place of the others.
    put(&[], "for all");
    assert_eq!(found(&shelf, KEY, &fields(&[("foo", "2")])).unwrap(), "for all");
}

#[test]
fn variants_of_one_key_have_an_end() {
    let (shelf, epochs) = (Shelf::new(16 << 20, 1 << 16), Epochs::new());
    let of = |number: usize| fields(&[("foo", &number.to_string())]);
    for number in 0..VARIANTS * 3 {
        shelf.put(entry(&epochs, KEY, &["foo"], &of(number), &number.to_string()), &names(&["foo"]));
    }
    let there = (0..VARIANTS * 3).filter(|number| found(&shelf, KEY, &of(*number)).is_ok());
    assert_eq!(there.collect::<Vec<_>>(), (VARIANTS * 2..VARIANTS * 3).collect::<Vec<_>>(), "the newest");
    assert_eq!(shelf.filled().0, VARIANTS as u64 + 1);
    // Nor have lists of fields: the newest count.
    for number in 0..SPECS * 2 {
        let name = format!("x-{number}");
        let request = fields(&[(&name, "1")]);
        shelf.put(entry(&epochs, KEY, &[&name], &request, &name), &names(&[&name]));
    }
    let by = |number: usize| found(&shelf, KEY, &fields(&[(&format!("x-{number}"), "1")])).is_ok();
    assert_eq!((0..SPECS * 2).map(by).collect::<Vec<_>>(), [vec![false; SPECS], vec![true; SPECS]].concat());
}

#[test]
fn another_key_of_the_same_hash_is_a_miss() {
    let (shelf, epochs) = (Shelf::new(1 << 20, 1 << 16), Epochs::new());
    shelf.put(entry(&epochs, KEY, &[], &Fields::new(), "x"), &[]);
    let hash = shelf.hash(KEY);
    let none = shelf.find(hash, hash, b"http://a/other\nroute", &Fields::new(), 10);
    assert!(matches!(none, Found::Nothing), "{none:?}");
}

#[test]
fn what_is_not_storable_is_remembered_for_a_while_and_takes_nothing_away() {
    let (shelf, epochs) = (Shelf::new(1 << 20, 1 << 16), Epochs::new());
    let hash = shelf.hash(KEY);
    let at = |now| shelf.find(hash, hash, KEY, &Fields::new(), now);
    shelf.pass(hash, 20);
    assert!(matches!(at(19), Found::Pass) && matches!(at(20), Found::Nothing));
    shelf.put(entry(&epochs, KEY, &[], &Fields::new(), "x"), &[]);
    shelf.pass(hash, 40);
    assert!(matches!(at(30), Found::Entry(_)));
}
