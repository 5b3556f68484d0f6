//! A request on its way: what every stage and every middleware sees.

use std::{
    any::Any,
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::StatusCode;
use serde_json::{Map, Value};

use crate::{BoxFuture, Error, Fields, Request};

/// A request with what is known about it so far. Lives from the arrival of a head to the last byte of the answer.
pub struct Exchange {
    /// The request; middlewares may change it before it is forwarded.
    pub request: Request,
    /// The connection it came on.
    pub connection: Arc<Connection>,
    /// The client's side while the exchange lasts: is it still there, and interim answers to it.
    pub client_link: Arc<dyn ClientLink>,
    /// The client's address: the peer, or what a trusted proxy said of it.
    pub client: IpAddr,
    /// `https` or `http`, as the client used it: this connection's, or what a trusted proxy said.
    pub secure: bool,
    /// When the head was complete.
    pub started: Instant,
    /// The chosen route's name; empty before routing.
    pub route: Arc<str>,
    /// Values of the route's `{parameters}`: name and value (still percent-encoded).
    pub parameters: Vec<(Arc<str>, String)>,
    /// The request's id: accepted from a trusted peer or generated, when a middleware or an error needed one.
    pub id: Option<Box<str>>,
    /// The `X-Request-Id` that an untrusted peer sent: taken out of the fields, for a middleware that wants it all the
    /// same.
    pub claimed_id: Option<Box<str>>,
    /// Who the client is; see [`Exchange::identify`].
    identity: Option<Arc<Identity>>,
    /// What middlewares remember between request and answer; see [`Exchange::remember`].
    slots: Vec<Box<dyn Any + Send>>,
}

/// Facts of one client connection, shared by all requests on it.
#[derive(Debug)]
pub struct Connection {
    /// The TCP peer.
    pub peer: SocketAddr,
    /// The peer's IP address as text, as `X-Forwarded-For` wants it.
    pub peer_text: Box<str>,
    /// Our address.
    pub local: SocketAddr,
    /// The listener's name.
    pub listener: Arc<str>,
    /// Is the peer one of the listener's trusted proxies?
    pub trusted: bool,
    /// TLS facts; `None` on plaintext.
    pub tls: Option<TlsFacts>,
    /// The protocol in use.
    pub protocol: Protocol,
    /// A number that is unique in this process, for logs.
    pub id: u64,
    /// The forwarding fields of the last request, for the next that needs the same.
    pub prepared: crate::forwarded::Prepared,
}

/// What is known of a TLS connection.
#[derive(Debug, Clone, Default)]
pub struct TlsFacts {
    /// `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// The name the client asked for.
    pub sni: Option<Box<str>>,
    /// The client's certificate, DER, when it gave one that was verified.
    pub client_certificate: Option<Arc<[u8]>>,
}

/// Who a client is, once a middleware has checked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name, unique among all clients of one issuer: a user's id, a key's name, a certificate's subject.
    pub subject: Box<str>,
    /// How that was found out: the kind of the middleware.
    pub by: &'static str,
    /// Was it found out by `Authorization`? What else stands there then is not credentials that nobody has checked.
    pub by_authorization: bool,
    /// What else whoever vouches for it says: the claims of a token, by name.
    pub claims: Map<String, Value>,
}

impl Identity {
    /// What makes it one client and no other: who found out, who issued what it was found out by, its name.
    pub fn parts(&self) -> [Cow<'_, str>; 3] {
        [self.by.into(), self.claim("iss").unwrap_or_default(), (&*self.subject).into()]
    }

    /// A claim as text: strings as they are, numbers and the like as in JSON. `realm.tenant` is found inside of `realm`,
    /// unless a claim has that whole name. `None` where it is not said, or said to be nothing.
    pub fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.claim_value(name)? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            other => Some(Cow::Owned(other.to_string())),
        }
    }

    /// A claim as it was said, by the same names as [`Identity::claim`].
    pub fn claim_value(&self, name: &str) -> Option<&Value> {
        inside(&self.claims, name).filter(|value| !value.is_null())
    }
}

/// What has this name, or that of a table and, behind a dot, that of something inside.
fn inside<'a>(table: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    table.get(name).or_else(|| {
        name.match_indices('.').find_map(|(at, _)| {
            let inner = table.get(name.get(..at)?)?.as_object()?;
            inside(inner, name.get(at + 1..)?)
        })
    })
}

/// What a refused request has violated, for the body of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violated {
    /// The policies.
    pub policies: Vec<Arc<str>>,
    /// Does nobody exceed these who uses the service as it is meant?
    pub abnormal: bool,
}

/// Protocol spoken with the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

