//! How answers are made here.

use http::StatusCode;
use portcullis_core::{Answer, Error, Exchange, Kind, Known};
use portcullis_proxy::pages::accept;
use serde::Serialize;

/// JSON. `by` names who answers, for the log.
pub(crate) fn json(status: StatusCode, by: &'static str, body: &impl Serialize) -> Result<Answer, Error> {
    typed(status, by, "application/json", body)
}

/// JSON under another type.
pub(crate) fn typed(
    status: StatusCode,
    by: &'static str,
    content_type: &str,
    body: &impl Serialize,
) -> Result<Answer, Error> {
    let mut text =
        serde_json::to_string(body).map_err(|error| Error::because(Kind::Internal, error.to_string()))?;
    text.push('\n');
    Ok(live(Answer::with_body(status, by, content_type, text)))
}

/// Plain text, exactly this.
pub(crate) fn text(status: StatusCode, by: &'static str, body: impl Into<String>) -> Answer {
    live(Answer::with_body(status, by, "text/plain; charset=utf-8", body.into()))
}

/// A state rather than a document: not to be stored, nor read as anything else.
fn live(mut answer: Answer) -> Answer {
    answer.fields.append("cache-control", "no-store");
    answer.fields.append("x-content-type-options", "nosniff");
    answer
}

/// Does the client like JSON better than plain text?
pub(crate) fn prefers_json(x: &Exchange) -> bool {
    let offers = ["text/plain", "application/json"];
    accept::choose(x.request.fields.known_all(Known::Accept), offers.into_iter()) == Some(1)
}

/// Makes an answer on a thread for such work, so that a long one does not hold up the worker's other connections.
pub(crate) async fn aside(
    make: impl FnOnce() -> Result<Answer, Error> + Send + 'static,
) -> Result<Answer, Error> {
    let made = tokio::task::spawn_blocking(make).await;
    made.unwrap_or_else(|error| Err(Error::because(Kind::Internal, error.to_string())))
}

/// There is no configuration yet.
pub(crate) fn starting() -> Error {
    Error::because(Kind::Misconfigured, "no configuration is in force yet")
}
