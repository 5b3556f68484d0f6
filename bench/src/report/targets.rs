//! What the project set itself, beside what was measured; and what more workers bring.

use super::{best, spread};
use crate::{
    compare::{Entry, Outcome, Results},
    measure::Measure,
    peers::Role,
    scenario::{Against, Target},
};

/// More workers are to bring this share of their number.
const SCALING: f64 = 0.95;

/// A target and what came of it.
pub struct Verdict {
    what: String,
    measured: f64,
    reached: bool,
}

impl Verdict {
    fn of(target: &Target, outcome: &Outcome, entries: &[Entry]) -> Option<Verdict> {
        let Target { measure, against, bound } = *target;
        let title = measure.title(outcome.scenario.tool);
        let runs = entries.iter().zip(&outcome.runs).find(|(entry, _)| entry.peer.role == Role::Ours)?.1;
        let own = spread(runs, measure)?.median;
        let (measured, whose) = match against {
            Against::Itself => (own, ""),
            Against::Better => {
                (own / best(outcome, entries, &[Role::Reference], measure)?, " × the better C proxy's")
            }
            Against::Best => {
                let peers = [Role::Reference, Role::Other, Role::Cache];
                (own / best(outcome, entries, &peers, measure)?, " × the best peer's")
            }
            Against::Floor => (own / best(outcome, entries, &[Role::Floor], measure)?, " × the relay's"),
        };
        let (sign, reached) =
            if measure.more() { ("≥", measured >= bound) } else { ("≤", measured <= bound) };
        let digits = if against == Against::Itself { 0 } else { 2 };
        Some(Verdict { what: format!("{title} {sign} {bound:.digits$}{whose}"), measured, reached })
    }

    fn word(&self) -> &'static str {
        if self.reached { "reached" } else { "MISSED" }
    }

    /// As it stands below a table.
    pub fn line(&self) -> String {
        format!("Target: {}: {:.2}, {}.", self.what, self.measured, self.word())
    }
}

/// The targets of a scenario; they are set for one worker.
pub fn judge(outcome: &Outcome, entries: &[Entry]) -> Vec<Verdict> {
    let targets = if outcome.workers == 1 { outcome.scenario.targets } else { &[] };
    targets.iter().filter_map(|t| Verdict::of(t, outcome, entries)).collect()
}

/// All of them as a table.
pub fn summary(results: &Results) -> Vec<Vec<String>> {
    let mut out = vec![["scenario", "target", "measured", ""].map(str::to_owned).to_vec()];
    for outcome in &results.outcomes {
        for verdict in judge(outcome, &results.entries) {
            let word = if verdict.reached { "reached" } else { "**missed**" };
            let measured = format!("{:.2}", verdict.measured);
            out.push(vec![outcome.scenario.name.into(), verdict.what, measured, word.into()]);
        }
    }
    out
}

/// Requests per second with more workers, as a multiple of those with one: a row for each scenario and number.
pub fn scaling(results: &Results) -> Vec<Vec<String>> {
    let mut head = vec!["scenario".to_owned(), "workers".into(), "target".into()];
    head.extend(results.entries.iter().map(|e| e.peer.name.to_owned()));
    let mut out = vec![head];
    for outcome in results.outcomes.iter().filter(|o| o.workers > 1) {
        let name = outcome.scenario.name;
        let Some(one) = results.outcomes.iter().find(|o| o.scenario.name == name && o.workers == 1) else {
            continue;
        };
        let multiples: Vec<Option<f64>> = outcome
            .runs
            .iter()
            .zip(&one.runs)
            .map(|(runs, base)| spread(runs, Measure::Rate).zip(spread(base, Measure::Rate)))
            .map(|both| both.map(|(more, one)| more.median / one.median))
            .collect();
        let own = results.entries.iter().zip(&multiples).find(|(e, _)| e.peer.role == Role::Ours);
        let target = SCALING * outcome.workers as f64;
        let word = match own.and_then(|(_, multiple)| *multiple) {
            Some(multiple) if multiple >= target => ": reached",
            Some(_) => ": **missed**",
            None => "",
        };
        let mut row = vec![name.to_owned(), outcome.workers.to_string(), format!("≥ {target:.1}{word}")];
        row.extend(multiples.iter().map(|m| m.map(|m| format!("{m:.2}")).unwrap_or_default()));
        out.push(row);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        peers::PEERS,
        report::{
            markdown,
            sample::{results, runs},
        },
        scenario::SCENARIOS,
    };

    fn scenario(name: &str) -> &'static crate::scenario::Scenario {
        SCENARIOS.iter().find(|s| s.name == name).unwrap()
    }

    #[test]
    fn ratios_are_to_the_better_peer_and_targets_are_judged() {
        let text = markdown(&results(runs(8.0, 0)));
        assert!(text.contains("CPU µs/request ≤ 0.80 × the better C proxy's: 0.80, reached."), "{text}");
        assert!(text.contains("requests/s ≥ 1.08 × the better C proxy's: 1.00, MISSED."), "{text}");
        assert!(!text.contains("relay's"), "there was no relay: {text}");
        let text = markdown(&results(runs(11.0, 0)));
        assert!(text.contains("1.10, MISSED"), "{text}");
        assert!(text.contains("**missed**"), "{text}");
    }

    #[test]
    fn the_floor_is_the_relay() {
        let mut all = results(runs(8.0, 0));
        let peer = PEERS.iter().find(|p| p.role == Role::Floor).unwrap();
        all.entries.push(Entry { peer, version: "1".into(), received: String::new() });
        all.outcomes[0].runs.push(runs(7.0, 0));
        assert!(markdown(&all).contains("≤ 1.10 × the relay's: 1.14, MISSED."));
    }

    #[test]
    fn the_best_peer_is_any() {
        let mut all = results(runs(8.0, 0));
        let outcome = Outcome { scenario: scenario("h3"), ..all.outcomes.remove(0) };
        all.outcomes.push(outcome);
        all.outcomes[0].runs[1].clear();
        assert!(markdown(&all).contains("≤ 1.00 × the best peer's: 0.67, reached."));
        let peer = PEERS.iter().find(|p| p.name == "caddy").unwrap();
        all.entries.push(Entry { peer, version: "1".into(), received: String::new() });
        all.outcomes[0].runs.push(runs(7.0, 0));
        assert!(markdown(&all).contains("≤ 1.00 × the best peer's: 1.14, MISSED."));
    }

    #[test]
    fn a_peer_without_runs_is_no_ratio() {
        let mut all = results(runs(8.0, 0));
        all.outcomes[0].runs[1].clear();
        assert!(markdown(&all).contains("C proxy's: 0.67, reached"));
        all.outcomes[0].runs[2].clear();
        assert!(judge(&all.outcomes[0], &all.entries).is_empty());
    }

    #[test]
    fn more_workers_are_compared_with_one() {
        let mut all = results(runs(8.0, 0));
        assert_eq!(scaling(&all).len(), 1);
        let mut twice = results(runs(8.0, 0)).outcomes.remove(0);
        twice.workers = 2;
        for run in &mut twice.runs[0] {
            run.load.requests *= 2;
        }
        twice.runs[2].clear();
        all.outcomes.push(twice);
        assert_eq!(scaling(&all)[1], ["small", "2", "≥ 1.9: reached", "2.00", "1.00", ""]);
        assert!(judge(&all.outcomes[1], &all.entries).is_empty());
    }
}
