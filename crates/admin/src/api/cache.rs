//! What is cached, and taking it out.

use http::StatusCode;
use portcullis_core::{Answer, Error};
use portcullis_proxy::forward::cache::{DiskFilled, Purge};
use serde_json::{Value, json};

use super::{NAME, View};
use crate::reply;

/// `/api/cache`
pub(super) fn document(view: &View) -> Value {
    let settings = &view.runtime.model.cache;
    let filled = view.runtime.stock.as_ref().map(|stock| stock.filled()).unwrap_or_default();
    let disks = view.runtime.tiers.iter().flat_map(|tiers| tiers.disks());
    let disks: Vec<Value> = disks.map(|disk| of_disk(&disk.filled())).collect();
    json!({
        "enabled": view.runtime.stock.is_some(),
        "capacity_bytes": settings.memory,
        "max_object_bytes": settings.max_object,
        "entries": filled.entries,
        "bytes": filled.bytes,
        "arriving_bytes": filled.arriving,
        "evicted": filled.evicted,
        "purged": filled.purged,
        "invalidated": filled.invalidated,
        "stores": settings.stores,
        "disk": disks.first(),
    })
}

fn of_disk(filled: &DiskFilled) -> Value {
    json!({
        "up": filled.up,
        "complete": filled.known,
        "capacity_bytes": filled.capacity,
        "entries": filled.entries,
        "bytes": filled.bytes,
        "hits": filled.hits,
        "evicted": filled.evicted,
        "errors": filled.errors,
    })
}

/// `/api/cache/purge`: by exactly one of `url`, `prefix`, `tag` and `all`. 200 with the number of answers, 422 when it does
/// not say what.
pub(super) async fn purge(view: View, query: Option<&str>) -> Result<Answer, Error> {
    let purge = match read(query.unwrap_or_default()) {
        Ok(purge) => purge,
        Err(problem) => {
            let told = json!({ "ok": false, "purged": 0, "problem": problem });
            return reply::json(StatusCode::UNPROCESSABLE_ENTITY, NAME, &told);
        }
    };
    // First what is on its way, then what stands behind memory, then memory, and again what is on its way: so nothing comes
    // back from one into the other.
    if let Some(stock) = &view.runtime.stock {
        stock.epochs.purged(&purge);
    }
    let behind = match &view.runtime.tiers {
        Some(tiers) => tiers.purge(&purge).await,
        None => 0,
    };
    reply::aside(move || {
        // It looks at everything that is stored.
        let purged = view.runtime.stock.as_ref().map_or(0, |stock| stock.purge(&purge));
        let told = json!({ "ok": true, "purged": purged.max(behind), "problem": null });
        reply::json(StatusCode::OK, NAME, &told)
    })
    .await
}

fn read(query: &str) -> Result<Purge, String> {
    const ONE: &str = "name what shall go: ?url=…, ?prefix=…, ?tag=… or ?all=true";
    let mut parts = query.split('&').filter(|part| !part.is_empty());
    let (Some(part), None) = (parts.next(), parts.next()) else { return Err(ONE.into()) };
    let (name, value) = part.split_once('=').unwrap_or((part, ""));
    let value = decoded(value).ok_or("the value is not UTF-8")?;
    match (name, value.as_str()) {
        ("url", value) => Purge::url(value, false),
        ("prefix", value) => Purge::url(value, true),
        ("tag", "") => Err("the tag is empty".into()),
        ("tag", value) => Ok(Purge::Tag(value.into())),
        ("all", "true") => Ok(Purge::Everything),
        _ => Err(ONE.into()),
    }
}

/// A value of a query, its escapes resolved.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.filter(|_| byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = after.get(2..)?;
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_thing_is_purged() {
        assert_eq!(read("url=http%3A%2F%2Fa%2Fb"), Ok(Purge::Url("http://a/b".into())));
        assert_eq!(read("prefix=http://a/b"), Ok(Purge::Prefix("http://a/b".into())));
        assert_eq!(read("tag=news%20today"), Ok(Purge::Tag("news today".into())));
        assert_eq!(read("all=true"), Ok(Purge::Everything));
        for bad in ["", "all", "all=1", "tag=", "url=/x", "url=http://a/&tag=b", "other=1", "tag=%ff"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
