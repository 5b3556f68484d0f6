//! The listeners, the admin listener included.

use std::collections::BTreeMap;

use portcullis_config::model::ListenerTls;
use serde_json::{Value, json};

use super::View;

/// All of them, by name.
pub(super) fn document(view: &View) -> Value {
    let bound: BTreeMap<_, _> = view.gateway.addresses().into_iter().collect();
    let listeners = view.runtime.listeners.values().map(|listener| {
        let (settings, metrics) = (&listener.settings, &listener.metrics);
        let address = bound.get(&settings.name).copied().unwrap_or(settings.address);
        let asked: Vec<&str> = listener.middlewares.iter().map(|asked| &*asked.name).collect();
        let trusted: Vec<String> = settings.trusted_proxies.iter().map(ToString::to_string).collect();
        json!({
            "name": &*settings.name,
            "address": address.to_string(),
            "tls": settings.tls.as_ref().map(tls),
            "http2": settings.http2,
            "http3": settings.http3,
            "middlewares": asked,
            "trusted_proxies": trusted,
            "connections": {
                "open": metrics.open(),
                "accepted": metrics.accepted(),
                "refused": metrics.refusals(),
                "handshake_failures": metrics.handshake_failures(),
                "attacks": metrics.attacks(),
            },
        })
    });
    json!({ "listeners": listeners.collect::<Vec<_>>() })
}

fn tls(tls: &ListenerTls) -> Value {
    let certificates: Vec<String> =
        tls.certificates.iter().map(|files| files.cert.display().to_string()).collect();
    let clients = match (tls.client_ca.is_empty(), tls.client_cert_required) {
        (true, _) => "none",
        (false, false) => "optional",
        (false, true) => "required",
    };
    json!({
        "certificates": certificates,
        "min_version": tls.min_version,
        "strict_sni": tls.strict_sni,
        "client_certificates": clients,
    })
}
