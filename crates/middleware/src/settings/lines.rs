//! Header names and values in settings: judged when they are compiled, never while a request waits.

use std::collections::BTreeMap;

use portcullis_core::{
    Known, Line,
    line::{is_token, is_value},
    middleware::Problem,
};

use crate::settings::Strings;

/// A field name, judged. `path` is where it stands in the settings.
pub fn name(path: &str, name: &str) -> Result<(), Problem> {
    if is_token(name) {
        return Ok(());
    }
    let help = "letters, digits and the characters !#$%&'*+-.^_`|~, at least one (RFC 9110 §5.1)";
    Err(Problem::at(path, format!("`{}` is not a header name", name.escape_debug())).help(help))
}

/// A name that settings may give a value to: not one that frames the message, which is the gateway's business.
pub fn settable(path: &str, text: &str) -> Result<(), Problem> {
    name(path, text)?;
    let known = Known::of(text.as_bytes());
    let framing = Known::HOP_BY_HOP | Known::ContentLength.bit();
    if known != Known::Other && framing & known.bit() != 0 {
        let message = format!("`{text}` belongs to one connection and is decided by the gateway");
        return Err(Problem::at(path, message).help("remove this line"));
    }
    Ok(())
}

/// A fixed field, judged and prepared.
pub fn line(path: &str, name: &str, value: &str) -> Result<Line, Problem> {
    settable(path, name)?;
    self::value(path, value)?;
    Line::new(name, value).ok_or_else(|| Problem::at(path, "not a header field"))
}

/// A field's value, judged.
pub fn value(path: &str, value: &str) -> Result<(), Problem> {
    if is_value(value) && value.is_ascii() {
        return Ok(());
    }
    let message = format!("`{}` cannot stand in a header", value.escape_debug());
    let help = "visible ASCII characters, with spaces only between them; encode others in percent form";
    Err(Problem::at(path, message).help(help))
}

/// Fixed fields from a table of names and values, judged and prepared.
pub fn lines(path: &str, table: &BTreeMap<String, Strings>) -> Result<Vec<Line>, Problem> {
    let mut lines = Vec::new();
    for (name, values) in table {
        for value in &values.0 {
            lines.push(line(&format!("{path}.{name}"), name, value)?);
        }
    }
    Ok(lines)
}
