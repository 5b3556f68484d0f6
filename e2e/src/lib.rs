//! Starts the real gateway on real sockets: the harness of the end-to-end tests.
//!
//! `gateway` runs the binary, `endpoint`, `script`, `grpc` and `websocket` are what it forwards to, `client` and `raw`
//! ask it. Nothing sleeps: `wait` polls until a deadline. Every process, port and file belongs to one test.

pub mod captured;
pub mod certs;
pub mod chromium;
pub mod client;
pub mod corpus;
pub mod dns;
pub mod endpoint;
pub mod feed;
pub mod gateway;
pub mod good;
pub mod grpc;
pub mod h3;
pub mod lineage;
pub mod metrics;
pub mod peer;
pub mod ports;
pub mod raw;
pub mod recorder;
pub mod redis;
pub mod script;
pub mod token;
pub mod wait;
pub mod websocket;

pub use client::{Client, Reply, Version};
pub use endpoint::Endpoint;
pub use gateway::{Gateway, Setup};
pub use h3::H3;
pub use lineage::Lineage;
pub use peer::Peer;
pub use raw::RawClient;
pub use recorder::Recorder;
pub use script::Script;
pub use wait::{bounded, within};
