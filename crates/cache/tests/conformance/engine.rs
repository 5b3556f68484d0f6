//! A cache of one process without sockets: the rules, a list of objects, and a clock that is set.

use bytes::Bytes;
use http::{Method, StatusCode};
use portcullis_cache::{
    Ask, Bypass, Forwarded, Object, Outcome, Policy, Refusal, Verdict, admit,
    admit::Received,
    ask::is_unsafe,
    date,
    directives::Flag,
    invalidate, judge,
    judge::{is_failure, may_on_error},
    key::write_key,
    pattern::Pattern,
    policy::{KeyParts, QueryParts},
    present::present,
    status::ON_ERROR,
    validate,
    vary::{Vary, write_variant},
};
use portcullis_core::{Answer, Body, Exchange, Fields, Request, exchange::Identity};

use super::rows::{Row, Step};

/// The cache.
pub struct Engine {
    policy: Policy,
    stored: Vec<Object>,
    now: u64,
    /// When the origin was asked last.
    asked: u64,
    /// How often the origin answered.
    fetches: u32,
}

/// What one exchange came to.
struct Came {
    answer: Answer,
    outcome: Outcome,
    /// What the origin was asked with.
    asked: Option<Request>,
    background: bool,
}

const START: u64 = 1_700_000_000;

impl Engine {
    pub fn new(row: &Row) -> Engine {
        Engine { policy: policy(&row.policy), stored: Vec::new(), now: START, asked: START, fetches: 0 }
    }

    pub fn run(&mut self, row: &Row) -> Result<(), String> {
        for (number, step) in row.exchanges().iter().enumerate() {
            self.now += step.after;
            let came = self.exchange(step);
            check(&came, step).map_err(|why| format!("exchange {}: {why}", number + 1))?;
        }
        Ok(())
    }

    fn exchange(&mut self, step: &Step) -> Came {
        let mut x = request(&step.ask);
        let ask = match Ask::of(&x.request, &self.policy) {
            Ok(ask) => ask,
            Err(bypass) => return self.pass(step, &mut x, bypass),
        };
        let mut key = Vec::new();
        write_key(&mut key, &x, &self.policy.key);
        let found = self.find(&key, &x.request.fields);
        if let Some(object) = &found {
            let verdict = judge(&object.times, &ask.directives, self.now);
            if verdict != Verdict::Revalidate {
                let answer = present(object, &x.request.fields, ask.is_head, self.now);
                let background = verdict == Verdict::WhileRevalidate;
                let mut outcome = Outcome::hit(object.times.ttl(self.now));
                let mut asked = None;
                if background {
                    let came = self.fetch(step, &x, &key, Some(object.clone()), &ask);
                    asked = came.asked;
                    outcome.origin_status = None;
                }
                return Came { answer, outcome, asked, background };
            }
        }
        if ask.directives.has(Flag::OnlyIfCached) {
            let answer = Answer::new(StatusCode::GATEWAY_TIMEOUT, "cache");
            let outcome = Outcome::forwarded(Forwarded::Request).because("only-if-cached");
            return Came { answer, outcome, asked: None, background: false };
        }
        let why = self.why(&key, found.as_ref());
        if ask.is_head || (ask.has_range && found.is_none()) {
            let (answer, asked) = self.origin(step, &x.request);
            if let Some(object) = found.filter(|_| ask.is_head && answer.status == StatusCode::OK)
                && !validate::head_agrees(&object, &answer.fields)
            {
                self.stored.retain(|other| other.key() != object.key());
            }
            let outcome = Outcome::forwarded(why).because(if ask.is_head { "head" } else { "range" });
            return Came { answer, outcome, asked: Some(asked), background: false };
        }
        self.fetch(step, &x, &key, found, &ask)
    }

    fn pass(&mut self, step: &Step, x: &mut Exchange, bypass: Bypass) -> Came {
        let (answer, asked) = self.origin(step, &x.request);
        if is_unsafe(&x.request.method) {
            for uri in invalidate::targets(x, answer.status, &answer.fields) {
                self.stored.retain(|object| object.uri() != uri);
            }
        }
        let outcome = match bypass {
            Bypass::Method => Outcome::forwarded(Forwarded::Method),
            bypass => Outcome::forwarded(Forwarded::Bypass).because(bypass.as_str()),
        };
        Came { answer, outcome, asked: Some(asked), background: false }
    }

