//! The keys that tokens are signed with, and what a token under each must say.

use std::{fs, path::Path};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation, decode, errors::ErrorKind};
use portcullis_core::middleware::Problem;
use serde_json::{Map, Value};

use super::{Jwt, Wrong};
use crate::settings::Strings;

/// Longest difference of clocks that is put up with, in seconds.
const MOST_LEEWAY: u64 = 3600;

/// One key, and what is asked of tokens under it.
pub(super) struct Key {
    key: DecodingKey,
    validation: Validation,
}

impl Key {
    /// All keys of the settings, in their order.
    pub fn all(settings: &Jwt, folder: &Path) -> Result<Vec<Key>, Problem> {
        let validation = validation(settings)?;
        let mut keys = Vec::new();
        for (at, secret) in each("secret", settings.secret.as_ref()) {
            keys.push((at.clone(), of_secret(&at, secret, settings.secret_is_base64)?));
        }
        for (at, text) in each("public_key", settings.public_key.as_ref()) {
            keys.push((at.clone(), of_public(&at, text, folder)?));
        }
        if keys.is_empty() {
            let help = r#"write secret = "${JWT_SECRET}", or public_key = "issuer.pem""#;
            return Err(Problem::at(
                "",
                "`secret` or `public_key` is missing: there is no key to check tokens with",
            )
            .help(help));
        }
        if settings.secret_is_base64 && settings.secret.is_none() {
            return Err(Problem::at("secret_is_base64", "there is no `secret`").help("remove this line"));
        }
        let chosen = algorithms(&settings.algorithms)?;
        let mut used = vec![false; chosen.len()];
        let mut all = Vec::with_capacity(keys.len());
        for (at, key) in keys {
            let able = able(&key);
            let mut algorithms: Vec<Algorithm> = Vec::new();
            for (algorithm, used) in chosen.iter().zip(&mut used).filter(|(one, _)| able.contains(one)) {
                algorithms.push(*algorithm);
                *used = true;
            }
            match (able.first(), chosen.is_empty()) {
                (Some(first), true) => algorithms.push(*first),
                _ if algorithms.is_empty() => {
                    let message =
                        format!("no algorithm in `algorithms` is one for this key ({})", names(able));
                    return Err(Problem::at(at, message).help("add one of them, or leave `algorithms` out"));
                }
                _ => {}
            }
            all.push(Key { key, validation: Validation { algorithms, ..validation.clone() } });
        }
        if let Some(at) = used.iter().position(|used| !used) {
            let path = path("algorithms", at, settings.algorithms.0.len());
            return Err(Problem::at(path, "no key is one for this algorithm").help("remove it"));
        }
        Ok(all)
    }

    /// What a token says, if it was signed with this key and may be believed now.
    pub fn claims(&self, token: &[u8]) -> Result<Map<String, Value>, Wrong> {
        let found = decode::<Map<String, Value>>(token, &self.key, &self.validation);
        let found = found.map_err(|error| judged(error.kind()))?;
        if odd(&found.header) {
            return Err(Wrong::Malformed);
        }
        // RFC 7519 §4.1.3: what is meant for somebody is not for one who has no name. However it is written: the library
        // passes over what is no list of names.
        let is_addressed = found.claims.get("aud").is_some_and(|audience| !audience.is_null());
        match is_addressed && self.validation.aud.is_none() {
            true => Err(Wrong::Claims),
            false => Ok(found.claims),
        }
    }
}

/// A header that must be understood and is not (RFC 7515 §4.1.11), or one that brings its own key (CVE-2018-0114).
fn odd(header: &Header) -> bool {
    header.crit.is_some() || header.jwk.is_some() || header.jku.is_some() || header.x5u.is_some()
}

fn judged(kind: &ErrorKind) -> Wrong {
    match kind {
        ErrorKind::ExpiredSignature => Wrong::Expired,
        ErrorKind::ImmatureSignature => Wrong::Early,
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Wrong::Signature,
        ErrorKind::InvalidIssuer
        | ErrorKind::InvalidAudience
        | ErrorKind::InvalidClaimFormat(_)
        | ErrorKind::MissingRequiredClaim(_) => Wrong::Claims,
        _ => Wrong::Malformed,
    }
}

/// What is asked of the claims that RFC 7519 §4.1 knows.
fn validation(settings: &Jwt) -> Result<Validation, Problem> {
    let leeway = settings.leeway.0.as_secs();
    if settings.leeway.0.subsec_nanos() != 0 {
        let help = "tokens count in whole seconds";
        return Err(Problem::at("leeway", "a part of a second").help(help));
    }
    if leeway > MOST_LEEWAY {
        let help = "at most an hour: tokens are good for so much longer than they say";
        return Err(Problem::at("leeway", "that is more than clocks differ by").help(help));
    }
    let mut validation = Validation { leeway, validate_nbf: true, ..Validation::default() };
    let mut required = Vec::new();
    if settings.expiry {
        required.push("exp");
    }
    if let Some(issuers) = some("issuer", settings.issuer.as_ref())? {
        validation.set_issuer(issuers);
        required.push("iss");
    }
    if let Some(audiences) = some("audience", settings.audience.as_ref())? {
        validation.set_audience(audiences);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    Ok(validation)
}

fn some<'a>(path: &str, list: Option<&'a Strings>) -> Result<Option<&'a [String]>, Problem> {
    let Some(list) = list else { return Ok(None) };
    if list.0.is_empty() || list.0.iter().any(String::is_empty) {
        return Err(Problem::at(path, "empty: no token would do").help("write one, or remove this line"));
    }
    Ok(Some(&list.0))
}

