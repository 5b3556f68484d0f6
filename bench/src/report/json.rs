//! Every single run as JSON, and what was checked before them; and back again, so that a report can be drawn anew.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{
    compare::{Entry, Outcome, Results, Run},
    load::Load,
    machine::Machine,
    peers::{PEERS, Peer},
    scenario::SCENARIOS,
};

/// All of it.
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
            let runs: Map<String, Value> = results
                .entries
                .iter()
                .zip(&o.runs)
                .map(|(e, runs)| (e.peer.name.to_owned(), runs.iter().map(raw).collect()))
                .collect();
            let failures: Map<String, Value> =
                o.failures.iter().map(|(name, why)| ((*name).to_owned(), json!(why))).collect();
            json!({
                "scenario": o.scenario.name, "what": o.scenario.what, "workers": o.workers, "rate": o.pace,
                "runs": runs, "failures": failures,
            })
        })
        .collect();
    let all = json!({
        "machine": results.machine,
        "seconds": results.seconds,
        "rounds": results.rounds,
        "proxies": entries,
        "scenarios": outcomes,
    });
    format!("{all:#}\n")
}

fn raw(run: &Run) -> Value {
    let l = &run.load;
    json!({
        "requests": l.requests,
        "seconds": l.seconds,
        "bytes": l.bytes,
        "requests_per_second": run.rate(),
        "cpu_seconds": run.cpu,
        "cpu_us_per_request": run.cpu_per_request(),
        "p50_ms": l.p50,
        "p99_ms": l.p99,
        "p999_ms": l.p999,
        "peak_memory_mb": run.memory,
        "resting_memory_mb": run.resting,
        "kib_per_connection": run.per_connection,
        "unlogged": run.unlogged,
        "endpoint_connections_opened": run.opened,
        "noise_proxy_cores": run.noise_proxy,
        "noise_load_cores": run.noise_load,
        "errors": l.errors,
    })
}

/// What [`json`] wrote.
///
/// # Errors
/// It did not, or knew other scenarios or peers.
pub fn parse(text: &str) -> Result<Results> {
    let all: Value = serde_json::from_str(text)?;
    let entries: Vec<Entry> = list(&all, "proxies")?.iter().map(entry).collect::<Result<_>>()?;
    let outcomes =
        list(&all, "scenarios")?.iter().map(|each| outcome(each, &entries)).collect::<Result<_>>()?;
    let machine = part::<Machine>(&all, "machine")?;
    Ok(Results {
        machine,
        entries,
        outcomes,
        seconds: number(&all, "seconds")? as u64,
        rounds: number(&all, "rounds")? as usize,
    })
}

fn entry(of: &Value) -> Result<Entry> {
    let received = text(of, "endpoint_received")?;
    Ok(Entry { peer: peer(&text(of, "name")?)?, version: text(of, "version")?, received })
}

fn peer(name: &str) -> Result<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name).with_context(|| format!("no peer {name:?}"))
}

fn outcome(of: &Value, entries: &[Entry]) -> Result<Outcome> {
    let name = text(of, "scenario")?;
    let scenario =
        SCENARIOS.iter().find(|s| s.name == name).with_context(|| format!("no scenario {name:?}"))?;
    let workers = number(of, "workers")? as usize;
    let all = of.get("runs").context("no `runs`")?;
    let of_one = |entry: &Entry| list(all, entry.peer.name)?.iter().map(run).collect::<Result<Vec<_>>>();
    let why =
        |(name, why): (&String, &Value)| Ok((peer(name)?.name, why.as_str().unwrap_or_default().to_owned()));
    Ok(Outcome {
        scenario,
        workers,
        pace: of.get("rate").and_then(Value::as_u64),
        runs: entries.iter().map(of_one).collect::<Result<_>>()?,
        left_out: entries
            .iter()
            .filter(|e| scenario.concerns(e.peer.role, workers))
            .filter_map(|e| Some((e.peer.name, scenario.cannot(e.peer)?)))
            .collect(),
        failures: of
            .get("failures")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(why)
            .collect::<Result<_>>()?,
    })
}

fn run(of: &Value) -> Result<Run> {
    let errors = part(of, "errors")?;
    let of = |name| number(of, name);
    let load = Load {
        requests: of("requests")? as u64,
        bytes: of("bytes")? as u64,
        seconds: of("seconds")?,
        p50: of("p50_ms")?,
        p99: of("p99_ms")?,
        p999: of("p999_ms")?,
        errors,
    };
    Ok(Run {
        load,
        cpu: of("cpu_seconds")?,
        memory: of("peak_memory_mb")?,
        resting: of("resting_memory_mb")?,
        per_connection: of("kib_per_connection")?,
        unlogged: of("unlogged")? as u64,
        opened: of("endpoint_connections_opened")? as u64,
        noise_proxy: of("noise_proxy_cores")?,
        noise_load: of("noise_load_cores")?,
    })
}

/// What is written as it is.
fn part<T: DeserializeOwned>(of: &Value, name: &str) -> Result<T> {
    T::deserialize(of.get(name).with_context(|| format!("no `{name}`"))?)
        .with_context(|| format!("in `{name}`"))
}

fn number(of: &Value, name: &str) -> Result<f64> {
    of.get(name).and_then(Value::as_f64).with_context(|| format!("no number `{name}`"))
}

fn text(of: &Value, name: &str) -> Result<String> {
    Ok(of.get(name).and_then(Value::as_str).with_context(|| format!("no text `{name}`"))?.to_owned())
}

fn list<'a>(of: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    of.get(name).and_then(Value::as_array).with_context(|| format!("no list `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{results, runs};

    #[test]
    fn the_raw_data_is_json_with_every_run() {
        let mut all = results(runs(8.0, 0));
        all.outcomes[0].failures.push(("haproxy", "gone".into()));
        let v: Value = serde_json::from_str(&json(&all)).unwrap();
        assert_eq!(v["scenarios"][0]["runs"]["nginx"].as_array().unwrap().len(), 3);
        assert_eq!(v["scenarios"][0]["failures"]["haproxy"], "gone");
    }
    #[test]
    fn what_is_read_again_makes_the_same_report() {
        let mut all = results(runs(8.0, 0));
        all.outcomes[0].failures.push(("haproxy", "gone".into()));
        let again = parse(&json(&all)).unwrap();
        assert_eq!(json(&again), json(&all));
        assert_eq!(crate::report::markdown(&again), crate::report::markdown(&all));
        assert!(parse("{}").is_err());
    }
}