    fn why(&self, key: &[u8], found: Option<&Object>) -> Forwarded {
        match found {
            Some(object) if object.times.always_revalidate => Forwarded::Stale,
            Some(object) if object.times.ttl(self.now) > 0 => Forwarded::Request,
            Some(_) => Forwarded::Stale,
            None if self.stored.iter().any(|object| object.key() == key) => Forwarded::VaryMiss,
            None => Forwarded::UriMiss,
        }
    }

    /// The newest that is for such a request.
    fn find(&self, key: &[u8], request: &Fields) -> Option<Object> {
        let is_for = |object: &&Object| {
            let Vary::Names(names) = Vary::of_object(object) else { return false };
            let mut variant = Vec::new();
            write_variant(&names, request, &mut variant);
            object.key() == key && object.variant() == variant
        };
        self.stored.iter().rev().find(is_for).cloned()
    }

    fn fetch(&mut self, step: &Step, x: &Exchange, key: &[u8], stale: Option<Object>, ask: &Ask) -> Came {
        let mut request = x.request.twin();
        match &stale {
            Some(object) => {
                validate::ask_for_news(&mut request.fields, object);
            }
            None => validate::ask_for_all(&mut request.fields),
        }
        let (mut answer, asked) = self.origin(step, &request);
        let mut outcome = Outcome::forwarded(self.why(key, stale.as_ref()));
        if let Some(object) = stale.clone() {
            if answer.status == StatusCode::NOT_MODIFIED && validate::is_about(&object, &answer.fields) {
                let fields = validate::freshened(&object, &answer.fields);
                let kept = self.keep(x, key, object.status, &fields, object.body());
                outcome.origin_status = Some(304);
                outcome.stored = kept.is_ok();
                let object = kept.unwrap_or_else(|_| object.with_head(&fields, object.times).unwrap());
                outcome.ttl = Some(object.times.ttl(self.now));
                let answer = present(&object, &x.request.fields, ask.is_head, self.now);
                return Came { answer, outcome, asked: Some(asked), background: false };
            }
            if answer.status == StatusCode::NOT_MODIFIED {
                let mut plain = x.request.twin();
                validate::ask_for_all(&mut plain.fields);
                let all = Step { origin: vec![":body whole".into()], ..step.clone() };
                answer = self.origin(&all, &plain).0;
            } else if is_failure(answer.status.as_u16())
                && may_on_error(&object.times, &ask.directives, self.now)
            {
                outcome = outcome.because(ON_ERROR);
                outcome.origin_status = Some(answer.status.as_u16());
                let answer = present(&object, &x.request.fields, ask.is_head, self.now);
                return Came { answer, outcome, asked: Some(asked), background: false };
            }
        }
        let body = match &answer.body {
            Body::Full(body) => body.clone(),
            _ => Bytes::new(),
        };
        let kept = self.keep(x, key, answer.status, &answer.fields, body);
        match &kept {
            Ok(object) => (outcome.stored, outcome.ttl) = (true, Some(object.times.ttl(self.now))),
            Err(refusal) => outcome = outcome.because(refusal.as_str()),
        }
        if kept.is_err() && !answer.status.is_server_error() && stale.is_some() {
            self.stored.retain(|object| object.key() != key);
        }
        let answer = match kept {
            Ok(object) => present(&object, &x.request.fields, ask.is_head, self.now),
            Err(_) => answer,
        };
        Came { answer, outcome, asked: Some(asked), background: false }
    }

    fn keep(
        &mut self,
        x: &Exchange,
        key: &[u8],
        status: StatusCode,
        fields: &Fields,
        body: Bytes,
    ) -> Result<Object, Refusal> {
        let received =
            Received { status, fields, length: Some(body.len() as u64), asked: self.asked, now: self.now };
        let admission = admit(&self.policy, &x.request, x.identity(), &received)?;
        let mut variant = Vec::new();
        write_variant(&admission.vary, &x.request.fields, &mut variant);
        let mut fields = fields.clone();
        fields.remove("age");
        admission.without.iter().for_each(|name| {
            fields.remove(name);
        });
        let object = Object::new(key, &variant, status, &fields, &[body], admission.times);
        let object = object.ok_or(Refusal::TooLarge)?;
        self.stored.retain(|other| other.key() != key || other.variant() != variant);
        self.stored.push(object.clone());
        Ok(object)
    }

