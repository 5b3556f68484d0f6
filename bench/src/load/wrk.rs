//! wrk, pinned, with a script that says its figures as one line of JSON.

use std::fs;

use anyhow::{Context, Result};

use super::{Load, OPENSSL_CONF, Order, read};
use crate::{
    peers::Wire,
    process::{self, Launch},
    scenario::Scenario,
};

/// Says the figures. Defining `done` alone keeps wrk's request static and its answers unparsed by Lua.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'BENCH {"requests":%d,"bytes":%d,"us":%d,"p50":%d,"p99":%d,"p999":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect, e.read, e.write, e.timeout, e.status))
end
"#;

/// Asks 4,096 routes in turn, spread over all of them; what is sent was made before.
const MANY_ROUTES: &str = r#"
local made, at = {}, 0
init = function(args)
  for i = 1, 4096 do
    local n = (i * 7919) % (HOSTS * HOSTS)
    local host = string.format("h%d.example", math.floor(n / HOSTS))
    made[i] = wrk.format("GET", string.format("/r/%d", n % HOSTS) .. wrk.path, { Host = host })
  end
end
request = function()
  at = at % 4096 + 1
  return made[at]
end
"#;

/// Loads the target for some seconds.
pub fn run(order: &Order) -> Result<Load> {
    let Order { scenario: s, target, seconds, cores, dir, .. } = *order;
    let script = dir.join(format!("{}.lua", s.name));
    fs::write(&script, text(s))?;
    let wrk = process::find("wrk").context("wrk is not installed (Debian package wrk)")?;
    let mut launch = Launch::new(wrk, ["--latency", "--timeout", "10s", "--threads", "1"]);
    launch.args.extend(["--connections".into(), s.work.connections.to_string().into()]);
    launch.args.extend(["--duration".into(), format!("{seconds}s").into()]);
    launch.args.extend(["--script".into(), script.into()]);
    for header in s.headers {
        launch.args.extend(["--header".into(), (*header).into()]);
    }
    let scheme = if s.work.wire == Wire::Tls { "https" } else { "http" };
    if s.work.wire == Wire::Tls {
        let file = dir.join("openssl.cnf");
        fs::write(&file, OPENSSL_CONF)?;
        launch.environment("OPENSSL_CONF", file);
    }
    launch.args.push(format!("{scheme}://{target}{}", s.path).into());
    read(&process::run(&launch, cores, order.deadline())?)
}

fn text(s: &Scenario) -> String {
    let body = match s.upload {
        0 => String::new(),
        n => format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {n})\n"),
    };
    let routes = match s.work.hosts {
        0 => String::new(),
        n => format!("local HOSTS = {n}\n{MANY_ROUTES}"),
    };
    body + &routes + SCRIPT
}
