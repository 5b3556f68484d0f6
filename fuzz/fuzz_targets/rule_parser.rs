//! The rule parser neither panics nor hangs, what it accepts reads back from its canonical text, and its errors point
//! into the rule.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_config::rule::{PathTemplate, parse};

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(rule) => {
            let shown = rule.to_string();
            assert_eq!(parse(&shown).as_ref(), Ok(&rule), "{text} → {shown}");
            assert!(rule.implies(&rule));
        }
        Err(error) => {
            assert!(error.offset <= text.len() && error.column >= 1 && error.width >= 1);
            assert!(!error.message.is_empty());
        }
    }
    if let Ok(template) = PathTemplate::parse(text) {
        assert_eq!(PathTemplate::parse(&template.text).as_ref(), Ok(&template));
    }
});
