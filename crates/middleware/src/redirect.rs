//! What `redirect_scheme` and `redirect_regex` have in common: the statuses, and the answer.

use http::{Method, StatusCode};
use portcullis_core::Answer;

/// The status of a redirect. Other methods than GET get a status that forbids changing the method
/// (RFC 9110 §15.4.8, §15.4.9); GET gets the ones that every client knows.
fn status(permanent: bool, method: &Method) -> StatusCode {
    match (permanent, method == Method::GET) {
        (false, true) => StatusCode::FOUND,
        (false, false) => StatusCode::TEMPORARY_REDIRECT,
        (true, true) => StatusCode::MOVED_PERMANENTLY,
        (true, false) => StatusCode::PERMANENT_REDIRECT,
    }
}

/// A redirect to a location.
pub fn answer(by: &'static str, permanent: bool, method: &Method, location: &str) -> Answer {
    let mut answer = Answer::new(status(permanent, method), by);
    answer.fields.append("location", location);
    answer
}
