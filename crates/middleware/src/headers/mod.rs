//! `headers`: sets, adds and removes fields of requests and answers, and sends security fields.

mod edits;
mod hosts;
mod security;

use std::sync::Arc;

use portcullis_core::{
    Answer, Done, Error, Exchange, Flow, Kind, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::Strings;
use edits::{EditSettings, Edits};
use hosts::AllowedHosts;
use security::Security;

/// Settings of `headers`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// Edits of the request's fields.
    #[serde(default)]
    pub request: EditSettings,
    /// Edits of the answer's fields.
    #[serde(default)]
    pub response: EditSettings,
    /// The host that the service is told the request is for, in place of the client's.
    pub host: Option<String>,
    /// Hosts that requests may be for; others are refused (421). `*.example.com` stands for all names below.
    #[serde(default)]
    pub allowed_hosts: Strings,
    /// Send `Strict-Transport-Security` with this many seconds, over TLS.
    pub sts_seconds: Option<u64>,
    /// `Strict-Transport-Security` also for all names below the host.
    #[serde(default)]
    pub sts_include_subdomains: bool,
    /// Ask browsers to put the host on the list they ship with.
    #[serde(default)]
    pub sts_preload: bool,
    /// Send `Strict-Transport-Security` over plaintext too (browsers ignore it there).
    #[serde(default)]
    pub force_sts: bool,
    /// Send `X-Frame-Options: DENY`.
    #[serde(default)]
    pub frame_deny: bool,
    /// The value of `X-Frame-Options`, such as `SAMEORIGIN`; it goes before `frame_deny`.
    pub frame_options: Option<String>,
    /// Send `X-Content-Type-Options: nosniff`.
    #[serde(default)]
    pub content_type_nosniff: bool,
    /// Send `X-XSS-Protection: 1; mode=block`, for browsers of long ago.
    #[serde(default)]
    pub xss_filter: bool,
    /// The value of `Content-Security-Policy`.
    pub content_security_policy: Option<String>,
    /// The value of `Content-Security-Policy-Report-Only`.
    pub content_security_policy_report_only: Option<String>,
    /// The value of `Referrer-Policy`.
    pub referrer_policy: Option<String>,
    /// The value of `Permissions-Policy`.
    pub permissions_policy: Option<String>,
}

struct Edit {
    request: Edits,
    response: Edits,
    host: Option<String>,
    allowed_hosts: Option<AllowedHosts>,
    security: Security,
    needs_id: bool,
}

impl MiddlewareKind for Headers {
    const NAME: &'static str = "headers";
    const SUMMARY: &'static str =
        "Sets, adds and removes header fields of requests and answers, and sends security fields.";
    const EXAMPLE: &'static str = r#"sts_seconds = 31536000
content_type_nosniff = true
request.set.X-Client = "{client_ip}"
request.remove = ["X-Debug"]
response.add.Server-Timing = "gateway"
response.remove = ["X-Powered-By"]"#;

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        if let Some(host) = &self.host {
            hosts::authority("host", host)?;
        }
        let request = Edits::compile("request", &self.request)?;
        let response = Edits::compile("response", &self.response)?;
        let needs_id = request.need_id() || response.need_id();
        let allowed_hosts = AllowedHosts::compile(&self.allowed_hosts)?;
        let security = Security::compile(&self)?;
        Ok(Arc::new(Edit { request, response, host: self.host, allowed_hosts, security, needs_id }))
    }
}

