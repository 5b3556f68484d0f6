//! The document that the findings are written into (`docs/benchmarks.md`): the part between two marks is made by the
//! command, with a chart for each scenario in a folder beside it; the rest is written by hand and stays.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{
    chart,
    compare::{Outcome, Results},
    report,
};

const BEGIN: &str = "<!-- begin measured: written by scripts/bench, do not edit -->";
const END: &str = "<!-- end measured -->";

/// A document with a place for the findings.
pub struct Document {
    path: PathBuf,
    before: String,
    after: String,
}

impl Document {
    /// Reads it; a new one has nothing else in it.
    pub fn open(path: &Path) -> Result<Document> {
        let (mut before, mut after) = ("# Benchmarks\n\n".to_owned(), "\n".to_owned());
        if path.exists() {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            (before, after) = around(&text)
                .with_context(|| format!("{} lacks the lines\n{BEGIN}\n{END}", path.display()))?;
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        ensure!(folder.is_dir(), "{} is no folder", folder.display());
        Ok(Document { path: path.to_owned(), before, after })
    }

    /// Writes the findings into it, and the charts beside it; charts of before are removed.
    pub fn write(&self, results: &Results) -> Result<()> {
        let folder = self.path.with_extension("");
        if folder.is_dir() {
            for old in fs::read_dir(&folder)? {
                let old = old?.path();
                if old.extension().is_some_and(|e| e == "svg") {
                    fs::remove_file(old)?;
                }
            }
        }
        fs::create_dir_all(&folder)?;
        if let Some(svg) = chart::overview(results) {
            fs::write(folder.join("overview.svg"), svg)?;
        }
        for outcome in &results.outcomes {
            if let Some(svg) = chart::scenario(outcome, &results.entries) {
                fs::write(folder.join(file(outcome)), svg)?;
            }
        }
        let stem = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = report::illustrated(results, |outcome| {
            let (file, what) = match outcome {
                Some(outcome) => (file(outcome), outcome.scenario.what),
                None => ("overview.svg".into(), "CPU time per request in all scenarios"),
            };
            folder.join(&file).is_file().then(|| format!("![{what}]({stem}/{file})"))
        });
        let whole = format!("{}{BEGIN}\n\n{text}\n{END}{}", self.before, self.after);
        fs::write(&self.path, whole).with_context(|| self.path.display().to_string())
    }
}

fn file(outcome: &Outcome) -> String {
    match outcome.workers {
        1 => format!("{}.svg", outcome.scenario.name),
        n => format!("{}-{n}.svg", outcome.scenario.name),
    }
}

/// What stands before and after the marks.
fn around(text: &str) -> Option<(String, String)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before.to_owned(), after.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{results, runs};

    #[test]
    fn what_is_written_by_hand_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("benchmarks.md");
        fs::write(&path, format!("# Mine\n\n{BEGIN}\nold\n{END}\n\n## Routing\n")).unwrap();
        fs::create_dir(dir.path().join("benchmarks")).unwrap();
        fs::write(dir.path().join("benchmarks/gone.svg"), "").unwrap();
        for _ in 0..2 {
            Document::open(&path).unwrap().write(&results(runs(8.0, 0))).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Mine\n") && text.ends_with("\n\n## Routing\n"), "{text}");
        assert!(!text.contains("old") && text.matches("### small body").count() == 1, "{text}");
        assert!(
            text.contains("](benchmarks/small.svg)") && text.contains("](benchmarks/overview.svg)"),
            "{text}"
        );
        let mut charts: Vec<_> =
            fs::read_dir(dir.path().join("benchmarks")).unwrap().map(|e| e.unwrap().file_name()).collect();
        charts.sort();
        assert_eq!(charts, ["overview.svg", "small.svg"]);
    }

    #[test]
    fn a_document_without_the_marks_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.md");
        fs::write(&path, "# Mine\n").unwrap();
        assert!(Document::open(&path).is_err());
        assert!(Document::open(&dir.path().join("no/such.md")).is_err());
        Document::open(&dir.path().join("new.md")).unwrap();
    }
}
