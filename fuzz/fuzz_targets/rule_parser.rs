//! The parsers of rules and of the expressions of circuit breakers neither panic nor hang, what they accept reads back from
//! its canonical text, and their errors point into the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_config::{
    expression::Expression,
    rule::{PathTemplate, RuleError, parse},
};

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(rule) => {
            let shown = rule.to_string();
            assert_eq!(parse(&shown).as_ref(), Ok(&rule), "{text} → {shown}");
            assert!(rule.implies(&rule));
        }
        Err(error) => check(text, &error),
    }
    match Expression::parse(text) {
        Ok(expression) => {
            let shown = expression.to_string();
            assert_eq!(Expression::parse(&shown).as_ref(), Ok(&expression), "{text} → {shown}");
        }
        Err(error) => check(text, &error),
    }
    if let Ok(template) = PathTemplate::parse(text) {
        assert_eq!(PathTemplate::parse(&template.text).as_ref(), Ok(&template));
    }
});

fn check(text: &str, error: &RuleError) {
    assert!(error.offset <= text.len() && error.column >= 1 && error.width >= 1);
    assert!(!error.message.is_empty());
}
