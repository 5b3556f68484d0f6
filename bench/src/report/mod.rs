//! The findings as Markdown, for the terminal and for `docs/`.

mod json;
mod targets;

use std::fmt::Write;

pub use json::{json, parse};

use crate::{
    compare::{Entry, Outcome, Results, Run},
    measure::Measure,
    peers::Role,
    scenario::Tool,
    stats::Spread,
};

/// Share of a core lost to others from which a run is called noisy.
pub const NOISY: f64 = 0.03;

/// The whole report.
pub fn markdown(results: &Results) -> String {
    illustrated(results, |_| None)
}

/// The whole report, with a line (an image) in front of the table of each scenario; `None` is for the whole.
pub fn illustrated(results: &Results, image: impl Fn(Option<&Outcome>) -> Option<String>) -> String {
    let mut out = preamble(results);
    if let Some(line) = image(None) {
        let _ = write!(out, "\n{line}\n");
    }
    let summary = targets::summary(results);
    if summary.len() > 1 {
        let _ = write!(out, "\n### Targets\n\n{}", table(&summary));
    }
    for outcome in &results.outcomes {
        let workers =
            if outcome.workers == 1 { String::new() } else { format!(", {} workers", outcome.workers) };
        let pace = outcome.pace.map(|p| format!(", {p} requests/s")).unwrap_or_default();
        let _ =
            write!(out, "\n### {}{pace}{workers} (`{}`)\n\n", outcome.scenario.what, outcome.scenario.name);
        if let Some(line) = image(Some(outcome)) {
            let _ = write!(out, "{line}\n\n");
        }
        out.push_str(&table(&rows(outcome, &results.entries)));
        for line in remarks(outcome, &results.entries) {
            let _ = write!(out, "\n{line}\n");
        }
    }
    let scaling = targets::scaling(results);
    if scaling.len() > 1 {
        let _ = write!(
            out,
            "\n### More workers against one\n\nRequests/s, as a multiple of one worker's. On a machine without cores to \
             spare for load and endpoints, they share the proxy's, and the multiple says little.\n\n{}",
            table(&scaling)
        );
    }
    out
}

fn preamble(results: &Results) -> String {
    let m = &results.machine;
    let versions: Vec<String> = results
        .entries
        .iter()
        .map(|e| match e.peer.role {
            Role::Ours => format!("{} {} (commit {})", e.peer.name, e.version, m.commit),
            _ => format!("{} {}", e.peer.name, e.version),
        })
        .collect();
    format!(
        "Taken {} on {} ({} cores{}, {:.0} GiB), Linux {}.\n{}; load by wrk {}, h2load {}, and own clients.\n\
         {} runs of {} s in turn; medians, with the least and the most in brackets; ratios are of medians, in each \
         column to the better of nginx and HAProxy, and to the best of all peers. `relay` copies bytes without looking \
         at them: the floor.\n",
        m.date,
        m.cpu,
        m.cores,
        if m.virtual_machine { ", virtual" } else { "" },
        m.memory_gib,
        m.kernel,
        versions.join(", "),
        m.wrk,
        m.h2load,
        results.rounds,
        results.seconds,
    )
}

fn rows(outcome: &Outcome, entries: &[Entry]) -> Vec<Vec<String>> {
    let tool = outcome.scenario.tool;
    let measures = Measure::of_tool(tool);
    let mut head = vec![String::new()];
    head.extend(measures.iter().map(|m| m.title(tool).to_owned()));
    head.push("errors".into());
    let mut out = vec![head];
    for (entry, runs) in entries.iter().zip(&outcome.runs).filter(|(_, runs)| !runs.is_empty()) {
        let mut figures = vec![entry.peer.name.to_owned()];
        for measure in measures {
            let spread = spread(runs, *measure);
            figures.push(spread.map(|s| figure(&s, *measure)).unwrap_or_default());
        }
        figures.push(runs.iter().map(|r| r.load.errors.total()).sum::<u64>().to_string());
        out.push(figures);
        if entry.peer.role == Role::Ours {
            out.extend(ratios(outcome, entries, runs, &[Role::Reference], "– ratio, C proxies"));
            if has(outcome, entries, Role::Other) || has(outcome, entries, Role::Cache) {
                out.extend(ratios(
                    outcome,
                    entries,
                    runs,
                    &[Role::Reference, Role::Other, Role::Cache],
                    "– ratio, best peer",
                ));
            }
            out.extend(ratios(outcome, entries, runs, &[Role::Tuned], "– ratio, tuned"));
        }
    }
    out
}

fn has(outcome: &Outcome, entries: &[Entry], role: Role) -> bool {
    entries.iter().zip(&outcome.runs).any(|(entry, runs)| entry.peer.role == role && !runs.is_empty())
}

/// A figure over runs.
pub fn spread(runs: &[Run], measure: Measure) -> Option<Spread> {
    Spread::of(runs.iter().map(|run| measure.of(run)))
}

/// Our medians against the best of the proxies of some roles; nothing when none of them ran.
fn ratios(
    outcome: &Outcome,
    entries: &[Entry],
    own: &[Run],
    roles: &[Role],
    title: &str,
) -> Option<Vec<String>> {
    let mut row = vec![title.to_owned()];
    for measure in Measure::of_tool(outcome.scenario.tool) {
        let best = best(outcome, entries, roles, *measure)?;
        row.push(format!("{:.2}", spread(own, *measure)?.median / best));
    }
    row.push(String::new());
    Some(row)
}

/// The best median of the proxies of some roles.
pub fn best(outcome: &Outcome, entries: &[Entry], roles: &[Role], measure: Measure) -> Option<f64> {
    entries
        .iter()
        .zip(&outcome.runs)
        .filter(|(entry, _)| roles.contains(&entry.peer.role))
        .filter_map(|(_, runs)| spread(runs, measure))
        .map(|s| s.median)
        .reduce(|a, b| measure.better(a, b))
}

