//! Mistakes that people make, and what they are told: `tests/golden/mistakes.txt` holds configurations, each followed by
//! its findings. Every finding has its place and says what would be right. `UPDATE_GOLDEN=1` writes the findings anew.

use std::{fmt::Write, fs, path::Path};

use portcullis::load::load;
use portcullis_core::provider::Snapshot;

const ROW: &str = "==== ";
const FINDINGS: &str = "----\n";

#[test]
fn every_mistake_is_explained() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/mistakes.txt");
    let golden = fs::read_to_string(&file).expect("the table");
    let mut told = String::new();
    let mut silent = Vec::new();
    let rows: Vec<&str> = golden.split(ROW).skip(1).collect();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    for row in rows {
        let (name, rest) = row.split_once('\n').expect("a name");
        let (text, _) = rest.split_once(FINDINGS).expect("a configuration");
        let snapshot = Snapshot::Text { file: "gateway.toml".into(), text: text.into(), dot_env: None };
        let loaded = load("file", &snapshot, Path::new("."));
        if loaded.findings.is_empty() {
            silent.push(format!("{name}: nothing wrong"));
        }
        for finding in &loaded.findings {
            // Which type is expected says what would be right.
            let helps = !finding.help.is_empty() || finding.message.starts_with("expected ");
            if finding.line == 0 || !helps || finding.message.contains('\n') {
                silent.push(format!("{name}: {}", finding.render(text, false)));
            }
        }
        let findings = loaded.text(false);
        let _ = write!(told, "{ROW}{name}\n{text}{FINDINGS}{}\n\n", findings.trim_end());
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &told).expect("written");
    } else {
        assert!(told == golden, "findings differ; look, and run with UPDATE_GOLDEN=1:\n{told}");
    }
    assert!(silent.is_empty(), "without place or help:\n{}", silent.join("\n"));
}
