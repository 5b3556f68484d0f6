//! The conformance suite: each row of `conformance/*.toml` is a rule, with the exchanges that show it. They are run here
//! against the rules, with time passed in; those that need no waiting are run against the real binary in `e2e`.
//!
//! A row has up to two exchanges written in short (`origin`, `ask`; then after `after` seconds `again`, `origin2`), or any
//! number of `steps`. `then` says what must become of the last: `fetched` (the origin is asked for all of it), `reused`
//! (not asked), `revalidated` (asked, and its 304 confirms what is stored), `refreshed` (reused though stale, and asked in the
//! background), or a status such as `304`, `206`, `412`, `504`, which the cache answers itself.

mod conformance {
    pub mod engine;
    pub mod rows;
}

use conformance::{engine::Engine, rows};

#[test]
fn every_row_holds() {
    let rows = rows::all();
    assert!(rows.len() >= 200, "{} rows", rows.len());
    let mut broken = Vec::new();
    for row in &rows {
        let mut engine = Engine::new(row);
        if let Err(why) = engine.run(row) {
            broken.push(format!("{} · {}\n    {why}", row.file, row.rule));
        }
    }
    for standard in ["9111 ", "5861 ", "9211 ", "9213 "] {
        assert!(rows.iter().filter(|row| row.rule.starts_with(standard)).count() >= 20, "RFC {standard}");
    }
    assert!(broken.is_empty(), "{} of {} rows do not hold:\n{}", broken.len(), rows.len(), broken.join("\n"));
}

#[test]
fn no_rule_stands_twice() {
    let mut seen = std::collections::BTreeSet::new();
    for row in rows::all() {
        assert!(seen.insert(row.rule.clone()), "{} stands twice", row.rule);
    }
}
