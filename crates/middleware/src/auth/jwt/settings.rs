//! What people write, and what of it nothing could come of.

use std::{collections::BTreeMap, time::Duration};

use portcullis_core::{Known, forwarded::is_spelling_of, middleware::Problem};
use schemars::JsonSchema;
use serde::Deserialize;

use super::is_scope;
use crate::settings::{self, Strings, Time};

/// Settings of `jwt`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The secret that the issuer signs with (HS256, HS384, HS512), or several while one takes another's place. Write
    /// `${JWT_SECRET}` rather than the secret itself; it should have 32 characters or more.
    pub secret: Option<Strings>,
    /// The secret is written in base64, and means the bytes behind it.
    #[serde(default)]
    pub secret_is_base64: bool,
    /// The issuer's public key (RSA, P-256, P-384, Ed25519): the path of a PEM file, or its text; or several.
    pub public_key: Option<Strings>,
    /// Algorithms that tokens may be signed by. Default: the usual one of each key (HS256, RS256, ES256, ES384, EdDSA). What a
    /// token says of itself never widens this.
    #[serde(default)]
    pub algorithms: Strings,
    /// Who must have issued a token (`iss`): one of these. Without it, whoever has the key.
    pub issuer: Option<Strings>,
    /// Whom a token must be meant for (`aud`): one of these at least. Without it, tokens that are meant for somebody are refused.
    pub audience: Option<Strings>,
    /// By how much clocks may differ: for so long tokens are good after `exp` and before `nbf`.
    #[serde(default = "half_a_minute")]
    pub leeway: Time,
    /// Tokens must end at some time (`exp`); one that has ended is refused in any case.
    #[serde(default = "yes")]
    pub expiry: bool,
    /// Claims that a token must have, each with one of these values: `{ role = ["admin", "editor"] }`. Of a list, and of the
    /// words in `scope`, one will do. Others are refused with 403.
    #[serde(default)]
    pub require: BTreeMap<String, Strings>,
    /// The claim that names the client, for limits and logs.
    #[serde(default = "subject")]
    pub subject: String,
    /// The header that the token comes in: behind `Bearer` in `Authorization`, with or without it in another.
    #[serde(default = "authorization")]
    pub header: String,
    /// A cookie that the token may come in too, when the header has none.
    pub cookie: Option<String>,
    /// Requests without a token pass, as nobody's; what is no good is refused all the same.
    #[serde(default)]
    pub optional: bool,
    /// Headers that tell the service of claims: `{ X-User-Id = "sub" }`. What clients write there never passes.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The service does not get to see the token's header (a cookie it does).
    #[serde(default)]
    pub hide: bool,
    /// What is protected, as browsers are told in `WWW-Authenticate`.
    #[serde(default = "realm")]
    pub realm: String,
}

fn half_a_minute() -> Time {
    Time(Duration::from_secs(30))
}

fn yes() -> bool {
    true
}

fn subject() -> String {
    "sub".to_owned()
}

fn authorization() -> String {
    "Authorization".to_owned()
}

fn realm() -> String {
    "portcullis".to_owned()
}

impl Jwt {
    /// Does such a header reach a middleware?
    pub(super) fn can_come_in(header: &str) -> Result<(), Problem> {
        settings::settable("header", header)?;
        if matches!(Known::of(header.as_bytes()), Known::Host | Known::Cookie) {
            let help = "\"Authorization\", or a name of your own; a cookie is written as `cookie`";
            return Err(Problem::at("header", format!("`{header}` holds no token")).help(help));
        }
        Ok(())
    }

    /// Can the service be told of claims by these headers?
    pub(super) fn can_be_told(&self) -> Result<(), Problem> {
        let mut before: Vec<&str> = Vec::new();
        for (header, claim) in &self.headers {
            let path = format!("headers.{header:?}");
            settings::settable(&path, header)?;
            let known = Known::of(header.as_bytes());
            let is = |set: u64| known != Known::Other && set & known.bit() != 0;
            if is(Known::FORWARDING | Known::Host.bit() | Known::Cookie.bit() | Known::XRequestId.bit()) {
                let message = format!("`{header}` is written by the gateway, or has a meaning of its own");
                return Err(Problem::at(path, message).help("take a name of your own, such as X-User-Id"));
            }
            if is_spelling_of(header.as_bytes(), self.header.as_bytes()) && !self.hide {
                return Err(Problem::at(path, "the token itself comes here").help("take another name"));
            }
            if before.iter().any(|other| is_spelling_of(other.as_bytes(), header.as_bytes())) {
                return Err(Problem::at(path, "this is the same name in another spelling").help("remove it"));
            }
            before.push(header);
            if claim.is_empty() {
                return Err(Problem::at(path, "no claim is named").help("such as \"sub\""));
            }
        }
        Ok(())
    }

    /// Is there a token that has what is required?
    pub(super) fn can_be_met(&self) -> Result<(), Problem> {
        for (claim, values) in &self.require {
            let path = format!("require.{claim:?}");
            if claim.is_empty() {
                return Err(Problem::at("require", "no claim is named").help("such as role = \"admin\""));
            }
            if values.0.is_empty() {
                let help = "write those that will do, or remove the line";
                return Err(Problem::at(path, "no value would do").help(help));
            }
            if is_scope(claim) && values.0.iter().any(|value| value.contains(char::is_whitespace)) {
                let help =
                    "a list of words, of which one will do; more than one middleware to ask for several";
                return Err(Problem::at(path, "each scope is one word").help(help));
            }
        }
        Ok(())
    }
}
