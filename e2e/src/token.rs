//! Tokens (RFC 7519) as an issuer would sign them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};

/// By a secret (HS256); good for ten minutes where the claims say nothing of it.
pub fn hs256(secret: &str, mut claims: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    if claims.get("exp").is_none() {
        claims["exp"] = json!(now + 600);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    signed("HS256", &claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

/// As somebody signs it.
pub fn signed(algorithm: &str, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({ "alg": algorithm, "typ": "JWT" })), part(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