/// A median with its spread, with the digits that mean something.
pub fn figure(s: &Spread, measure: Measure) -> String {
    let digits = measure.digits(s.median);
    format!("{:.digits$} ({:.digits$}–{:.digits$})", s.median, s.min, s.max)
}

/// What a reader of the table must know: targets, failures, errors, noise.
fn remarks(outcome: &Outcome, entries: &[Entry]) -> Vec<String> {
    let mut out: Vec<String> = targets::judge(outcome, entries).iter().map(targets::Verdict::line).collect();
    for (name, why) in &outcome.left_out {
        out.push(format!("{name} is left out: {why}."));
    }
    for (name, why) in &outcome.failures {
        let why = why.lines().collect::<Vec<_>>().join(" ");
        out.push(format!("**{name} failed**: {}", why.replace(['|', '<'], " ")));
    }
    for (entry, runs) in entries.iter().zip(&outcome.runs) {
        let errors: Vec<_> = runs.iter().map(|r| r.load.errors).filter(|e| e.total() > 0).collect();
        if !errors.is_empty() {
            let sum = |of: fn(&crate::load::Errors) -> u64| errors.iter().map(of).sum::<u64>();
            let status = match outcome.scenario.tool {
                Tool::Handshakes { .. } => "of the other kind",
                _ => "status ≥ 400",
            };
            out.push(format!(
                "**Errors of {}**: {} connect, {} read, {} write, {} timeout, {} {status}.",
                entry.peer.name,
                sum(|e| e.connect),
                sum(|e| e.read),
                sum(|e| e.write),
                sum(|e| e.timeout),
                sum(|e| e.status),
            ));
        }
        let unlogged: u64 = runs.iter().map(|r| r.unlogged).sum();
        if unlogged > 0 {
            let all: u64 = runs.iter().map(|r| r.load.requests).sum();
            let name = entry.peer.name;
            out.push(format!("**Log of {name}**: {unlogged} of {all} requests left no line."));
        }
    }
    let all: Vec<&Run> = outcome.runs.iter().flatten().collect();
    let noisy = all.iter().filter(|r| r.noise_proxy.max(r.noise_load) > NOISY).count();
    if noisy > 0 {
        out.push(format!(
            "**Noise**: in {noisy} of {} runs, more than {:.0} % of a core went to other programs or the \
             hypervisor; do not quote these figures.",
            all.len(),
            NOISY * 100.0
        ));
    }
    out
}

/// Lays a table out so that it also reads well in a terminal.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            let _ = if i == 0 { write!(out, "| {cell}{pad} ") } else { write!(out, "| {pad}{cell} ") };
        }
        out.push_str("|\n");
        if at == 0 {
            for (i, width) in widths.iter().enumerate() {
                let _ = write!(out, "|{}{}", "-".repeat(width + 1), if i == 0 { "-" } else { ":" });
            }
            out.push_str("|\n");
        }
    }
    out
}

/// Results made up for tests: three proxies in the first scenario.
#[cfg(test)]
pub mod sample {
    use super::*;
    use crate::{load::Load, machine::Machine, peers::PEERS, scenario::SCENARIOS};

    /// Three runs of a million requests in ten seconds, with so much CPU time.
    pub fn runs(cpu: f64, errors: u64) -> Vec<Run> {
        let mut load = Load { requests: 1_000_000, seconds: 10.0, p50: 1.0, p99: 2.0, ..Load::default() };
        load.errors.status = errors;
        vec![Run { load, cpu, memory: 10.0, ..Run::default() }; 3]
    }

    /// Ours with these runs, nginx with 10 s, HAProxy with 12 s.
    pub fn results(own: Vec<Run>) -> Results {
        let entries = PEERS
            .iter()
            .take(3)
            .map(|peer| Entry { peer, version: "1".into(), received: String::new() })
            .collect();
        let outcome = Outcome {
            scenario: &SCENARIOS[0],
            workers: 1,
            pace: None,
            runs: vec![own, runs(10.0, 0), runs(12.0, 0)],
            left_out: Vec::new(),
            failures: Vec::new(),
        };
        Results { machine: Machine::look(), entries, outcomes: vec![outcome], seconds: 10, rounds: 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        sample::{results, runs},
        *,
    };

    #[test]
    fn errors_failures_and_missing_lines_are_said() {
        let text = markdown(&results(runs(8.0, 7)));
        assert!(text.contains("**Errors of portcullis**") && text.contains("21 status"), "{text}");
        let mut good = results(runs(8.0, 0));
        let text = markdown(&good);
        assert!(!["Errors", "failed", "left no line"].iter().any(|w| text.contains(w)), "{text}");
        good.outcomes[0].failures.push(("nginx", "it does\nnot | listen".into()));
        good.outcomes[0].left_out.push(("haproxy", "it cannot"));
        good.outcomes[0].runs[0][0].unlogged = 5;
        let text = markdown(&good);
        assert!(text.contains("haproxy is left out: it cannot."), "{text}");
        assert!(text.contains("**nginx failed**: it does not   listen\n"), "{text}");
        assert!(text.contains("**Log of portcullis**: 5 of 3000000 requests left no line."), "{text}");
    }

    #[test]
    fn ratios_are_to_the_better_in_each_column() {
        let text = markdown(&results(runs(8.0, 0)));
        let row = text.lines().find(|l| l.starts_with("| – ratio, C proxies")).unwrap();
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[2..7], ["0.80", "1.00", "1.00", "1.00", "1.00"], "{row}");
        assert!(!text.contains("best peer |"), "without other peers both ratios would be the same");
    }
}