/// The entries of a list with where they stand.
fn each<'a>(name: &str, list: Option<&'a Strings>) -> impl Iterator<Item = (String, &'a str)> {
    let all = list.map(|list| list.0.as_slice()).unwrap_or_default();
    all.iter().enumerate().map(move |(at, text)| (path(name, at, all.len()), text.as_str()))
}

fn path(name: &str, at: usize, of: usize) -> String {
    if of > 1 { format!("{name}[{at}]") } else { name.to_owned() }
}

fn of_secret(path: &str, text: &str, is_base64: bool) -> Result<DecodingKey, Problem> {
    if text.is_empty() {
        let help = "is the variable set that it comes from?";
        return Err(Problem::at(path, "the secret is empty: anybody could sign").help(help));
    }
    if text.contains("-----BEGIN") {
        let help = "write it as `public_key`";
        return Err(Problem::at(path, "this is no secret, but a key that others may know").help(help));
    }
    if !is_base64 {
        return Ok(DecodingKey::from_secret(text.as_bytes()));
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    match GeneralPurpose::new(alphabet, config).decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(DecodingKey::from_secret(&bytes)),
        _ => {
            let help = "leave `secret_is_base64` out when the secret is meant as it stands";
            Err(Problem::at(path, "this is not base64").help(help))
        }
    }
}

/// A public key as text, or from a file.
fn of_public(path: &str, text: &str, folder: &Path) -> Result<DecodingKey, Problem> {
    let read;
    let text = if text.contains("-----BEGIN") {
        text
    } else {
        let file = folder.join(text);
        read = fs::read_to_string(&file).map_err(|error| {
            let help = "the path of a PEM file, or its text, beginning with -----BEGIN PUBLIC KEY-----";
            Problem::at(path, format!("{} cannot be read: {error}", file.display())).help(help)
        })?;
        &read
    };
    if text.contains("PRIVATE KEY") {
        let help = "only the issuer needs it; make the public one: openssl pkey -in private.pem -pubout";
        return Err(Problem::at(path, "this is the private key").help(help));
    }
    if text.matches("-----BEGIN").count() > 1 {
        let help = "write a list: one text or file for each key";
        return Err(Problem::at(path, "several keys in one").help(help));
    }
    let bytes = text.as_bytes();
    let found = DecodingKey::from_rsa_pem(bytes)
        .or_else(|_| DecodingKey::from_ec_pem(bytes))
        .or_else(|_| DecodingKey::from_ed_pem(bytes));
    found.ok().filter(|key| !able(key).is_empty() && is_sound(key, text)).ok_or_else(|| {
        let help = "RSA of 2048 bits or more, EC (P-256 or P-384) or Ed25519, as -----BEGIN PUBLIC KEY-----";
        Problem::at(path, "this is not a public key that tokens are signed under").help(help)
    })
}

/// Can signatures be checked with it? The library takes keys by their outer form.
fn is_sound(key: &DecodingKey, text: &str) -> bool {
    // Object identifiers (RFC 5480 §2.1.1.1).
    const P256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    const P384: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 0x22];
    let Ok(bytes) = key.try_get_as_bytes() else { return true };
    let body: String = text.lines().filter(|line| !line.contains("-----")).map(str::trim).collect();
    let der = STANDARD.decode(body).unwrap_or_default();
    let is_on = |curve: &[u8]| der.windows(curve.len()).any(|part| part == curve);
    match key.family() {
        // Two numbers and what says how long they are: 256 bytes at least, and 3 (RFC 8017 A.1.1).
        AlgorithmFamily::Rsa => bytes.len() >= 256 + 1 + 4 + 4 + 3,
        AlgorithmFamily::Ec => is_on(if bytes.len() == 65 { P256 } else { P384 }),
        AlgorithmFamily::Ed => bytes.len() == 32,
        AlgorithmFamily::Hmac => true,
    }
}

/// What a key can be used with; the first unless `algorithms` says otherwise.
fn able(key: &DecodingKey) -> &'static [Algorithm] {
    use Algorithm::*;
    match key.family() {
        AlgorithmFamily::Hmac => &[HS256, HS384, HS512],
        AlgorithmFamily::Rsa => &[RS256, RS384, RS512, PS256, PS384, PS512],
        // An uncompressed point (SEC 1 §2.3.3): two coordinates behind one byte.
        AlgorithmFamily::Ec => match key.try_get_as_bytes().map(<[u8]>::len) {
            Ok(65) => &[ES256],
            Ok(97) => &[ES384],
            _ => &[],
        },
        AlgorithmFamily::Ed => &[EdDSA],
    }
}

fn names(algorithms: &[Algorithm]) -> String {
    algorithms.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ")
}

fn algorithms(written: &Strings) -> Result<Vec<Algorithm>, Problem> {
    let mut all = Vec::with_capacity(written.0.len());
    for (at, text) in written.0.iter().enumerate() {
        let found = text.parse().map_err(|_| {
            let help = "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA";
            let path = path("algorithms", at, written.0.len());
            Problem::at(path, format!("`{}` is not an algorithm for tokens", text.escape_debug())).help(help)
        })?;
        all.push(found);
    }
    Ok(all)
}
