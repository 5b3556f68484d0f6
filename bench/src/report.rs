//! The findings as Markdown (for the terminal and for `docs/`) and as JSON (every single run).

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{
    compare::{Entry, Outcome, Results, Run},
    peers::Role,
    scenario::Scenario,
    stats::Spread,
};

/// Share of a core lost to others from which a run is called noisy.
pub const NOISY: f64 = 0.03;

/// A figure taken from every run.
struct Column {
    title: &'static str,
    of: fn(&Run) -> f64,
    /// Whether more is better.
    more: bool,
    digits: fn(f64) -> usize,
}

const COLUMNS: &[Column] = &[
    Column { title: "requests/s", of: Run::rate, more: true, digits: |_| 0 },
    Column { title: "CPU µs/request", of: Run::cpu_per_request, more: false, digits: fine },
    Column { title: "p50 ms", of: |r| r.load.p50, more: false, digits: |_| 2 },
    Column { title: "p99 ms", of: |r| r.load.p99, more: false, digits: |_| 2 },
    Column { title: "peak MB", of: |r| r.memory, more: false, digits: |_| 1 },
];

const CPU: usize = 1;
const MEMORY: usize = 4;

fn fine(value: f64) -> usize {
    if value < 100.0 { 2 } else { 0 }
}

/// The whole report.
pub fn markdown(results: &Results) -> String {
    let mut out = preamble(results);
    for outcome in &results.outcomes {
        let _ = write!(out, "\n### {} (`{}`)\n\n", outcome.scenario.what, outcome.scenario.name);
        out.push_str(&table(&rows(outcome, &results.entries)));
        for line in remarks(outcome, &results.entries) {
            let _ = write!(out, "\n{line}\n");
        }
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
        "Taken {} on {} ({} cores{}, {:.0} GiB), Linux {}.\n{}; load by wrk {}.\n\
         {} worker(s) each, {} runs of {} s in turn; medians, with the least and the most in brackets; ratios are \
         of medians, to the better of nginx and HAProxy in each \
         column. `relay` copies bytes without looking at them: the floor.\n",
        m.date,
        m.cpu,
        m.cores,
        if m.virtual_machine { ", virtual" } else { "" },
        m.memory_gib,
        m.kernel,
        versions.join(", "),
        m.wrk,
        results.workers,
        results.rounds,
        results.seconds,
    )
}

fn rows(outcome: &Outcome, entries: &[Entry]) -> Vec<Vec<String>> {
    let mut head = vec![String::new()];
    head.extend(COLUMNS.iter().map(|c| c.title.to_owned()));
    head.push("errors".into());
    let mut out = vec![head];
    for (entry, runs) in entries.iter().zip(&outcome.runs).filter(|(_, runs)| !runs.is_empty()) {
        let mut figures = vec![entry.peer.name.to_owned()];
        for column in COLUMNS {
            let spread = Spread::of(runs.iter().map(column.of));
            figures.push(spread.map(|s| figure(&s, column)).unwrap_or_default());
        }
        figures.push(runs.iter().map(|r| r.load.errors.total()).sum::<u64>().to_string());
        out.push(figures);
        if entry.peer.role == Role::Ours {
            for (role, title) in [(Role::Reference, "– ratio"), (Role::Tuned, "– ratio, tuned")] {
                out.extend(ratios(outcome, entries, runs, role, title));
            }
        }
    }
    out
}

/// Our medians against the better of the proxies of one role; nothing when none of them ran.
fn ratios(outcome: &Outcome, entries: &[Entry], own: &[Run], role: Role, title: &str) -> Option<Vec<String>> {
    let mut row = vec![title.to_owned()];
    for column in COLUMNS {
        let best = best(outcome, entries, role, column)?;
        row.push(format!("{:.2}", Spread::of(own.iter().map(column.of))?.median / best));
    }
    row.push(String::new());
    Some(row)
}

/// The best median of the proxies of one role in one column.
fn best(outcome: &Outcome, entries: &[Entry], role: Role, column: &Column) -> Option<f64> {
    entries
        .iter()
        .zip(&outcome.runs)
        .filter(|(entry, _)| entry.peer.role == role)
        .filter_map(|(_, runs)| Spread::of(runs.iter().map(column.of)))
        .map(|s| s.median)
        .reduce(|a, b| if column.more { a.max(b) } else { a.min(b) })
}

fn figure(s: &Spread, column: &Column) -> String {
    let digits = (column.digits)(s.median);
    format!("{:.digits$} ({:.digits$}–{:.digits$})", s.median, s.min, s.max)
}

