//! Caddy, from Debian's package. It is configured in its JSON, which is what its own file becomes too.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{ANSWER_FIELD, BODY_LIMIT, KEPT, ORIGIN, Peer, Role, Site, Wire, route_host, route_path};
use crate::process::{Launch, find};

/// Caddy's row.
pub const PEER: Peer = Peer {
    name: "caddy",
    role: Role::Other,
    supervised: false,
    caches: false,
    no_http3: None,
    version,
    launch,
};

fn program() -> Result<PathBuf> {
    find("caddy").context("Caddy is not installed (Debian package caddy)")
}

fn version(_: &Site) -> Result<String> {
    // `2.6.2`, or `v2.6.2 h1:…` from the project itself.
    let output = Command::new(program()?).arg("version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().next().unwrap_or("unknown").trim_start_matches('v').to_owned())
}

fn launch(site: &Site) -> Result<Launch> {
    let file = site.dir.join("caddy.json");
    fs::write(&file, format!("{:#}\n", configuration(site)))?;
    let mut launch = Launch::new(program()?, ["run", "--config"]);
    launch.args.push(file.into());
    // The scheduler's threads; those of the kernel it waits in are beside them, but pinned to the same cores.
    launch.environment("GOMAXPROCS", site.workers.to_string());
    // It writes the configuration that ran last below these.
    launch.environment("XDG_CONFIG_HOME", &site.dir);
    launch.environment("XDG_DATA_HOME", &site.dir);
    Ok(launch)
}

fn configuration(site: &Site) -> Value {
    let work = &site.work;
    let mut server = json!({
        "listen": [site.listen.to_string()],
        "routes": routes(site),
        "automatic_https": { "disable": true },
        "metrics": {},
        "protocols": match work.wire {
            Wire::Plain | Wire::Tls => json!(["h1", "h2"]),
            Wire::Quic => json!(["h1", "h2", "h3"]),
            Wire::H2c => json!(["h1", "h2c"]),
        },
        "idle_timeout": "75s",
    });
    let mut apps = json!({});
    let mut logs = json!({ "default": { "level": "WARN", "exclude": ["http.log.access"] } });
    if work.everything {
        logs["access"] = json!({
            "writer": { "output": "file", "filename": site.access_log(), "roll": false },
            "encoder": { "format": "json" },
            "include": ["http.log.access"],
        });
        server["logs"] = json!({});
    }
    if work.wire.is_secure() {
        let pair = json!({ "certificate": site.certificate.chain, "key": site.certificate.key });
        apps["tls"] = json!({ "certificates": { "load_files": [pair] } });
        server["tls_connection_policies"] =
            json!([{ "default_sni": "bench.example", "protocol_min": "tls1.3" }]);
    }
    apps["http"] = json!({ "servers": { "bench": server } });
    json!({ "admin": { "listen": site.admin.to_string() }, "logging": { "logs": logs }, "apps": apps })
}

/// Many routes are a group for the hosts with a group for the paths in each, which only name the route; one
/// `reverse_proxy` behind them all does the rest, so that there is one pool of connections.
fn routes(site: &Site) -> Value {
    let hosts = site.work.hosts;
    let mut out = Vec::new();
    for host in 0..hosts {
        let paths: Vec<Value> = (0..hosts)
            .map(|path| {
                json!({
                    "group": "paths",
                    "match": [{ "path": [format!("{}*", route_path(path))] }],
                    "handle": [{ "handler": "vars", "route": format!("r{host}-{path}") }],
                })
            })
            .collect();
        out.push(json!({
            "group": "hosts",
            "match": [{ "host": [route_host(host)] }],
            "handle": [{ "handler": "subroute", "routes": paths }],
        }));
    }
    if site.work.everything {
        out.push(json!({
            "match": [{ "header": { "Origin": [ORIGIN] } }],
            "handle": [{
                "handler": "headers",
                "response": { "set": { "Access-Control-Allow-Origin": [ORIGIN] }, "deferred": true },
            }],
        }));
        out.push(json!({ "handle": [{ "handler": "request_body", "max_size": BODY_LIMIT }] }));
    }
    let mut last = json!({ "handle": [fields(site), proxy(site)] });
    if hosts > 0 {
        // A variable that is not set reads `<nil>`.
        last["match"] = json!([{ "vars_regexp": { "route": { "pattern": "^r[0-9]" } } }]);
    }
    out.push(last);
    Value::Array(out)
}

/// Changes of the answer wait for it, as in the others: what the endpoint says must not win.
fn fields(site: &Site) -> Value {
    let (name, value) = ANSWER_FIELD;
    let mut request = json!({ "set": { "X-Request-Id": ["{http.request.uuid}"] } });
    let mut response = json!({ "set": { name: [value] }, "deferred": true });
    if site.work.everything {
        request["set"]["X-Env"] = json!(["bench"]);
        request["delete"] = json!(["X-Debug"]);
        response["set"]["X-Frame-Options"] = json!(["DENY"]);
        response["set"]["X-Content-Type-Options"] = json!(["nosniff"]);
        response["add"] = json!({ "Vary": ["Origin"] });
        response["delete"] = json!(["Server"]);
    }
    json!({ "handler": "headers", "request": request, "response": response })
}

fn proxy(site: &Site) -> Value {
    let versions = if site.work.wire == Wire::H2c { json!(["h2c", "2"]) } else { json!(["1.1"]) };
    let upstreams: Vec<Value> = site.endpoints.iter().map(|e| json!({ "dial": e.to_string() })).collect();
    json!({
        "handler": "reverse_proxy",
        "upstreams": upstreams,
        "load_balancing": { "selection_policy": { "policy": "round_robin" } },
        "transport": {
            "protocol": "http",
            "versions": versions,
            // It would ask the endpoint for gzip otherwise.
            "compression": false,
            "keep_alive": { "enabled": true, "max_idle_conns_per_host": KEPT, "idle_timeout": "60s" },
        },
    })
}
