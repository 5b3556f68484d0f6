//! `@echo`: the request as the gateway understood it, for trying out routes, middlewares and forwarding headers.

use std::{collections::BTreeMap, future::ready};

use http::StatusCode;
use portcullis_core::{Answer, BoxFuture, Error, Exchange, builtin::Builtin};
use serde_json::{Value, json};

use crate::reply;

/// Tells what came.
pub(crate) struct Echo;

/// Fields whose values a script in a browser must not learn this way: it cannot read them itself (RFC 9110 §9.3.8 says
/// the same of TRACE).
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

impl Builtin for Echo {
    fn answer<'a>(&'a self, x: &'a mut Exchange) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(ready(reply::json(StatusCode::OK, "echo", &seen(x))))
    }
}

fn seen(x: &Exchange) -> Value {
    let (request, connection) = (&x.request, &*x.connection);
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in request.fields.iter() {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let value = match SECRET.contains(&name.as_str()) {
            true => "***".to_owned(),
            false => String::from_utf8_lossy(value).into_owned(),
        };
        headers.entry(name).or_default().push(value);
    }
    let parameters: BTreeMap<&str, &str> =
        x.parameters.iter().map(|(name, value)| (&**name, value.as_str())).collect();
    let tls = connection.tls.as_ref().map(|tls| {
        json!({
            "version": tls.version,
            "cipher": tls.cipher,
            "sni": tls.sni.as_deref(),
            "client_certificate": tls.client_certificate.is_some(),
        })
    });
    json!({
        "method": request.method.as_str(),
        "scheme": x.scheme(),
        "host": request.authority(),
        "path": request.path(),
        "query": request.query(),
        "original_path": request.original_path(),
        "original_query": request.original_query(),
        "protocol": connection.protocol.version(),
        "client": x.client.to_string(),
        "peer": connection.peer.to_string(),
        "listener": &*connection.listener,
        "route": &*x.route,
        "request_id": x.id.as_deref(),
        "parameters": parameters,
        "tls": tls,
        "headers": headers,
    })
}
