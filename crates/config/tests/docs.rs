//! `docs/configuration.md` is made from the types. `UPDATE_GOLDEN=1` writes it.

use std::{fs, path::PathBuf};

#[test]
fn the_reference_is_what_the_types_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let expected = portcullis_config::reference_markdown();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == expected, "docs/configuration.md is out of date: run this test with UPDATE_GOLDEN=1");
}
