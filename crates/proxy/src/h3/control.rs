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
    frames::Frames,
    peer::Peer,
    scan::{Fault, Found, kind},
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
        QPACK_ENCODER => encoder(&peer, &mut frames).await,
        QPACK_DECODER => decoder(&peer, &mut frames).await,
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
    let (mut last, mut pushes) = (u64::MAX, 0);
    loop {
        let frame = match poll_fn(|cx| frames.poll(cx)).await {
            Ok(Found::Frame(kind, payload)) => (kind, payload),
            Ok(Found::Unknown) if is_settled => {
                peer.sent_control();
                continue;
            }
            Ok(Found::Unknown | Found::Data(_)) if !is_settled => {
                return Fault::Connection(code::MISSING_SETTINGS, "no settings first");
            }
            Ok(Found::Unknown | Found::Data(_)) => {
                return Fault::Connection(code::FRAME_UNEXPECTED, "data without a request");
            }
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
            // We push nothing, so that none of these changes anything. But they have their rules (§5.2, §7.2.7).
            (kind::GOAWAY, payload) => integer(&payload, |id| id <= last).map(|id| last = id),
            (kind::MAX_PUSH_ID, payload) => integer(&payload, |id| id >= pushes).map(|id| pushes = id),
            (kind::CANCEL_PUSH, payload) => integer(&payload, |_| false).map(drop),
            _ => Err(Fault::Connection(code::FRAME_UNEXPECTED, "no control frame")),
        };
        if let Err(fault) = result {
            return fault;
        }
    }
}

/// A payload of one integer, which is to be right.
fn integer(payload: &[u8], is_right: impl Fn(u64) -> bool) -> Result<u64, Fault> {
    match varint::read(payload) {
        Some((id, length)) if length == payload.len() && is_right(id) => Ok(id),
        Some((_, length)) if length == payload.len() => {
            Err(Fault::Connection(code::ID_ERROR, "an id that cannot be, or not any more"))
        }
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

/// The encoder's stream of QPACK (RFC 9204 §4.3). We announced no table, so that there is one thing that it may say: that
/// it uses none.
async fn encoder(peer: &Peer, frames: &mut Frames) -> Fault {
    /// Set Dynamic Table Capacity to 0 (§4.3.1).
    const NO_TABLE: u8 = 0x20;
    loop {
        match poll_fn(|cx| frames.poll_byte(cx)).await {
            Ok(Some(NO_TABLE)) => peer.sent_control(),
            Ok(Some(_)) => {
                return Fault::Connection(code::ENCODER_STREAM_ERROR, "a table that we said we do not have");
            }
            ended => return table_ended(ended),
        }
    }
}

/// The decoder's (§4.4). We refer to no table, so that nothing can be acknowledged; that it gives a stream up, it may say.
async fn decoder(peer: &Peer, frames: &mut Frames) -> Fault {
    let mut cancellation = Cancellation::default();
    loop {
        match poll_fn(|cx| frames.poll_byte(cx)).await {
            Ok(Some(byte)) => match cancellation.take(byte) {
                Ok(true) => peer.sent_control(),
                Ok(false) => {}
                Err(()) => return Fault::Connection(code::DECODER_STREAM_ERROR, "news of no table"),
            },
            ended => return table_ended(ended),
        }
    }
}

fn table_ended(ended: Result<Option<u8>, Fault>) -> Fault {
    match ended {
        Err(Fault::Gone) => Fault::Gone,
        // RFC 9204 §4.2
        _ => Fault::Connection(code::CLOSED_CRITICAL_STREAM, "a QPACK stream has ended"),
    }
}

/// A Stream Cancellation (RFC 9204 §4.4.2), byte by byte: `01`, and an integer of which six bits fit into the first.
#[derive(Debug, Default)]
struct Cancellation {
    /// Bytes of the integer so far, while it is not whole.
    begun: u32,
}

impl Cancellation {
    /// No stream's number is longer.
    const LONGEST: u32 = 10;

    /// Takes a byte; true when that was the last. Fails at what is none.
    fn take(&mut self, byte: u8) -> Result<bool, ()> {
        let goes_on = match self.begun {
            0 if byte & 0xc0 != 0x40 => return Err(()),
            0 => byte & 0x3f == 0x3f,
            _ => byte & 0x80 != 0,
        };
        self.begun = if goes_on { self.begun + 1 } else { 0 };
        if self.begun > Self::LONGEST { Err(()) } else { Ok(!goes_on) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_is_whole_or_none() {
        let take = |bytes: &[u8]| -> Result<Vec<bool>, ()> {
            let mut cancellation = Cancellation::default();
            bytes.iter().map(|byte| cancellation.take(*byte)).collect()
        };
        assert_eq!(
            take(&[0x44, 0x7e, 0x7f, 0x81, 0x01, 0x40]),
            Ok(vec![true, true, false, false, true, true])
        );
        for none in [&[0x84][..], &[0x01], &[0x44, 0xff], &[[0x7f].as_slice(), &[0xff; 10]].concat()] {
            assert!(take(none).is_err(), "{none:?}");
        }
    }

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
        assert_eq!(integer(&[0x40, 0x04], |id| id == 4), Ok(4));
        let refused = |payload: &[u8], expected| matches!(integer(payload, |id| id < 4), Err(Fault::Connection(code, _)) if code == expected);
        assert!(refused(&[0x04], code::ID_ERROR));
        assert!(refused(&[0x04, 0x04], code::FRAME_ERROR) && refused(&[], code::FRAME_ERROR));
    }
}
