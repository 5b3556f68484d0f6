//! The readers of configuration: no input panics, every refusal says why.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_config::{AnyKind, Format, NoEnv, load_text};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let format = [Format::Toml, Format::Yaml, Format::Json][usize::from(*first) % 3];
    let outcome = load_text(text, format, "fuzz", &NoEnv, &AnyKind);
    assert!(outcome.model.is_some() || !outcome.findings.is_empty());
    let _ = outcome.render(false);
});
