//! What the gateway answers when it cannot pass an endpoint's answer on: problem details (RFC 9457), a small HTML page,
//! plain text or a gRPC status, as the client asked; with the request's id, the cause for machines (`Proxy-Status`,
//! RFC 9209), and when to ask again. Nothing in it tells an address or another detail of what lies behind the gateway.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use http::StatusCode;
use portcullis_config::model::{ErrorPage, StatusRange};
use portcullis_core::{
    Answer, Body, Error, Exchange, Fields, Kind, Known, Source, answer::Mapping, exchange::Violated,
};
use serde::Serialize;

use self::{
    own::OwnPage,
    text::{escape_html, escape_json, explanation, percent, structured_name, structured_string},
};

use crate::runtime::compile::ADMIN;

pub mod accept;
mod own;
mod text;

/// Bodies of the gateway's own errors, compiled.
#[derive(Debug)]
pub struct Pages {
    /// The gateway's name as an RFC 8941 item.
    name: Box<str>,
    /// Own pages, narrowest range first.
    own: Vec<(StatusRange, OwnPage)>,
}

/// What the bodies are made of.
struct Facts<'a> {
    status: StatusCode,
    title: &'static str,
    detail: &'static str,
    slug: &'static str,
    id: &'a str,
    violated: Option<&'a Violated>,
}

/// A problem document (RFC 9457 §3.1).
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: String,
    #[serde(rename = "violated-policies", skip_serializing_if = "<[_]>::is_empty")]
    violated: &'a [Arc<str>],
}

/// The registered types of problems that say which policies were violated (draft-ietf-httpapi-ratelimit-headers §6).
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const ABNORMAL_USAGE: &str = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected";
const PROBLEM: &str = "application/problem+json";
const JSON: &str = "application/json";
const HTML: &str = "text/html";
const TEXT: &str = "text/plain";

impl Pages {
    /// Prepares the own pages. A page for a single status wins over one for a class.
    pub fn compile(pages: &BTreeMap<StatusRange, ErrorPage>, gateway_name: &str) -> Pages {
        let mut own: Vec<(StatusRange, OwnPage)> =
            pages.iter().map(|(range, page)| (*range, OwnPage::compile(page))).collect();
        own.sort_by_key(|(range, _)| (range.to.saturating_sub(range.from), range.from));
        Pages { name: structured_name(gateway_name).into(), own }
    }

    /// The answer to an error. The request gets an id if it has none.
    pub fn answer(&self, x: &mut Exchange, error: &Error) -> Answer {
        self.answer_with(x, error, None)
    }

    /// The same, with another status than the usual one.
    pub fn answer_with(&self, x: &mut Exchange, error: &Error, status: Option<StatusCode>) -> Answer {
        let mut mapping = error.mapping();
        mapping.status = status.unwrap_or(mapping.status);
        let id: Box<str> = x.id_or_new().into();
        let violated = match error.kind {
            Kind::RateLimited => x.recall::<Violated>(),
            _ => None,
        };
        let facts = Facts {
            status: mapping.status,
            title: mapping.title,
            detail: explanation(error.kind),
            slug: mapping.slug,
            id: &id,
            violated,
        };
        let mut answer = match grpc_type(x) {
            Some(content_type) => grpc(&mapping, &facts, &content_type),
            None => self.page(x, &facts),
        };
        answer.source = Source::Error(error.kind);
        answer.fields.append("cache-control", "no-store");
        answer.fields.append("proxy-status", self.proxy_status(x, error, &mapping));
        answer.fields.append("x-content-type-options", "nosniff");
        answer.fields.append("x-request-id", &*id);
        if let Some(seconds) = retry_after(error) {
            answer.fields.append("retry-after", itoa::Buffer::new().format(seconds));
        }
        answer
    }

    /// The body the client likes best.
    fn page(&self, x: &Exchange, facts: &Facts<'_>) -> Answer {
        let status = facts.status.as_u16();
        let own = self.own.iter().find(|(range, _)| (range.from..=range.to).contains(&status));
        // Whoever asks the admin listener is a program or the gateway's owner, not the public that the page is for.
        let own = own.filter(|_| &*x.connection.listener != ADMIN).map(|(_, page)| page);
        let offers = own.map(|page| page.essence.as_ref()).into_iter().chain([PROBLEM, JSON, HTML, TEXT]);
        let wanted = accept::choose(x.request.fields.known_all(Known::Accept), offers.clone()).unwrap_or(0);
        let chosen = offers.into_iter().nth(wanted).unwrap_or(PROBLEM);
        let mut fields = Fields::new();
        let body = match own.filter(|_| wanted == 0) {
            Some(page) => {
                fields.append("content-type", &*page.content_type);
                page.fill(facts)
            }
            None => {
                let (content_type, body) = match chosen {
                    HTML => ("text/html; charset=utf-8", html(facts)),
                    TEXT => ("text/plain; charset=utf-8", plain(facts)),
                    JSON => (JSON, problem(facts)),
                    _ => (PROBLEM, problem(facts)),
                };
                fields.append("content-type", content_type);
                if chosen == HTML {
                    fields.append("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'");
                }
                body
            }
        };
        let body = Body::Full(body.into());
        Answer { status: facts.status, fields, body, tunnel: None, source: Source::Error(Kind::Internal) }
    }

