//! The examples in `docs/` are what they claim to be: whole files that check without an error.

use std::{fs, path::PathBuf};

use portcullis::rehearse::check_file;

const PAGES: [&str; 14] = [
    "../README.md",
    "headers.md",
    "limits-and-timeouts.md",
    "policies/capacity.md",
    "policies/circuit-breaker.md",
    "policies/deadlines.md",
    "policies/fallback.md",
    "policies/load-shedding.md",
    "policies/mirror.md",
    "policies/retries.md",
    "policies/split.md",
    "protocols.md",
    "routing.md",
    "services.md",
];

/// The TOML between the fences of a page.
fn examples(page: &str) -> Vec<String> {
    let blocks = page.split("```toml\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_example_checks() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for page in PAGES {
        let text = fs::read_to_string(docs.join(page)).unwrap();
        for (at, example) in examples(&text).into_iter().enumerate() {
            let file = folder.path().join(format!("{seen}.toml"));
            fs::write(&file, &example).unwrap();
            let loaded = check_file(&file);
            assert!(loaded.findings.is_empty(), "{page}, example {at}:\n{}", loaded.text(false));
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} examples are left");
}

#[test]
fn no_link_leads_nowhere() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let policies = fs::read_dir(docs.join("policies")).unwrap();
    for entry in fs::read_dir(&docs).unwrap().chain(policies) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://");
            assert!(elsewhere || path.with_file_name(file).exists(), "{}: {link}", path.display());
        }
    }
}
