//! Our HTTP/1.1 against hyper's: same bytes in, same meaning out, or we refuse.
#![no_main]

#[path = "../../crates/proxy/tests/hyper/mod.rs"]
mod hyper_peer;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    thread_local!(static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));
    RUNTIME.with(|runtime| runtime.block_on(hyper_peer::compare(bytes)));
});
