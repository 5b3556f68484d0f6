//! Settings without their secrets: the admin API is for looking, and what is looked at may be on a screen that others
//! see.

use serde_json::{Map, Value};

/// Parts of keys whose values are secrets more often than not.
const SECRET: [&str; 12] = [
    "api_key",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "passwd",
    "password",
    "private",
    "secret",
    "signature",
    "token",
    "users",
];

/// The document with the values of secret keys replaced by `***`.
pub(super) fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = |(key, value): (&String, &Value)| {
                let value = if is_secret(key) && !value.is_boolean() && !value.is_null() {
                    "***".into()
                } else {
                    redacted(value)
                };
                (key.clone(), value)
            };
            Value::Object(fields.iter().map(kept).collect::<Map<_, _>>())
        }
        Value::Array(list) => list.iter().map(redacted).collect(),
        Value::String(text) => without_password(text).map_or_else(|| value.clone(), Value::String),
        other => other.clone(),
    }
}

/// A URL that holds a password, without it: `redis://user:***@host`.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split('/').next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let (name, _) = user.split_once(':')?;
    Some(format!("{scheme}://{name}:***{}", rest.get(user.len()..)?))
}

/// Does the key sound like a secret's?
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    key == "key" || key == "keys" || SECRET.iter().any(|part| key.contains(part))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let settings = json!({
            "request": { "set": { "X-Api-Key": "k", "X-Team": "blue" }, "remove": ["Cookie"] },
            "users": ["a:hash"], "list": [{ "client_secret": "s", "realm": "r" }], "token": null, "secret": true,
            "redis": "redis://me:p@ss@a/1", "url": "http://a/b:c@d",
        });
        let expected = json!({
            "request": { "set": { "X-Api-Key": "***", "X-Team": "blue" }, "remove": ["Cookie"] },
            "users": "***", "list": [{ "client_secret": "***", "realm": "r" }], "token": null, "secret": true,
            "redis": "redis://me:***@a/1", "url": "http://a/b:c@d",
        });
        assert_eq!(redacted(&settings), expected);
    }
}
