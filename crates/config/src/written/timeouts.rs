//! `[timeouts]`, at the top and at each word.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Deadline, Lit, OrTable, literal::Size};

/// Timeouts for everything; listeners, services and routes may have their own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// TLS handshake of a client. Default 10 s.
    pub handshake: Option<Lit<Duration>>,
    /// From the first byte of a request's head to its last. Default 10 s.
    pub request_header: Option<Lit<Duration>>,
    /// Between two reads of a body, of a request or of an answer. Default 30 s for requests, 60 s for answers.
    pub body_idle: Option<Lit<Duration>>,
    /// Bytes per second that a request's body must reach on average after `body_grace`; 0 means off. Default 240.
    pub body_min_rate: Option<Lit<Size>>,
    /// Time before `body_min_rate` is judged. Default 20 s.
    pub body_grace: Option<Lit<Duration>>,
    /// A write that makes no progress, to a client or to an endpoint. Default 30 s.
    pub write_idle: Option<Lit<Duration>>,
    /// An idle connection of a client between requests. Default 75 s.
    pub keep_alive: Option<Lit<Duration>>,
    /// Age at which a client's connection is closed in an orderly way; 0 means unbounded. Default 1 h.
    pub max_age: Option<Lit<Duration>>,
    /// Connecting to an endpoint, TLS included. Default 3 s.
    pub connect: Option<Lit<Duration>>,
    /// From the request sent to the head of the answer. Default 60 s.
    pub response_header: Option<Lit<Duration>>,
    /// Between two reads of an answer that is a stream (server-sent events, gRPC), where `body_idle` would cut what is only
    /// silent; 0 means unbounded. Default 1 h.
    pub stream_idle: Option<Lit<Duration>>,
    /// A tunnel (WebSocket) without a byte either way; 0 means unbounded. Default 1 h.
    pub tunnel_idle: Option<Lit<Duration>>,
    /// From the arrival of a request to the last byte of its answer; 0 means unbounded. Default: unbounded.
    pub total: Option<Lit<Duration>>,
    /// A header by which clients say how much time they have, and endpoints are told. Default: `grpc-timeout` alone.
    pub deadline: Option<OrTable<Deadline>>,
}

/// How long a listener waits for its client. What is not written comes from `[timeouts]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTimeouts {
    /// TLS handshake. Default 10 s.
    pub handshake: Option<Lit<Duration>>,
    /// From the first byte of a request's head to its last. Default 10 s.
    pub request_header: Option<Lit<Duration>>,
    /// Between two reads of a request's body. Default 30 s.
    pub body_idle: Option<Lit<Duration>>,
    /// Bytes per second that a request's body must reach on average after `body_grace`; 0 means off. Default 240.
    pub body_min_rate: Option<Lit<Size>>,
    /// Time before `body_min_rate` is judged. Default 20 s.
    pub body_grace: Option<Lit<Duration>>,
    /// A write that makes no progress. Default 30 s.
    pub write_idle: Option<Lit<Duration>>,
    /// An idle connection between requests. Default 75 s.
    pub keep_alive: Option<Lit<Duration>>,
    /// Age at which a connection is closed in an orderly way; 0 means unbounded. Default 1 h.
    pub max_age: Option<Lit<Duration>>,
}

/// How long a service waits for its endpoints. What is not written comes from `[timeouts]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceTimeouts {
    /// Connecting, TLS included. Default 3 s.
    pub connect: Option<Lit<Duration>>,
    /// From the request sent to the head of the answer. Default 60 s.
    pub response_header: Option<Lit<Duration>>,
    /// Between two reads of an answer's body. Default 60 s.
    pub body_idle: Option<Lit<Duration>>,
    /// A write of the request that makes no progress. Default 30 s.
    pub write_idle: Option<Lit<Duration>>,
    /// Between two reads of an answer that is a stream (server-sent events, gRPC), where `body_idle` would cut what is only
    /// silent; 0 means unbounded. Default 1 h.
    pub stream_idle: Option<Lit<Duration>>,
    /// A tunnel (WebSocket) without a byte either way; 0 means unbounded. Default 1 h.
    pub tunnel_idle: Option<Lit<Duration>>,
}

/// Timeouts of one route. What is not written comes from its listener and its service.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTimeouts {
    /// From the arrival of a request to the last byte of its answer; 0 means unbounded.
    pub total: Option<Lit<Duration>>,
    /// A header by which clients say how much time they have, and endpoints are told. Default: `grpc-timeout` alone.
    pub deadline: Option<OrTable<Deadline>>,
    /// From the request sent to the head of the answer.
    pub response_header: Option<Lit<Duration>>,
    /// Between two reads of a request's body.
    pub body_idle: Option<Lit<Duration>>,
    /// Between two reads of an answer that is a stream (server-sent events, gRPC); 0 means unbounded.
    pub stream_idle: Option<Lit<Duration>>,
    /// A tunnel (WebSocket) without a byte either way; 0 means unbounded.
    pub tunnel_idle: Option<Lit<Duration>>,
}
