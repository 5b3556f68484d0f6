//! The cache's conformance rows through the real binary: all that need no waiting. The rules behind them are tested with
//! time passed in, where the rows stand (`crates/cache/tests/conformance`).

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Setup,
    client::{empty, full},
    token,
};
use rows::{Row, Step};

#[path = "../../../crates/cache/tests/conformance/rows.rs"]
#[allow(dead_code)]
mod rows;

/// What the origin answers next.
#[derive(Default)]
struct Script {
    lines: Vec<String>,
    answers: u32,
}

/// Needs time to pass, what only a configuration of paths shows, or what the gateway does not let through.
fn is_for_binary(row: &Row) -> bool {
    let waits = row.exchanges().iter().any(|step| step.after > 1 || step.delay > 0 || step.then == "stale");
    let lines = || row.exchanges().into_iter().flat_map(|step| [step.ask, step.origin]).flatten();
    let is_odd = |line: &String| {
        line.contains(": @")
            || line.starts_with(":scheme")
            || line.starts_with("X-Forwarded")
            || line.contains("M-SEARCH")
    };
    let dated = lines().any(|line| line.starts_with("Date:") || line.starts_with("Last-Modified:"));
    let about_paths = ["lifetimes", "never", "max_object"].iter().any(|key| row.policy.contains_key(*key));
    let locates = lines().any(|line| line.contains("Location: "));
    // Here the token comes by a field of its own, so that what stands in `Authorization` is another's credentials.
    let two = lines().any(|line| line.starts_with(":claims")) && lines().any(|line| line.starts_with("Auth"));
    // With a lifetime of a second, the second may be over.
    let short = lines().any(|line| line.contains("max-age=1") && !line.contains("max-age=10"));
    !(waits || two || dated || about_paths || locates || short || lines().any(|line| is_odd(&line)))
}

fn table(row: &Row) -> String {
    let mut policy = row.policy.clone();
    policy.insert("enabled".into(), true.into());
    for key in
        ["default_lifetime", "min_lifetime", "max_lifetime", "stale_while_revalidate", "stale_if_error"]
    {
        if let Some(seconds) = policy.get(key).and_then(toml::Value::as_integer) {
            policy.insert(key.into(), format!("{seconds}s").into());
        }
    }
    toml::Value::Table(policy).to_string()
}

fn pseudo<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn fields(lines: &[String]) -> impl Iterator<Item = (&str, &str)> {
    let plain = lines.iter().filter(|line| !line.starts_with(':'));
    plain.map(|line| line.split_once(':').map_or((line.as_str(), ""), |(name, value)| (name, value.trim())))
}

fn reply(script: &mut Script) -> Response<portcullis_e2e::client::Body> {
    script.answers += 1;
    let status: u16 = pseudo(&script.lines, ":status").map_or(200, |code| code.parse().unwrap());
    let body = pseudo(&script.lines, ":body").map_or(format!("body {}", script.answers), str::to_owned);
    let mut reply = Response::builder().status(status);
    for (name, value) in fields(&script.lines) {
        reply = reply.header(name, value);
    }
    let bodyless = matches!(status, 204 | 304);
    reply.body(if bodyless { empty() } else { full(body) }).unwrap()
}

/// What must have become of one exchange.
async fn exchange(
    client: &mut Client,
    number: usize,
    step: &Step,
    script: &Mutex<Script>,
) -> Result<(), String> {
    let before = {
        let mut script = script.lock().unwrap();
        script.lines.clone_from(&step.origin);
        script.answers
    };
    let path = format!("/r{number}{}", pseudo(&step.ask, ":path").unwrap_or("/thing"));
    let mut request = Request::builder().method(pseudo(&step.ask, ":method").unwrap_or("GET")).uri(path);
    request = request.header("host", pseudo(&step.ask, ":host").unwrap_or("example.com"));
    for (name, value) in fields(&step.ask) {
        request = request.header(name, value);
    }
    if let Some(claims) = pseudo(&step.ask, ":claims") {
        let mut claims: serde_json::Value = serde_json::from_str(claims).unwrap();
        claims["id"] = claims.get("sub").cloned().unwrap_or("x".into());
        request = request.header("x-token", token::hs256("secret", claims));
    }
    let answer = client.try_fetch(request.body(empty()).unwrap()).await.map_err(|error| error.to_string())?;
    let asked = script.lock().unwrap().answers > before;
    let said = answer.all("cache-status").last().copied().unwrap_or_default().to_owned();
    let holds = match step.then.as_str() {
        "" => true,
        "fetched" => asked && !said.contains("fwd-status=304"),
        "reused" => !asked,
        "revalidated" => asked && said.contains("fwd-status=304"),
        code => code.parse() == Ok(answer.status),
    };
    if !holds || said.is_empty() {
        return Err(format!("expected {}, got {} asked={asked} {said}", step.then, answer.status));
    }
    step.is_said(&said, false)?;
    for (name, value) in fields(&step.has).filter(|(name, _)| !name.eq_ignore_ascii_case("age")) {
        if !answer.all(name).iter().any(|own| value.is_empty() || *own == value) {
            return Err(format!("no {name}: {value} in {:?}", answer.headers));
        }
    }
    for (name, value) in fields(&step.lacks) {
        if answer.all(name).iter().any(|own| value.is_empty() || *own == value) {
            return Err(format!("{name}: {value} in {:?}", answer.headers));
        }
    }
    let numbered = step.body.as_ref().filter(|body| !body.starts_with("body ") && *body != "whole");
    match numbered {
        Some(body) if answer.text() != *body => Err(format!("the body is {:?}", answer.text())),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn every_row_that_needs_no_waiting() {
    let rows: Vec<Row> = rows::all().into_iter().filter(is_for_binary).collect();
    assert!(rows.len() >= 120, "{} rows", rows.len());
    let script: Arc<Mutex<Script>> = Arc::default();
    let answering = script.clone();
    let app = Endpoint::with(move |_| reply(&mut answering.lock().unwrap())).await;
    let mut text = String::from(
        "[services.app]\nendpoints = [\"{app}\"]\n\
         [middlewares.known.jwt]\nsecret = \"secret\"\nheader = \"X-Token\"\noptional = true\nsubject = \"id\"\n",
    );
    for (number, row) in rows.iter().enumerate() {
        let table = table(row);
        text.push_str(&format!(
            "[[routes]]\npath = \"/r{number}/*\"\nservice = \"app\"\nmiddlewares = [\"known\"]\ncache = {table}\n"
        ));
    }
    let gateway = Setup::new(&text).set("app", app.url()).start().await;
    let mut client = Client::h1(gateway.addr()).await;
    let mut broken = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        for (at, step) in row.exchanges().iter().enumerate() {
            if client.is_closed() {
                client = Client::h1(gateway.addr()).await;
            }
            if let Err(why) = exchange(&mut client, number, step, &script).await {
                broken.push(format!("{}, exchange {}: {why}", row.rule, at + 1));
                break;
            }
        }
    }
    assert!(broken.is_empty(), "{} of {} rows:\n{}", broken.len(), rows.len(), broken.join("\n"));
}