    /// The origin's answer: a 304 when it is asked whether something is new, and the row says so.
    fn origin(&mut self, step: &Step, request: &Request) -> (Answer, Request) {
        self.fetches += 1;
        self.asked = self.now;
        self.now += step.delay;
        let mut answer = Answer::new(StatusCode::OK, "origin");
        let mut body = format!("body {}", self.fetches);
        let mut dated = false;
        for line in &step.origin {
            let (name, value) = split(line);
            let value = self.dates(&value);
            match name.as_str() {
                ":status" => answer.status = value.parse().unwrap(),
                ":body" => body = value,
                _ => {
                    dated |= name.eq_ignore_ascii_case("date");
                    if !(name.eq_ignore_ascii_case("date") && value == "none") {
                        answer.fields.append(&name, value);
                    }
                }
            }
        }
        if !dated {
            answer.fields.append("Date", date::format(self.now));
        }
        let is_bodyless = request.method == Method::HEAD || matches!(answer.status.as_u16(), 204 | 304);
        answer.body = if is_bodyless { Body::Empty } else { Body::from(body) };
        (answer, request.twin())
    }

    /// `@-60` is the date a minute before this exchange, `@0` now.
    fn dates(&self, value: &str) -> String {
        match value.strip_prefix('@').and_then(|offset| offset.parse::<i64>().ok()) {
            Some(offset) => date::format(self.now.checked_add_signed(offset).unwrap()),
            None => value.to_owned(),
        }
    }
}

fn check(came: &Came, step: &Step) -> Result<(), String> {
    let status = came.answer.status.as_u16();
    let asked = came.asked.is_some();
    let confirmed = came.outcome.origin_status == Some(304);
    let on_error = came.outcome.detail == Some(ON_ERROR);
    let holds = match step.then.as_str() {
        "" => true,
        "fetched" => asked && !confirmed && !on_error && !came.background,
        "reused" => !asked,
        "revalidated" => asked && confirmed,
        "refreshed" => came.background,
        "stale" => on_error || (!asked && came.outcome.ttl.is_some_and(|ttl| ttl <= 0)),
        code => code.parse() == Ok(status) && !came.background,
    };
    if !holds {
        return Err(format!(
            "expected {}, got {status} {:?} (origin asked: {asked})",
            step.then, came.outcome
        ));
    }
    let mut said = Vec::new();
    came.outcome.write("gw", &mut said);
    step.is_said(&String::from_utf8_lossy(&said), true)?;
    let in_fields = |fields: &Fields, line: &str| {
        let (name, value) = split(line);
        fields.get_all(&name).any(|own| !line.contains(':') || own == value.as_bytes())
    };
    for line in &step.has {
        if !in_fields(&came.answer.fields, line) {
            return Err(format!("the answer lacks `{line}`: {:?}", came.answer.fields));
        }
    }
    for line in &step.lacks {
        if in_fields(&came.answer.fields, line) {
            return Err(format!("the answer has `{line}`: {:?}", came.answer.fields));
        }
    }
    if let Some(expected) = &step.body {
        let body = match &came.answer.body {
            Body::Full(body) => String::from_utf8_lossy(body).into_owned(),
            _ => String::new(),
        };
        if body != *expected {
            return Err(format!("the body is {body:?}"));
        }
    }
    let none = Fields::new();
    let request = came.asked.as_ref().map_or(&none, |request| &request.fields);
    for line in &step.sent {
        if !in_fields(request, line) {
            return Err(format!("the origin was not asked with `{line}`: {request:?}"));
        }
    }
    for line in &step.unsent {
        if in_fields(request, line) {
            return Err(format!("the origin was asked with `{line}`: {request:?}"));
        }
    }
    Ok(())
}

