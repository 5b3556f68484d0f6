//! The comparison in `docs/security.md`, between two marks, made from what was observed.

use super::{Entry, play::Outcome, text};

/// The page.
pub const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/security.md");

const BEGIN: &str = "<!-- The corpus: written by scripts/corpus. -->\n";
const END: &str = "<!-- The corpus ends. -->";

/// How many bytes of what a peer forwarded are shown.
const SHOWN: usize = 160;

/// A peer, and what came of each entry; nothing of those that it has no protocol for.
pub type Column = (String, Vec<Option<Outcome>>);

/// The part of an entry's row that the corpus itself tells: name, rule, what Portcullis does.
pub fn row_begin(entry: &Entry) -> String {
    let ours = cell(&entry.answer, !entry.forwarded.is_empty());
    format!("| `{}` | {} | {ours} |", entry.name, entry.breaks.replace('|', "\\|"))
}

/// Writes the tables: every entry, then what peers forward that Portcullis does not.
pub fn write(entries: &[Entry], columns: &[Column]) {
    let page = std::fs::read_to_string(PAGE).expect("docs/security.md");
    let (before, rest) = page.split_once(BEGIN).expect("a mark where the corpus begins");
    let (_, after) = rest.split_once(END).expect("a mark where the corpus ends");
    let tables = format!("{}\n{}", all(entries, columns), differences(entries, columns));
    std::fs::write(PAGE, format!("{before}{BEGIN}\n{tables}\n{END}{after}")).expect("write docs/security.md");
}

fn all(entries: &[Entry], columns: &[Column]) -> String {
    let mut out = String::new();
    let mut group = "";
    for (at, entry) in entries.iter().enumerate() {
        if entry.group != group {
            group = entry.group;
            // Neither of the peers speaks HTTP/3 as Debian builds it.
            let columns = if entry.is_http3() { &[] } else { columns };
            let titles: String = columns.iter().map(|(title, _)| format!(" {title} |")).collect();
            let rules = "---|".repeat(columns.len());
            out.push_str(&format!(
                "\n#### {group}\n\n| Entry | Rule | Portcullis |{titles}\n|---|---|---|{rules}\n"
            ));
        }
        out.push_str(&row_begin(entry));
        for outcome in columns.iter().filter_map(|(_, outcomes)| outcomes.get(at)?.as_ref()) {
            let theirs = cell(&outcome.answer, !outcome.forwarded.is_empty());
            let is_other = outcome.forwarded.is_empty() != entry.forwarded.is_empty();
            out.push_str(&if is_other { format!(" **{theirs}** |") } else { format!(" {theirs} |") });
        }
        out.push('\n');
    }
    out
}

fn differences(entries: &[Entry], columns: &[Column]) -> String {
    let mut out = String::new();
    for (title, outcomes) in columns {
        let both = || entries.iter().zip(outcomes).filter_map(|(entry, of)| Some((entry, of.as_ref()?)));
        let differ: Vec<_> = both()
            .filter(|(entry, outcome)| entry.forwarded.is_empty() && !outcome.forwarded.is_empty())
            .collect();
        let stricter =
            both().filter(|(entry, outcome)| !entry.forwarded.is_empty() && outcome.forwarded.is_empty());
        let stricter: Vec<String> = stricter.map(|(entry, _)| format!("`{}`", entry.name)).collect();
        out.push_str(&format!(
            "\n#### {title} and Portcullis\n\n{title} forwards {} entries of which Portcullis forwards nothing, and nothing of {} \
             that Portcullis forwards{}{}.\n\n| Entry | What its endpoint gets |\n|---|---|\n",
            differ.len(),
            stricter.len(),
            if stricter.is_empty() { "" } else { ": " },
            stricter.join(", "),
        ));
        for (entry, outcome) in differ {
            out.push_str(&format!("| `{}` | {} |\n", entry.name, code(&outcome.forwarded)));
        }
    }
    out
}

/// What happened, in few words; `→` where something reached the endpoint.
fn cell(answer: &str, is_forwarded: bool) -> String {
    let (said, last) = answer.rsplit_once(' ').unwrap_or(("", answer));
    let said = match (said, last) {
        ("", "close") => "closed",
        ("", "wait") => "waits",
        (said, _) => said,
    };
    format!("{said}{}", if is_forwarded { " →" } else { "" })
}

/// Bytes for a cell of a table.
fn code(bytes: &[u8]) -> String {
    let shown = text::escape(&bytes[..bytes.len().min(SHOWN)]);
    let more = if bytes.len() > SHOWN { " …" } else { "" };
    format!("`` {}{more} ``", shown.replace('|', "\\|"))
}
