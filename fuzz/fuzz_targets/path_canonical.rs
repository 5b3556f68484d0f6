//! Whatever path is accepted, its canonical form stays as it is, hides no dot segment, and means the same to the matcher
//! as to whoever decodes it once more. The first byte chooses the policy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_core::path::{
    Delimiters, Policy, canonical, canonical_query, has_escaped_delimiter, is_canonical, routing,
};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, raw)) = data.split_first() else { return };
    let delimiters = if choice & 2 == 0 { Delimiters::Reject } else { Delimiters::Keep };
    let policy = Policy { merge_slashes: choice & 1 == 0, delimiters };
    let mut out = String::new();
    if let Ok(path) = canonical(raw, policy, &mut out) {
        assert!(path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()));
        assert!(!path.contains(['?', '#', '\\']));
        assert!(is_canonical(path, policy) && is_canonical(path, Policy::LENIENT));
        assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
        assert!(!policy.merge_slashes || !path.contains("//"));
        assert!(delimiters == Delimiters::Keep || !has_escaped_delimiter(path));
        let mut scratch = String::new();
        let routed = routing(path, &mut scratch);
        assert_eq!(routed.split('/').count(), path.split('/').count());
        assert!(routed.split('/').all(|segment| segment != "." && segment != ".."));
        // A server that takes escaped slashes for slashes finds no way up either.
        let early = path.replace("%2F", "/").replace("%5C", "/");
        assert!(early.split('/').all(|segment| segment != "." && segment != ".."), "{path}");
    }
    let mut out = String::new();
    if let Ok(query) = canonical_query(raw, &mut out) {
        assert!(query.bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
        let mut again = String::new();
        assert_eq!(canonical_query(query.as_bytes(), &mut again), Ok(query));
    }
});