impl Middleware for Edit {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        if self.allowed_hosts.as_ref().is_some_and(|hosts| !hosts.contains(x.request.host())) {
            return Err(Error::because(Kind::Misdirected, "allowed_hosts"));
        }
        if self.needs_id {
            x.id_or_new();
        }
        self.request.apply_to_request(x);
        // Last, so that `{host}` above is the client's.
        if let Some(host) = &self.host {
            x.request.set_authority(host);
        }
        Ok(Flow::Next)
    }

    fn on_response<'a>(&'a self, x: &'a mut Exchange, answer: &'a mut Answer) -> Result<Done<'a>, Error> {
        for line in &self.security.lines {
            answer.fields.set_line(line);
        }
        if let Some(line) = &self.security.transport
            && (x.secure || self.security.force_transport)
        {
            answer.fields.set_line(line);
        }
        // After the security fields: what is written out goes before a switch.
        self.response.apply_to(answer, x);
        Ok(Done::Now)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{build, problem, request, told};
    use http::StatusCode;
    use portcullis_core::{Answer, Exchange, Kind};
    use serde_json::{Value, json};

    fn written(fields: &portcullis_core::Fields) -> String {
        let mut out = Vec::new();
        fields.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Request and answer after the middleware, as they go out.
    fn both(settings: Value, x: &mut Exchange) -> (String, String) {
        let headers = build("headers", settings);
        ["A: 1", "B: 1", "a: 2"].iter().for_each(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            x.request.fields.append(name, value);
        });
        headers.on_request(x).unwrap();
        let mut answer = Answer::new(StatusCode::OK, "test");
        answer.fields = [("Server", "x"), ("X-Powered-By", "y")].into_iter().collect();
        told(&headers, x, &mut answer);
        (written(&x.request.fields), written(&answer.fields))
    }

    #[test]
    fn remove_then_set_then_add() {
        let (sent, got) = both(
            json!({
                "request": {"remove": ["b"], "set": {"A": "3", "C": ["4", "5"]}, "add": {"B": "6", "A": "7"}},
                "response": {"remove": "x-powered-by", "set": {"Server": "gate"}, "add": {"Set-Cookie": ["a", "b"]}},
            }),
            &mut request("/"),
        );
        assert_eq!(sent, "A: 3\r\nC: 4\r\nC: 5\r\nA: 7\r\nB: 6\r\n");
        assert_eq!(got, "Server: gate\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n");
    }

    #[test]
    fn values_of_the_request() {
        let mut x = request("/");
        x.route = "orders".into();
        let (sent, got) = both(
            json!({
                "request": {"remove": ["A", "B"], "set": {"X-From": "{client_ip} {host}"}},
                "response": {"remove": ["Server", "X-Powered-By"], "set": {"X-Route": "{route} {request_id}"}},
                "host": "Inner.example:81",
            }),
            &mut x,
        );
        assert_eq!(sent, "X-From: 127.0.0.1 shop.example\r\n");
        assert_eq!(got, format!("X-Route: orders {}\r\n", x.id.as_deref().unwrap()));
        assert_eq!((x.request.authority(), x.request.host()), ("inner.example:81", "inner.example"));
    }

    #[test]
    fn security_fields() {
        let settings = json!({
            "response": {"remove": ["Server", "X-Powered-By"], "set": {"Referrer-Policy": "origin"}},
            "sts_seconds": 9, "sts_include_subdomains": true, "sts_preload": true,
            "frame_deny": true, "content_type_nosniff": true, "xss_filter": true,
            "content_security_policy": "default-src 'self'", "content_security_policy_report_only": "a",
            "referrer_policy": "no-referrer", "permissions_policy": "camera=()",
        });
        let plain = "X-Frame-Options: DENY\r\nX-Content-Type-Options: nosniff\r\nX-XSS-Protection: 1; mode=block\r\n\
            Content-Security-Policy: default-src 'self'\r\nContent-Security-Policy-Report-Only: a\r\n\
            Permissions-Policy: camera=()\r\n";
        let transport = "Strict-Transport-Security: max-age=9; includeSubDomains; preload\r\n";
        let last = "Referrer-Policy: origin\r\n";
        assert_eq!(both(settings.clone(), &mut request("/")).1, format!("{plain}{last}"));
        let mut secure = request("/");
        secure.secure = true;
        assert_eq!(both(settings, &mut secure).1, format!("{plain}{transport}{last}"));
        let forced =
            json!({"sts_seconds": 0, "force_sts": true, "frame_deny": true, "frame_options": "SAMEORIGIN"});
        let got = both(forced, &mut request("/")).1;
        assert!(
            got.ends_with("X-Frame-Options: SAMEORIGIN\r\nStrict-Transport-Security: max-age=0\r\n"),
            "{got}"
        );
    }

    #[test]
    fn other_hosts_are_refused() {
        let headers = build("headers", json!({"allowed_hosts": ["other.example"]}));
        assert_eq!(headers.on_request(&mut request("/")).err().unwrap().kind, Kind::Misdirected);
        let headers = build("headers", json!({"allowed_hosts": "shop.example"}));
        assert!(headers.on_request(&mut request("/")).is_ok());
    }

    #[test]
    fn settings_are_judged() {
        let path = |settings| problem("headers", settings).path;
        assert_eq!(path(json!({"request": {"set": {"a b": "x"}}})), "request.set.a b");
        assert_eq!(path(json!({"request": {"set": {"A": "x\r\ny: z"}}})), "request.set.A");
        assert_eq!(path(json!({"response": {"add": {"A": "{nope}"}}})), "response.add.A");
        assert_eq!(path(json!({"request": {"set": {"A": []}}})), "request.set.A");
        assert_eq!(path(json!({"request": {"set": {"A": 7}}})), "request.set.A");
        assert_eq!(path(json!({"request": {"remove": ["a", ""]}})), "request.remove[1]");
        assert_eq!(
            path(json!({"request": {"set": {"Transfer-Encoding": "x"}}})),
            "request.set.Transfer-Encoding"
        );
        assert_eq!(path(json!({"sts_preload": true})), "sts_preload");
        assert_eq!(path(json!({"referrer_policy": ""})), "referrer_policy");
        assert_eq!(path(json!({"host": "a b"})), "host");
        let host = problem("headers", json!({"request": {"set": {"Host": "a"}}}));
        assert_eq!((host.path.as_str(), host.help.is_some()), ("request.set.Host", true));
    }
}
