//! What the canonical form promises, by example and at random.

use super::*;

const KEEP: Policy = Policy { merge_slashes: true, delimiters: Delimiters::Keep };

fn of(raw: &[u8], policy: Policy) -> Result<String, PathError> {
    let mut out = String::new();
    canonical(raw, policy, &mut out).map(str::to_owned)
}

#[test]
fn one_form() {
    let cases = [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/%61%2d%5f%7E", "/a-_~"),
        ("/%c3%a9", "/%C3%A9"),
        ("/é", "/%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/a|b{c}\"", "/a%7Cb%7Bc%7D%22"),
        ("/[x]@:!$&'()*+,;=", "/[x]@:!$&'()*+,;="),
        ("/%5bx%5D%40", "/%5Bx%5D%40"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a/b/../../../../c", "/c"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e", "/"),
        ("/..", "/"),
        ("//a///b//", "/a/b/"),
        ("/a//../b", "/b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/..a/.b", "/..a/.b"),
        ("/a;b=1/c", "/a;b=1/c"),
        ("/;jsessionid=1", "/;jsessionid=1"),
    ];
    for (raw, wanted) in cases {
        assert_eq!(of(raw.as_bytes(), Policy::default()).as_deref(), Ok(wanted), "{raw}");
    }
}

#[test]
fn slashes_stay_when_they_are_not_merged() {
    let policy = Policy { merge_slashes: false, ..Policy::default() };
    for (raw, wanted) in [("//a///b", "//a///b"), ("/a//../b", "/a/b"), ("/.//b", "//b"), ("/a/..//", "//")] {
        assert_eq!(of(raw.as_bytes(), policy).as_deref(), Ok(wanted), "{raw}");
    }
}

#[test]
fn refused() {
    use PathError::*;
    let cases: [(&[u8], PathError); 26] = [
        (b"", NotAbsolute),
        (b"a", NotAbsolute),
        (b"*", NotAbsolute),
        (b"/a b", Byte(b' ')),
        (b"/a\x00", Byte(0)),
        (b"/a\x7f", Byte(0x7f)),
        (b"/a\\b", Byte(b'\\')),
        (b"/a#b", Byte(b'#')),
        (b"/a?b", Byte(b'?')),
        (b"/%", Percent),
        (b"/%2", Percent),
        (b"/%zz", Percent),
        (b"/%+1", Percent),
        (b"/%00", Control(0)),
        (b"/%0d%0a", Control(0x0d)),
        (b"/%7f", Control(0x7f)),
        (b"/\xff", Utf8),
        (b"/%ff", Utf8),
        (b"/%c0%af", Utf8),
        (b"/%ed%a0%80", Utf8),
        (b"/%c3/a", Utf8),
        (b"/a%2fb", Delimiter(b'/')),
        (b"/a%252e", Delimiter(b'%')),
        (b"/..;/admin", Ambiguous),
        (b"/.;x=1/admin", Ambiguous),
        (b"/a/;x/admin", Ambiguous),
    ];
    for (raw, wanted) in cases {
        assert_eq!(of(raw, Policy::default()), Err(wanted), "{}", String::from_utf8_lossy(raw));
    }
    for delimiter in ["%2F", "%5C", "%3B", "%25", "%3F", "%23", "%2f", "%5c"] {
        assert!(matches!(of(format!("/a{delimiter}b").as_bytes(), Policy::default()), Err(Delimiter(_))));
    }
}

#[test]
fn kept_delimiters_do_not_hide_dots() {
    assert_eq!(of(b"/a%2fb%3bc%25", KEEP).as_deref(), Ok("/a%2Fb%3Bc%25"));
    for raw in ["/a%2f..%2fb", "/..%2fb", "/a/..%5cb", "/..%3bx/b", "/a%5C.%2Fb", "/%2e%2e%2f"] {
        assert_eq!(of(raw.as_bytes(), KEEP), Err(PathError::Ambiguous), "{raw}");
    }
    assert!(has_escaped_delimiter("/a%2Fb") && !has_escaped_delimiter("/a%20b/%C3%A9"));
}

#[test]
fn a_canonical_path_is_not_copied() {
    for path in ["/api/users/12345", "/a%20b/%40", "/", "/x;y=1/[z]"] {
        let mut out = String::new();
        let canonical = canonical(path.as_bytes(), Policy::default(), &mut out).unwrap();
        assert!(std::ptr::eq(canonical.as_ptr(), path.as_ptr()), "{path}");
    }
}

