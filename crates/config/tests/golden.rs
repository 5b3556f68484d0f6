//! Golden files: each configuration in `tests/golden/config/` beside all findings it gives and the model it means.
//! `UPDATE_GOLDEN=1` writes what is missing or different.

mod common;

use std::{fs, path::PathBuf};

use portcullis_config::{Format, load_text};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/config")
}

#[test]
fn every_configuration_means_what_its_golden_file_says() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut inputs: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| Format::of_file(path).is_some() && !path.to_string_lossy().contains(".model."))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 15, "the golden files are gone");
    let mut different = Vec::new();
    for input in inputs {
        let text = fs::read_to_string(&input).unwrap();
        let name = input.file_name().unwrap().to_str().unwrap();
        let format = Format::of_file(&input).unwrap();
        let outcome = load_text(&text, format, name, &common::env(), &common::TestKinds);
        let errors = outcome.findings.iter().filter(|finding| finding.is_error()).count();
        assert_eq!(outcome.model.is_some(), errors == 0, "{name}: a model exactly when there is no error");
        compare(&input.with_extension("findings.txt"), outcome.render(false), update, &mut different);
        if let Some(model) = &outcome.model {
            let json = serde_json::to_string_pretty(model).unwrap() + "\n";
            compare(&input.with_extension("model.json"), json, update, &mut different);
        }
    }
    assert!(different.is_empty(), "these differ; look, and run with UPDATE_GOLDEN=1: {different:#?}");
}

fn compare(path: &PathBuf, actual: String, update: bool, different: &mut Vec<String>) {
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return;
    }
    if update {
        fs::write(path, actual).unwrap();
    } else {
        different.push(format!("{}\n--- expected\n{expected}\n--- actual\n{actual}", path.display()));
    }
}
