//! Chunked bodies: in whatever pieces they arrive, the data, the trailers and the end are the same, and what was read is
//! read from its own encoding. The first two bytes choose the sizes of the pieces and of the reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_core::Fields;
use portcullis_proxy::{
    h1::chunked::{CHUNK_MAX, Chunked, Step, close_chunk, end, open_chunk},
    io::Input,
};

#[derive(Debug, PartialEq)]
enum Outcome {
    /// Data, trailers as written, bytes used.
    Whole(Vec<u8>, Option<Vec<u8>>, usize),
    Refused,
    Unfinished,
}

fn text(fields: Option<&Fields>) -> Option<Vec<u8>> {
    fields.map(|fields| {
        let mut out = Vec::new();
        fields.write_to(&mut out);
        out
    })
}

fn decode(bytes: &[u8], size: usize, limit: usize) -> Outcome {
    let (mut chunked, mut input, mut out, mut fed) = (Chunked::default(), Input::default(), Vec::new(), 0);
    for piece in bytes.chunks(size.max(1)) {
        let mut rest = input.take();
        rest.extend_from_slice(piece);
        input = Input::holding(rest);
        fed += piece.len();
        loop {
            let before = out.len();
            match chunked.step(&mut input, &mut out, limit) {
                Err(_) => return Outcome::Refused,
                Ok(Step::More) => break,
                Ok(Step::Data(count)) => {
                    assert!(count > 0 && count <= limit && out.len() == before + count);
                }
                Ok(Step::End(trailers)) => {
                    assert!(chunked.is_done());
                    return Outcome::Whole(out, text(trailers.as_ref()), fed - input.unread().len());
                }
            }
        }
    }
    Outcome::Unfinished
}

fuzz_target!(|data: &[u8]| {
    let [size, limit, bytes @ ..] = data else { return };
    let whole = decode(bytes, bytes.len(), usize::MAX);
    let pieces = decode(bytes, usize::from(*size), usize::from(*limit).max(1));
    assert_eq!(whole, pieces);
    let Outcome::Whole(data, trailers, _) = whole else { return };
    let mut out = Vec::new();
    for piece in data.chunks(CHUNK_MAX) {
        let start = open_chunk(&mut out);
        out.extend_from_slice(piece);
        close_chunk(&mut out, start);
    }
    end(&mut out, None);
    if let Some(trailers) = &trailers {
        out.truncate(out.len() - 2);
        out.extend_from_slice(trailers);
        out.extend_from_slice(b"\r\n");
    }
    let trailers = trailers.filter(|trailers| !trailers.is_empty());
    assert_eq!(decode(&out, 7, usize::MAX), Outcome::Whole(data, trailers, out.len()));
});
