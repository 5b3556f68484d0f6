//! Field values with `{client_ip}`, `{host}`, `{request_id}`, `{route}` or `{scheme}` in them, taken apart when the
//! configuration is compiled.

use std::fmt::Write;

use portcullis_core::{Exchange, Fields, Known, Line, middleware::Problem};

use crate::{scratch, settings};

/// A field to be added to messages: fixed, or filled in for each request.
#[derive(Debug)]
pub enum Field {
    /// The same for all requests.
    Fixed(Line),
    /// With something of the request in its value.
    Filled(Filled),
}

/// A field whose value holds something of the request.
#[derive(Debug)]
pub struct Filled {
    name: String,
    known: Known,
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Of(Variable),
}

/// What of a request a value may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    ClientIp,
    Host,
    RequestId,
    Route,
    Scheme,
}

const VARIABLES: [(&str, Variable); 5] = [
    ("client_ip", Variable::ClientIp),
    ("host", Variable::Host),
    ("request_id", Variable::RequestId),
    ("route", Variable::Route),
    ("scheme", Variable::Scheme),
];

impl Field {
    /// Compiles a field of the settings at `path`.
    pub fn compile(path: &str, name: &str, value: &str) -> Result<Field, Problem> {
        let parts = parse(path, value)?;
        match parts.as_slice() {
            [] => settings::line(path, name, "").map(Field::Fixed),
            [Part::Text(text)] => settings::line(path, name, text).map(Field::Fixed),
            _ => {
                settings::settable(path, name)?;
                settings::value(path, value)?;
                let known = Known::of(name.as_bytes());
                Ok(Field::Filled(Filled { name: name.to_owned(), known, parts }))
            }
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Field::Fixed(line) => line.name(),
            Field::Filled(filled) => &filled.name,
        }
    }

    fn known(&self) -> Known {
        match self {
            Field::Fixed(line) => line.known(),
            Field::Filled(filled) => filled.known,
        }
    }

    /// Does the value hold the request's id, so that one is needed before it is filled in?
    pub fn needs_id(&self) -> bool {
        let is_id = |part: &Part| *part == Part::Of(Variable::RequestId);
        matches!(self, Field::Filled(filled) if filled.parts.iter().any(is_id))
    }

    /// Removes what the message has of this name.
    pub fn clear(&self, fields: &mut Fields) {
        fields.remove_classified(self.known(), self.name().as_bytes());
    }

    /// Appends it to the request.
    pub fn add_to_request(&self, x: &mut Exchange) {
        match self {
            Field::Fixed(line) => x.request.fields.append_line(line),
            Field::Filled(filled) => scratch::with(|value| {
                filled.fill(x, value);
                x.request.fields.append(&filled.name, value);
            }),
        }
    }

    /// Appends it to the fields of an answer.
    pub fn add_to(&self, fields: &mut Fields, x: &Exchange) {
        match self {
            Field::Fixed(line) => fields.append_line(line),
            Field::Filled(filled) => scratch::with(|value| {
                filled.fill(x, value);
                fields.append(&filled.name, value);
            }),
        }
    }
}

impl Filled {
    fn fill(&self, x: &Exchange, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Of(Variable::ClientIp) if x.client == x.connection.peer.ip() => {
                    out.push_str(&x.connection.peer_text);
                }
                // Writing to a string cannot fail.
                Part::Of(Variable::ClientIp) => drop(write!(out, "{}", x.client)),
                Part::Of(Variable::Host) => out.push_str(x.request.host()),
                Part::Of(Variable::RequestId) => out.push_str(x.id.as_deref().unwrap_or_default()),
                Part::Of(Variable::Route) => out.push_str(&x.route),
                Part::Of(Variable::Scheme) => out.push_str(x.scheme()),
            }
        }
    }
}

/// Takes a value apart. Only `{name}` is special, and `{{` stands for `{`; other braces (as in JSON) are themselves.
fn parse(path: &str, value: &str) -> Result<Vec<Part>, Problem> {
    let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), value);
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        rest = after;
        if let Some(after) = after.strip_prefix('{') {
            text.push('{');
            rest = after;
            continue;
        }
        let Some((name, after)) = after.split_once('}').filter(|(name, _)| is_name(name)) else {
            text.push('{');
            continue;
        };
        let Some(&(_, variable)) = VARIABLES.iter().find(|(known, _)| *known == name) else {
            let names = VARIABLES.map(|(name, _)| format!("`{{{name}}}`")).join(", ");
            let help = format!("one of {names}; or `{{{{` for a brace that means itself");
            return Err(Problem::at(path, format!("`{{{name}}}` is not known")).help(help));
        };
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        parts.push(Part::Of(variable));
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use portcullis_core::Request;

    fn filled(value: &str) -> String {
        let mut request = Request::new(Method::GET);
        request.set_authority("shop.example:8080");
        let mut x = Exchange::for_test(request);
        x.route = "orders".into();
        x.client = "2001:db8::7".parse().unwrap();
        x.id = Some("id-1".into());
        let field = Field::compile("set.A", "A", value).unwrap();
        field.add_to_request(&mut x);
        x.request.fields.get_str("a").unwrap().to_owned()
    }

    #[test]
    fn values_are_filled() {
        assert_eq!(filled("plain"), "plain");
        assert_eq!(filled(""), "");
        assert_eq!(
            filled("{client_ip} {scheme}://{host} {route}/{request_id}"),
            "2001:db8::7 http://shop.example orders/id-1"
        );
        assert_eq!(filled(r#"{"group":"x","max":[{"a":{}}]}"#), r#"{"group":"x","max":[{"a":{}}]}"#);
        assert_eq!(filled("{{host} {"), "{host} {");
    }

    #[test]
    fn unknown_names_and_bad_fields_are_refused() {
        let problem = Field::compile("set.A", "A", "{hots}").unwrap_err();
        assert_eq!((problem.path.as_str(), problem.message.as_str()), ("set.A", "`{hots}` is not known"));
        assert!(problem.help.unwrap().contains("`{host}`"));
        for (name, value) in [("a b", "x"), ("A", "x\ny"), ("A", "{host}\r\nB: c"), ("Connection", "close")] {
            assert!(Field::compile("p", name, value).is_err(), "{name}: {value}");
        }
    }
}