/// What a reader of the table must know: targets, errors, noise.
fn remarks(outcome: &Outcome, entries: &[Entry]) -> Vec<String> {
    let mut out = Vec::new();
    let scenario = outcome.scenario;
    for (entry, runs) in entries.iter().zip(&outcome.runs) {
        if entry.peer.role == Role::Ours && !runs.is_empty() {
            out.extend(targets(scenario, outcome, entries, runs));
        }
        let errors: Vec<_> = runs.iter().map(|r| r.load.errors).filter(|e| e.total() > 0).collect();
        if !errors.is_empty() {
            let sum = |of: fn(&crate::load::Errors) -> u64| errors.iter().map(of).sum::<u64>();
            out.push(format!(
                "**Errors of {}**: {} connect, {} read, {} write, {} timeout, {} status ≥ 400.",
                entry.peer.name,
                sum(|e| e.connect),
                sum(|e| e.read),
                sum(|e| e.write),
                sum(|e| e.timeout),
                sum(|e| e.status),
            ));
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

fn targets(scenario: &Scenario, outcome: &Outcome, entries: &[Entry], runs: &[Run]) -> Vec<String> {
    let verdict = |reached: bool| if reached { "reached" } else { "MISSED" };
    let median = |i: usize| COLUMNS.get(i).and_then(|c| Spread::of(runs.iter().map(c.of))).map(|s| s.median);
    let mut out = Vec::new();
    let reference = COLUMNS.get(CPU).and_then(|c| best(outcome, entries, Role::Reference, c));
    if let (Some(target), Some(own), Some(best)) = (scenario.cpu_target, median(CPU), reference) {
        let ratio = own / best;
        out.push(format!(
            "Target: CPU per request ≤ {target:.2} × the better peer's: {ratio:.2}, {}.",
            verdict(ratio <= target)
        ));
    }
    if let (Some(target), Some(own)) = (scenario.memory_target, median(MEMORY)) {
        out.push(format!("Target: peak memory < {target:.0} MB: {own:.1} MB, {}.", verdict(own < target)));
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

/// Every run, and what was checked before them.
pub fn json(results: &Results) -> String {
    let entries: Vec<Value> = results
        .entries
        .iter()
        .map(|e| json!({ "name": e.peer.name, "version": e.version, "endpoint_received": e.received }))
        .collect();
    let outcomes: Vec<Value> = results
        .outcomes
        .iter()
        .map(|o| {
            let runs: serde_json::Map<String, Value> = results
                .entries
                .iter()
                .zip(&o.runs)
                .map(|(e, runs)| (e.peer.name.to_owned(), runs.iter().map(raw).collect()))
                .collect();
            json!({ "scenario": o.scenario.name, "what": o.scenario.what, "runs": runs })
        })
        .collect();
    let all = json!({
        "machine": results.machine.json(),
        "seconds": results.seconds,
        "rounds": results.rounds,
        "workers": results.workers,
        "proxies": entries,
        "scenarios": outcomes,
    });
    format!("{all:#}\n")
}

fn raw(run: &Run) -> Value {
    let (l, e) = (&run.load, &run.load.errors);
    json!({
        "requests": l.requests,
        "seconds": l.seconds,
        "bytes": l.bytes,
        "requests_per_second": run.rate(),
        "cpu_seconds": run.cpu,
        "cpu_us_per_request": run.cpu_per_request(),
        "p50_ms": l.p50,
        "p99_ms": l.p99,
        "peak_memory_mb": run.memory,
        "endpoint_connections_opened": run.opened,
        "noise_proxy_cores": run.noise_proxy,
        "noise_load_cores": run.noise_load,
        "errors": {
            "connect": e.connect, "read": e.read, "write": e.write, "timeout": e.timeout, "status": e.status,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Load, machine::Machine, peers::PEERS, scenario::SCENARIOS};

    fn runs(cpu: f64, errors: u64) -> Vec<Run> {
        let mut load = Load { requests: 1_000_000, seconds: 10.0, p50: 1.0, p99: 2.0, ..Load::default() };
        load.errors.status = errors;
        vec![Run { load, cpu, memory: 10.0, opened: 0, noise_proxy: 0.0, noise_load: 0.0 }; 3]
    }

    fn results(own: Vec<Run>) -> Results {
        let entries = PEERS
            .iter()
            .take(3)
            .map(|peer| Entry { peer, version: "1".into(), received: String::new() })
            .collect();
        let outcome = Outcome { scenario: &SCENARIOS[0], runs: vec![own, runs(10.0, 0), runs(12.0, 0)] };
        Results {
            machine: Machine::look(),
            entries,
            outcomes: vec![outcome],
            seconds: 10,
            rounds: 3,
            workers: 1,
        }
    }

    #[test]
    fn ratios_are_to_the_better_peer_and_targets_are_judged() {
        let text = markdown(&results(runs(8.0, 0)));
        assert!(text.contains("0.80, reached"), "{text}");
        let text = markdown(&results(runs(11.0, 0)));
        assert!(text.contains("1.10, MISSED"), "{text}");
    }

    #[test]
    fn errors_are_said() {
        let text = markdown(&results(runs(8.0, 7)));
        assert!(text.contains("**Errors of portcullis**") && text.contains("21 status"), "{text}");
        assert!(!markdown(&results(runs(8.0, 0))).contains("Errors"));
    }

    #[test]
    fn the_raw_data_is_json_with_every_run() {
        let v: Value = serde_json::from_str(&json(&results(runs(8.0, 0)))).unwrap();
        assert_eq!(v["scenarios"][0]["runs"]["nginx"].as_array().unwrap().len(), 3);
    }
}