#[test]
fn rewritten_paths_are_judged() {
    for good in ["/", "/a/b", "/.x", "/%C3%A9"] {
        assert!(is_canonical(good, Policy::default()), "{good}");
    }
    for bad in ["", "a", "/../b", "/a/./b", "/a//b", "/%c3%a9", "/é", "/a b", "/%61"] {
        assert!(!is_canonical(bad, Policy::default()), "{bad}");
    }
    assert!(is_canonical("/a//b%2F", Policy::LENIENT));
}

#[test]
fn the_routing_form_decodes_all_but_the_reserved() {
    for (path, wanted) in [
        ("/foo%20bar", "/foo bar"),
        ("/a%2Fb", "/a%2Fb"),
        ("/%C3%A9%7C", "/é|"),
        ("/%5B%40%25", "/%5B%40%25"),
        ("/%3Dx%2B", "/%3Dx%2B"),
    ] {
        assert_eq!(routing(path, &mut String::new()), wanted);
    }
    let mut scratch = String::new();
    assert!(std::ptr::eq(routing("/a/b", &mut scratch), "/a/b"));
}

#[test]
fn queries_stay_as_they_came() {
    for (raw, wanted) in [
        (&b"a=1&b=%zz&c=100%"[..], "a=1&b=%zz&c=100%"),
        (b"q=\xc3\xa9", "q=%C3%A9"),
        (b"q=\xff", "q=%FF"),
        (b"j={\"a\":<1>}", "j={%22a%22:%3C1%3E}"),
        (b"a?b/../c", "a?b/../c"),
        (b"", ""),
    ] {
        assert_eq!(canonical_query(raw, &mut String::new()), Ok(wanted));
    }
    for bad in [&b"a b"[..], b"a\n", b"a#b", b"\x00", b"\x7f"] {
        assert!(canonical_query(bad, &mut String::new()).is_err());
    }
}

#[test]
fn targets_arrive() {
    let mut request = Request::new(Method::GET);
    arrive(&mut request, b"/a/../b?x=/../y?", Policy::default()).unwrap();
    assert_eq!((request.path(), request.query()), ("/b", Some("x=/../y?")));
    assert_eq!(arrive(&mut request, b"*", Policy::default()), Err(PathError::NotAbsolute));
    let mut request = Request::new(Method::OPTIONS);
    arrive(&mut request, b"*", Policy::default()).unwrap();
    assert_eq!(request.path(), "*");
}

/// Paths thrown together from the pieces that make trouble.
fn wild(random: &mut fastrand::Rng) -> Vec<u8> {
    const PIECES: &str =
        "/ / / . .. %2e %2E %2f %5c ; %3b a B ~ %41 %c3%a9 é %e2%82%ac %20 % %2 | [ %5B %25 x=1 +";
    let pieces: Vec<&[u8]> = PIECES.split(' ').map(str::as_bytes).chain([&b"\xc3"[..]]).collect();
    let mut path = b"/".to_vec();
    for _ in 0..random.usize(..12) {
        path.extend_from_slice(pieces[random.usize(..pieces.len())]);
    }
    path
}

#[test]
fn what_comes_out_is_canonical_and_stays_so() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut accepted = 0;
    for _ in 0..200_000 {
        let raw = wild(&mut random);
        let policy = Policy {
            merge_slashes: random.bool(),
            delimiters: if random.bool() { Delimiters::Keep } else { Delimiters::Reject },
        };
        let Ok(path) = of(&raw, policy) else { continue };
        accepted += 1;
        let shown = String::from_utf8_lossy(&raw);
        assert_eq!(of(path.as_bytes(), policy).as_deref(), Ok(&*path), "{shown}");
        assert!(is_canonical(&path, policy) && is_canonical(&path, Policy::LENIENT), "{shown} → {path}");
        assert!(path.split('/').all(|segment| segment != "." && segment != ".."), "{shown} → {path}");
        assert!(!policy.merge_slashes || !path.contains("//"), "{shown} → {path}");
        assert!(policy.delimiters == Delimiters::Keep || !has_escaped_delimiter(&path), "{shown} → {path}");
        let mut scratch = String::new();
        let routed = routing(&path, &mut scratch);
        assert_eq!(routed.split('/').count(), path.split('/').count(), "{shown} → {path} → {routed}");
        // Matching the same text twice must mean the same: the routing form decodes only once.
        assert!(!routed.split('/').any(|segment| segment == ".."), "{shown} → {path} → {routed}");
    }
    assert!(accepted > 20_000, "{accepted}");
}
