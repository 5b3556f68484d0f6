//! The content codings, and an encoder of each that can be flushed at any point.

use std::io::{self, Write};

use portcullis_core::{Error, Kind, Line};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gzip::Gzip;

/// A content coding (RFC 9110 §8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Br,
    /// gzip (RFC 1952).
    Gzip,
}

/// How hard each coding tries.
#[derive(Debug, Clone, Copy)]
pub struct Levels {
    /// 1 to 19.
    pub zstd: i32,
    /// 0 to 11.
    pub br: u32,
    /// 1 to 9.
    pub gzip: u32,
}

impl Coding {
    /// As in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Br => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// The `Content-Encoding` field.
    pub fn line(self) -> Option<Line> {
        Line::new("content-encoding", self.name())
    }
}

/// An encoder with what it has put out so far.
pub enum Encoder {
    /// Zstandard.
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// Brotli; boxed, being large.
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    /// gzip.
    Gzip(Gzip),
}

/// Windows of at most 512 KiB (as a power of two): what an encoder and its decoder remember, per answer in flight.
const WINDOW: u32 = 19;

impl Encoder {
    /// A new encoder. `length` is how much is to come, where that is certain: less memory for less.
    pub fn new(coding: Coding, levels: Levels, length: Option<u64>) -> Result<Encoder, Error> {
        let out = Vec::with_capacity(4096);
        // The smallest window that holds it all.
        let window = length.map_or(WINDOW, |length| (u64::BITS - length.leading_zeros()).clamp(10, WINDOW));
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, levels.zstd).map_err(failed)?;
                encoder.window_log(window).map_err(failed)?;
                encoder.set_pledged_src_size(length).map_err(failed)?;
                Encoder::Zstd(encoder)
            }
            Coding::Br => Encoder::Br(Box::new(brotli::CompressorWriter::new(out, 4096, levels.br, window))),
            Coding::Gzip => Encoder::Gzip(Gzip::new(levels.gzip, out)),
        })
    }

    /// Takes bytes in.
    pub fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        match self {
            Encoder::Zstd(encoder) => encoder.write_all(data),
            Encoder::Br(encoder) => encoder.write_all(data),
            Encoder::Gzip(encoder) => encoder.write(data).map_err(io::Error::from),
        }
        .map_err(failed)
    }

    /// Puts out all that was taken in, so that a decoder can read all of it now.
    pub fn flush(&mut self) -> Result<(), Error> {
        match self {
            Encoder::Zstd(encoder) => encoder.flush(),
            Encoder::Br(encoder) => encoder.flush(),
            Encoder::Gzip(encoder) => encoder.flush().map_err(io::Error::from),
        }
        .map_err(failed)
    }

    /// What was put out and not yet taken away.
    pub fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Encoder::Zstd(encoder) => encoder.get_mut(),
            Encoder::Br(encoder) => encoder.get_mut(),
            Encoder::Gzip(encoder) => &mut encoder.output,
        }
    }

    /// Ends the stream; the rest of the output.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        match self {
            Encoder::Zstd(encoder) => encoder.finish().map_err(failed),
            Encoder::Br(encoder) => Ok(encoder.into_inner()),
            Encoder::Gzip(encoder) => encoder.finish().map_err(|error| failed(error.into())),
        }
    }
}

/// Writing to memory does not fail; an encoder that does has been misused.
fn failed(error: io::Error) -> Error {
    Error::because(Kind::Internal, format!("compress: {error}"))
}
