//! Every single run as JSON, and what was checked before them.

use serde_json::{Map, Value, json};

use crate::compare::{Results, Run};

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
        "machine": results.machine.json(),
        "seconds": results.seconds,
        "rounds": results.rounds,
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
        "p999_ms": l.p999,
        "peak_memory_mb": run.memory,
        "resting_memory_mb": run.resting,
        "kib_per_connection": run.per_connection,
        "unlogged": run.unlogged,
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
    use crate::report::sample::{results, runs};

    #[test]
    fn the_raw_data_is_json_with_every_run() {
        let mut all = results(runs(8.0, 0));
        all.outcomes[0].failures.push(("haproxy", "gone".into()));
        let v: Value = serde_json::from_str(&json(&all)).unwrap();
        assert_eq!(v["scenarios"][0]["runs"]["nginx"].as_array().unwrap().len(), 3);
        assert_eq!(v["scenarios"][0]["failures"]["haproxy"], "gone");
    }
}
