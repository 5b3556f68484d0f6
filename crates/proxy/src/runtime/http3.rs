//! HTTP/3 of a listener: how its connections are made, and how clients learn of it (`Alt-Svc`, RFC 7838).

use std::{sync::Arc, time::Duration};

use portcullis_config::model::{Http3, ListenerLimits};
use portcullis_core::{Answer, Connection, Protocol};

use crate::tls::{ServerTls, quic_config};

/// How QUIC connections of a listener are made, where it has any.
pub(super) fn quic(tls: Option<&ServerTls>, limits: &ListenerLimits) -> Option<Arc<quinn::ServerConfig>> {
    let crypto = tls?.quic.clone()?;
    Some(Arc::new(quic_config(crypto, limits.h2_streams)))
}

/// What clients are told, made once for the port that is most likely theirs.
#[derive(Debug, Clone)]
pub struct AltSvc {
    max_age: Duration,
    advertised_port: Option<u16>,
    port: u16,
    text: Box<str>,
}

impl AltSvc {
    /// For a listener on this port; `None` when clients are to be told nothing.
    pub fn new(http3: &Http3, port: u16) -> Option<AltSvc> {
        let Http3 { max_age, advertised_port, .. } = *http3;
        let port = advertised_port.unwrap_or(port);
        let text = text(port, max_age).into();
        (!max_age.is_zero()).then_some(AltSvc { max_age, advertised_port, port, text })
    }

    /// Tells it by an answer that does not itself say something about other ways to its origin.
    pub fn tell(&self, connection: &Connection, answer: &mut Answer) {
        if connection.protocol == Protocol::Http3 || answer.fields.contains("alt-svc") {
            return;
        }
        let port = self.advertised_port.unwrap_or(connection.local.port());
        if port == self.port {
            answer.fields.append("alt-svc", self.text.as_bytes());
        } else {
            answer.fields.append("alt-svc", text(port, self.max_age));
        }
    }
}

fn text(port: u16, max_age: Duration) -> String {
    format!("h3=\":{port}\"; ma={}", max_age.as_secs())
}