    /// `portcullis; error=connection_refused` (RFC 9209 §2). What exactly happened is for trusted peers only.
    fn proxy_status(&self, x: &Exchange, error: &Error, mapping: &Mapping) -> String {
        let mut value = format!("{}; error={}", self.name, mapping.proxy_status);
        if let Some(detail) = error.detail.as_deref().filter(|_| x.connection.trusted) {
            value.push_str("; details=");
            structured_string(detail, &mut value);
        }
        value
    }
}

/// The content type of an answer to a gRPC request: the request's, gRPC-Web included.
fn grpc_type(x: &Exchange) -> Option<Arc<str>> {
    let sent = x.request.fields.known_str(Known::ContentType)?;
    let rest =
        sent.get(..16).filter(|start| start.eq_ignore_ascii_case("application/grpc")).and(sent.get(16..))?;
    let ends = rest.is_empty() || rest.starts_with(['+', ';', '-', ' ']);
    ends.then(|| sent.into())
}

/// A gRPC answer without messages: status and all in the header block ("Trailers-Only" of the gRPC protocol).
fn grpc(mapping: &Mapping, facts: &Facts<'_>, content_type: &str) -> Answer {
    let mut answer = Answer::new(StatusCode::OK, "error");
    answer.fields.append("content-type", content_type);
    answer.fields.append("grpc-status", itoa::Buffer::new().format(mapping.grpc));
    answer.fields.append("grpc-message", percent(&format!("{}: {}", facts.title, facts.detail)));
    answer
}

fn problem(facts: &Facts<'_>) -> String {
    let r#type = match facts.violated {
        None => type_uri(facts.slug),
        Some(violated) => if violated.abnormal { ABNORMAL_USAGE } else { QUOTA_EXCEEDED }.to_owned(),
    };
    let document = Problem {
        r#type,
        title: facts.title,
        status: facts.status.as_u16(),
        detail: facts.detail,
        instance: instance(facts.id),
        violated: facts.violated.map_or(&[], |violated| &violated.policies),
    };
    // A structure of text and numbers always serialises.
    let mut text = serde_json::to_string(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// The stable name of a problem type.
fn type_uri(slug: &str) -> String {
    format!("https://portcullis.dev/problems/{slug}")
}

/// The request's id as a URN; an id that came from elsewhere and is no UUID stands under a name of our own.
fn instance(id: &str) -> String {
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_uuid { format!("urn:uuid:{id}") } else { format!("urn:x-request-id:{}", text::percent_uri(id)) }
}

fn plain(facts: &Facts<'_>) -> String {
    let (status, title, detail, id) = (facts.status.as_u16(), facts.title, facts.detail, facts.id);
    format!("{status} {title}\n\n{detail}\n\nRequest id: {id}\n")
}

fn html(facts: &Facts<'_>) -> String {
    let mut page = String::with_capacity(1024);
    let status = facts.status.as_u16();
    // Writing to a string cannot fail.
    let _ = write!(page, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{status} ");
    escape_html(facts.title, &mut page);
    page.push_str(
        "</title>\n<meta name=\"viewport\" content=\"width=device-width\">\n<style>\n\
         :root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }\n\
         body { max-width: 36rem; margin: 18vh auto 0; padding: 0 1.5rem }\n\
         h1 { font-size: 1.5rem; font-weight: 600; margin: 0 }\n\
         h1 span { opacity: .5; margin-right: .5rem }\n\
         footer { margin-top: 3rem; font-size: .8rem; opacity: .6 }\n\
         </style>\n",
    );
    let _ = write!(page, "<h1><span>{status}</span>");
    escape_html(facts.title, &mut page);
    page.push_str("</h1>\n<p>");
    escape_html(facts.detail, &mut page);
    page.push_str("</p>\n<footer>Request id <code>");
    escape_html(facts.id, &mut page);
    page.push_str("</code></footer>\n</html>\n");
    page
}

/// When asking again makes sense, in seconds: what the error knows, or a guess by its kind where the client can do
/// nothing else.
fn retry_after(error: &Error) -> Option<u64> {
    if let Some(delay) = error.retry_after {
        return Some(delay.as_secs() + u64::from(delay.subsec_nanos() > 0));
    }
    match error.kind {
        // Half of the default interval of health checks.
        Kind::NoEndpoints | Kind::NoHealthyEndpoints => Some(5),
        // Connections come free all the time; another instance takes over at once.
        Kind::ConnectionLimit | Kind::Overloaded | Kind::Shed | Kind::ShuttingDown | Kind::RateLimited => {
            Some(1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