impl Protocol {
    /// As in `Via` (RFC 9110 §7.6.3): `1.1`, `2`, `3`.
    pub fn version(self) -> &'static str {
        match self {
            Protocol::Http1 => "1.1",
            Protocol::Http2 => "2",
            Protocol::Http3 => "3",
        }
    }
}

/// The client's side of an exchange.
pub trait ClientLink: Send + Sync {
    /// Ready when the client went away. Registers the task for wake-up; costs no system call while nothing happens.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Sends an interim answer (100, 103 …) ahead of the final one. Protocols that cannot, drop it.
    fn interim<'a>(&'a self, status: StatusCode, fields: &'a Fields) -> BoxFuture<'a, Result<(), Error>>;
}

/// A client that never leaves and takes no interim answers: for tests and for requests of our own.
pub struct NoLink;

impl ClientLink for NoLink {
    fn poll_gone(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn interim<'a>(&'a self, _: StatusCode, _: &'a Fields) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Exchange {
    /// A fresh exchange; client address and scheme are those of the connection until forwarding headers are read.
    pub fn new(
        request: Request,
        connection: Arc<Connection>,
        client_link: Arc<dyn ClientLink>,
        started: Instant,
    ) -> Exchange {
        Exchange {
            request,
            client: connection.peer.ip(),
            secure: connection.tls.is_some(),
            connection,
            client_link,
            started,
            route: empty(),
            parameters: Vec::new(),
            id: None,
            claimed_id: None,
            identity: None,
            slots: Vec::new(),
        }
    }

    /// An exchange for the same request, as it stands now, that goes its own way: without body, without what middlewares
    /// remember, and with this link to a client ([`NoLink`] where nobody waits).
    pub fn twin(&self, client_link: Arc<dyn ClientLink>) -> Exchange {
        Exchange {
            request: self.request.twin(),
            connection: self.connection.clone(),
            client_link,
            client: self.client,
            secure: self.secure,
            started: self.started,
            route: self.route.clone(),
            parameters: self.parameters.clone(),
            id: self.id.clone(),
            claimed_id: self.claimed_id.clone(),
            identity: self.identity.clone(),
            slots: Vec::new(),
        }
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Keeps a value of a middleware's own until the answer comes by. One value per type.
    pub fn remember<T: Any + Send>(&mut self, value: T) {
        self.slots.retain(|slot| !slot.is::<T>());
        self.slots.push(Box::new(value));
    }

    /// Who the client is, as a middleware that checked has found. Later middlewares count and decide by it.
    pub fn identify(&mut self, identity: Identity) {
        self.identity = Some(Arc::new(identity));
    }

    /// Who the client is, if a middleware has found out.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// The value of this type, for changing it, if one was remembered.
    pub fn recall_mut<T: Any + Send>(&mut self) -> Option<&mut T> {
        self.slots.iter_mut().find_map(|slot| slot.downcast_mut())
    }

    /// The value of this type, if one was remembered.
    pub fn recall<T: Any + Send>(&self) -> Option<&T> {
        self.slots.iter().find_map(|slot| slot.downcast_ref())
    }

    /// An exchange for tests, from 127.0.0.1.
    pub fn for_test(request: Request) -> Exchange {
        let local = SocketAddr::from(([127, 0, 0, 1], 8080));
        let connection = Connection {
            peer: SocketAddr::from(([127, 0, 0, 1], 50000)),
            peer_text: "127.0.0.1".into(),
            local,
            listener: "web".into(),
            trusted: false,
            tls: None,
            protocol: Protocol::Http1,
            id: 1,
            prepared: Default::default(),
        };
        Exchange::new(request, Arc::new(connection), Arc::new(NoLink), Instant::now())
    }
}

/// The empty name, allocated once per thread.
fn empty() -> Arc<str> {
    thread_local!(static EMPTY: Arc<str> = Arc::from(""));
    EMPTY.try_with(Arc::clone).unwrap_or_else(|_| Arc::from(""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_found_by_their_whole_name_or_inside_of_tables() {
        let claims = json!({
            "sub": "ana", "level": 7, "admin": true, "nothing": null, "roles": ["a", "b"],
            "realm": { "tenant": "north", "https://x.example/y": 1 }, "realm.tenant.id": "whole",
        });
        let Value::Object(claims) = claims else { unreachable!() };
        let identity = Identity { subject: "ana".into(), by: "test", by_authorization: true, claims };
        let cases = [
            ("sub", Some("ana")),
            ("level", Some("7")),
            ("admin", Some("true")),
            ("roles", Some(r#"["a","b"]"#)),
            ("realm.tenant", Some("north")),
            ("realm.https://x.example/y", Some("1")),
            ("realm.tenant.id", Some("whole")),
            ("nothing", None),
            ("other", None),
            ("sub.x", None),
            ("realm.", None),
            (".", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(identity.claim(name).as_deref(), expected, "{name:?}");
        }
    }
}
