//! Buffers that are used again: each thread keeps a few, so that a connection holds one only while it has bytes in it.

use std::cell::RefCell;

/// The size a buffer starts with: a whole small exchange.
pub const SIZE: usize = 16 * 1024;
/// Larger ones are let go.
const KEPT_SIZE: usize = 256 * 1024;
const KEPT: usize = 64;

thread_local!(static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) });

/// An empty buffer of at least [`SIZE`].
pub fn take() -> Vec<u8> {
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
    spare.unwrap_or_else(|| Vec::with_capacity(SIZE))
}

/// Gives a buffer back.
pub fn give(mut buffer: Vec<u8>) {
    if buffer.capacity() < SIZE || buffer.capacity() > KEPT_SIZE {
        return;
    }
    buffer.clear();
    // The thread may be ending; then the buffer simply goes.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < KEPT {
            spare.push(buffer);
        }
    });
}