fn split(line: &str) -> (String, String) {
    let (pseudo, rest) = line.strip_prefix(':').map_or(("", line), |rest| (":", rest));
    let (name, value) = if pseudo.is_empty() {
        rest.split_once(':').unwrap_or((rest, ""))
    } else {
        rest.split_once(' ').unwrap_or((rest, ""))
    };
    (format!("{pseudo}{}", name.trim()), value.trim().to_owned())
}

fn request(lines: &[String]) -> Exchange {
    let mut method = Method::GET;
    let (mut target, mut host, mut fields) = ("/thing".to_owned(), "example.com".to_owned(), Fields::new());
    let (mut secure, mut identity) = (false, None);
    for line in lines {
        let (name, value) = split(line);
        match name.as_str() {
            ":method" => method = Method::from_bytes(value.as_bytes()).unwrap(),
            ":path" => target = value,
            ":host" => host = value,
            ":scheme" => secure = value == "https",
            ":claims" => {
                let claims = serde_json::from_str(&value).unwrap();
                let by_authorization = true;
                let claims: serde_json::Map<_, _> = claims;
                let subject = claims.get("sub").and_then(|sub| sub.as_str()).unwrap_or("x").into();
                identity = Some(Identity { subject, by: "test", by_authorization, claims });
            }
            _ => {
                let value = match value.strip_prefix('@').and_then(|offset| offset.parse::<i64>().ok()) {
                    Some(offset) => date::format(START.checked_add_signed(offset).unwrap()),
                    None => value,
                };
                fields.append(&name, value);
            }
        }
    }
    let mut request = Request::with_fields(method, fields);
    let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    request.arrive(path, query);
    request.set_authority(&host);
    let mut x = Exchange::for_test(request);
    x.secure = secure;
    identity.into_iter().for_each(|identity| x.identify(identity));
    x
}

/// The settings of a row, as the configuration names them, with times in seconds.
fn policy(table: &toml::Table) -> Policy {
    let number = |key: &str| table.get(key).and_then(toml::Value::as_integer).map(|n| n as u32);
    let flag = |key: &str, or: bool| table.get(key).and_then(toml::Value::as_bool).unwrap_or(or);
    let texts = |value: Option<&toml::Value>| -> Vec<String> {
        let list = value.and_then(toml::Value::as_array);
        list.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let patterns = |value| texts(value).iter().map(|text| Pattern::new(text)).collect::<Vec<_>>();
    let boxed = |value| texts(value).into_iter().map(String::into_boxed_str).collect::<Vec<_>>();
    let key = table.get("key").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let lifetimes = table.get("lifetimes").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let mut lifetimes: Vec<_> = lifetimes.into_iter().collect();
    lifetimes.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
    let query = match (key.get("query"), key.get("ignore_query")) {
        (Some(only), _) => QueryParts::only(patterns(Some(only))),
        (None, Some(without)) => QueryParts::Without(patterns(Some(without))),
        _ => QueryParts::All,
    };
    let standard = Policy::default();
    Policy {
        lifetimes: lifetimes
            .iter()
            .map(|(pattern, time)| (Pattern::new(pattern), time.as_integer().unwrap() as u32))
            .collect(),
        default_lifetime: number("default_lifetime"),
        force: flag("force", false),
        min_lifetime: number("min_lifetime").unwrap_or(0),
        max_lifetime: number("max_lifetime").unwrap_or(u32::MAX),
        heuristics: flag("heuristics", true),
        never: patterns(table.get("never")),
        key: KeyParts {
            identity: key.get("identity").and_then(toml::Value::as_bool).unwrap_or(false),
            headers: boxed(key.get("headers")),
            cookies: boxed(key.get("cookies")),
            claims: boxed(key.get("claims")),
            query,
            service: None,
        },
        stale_while_revalidate: number("stale_while_revalidate").unwrap_or(0),
        stale_if_error: number("stale_if_error").unwrap_or(0),
        in_need: number("in_need").unwrap_or(0),
        store_cookies: flag("store_cookies", false),
        ignore_request: flag("ignore_request_directives", false),
        errors: table
            .get("errors")
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|code| code.as_integer().map(|code| code as u16))
            .collect(),
        targeted: table.get("targeted").map_or(standard.targeted, |list| boxed(Some(list))),
        max_object: table.get("max_object").and_then(toml::Value::as_integer).map_or(8 << 20, |n| n as u64),
    }
}
