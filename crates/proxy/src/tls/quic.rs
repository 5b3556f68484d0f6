//! TLS as QUIC speaks it: always 1.3, with the certificates and the demands of the same listener over TCP.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use portcullis_config::model::ListenerTls;
use quinn::{TransportConfig, VarInt, crypto::rustls::QuicServerConfig};
use ring::rand::SecureRandom;
use rustls::{ServerConfig, server::ServerSessionMemoryCache, version::TLS13};

use super::{TlsError, resolver::Resolver, server};
use crate::streams::{CONNECTION_WINDOW, STREAM_WINDOW};

/// Sessions that are remembered, where safe requests are served before the handshake is complete: each of their tickets is
/// good for one connection, so that what was sent with it cannot be replayed.
const SESSIONS: usize = 8192;
/// What a client that keeps to the rules has open at once of its unidirectional streams, and a few that mean nothing.
const UNI_STREAMS: u32 = 16;
/// What quinn holds of one connection's answers until the client has acknowledged them.
const SEND_WINDOW: u64 = 1024 * 1024;
/// How long a client may be silent, answering no question whether it is there, before it is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a client that is silent is asked.
const QUESTION: Duration = Duration::from_secs(12);

/// The cryptography of QUIC connections of a listener.
pub(super) fn crypto(
    settings: &ListenerTls,
    early_data: bool,
    client_ca: &[Vec<u8>],
    resolver: Arc<Resolver>,
) -> Result<QuicServerConfig, TlsError> {
    let mut config: ServerConfig = server::make(settings, &[&TLS13], client_ca, resolver)?;
    config.alpn_protocols = vec![b"h3".to_vec()];
    if early_data {
        // rustls takes early data only of sessions that it remembers, each once.
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.max_early_data_size = u32::MAX;
    } else {
        config.ticketer = server::ticketer()?;
    }
    QuicServerConfig::try_from(config).map_err(TlsError::new)
}

/// How connections of a listener are made: so many streams may be open at once.
pub fn quic_config(crypto: Arc<QuicServerConfig>, streams: u32) -> quinn::ServerConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(VarInt::from_u32(SILENCE.as_millis() as u32).into()))
        .keep_alive_interval(Some(QUESTION));
    let mut config = quinn::ServerConfig::new(crypto, token_key());
    config.transport_config(Arc::new(transport));
    config
}

/// What proves that a client has an address. One for the process: a reload must not make clients prove it again.
fn token_key() -> Arc<dyn quinn::crypto::HandshakeTokenKey> {
    static KEY: OnceLock<Arc<ring::hkdf::Prk>> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let salt = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]);
        Arc::new(salt.extract(&secret::<64>()))
    });
    key.clone()
}

/// A secret of this process.
pub fn secret<const N: usize>() -> [u8; N] {
    let mut secret = [0; N];
    // Without randomness there is no TLS either.
    let _ = ring::rand::SystemRandom::new().fill(&mut secret);
    secret
}
