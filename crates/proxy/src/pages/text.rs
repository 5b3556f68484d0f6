//! The sentences that clients read, and how text is made safe for where it stands.

use std::fmt::Write;

use portcullis_core::Kind;

/// What happened, in words for the client: nothing that differs from request to request, so that nothing can leak.
pub(super) fn explanation(kind: Kind) -> &'static str {
    use Kind::*;
    match kind {
        BadRequest => "The request breaks the rules of HTTP.",
        BadPath => "The path of the request cannot be read, or holds what is not allowed here.",
        HeadersTooLarge => "The header fields of the request are larger or more than allowed.",
        UriTooLong => "The target of the request is longer than allowed.",
        BodyTooLarge => "The body of the request is larger than allowed.",
        RequestTimeout => "The request did not arrive in time.",
        ClientGone => "The client closed the connection before the answer.",
        LengthRequired => "The length of the request's body is missing or cannot be understood.",
        NoRoute => "Nothing is served under this address.",
        MethodNotAllowed => "This address is served, but not with this method.",
        Unauthenticated => "This page is only for those who say who they are: sign in, and try again.",
        Denied => "A policy of this site does not allow this request.",
        RateLimited => "There were too many requests. Slow down and ask again later.",
        Misdirected => "This connection does not serve the host that was asked for.",
        TooEarly => "The request came before the connection was proven to be new. Repeat it.",
        ExpectationFailed => "The expectation of the request cannot be met.",
        NotImplemented => "The gateway does not know what the request asks for.",
        VersionNotSupported => "This version of HTTP is not spoken here.",
        Loop => "The request came back to a gateway that it had passed before.",
        NoEndpoints => "Nothing stands behind this address at the moment. Ask again later.",
        NoHealthyEndpoints => {
            "What stands behind this address is out of service at the moment. Ask again later."
        }
        DnsError => "The name of the server behind the gateway could not be resolved.",
        ConnectionRefused => "The server behind the gateway refused the connection.",
        ConnectTimeout => "The server behind the gateway could not be reached in time.",
        ConnectFailed => "The server behind the gateway could not be reached.",
        TlsCertificate => "The certificate of the server behind the gateway was not accepted.",
        TlsProtocol => "No secure connection to the server behind the gateway could be made.",
        ConnectionTerminated => "The server behind the gateway closed the connection before its answer.",
        ResponseTimeout => "The server behind the gateway did not answer in time.",
        ReadTimeout => "The server behind the gateway stopped in the middle of its answer.",
        WriteTimeout => "The server behind the gateway did not take the request in time.",
        BadResponse => "The answer of the server behind the gateway breaks the rules of HTTP.",
        ResponseHeadersTooLarge => {
            "The header fields of the answer of the server behind the gateway are larger than allowed."
        }
        ResponseIncomplete => "The answer of the server behind the gateway ended too early.",
        CircuitOpen => "What stands behind this address has failed too often of late. Ask again later.",
        RetriesExhausted => "The request was tried several times, and no attempt succeeded.",
        UpgradeFailed => "The server behind the gateway did not switch to the protocol that was asked for.",
        ConnectionLimit => "The gateway has as many connections as it may. Ask again later.",
        Overloaded => "More requests are under way than may be at once. Ask again later.",
        Shed => {
            "The gateway has more to do than it can, and serves what is more important first. Ask again later."
        }
        TotalTimeout => "The request took longer than it may.",
        Misconfigured => "The configuration of the gateway does not allow to serve this address safely.",
        ShuttingDown => "The gateway is shutting down. Ask again.",
        Internal => "Something went wrong in the gateway.",
    }
}

/// Text in HTML or XML, in an element or a quoted attribute.
pub(super) fn escape_html(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

/// Text inside a JSON string.
pub(super) fn escape_json(text: &str, out: &mut String) {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
}

/// `grpc-message`: what is not printable ASCII, and `%`, percent-encoded (gRPC over HTTP/2, "Responses").
pub(super) fn percent(text: &str) -> String {
    encoded(text, |byte| (b' '..=b'~').contains(&byte) && byte != b'%')
}

/// As part of a URI: all but unreserved characters percent-encoded (RFC 3986 §2.3).
pub(super) fn percent_uri(text: &str) -> String {
    encoded(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn encoded(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A name as a token of structured fields where it is one, else as a string (RFC 8941 §3.3.3, §3.3.4).
pub(super) fn structured_name(name: &str) -> String {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*');
    if starts && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b)) {
        return name.to_owned();
    }
    let mut out = String::new();
    structured_string(name, &mut out);
    out
}

/// A string of structured fields: printable ASCII only, `?` stands for the rest.
pub(super) fn structured_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structured_names_are_tokens_or_strings() {
        assert_eq!(structured_name("gw.example:8080"), "gw.example:8080");
        assert_eq!(structured_name("My \"gate\"\nway ü"), "\"My \\\"gate\\\"?way ?\"");
        assert_eq!(structured_name("1st"), "\"1st\"");
        assert_eq!(structured_name(""), "\"\"");
    }

    #[test]
    fn percent_encoding() {
        assert_eq!(percent("50% – ok\n"), "50%25 %E2%80%93 ok%0A");
        assert_eq!(percent_uri("a b/ü~"), "a%20b%2F%C3%BC~");
    }

    #[test]
    fn explanations_are_sentences() {
        for kind in Kind::ALL {
            let text = explanation(kind);
            assert!(text.ends_with('.') && text.starts_with(|c: char| c.is_ascii_uppercase()), "{text}");
        }
    }
}
