//! gzip over flate2's bare compressor. flate2's own writer does not put out everything on a flush when much is waiting
//! (it goes on without asking for a flush once its buffer was full), and so would hold back the end of an event.

use flate2::{Compress, CompressError, Compression, FlushCompress, Status};

/// A gzip encoder with what it has put out so far.
pub struct Gzip {
    compress: Compress,
    /// What was put out.
    pub output: Vec<u8>,
}

/// Room for output that is made before each step.
const ROOM: usize = 4096;
/// A window of 32 KiB, the most that gzip has.
const WINDOW_BITS: u8 = 15;

impl Gzip {
    /// A new encoder.
    pub fn new(level: u32, output: Vec<u8>) -> Gzip {
        Gzip { compress: Compress::new_gzip(Compression::new(level), WINDOW_BITS), output }
    }

    /// Takes bytes in.
    pub fn write(&mut self, data: &[u8]) -> Result<(), CompressError> {
        self.run(data, FlushCompress::None)
    }

    /// Puts out all that was taken in.
    pub fn flush(&mut self) -> Result<(), CompressError> {
        self.run(&[], FlushCompress::Sync)
    }

    /// Ends the stream; the rest of the output.
    pub fn finish(mut self) -> Result<Vec<u8>, CompressError> {
        self.run(&[], FlushCompress::Finish)?;
        Ok(self.output)
    }

    /// zlib's rule: call again, with the same kind of flush, until all input is taken and room is left.
    fn run(&mut self, mut input: &[u8], flush: FlushCompress) -> Result<(), CompressError> {
        loop {
            self.output.reserve(ROOM);
            let before = self.compress.total_in();
            let status = self.compress.compress_vec(input, &mut self.output, flush)?;
            let taken = usize::try_from(self.compress.total_in() - before).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            let room_left = self.output.len() < self.output.capacity();
            if status == Status::StreamEnd || (input.is_empty() && room_left) {
                return Ok(());
            }
        }
    }
}
