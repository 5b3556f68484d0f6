//! A string of this thread's, for text that is put together for a moment and then copied into a message.

use std::cell::RefCell;

/// Longer buffers are given back to the allocator instead of being kept.
const KEPT: usize = 16 * 1024;

thread_local! {
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Lends an empty string. A nested call gets a fresh one.
pub fn with<T>(work: impl FnOnce(&mut String) -> T) -> T {
    let mut text = TEXT.try_with(RefCell::take).unwrap_or_default();
    text.clear();
    let result = work(&mut text);
    if text.capacity() <= KEPT {
        let _ = TEXT.try_with(|kept| kept.replace(text));
    }
    result
}
