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

#[test]
fn a_purge_lets_others_have_the_store_between_any_two_answers() {
    let (shelf, epochs) = (Shelf::new(1 << 20, 1 << 20), Epochs::new());
    assert_eq!(shelf.map.num_shards(), 1, "all wait for one lock");
    let key = |number: usize| format!("http://a/{number}\nroute").into_bytes();
    let put = |number: usize| shelf.put(entry(&epochs, &key(number), &[], &Fields::new(), "x"), &[]);
    (0..10).for_each(put);
    let looked_at = std::cell::Cell::new(0);
    let count = shelf.remove_where(|entry| {
        looked_at.set(looked_at.get() + 1);
        // Somebody else finds what there is, and puts something there, while this one is being looked at.
        std::thread::scope(|scope| {
            let (done, is_done) = std::sync::mpsc::channel();
            let (shelf, epochs, key) = (&shelf, &epochs, key(90 + looked_at.get() % 2));
            scope.spawn(move || {
                shelf.put(self::entry(epochs, &key, &[], &Fields::new(), "x"), &[]);
                let _ = done.send(found(shelf, &key, &Fields::new()).is_ok());
            });
            let is_done = is_done.recv_timeout(std::time::Duration::from_secs(30));
            assert_eq!(is_done, Ok(true), "it waits for the purge");
        });
        entry.object.key() < &b"http://a/5"[..]
    });
    let is_there = |number: usize| found(&shelf, &key(number), &Fields::new()).is_ok();
    assert!(looked_at.get() >= 10);
    assert!((5..10).all(is_there) && (0..5).all(|number| !is_there(number)), "{:?}", shelf.filled());
    assert_eq!(count, 5);
}

#[test]
fn what_took_the_place_of_something_purged_stays() {
    let (shelf, epochs) = (Shelf::new(1 << 20, 1 << 20), Epochs::new());
    shelf.put(entry(&epochs, KEY, &[], &Fields::new(), "old"), &[]);
    let count = shelf.remove_where(|_| {
        shelf.put(entry(&epochs, KEY, &[], &Fields::new(), "new"), &[]);
        true
    });
    assert_eq!((count, found(&shelf, KEY, &Fields::new()).unwrap()), (0, "new".into()));
}

#[test]
fn only_what_goes_for_room_is_counted_as_thrown_out() {
    let (shelf, epochs) = (Shelf::new(1 << 20, 1 << 20), Epochs::new());
    let put = |key: &[u8], vary: &[&str]| {
        let request = fields(&[("foo", "1")]);
        shelf.put(entry(&epochs, key, vary, &request, "x"), &names(vary));
    };
    for _ in 0..10 {
        shelf.pass(shelf.hash(KEY), 20);
        put(KEY, &[]);
        put(b"http://a/v\nroute", &["foo"]);
    }
    assert_eq!(shelf.evicted(), 0, "one took the place of the other");
    let most = (1 << 20) / OVERHEAD;
    (0..most).for_each(|number| put(format!("http://a/{number}\nroute").as_bytes(), &[]));
    let there = shelf.filled().0;
    assert!(shelf.evicted() > 0);
    assert_eq!(shelf.evicted() + there, most as u64 + 3, "{there} are there");
}
