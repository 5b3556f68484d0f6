//! The client's unidirectional streams (RFC 9114 §6.2): its settings, and what it tells about the connection as a whole.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use quinn::RecvStream;

use super::{
    code,
    frames::{Fault, Found, Frames, kind},
    peer::Peer,
    varint,
};

/// Types of streams.
const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const QPACK_ENCODER: u64 = 0x2;
const QPACK_DECODER: u64 = 0x3;

/// The longest frame on a control stream.
const LONGEST: usize = 4096;

/// Which of the streams are there that there may be once.
#[derive(Debug, Default)]
pub(super) struct Critical(AtomicU8);

impl Critical {
    fn is_first(&self, kind: u64) -> bool {
        let bit = 1 << kind;
        self.0.fetch_or(bit, Relaxed) & bit == 0
    }
}

/// Reads a stream to its end.
pub(super) async fn run(peer: Arc<Peer>, critical: Arc<Critical>, stream: RecvStream) {
    let mut frames = Frames::new(stream, LONGEST);
    let kind = match poll_fn(|cx| frames.poll_type(cx)).await {
        Ok(Some(kind)) => kind,
        // §6.2: that must be tolerated.
        Ok(None) | Err(_) => return peer.sent_control(),
    };
    let fault = match kind {
        CONTROL | QPACK_ENCODER | QPACK_DECODER if !critical.is_first(kind) => {
            Fault::Connection(code::STREAM_CREATION_ERROR, "a critical stream twice")
        }
        CONTROL => control(&peer, &mut frames).await,
        QPACK_ENCODER | QPACK_DECODER => table(&mut frames).await,
        // §4.6
        PUSH => Fault::Connection(code::STREAM_CREATION_ERROR, "a push from a client"),
        _ => {
            peer.sent_control();
            frames.stop(code::STREAM_CREATION_ERROR);
            return;
        }
    };
    peer.judge(fault);
}

/// Frames of the control stream, until something is wrong.
async fn control(peer: &Peer, frames: &mut Frames) -> Fault {
    let mut is_settled = false;
    loop {
        let frame = match poll_fn(|cx| frames.poll(cx)).await {
            Ok(Found::Frame(kind, payload)) => (kind, payload),
            Ok(Found::Unknown) if is_settled => {
                peer.sent_control();
                continue;
            }
            Ok(Found::Unknown) => return Fault::Connection(code::MISSING_SETTINGS, "no settings first"),
            Ok(Found::Data(_)) => return Fault::Connection(code::FRAME_UNEXPECTED, "data without a request"),
            Ok(Found::End) | Err(Fault::Reset) => {
                return Fault::Connection(code::CLOSED_CRITICAL_STREAM, "the control stream has ended");
            }
            Err(Fault::TooLarge) => return Fault::Connection(code::EXCESSIVE_LOAD, "a huge control frame"),
            Err(fault) => return fault,
        };
        peer.sent_control();
        let result = match frame {
            (kind::SETTINGS, payload) if !is_settled => {
                is_settled = true;
                settings(&payload)
            }
            (kind::SETTINGS, _) => Err(Fault::Connection(code::FRAME_UNEXPECTED, "settings twice")),
            _ if !is_settled => Err(Fault::Connection(code::MISSING_SETTINGS, "no settings first")),
            // We push nothing, so that none of these changes anything.
            (kind::GOAWAY | kind::MAX_PUSH_ID, payload) => only_integer(&payload),
            (kind::CANCEL_PUSH, _) => Err(Fault::Connection(code::ID_ERROR, "no such push")),
            _ => Err(Fault::Connection(code::FRAME_UNEXPECTED, "no control frame")),
        };
        if let Err(fault) = result {
            return fault;
        }
    }
}

/// A payload of one integer.
fn only_integer(payload: &[u8]) -> Result<(), Fault> {
    match varint::read(payload) {
        Some((_, length)) if length == payload.len() => Ok(()),
        _ => Err(Fault::Connection(code::FRAME_ERROR, "a frame of the wrong length")),
    }
}

/// Checks settings (§7.2.4). What they allow us is more than we use.
fn settings(mut payload: &[u8]) -> Result<(), Fault> {
    let wrong = |why| Fault::Connection(code::SETTINGS_ERROR, why);
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let mut next = || {
            let (value, length) = varint::read(payload)?;
            payload = payload.get(length..)?;
            Some(value)
        };
        let (Some(name), Some(_)) = (next(), next()) else {
            return Err(Fault::Connection(code::FRAME_ERROR, "settings that end too early"));
        };
        if matches!(name, 0x0 | 0x2..=0x5) {
            return Err(wrong("a setting of HTTP/2"));
        }
        if seen.contains(&name) {
            return Err(wrong("a setting twice"));
        }
        seen.push(name);
        if seen.len() > 256 {
            return Err(Fault::Connection(code::EXCESSIVE_LOAD, "too many settings"));
        }
    }
    Ok(())
}

/// A stream of QPACK. Since there is no table, nothing that could be said about it means anything.
async fn table(frames: &mut Frames) -> Fault {
    match poll_fn(|cx| frames.poll_closed(cx)).await {
        Fault::Gone => Fault::Gone,
        Fault::TooLarge => Fault::Connection(code::EXCESSIVE_LOAD, "a table that we said we do not have"),
        // RFC 9204 §4.2
        _ => Fault::Connection(code::CLOSED_CRITICAL_STREAM, "a QPACK stream has ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_judged() {
        assert_eq!(settings(&[]), Ok(()));
        // Also one that nobody knows.
        assert_eq!(settings(&[0x06, 0x40, 0x40, 0x01, 0x00, 0x21, 0x05]), Ok(()));
        for (bad, why) in [
            (&[0x06][..], code::FRAME_ERROR),
            (&[0x06, 0x40], code::FRAME_ERROR),
            (&[0x02, 0x00], code::SETTINGS_ERROR),
            (&[0x06, 0x01, 0x06, 0x01], code::SETTINGS_ERROR),
        ] {
            assert!(matches!(settings(bad), Err(Fault::Connection(code, _)) if code == why), "{bad:?}");
        }
        assert_eq!(only_integer(&[0x40, 0x04]), Ok(()));
        assert!(only_integer(&[0x04, 0x04]).is_err() && only_integer(&[]).is_err());
    }
}
