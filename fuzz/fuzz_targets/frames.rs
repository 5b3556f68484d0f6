//! Frames of HTTP/3, and those of HTTP/2 as they are counted: in whatever pieces a stream comes, what is found in it is the
//! same, and it is what a plain reader of the whole finds. The first byte chooses the protocol, the second the size of the
//! pieces, the third how large a frame may be.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis_proxy::{
    h2::meter::Frames,
    h3::scan::{Fault, Found, Scan},
};

fuzz_target!(|data: &[u8]| {
    let Some((&[protocol, size, most], stream)) = data.split_first_chunk() else { return };
    let size = usize::from(size) + 1;
    if protocol & 1 == 0 {
        let most = usize::from(most) * 8;
        let found = found(stream, size, most);
        assert_eq!(found, plainly(stream, most), "in pieces of {size}");
    } else {
        let mut frames = Frames::default();
        let mut kinds = Vec::new();
        stream.chunks(size).for_each(|piece| frames.scan(piece, |kind| kinds.push(kind)));
        assert_eq!((kinds, frames.heads()), plainly_h2(stream), "in pieces of {size}");
    }
});

/// What is found until the end of what is there, or an error; and is that between two frames?
type Outcome = (Vec<Found>, Result<bool, Fault>);

fn found(stream: &[u8], size: usize, most: usize) -> Outcome {
    let (mut scan, mut all) = (Scan::new(most), Vec::new());
    for piece in stream.chunks(size) {
        scan.feed(Bytes::copy_from_slice(piece));
        loop {
            match scan.take() {
                Ok(Some(found)) => push(&mut all, found),
                Ok(None) => break,
                Err(fault) => return (all, Err(fault)),
            }
        }
        assert!(scan.is_dry());
    }
    (all, Ok(scan.is_between()))
}

/// Pieces of DATA that follow each other are one.
fn push(all: &mut Vec<Found>, found: Found) {
    if let Found::Frame(_, payload) = &found {
        assert!(payload.len() <= 255 * 8);
    }
    match (all.last_mut(), found) {
        (Some(Found::Data(before)), Found::Data(data)) if !before.is_empty() && !data.is_empty() => {
            *before = [&before[..], &data[..]].concat().into();
        }
        (_, found) => all.push(found),
    }
}

fn integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = 1 << (bytes.first()? >> 6);
    let (own, rest) = bytes.split_at_checked(length)?;
    let mut wide = [0; 8];
    wide[8 - length..].copy_from_slice(own);
    wide[8 - length] &= 0x3f;
    Some((u64::from_be_bytes(wide), rest))
}

fn plainly(mut stream: &[u8], most: usize) -> Outcome {
    let mut all = Vec::new();
    while !stream.is_empty() {
        let head = integer(stream).and_then(|(kind, rest)| Some((kind, integer(rest)?)));
        let Some((kind, (length, rest))) = head else { return (all, Ok(false)) };
        let (payload, after) = rest.split_at(rest.len().min(usize::try_from(length).expect("64 bits")));
        let is_whole = payload.len() as u64 == length;
        match kind {
            0 if length == 0 || !payload.is_empty() => {
                push(&mut all, Found::Data(Bytes::copy_from_slice(payload)))
            }
            0 => {}
            1 | 3 | 4 | 5 | 7 | 0xd if length > most as u64 => return (all, Err(Fault::TooLarge)),
            1 | 3 | 4 | 5 | 7 | 0xd if is_whole => push(&mut all, Found::Frame(kind, payload.to_vec())),
            // H3_FRAME_UNEXPECTED
            2 | 6 | 8 | 9 => {
                return (all, Err(Fault::Connection(0x105_u32.into(), "a frame of HTTP/2")));
            }
            _ if is_whole => push(&mut all, Found::Unknown),
            _ => {}
        }
        if !is_whole {
            return (all, Ok(false));
        }
        stream = after;
    }
    (all, Ok(true))
}

/// The types of frames behind the preface, and how many heads of new streams are there whole.
fn plainly_h2(stream: &[u8]) -> (Vec<u8>, u64) {
    let (mut kinds, mut heads, mut newest, mut is_new) = (Vec::new(), 0, 0, false);
    let mut rest = stream.get(24..).unwrap_or_default();
    while let Some((&[a, b, c, kind, flags, stream @ ..], payload)) = rest.split_first_chunk::<9>() {
        kinds.push(kind);
        if kind == 1 {
            let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
            is_new = stream > newest;
            newest = newest.max(stream);
        }
        let Some(after) = payload.get(u32::from_be_bytes([0, a, b, c]) as usize..) else { break };
        heads += u64::from(matches!(kind, 1 | 9) && is_new && flags & 4 != 0);
        rest = after;
    }
    (kinds, heads)
}
