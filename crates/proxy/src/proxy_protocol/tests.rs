use portcullis_config::model::ProxyProtocol;

use super::*;

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// A header of version 2.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = v2::SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
    header.extend(block);
    header
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];

#[test]
fn lines() {
    let good: [(&str, Said); 6] = [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            Said::Ends(ends("192.0.2.1:56324", "198.51.100.2:443")),
        ),
        (
            "PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n",
            Said::Ends(ends("[2001:db8::1]:0", "[2001:db8::2]:65535")),
        ),
        ("PROXY TCP6 ::ffff:10.0.0.1 ::1 1 2\r\n", Said::Ends(ends("10.0.0.1:1", "[::1]:2"))),
        ("PROXY UNKNOWN\r\n", Said::Nothing),
        ("PROXY UNKNOWN whatever may stand here\r\n", Said::Nothing),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            Said::Ends(ends(
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            )),
        ),
    ];
    for (line, said) in good {
        assert_eq!(parse(line.as_bytes()), Ok(Parsed::Header(line.len(), said)), "{line}");
        assert_eq!(parse(format!("{line}GET /").as_bytes()), Ok(Parsed::Header(line.len(), said)));
        for cut in 0..line.len() {
            let part = &line.as_bytes()[..cut];
            assert!(
                matches!(parse(part), Ok(Parsed::More(wanted)) if wanted > cut && wanted <= line.len().max(16)),
                "{line} {cut}"
            );
        }
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(longest.len(), 107);
    assert_eq!(parse(longest.as_bytes()), Ok(Parsed::Header(107, Said::Nothing)));
}

#[test]
fn bad_lines() {
    for bad in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 443\r\n",
        "PROXY TCP4 ::1 ::1 1 443\r\n",
        "PROXY TCP6 192.0.2.1 ::1 1 443\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.2 1 443\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.\u{e9} 1 443\r\n",
    ] {
        assert_eq!(parse(bad.as_bytes()), Err(Invalid::Line), "{bad:?}");
    }
    for length in [106, 107, 200] {
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(length - 14));
        assert_eq!(parse(endless.as_bytes()), Err(Invalid::Endless), "{length}");
    }
    let late = format!("PROXY UNKNOWN {}\r\n", "x".repeat(108 - 16));
    assert_eq!(parse(late.as_bytes()), Err(Invalid::Endless));
}

#[test]
fn what_is_no_header() {
    for other in [
        "GET / HTTP/1.1\r\n",
        "PROPFIND / HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01",
        "proxy ",
        "\r\n\r\nG",
    ] {
        assert_eq!(parse(other.as_bytes()), Ok(Parsed::Absent), "{other:?}");
    }
    for start in ["", "P", "PR", "PROXY", "\r", "\r\n\r\n\0"] {
        assert!(matches!(parse(start.as_bytes()), Ok(Parsed::More(_))), "{start:?}");
    }
}

#[test]
fn binary_headers() {
    let v4 = Said::Ends(ends("192.0.2.1:56324", "198.51.100.2:443"));
    let unknown_entry = [&V4[..], &[0xea, 0, 2, 1, 2, 0x04, 0, 0]].concat();
    let mut v6 = [0_u8; 36];
    v6[15] = 1;
    v6[31] = 2;
    v6[33] = 7;
    v6[35] = 8;
    let good = [
        (binary(0x21, 0x11, &V4), v4),
        (binary(0x21, 0x12, &V4), v4),
        (binary(0x21, 0x11, &unknown_entry), v4),
        (binary(0x21, 0x21, &v6), Said::Ends(ends("[::1]:7", "[::2]:8"))),
        (binary(0x21, 0x31, &[0; 216]), Said::Nothing),
        (binary(0x21, 0x00, &[]), Said::Nothing),
        (binary(0x20, 0x00, &[]), Said::Nothing),
        (binary(0x20, 0x77, b"anything"), Said::Nothing),
    ];
    for (bytes, said) in good {
        assert_eq!(parse(&bytes), Ok(Parsed::Header(bytes.len(), said)), "{bytes:?}");
        for cut in 0..bytes.len() {
            let wanted = if cut < v2::FIXED { v2::FIXED } else { bytes.len() };
            assert!(matches!(parse(&bytes[..cut]), Ok(Parsed::More(more)) if more <= wanted), "{cut}");
        }
    }
}

#[test]
fn bad_binary_headers() {
    let long = vec![0; LONGEST];
    let cut_entry = [&V4[..], &[0x04, 0, 9, 1]].concat();
    let half_entry = [&V4[..], &[0x04, 0]].concat();
    let short_checksum = [&V4[..], &[0x03, 0, 2, 1, 2]].concat();
    for (bytes, why) in [
        (binary(0x11, 0x11, &V4), Invalid::Command(0x11)),
        (binary(0x22, 0x11, &V4), Invalid::Command(0x22)),
        (binary(0x21, 0x13, &V4), Invalid::Family(0x13)),
        (binary(0x21, 0x41, &V4), Invalid::Family(0x41)),
        (binary(0x21, 0x21, &V4), Invalid::Short),
        (binary(0x21, 0x11, &V4[..11]), Invalid::Short),
        (binary(0x21, 0x11, &long), Invalid::Long),
        (binary(0x21, 0x11, &cut_entry), Invalid::Entry),
        (binary(0x21, 0x11, &half_entry), Invalid::Entry),
        (binary(0x21, 0x11, &short_checksum), Invalid::Entry),
    ] {
        assert_eq!(parse(&bytes), Err(why));
    }
}

#[test]
fn checksums() {
    let block = [&V4[..], &[0x03, 0, 4, 0, 0, 0, 0], &[0x04, 0, 1, 9]].concat();
    let mut bytes = binary(0x21, 0x11, &block);
    let at = v2::FIXED + V4.len() + 3;
    let sum = crc32c::of([&bytes[..]]);
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    assert!(matches!(parse(&bytes), Ok(Parsed::Header(length, Said::Ends(_))) if length == bytes.len()));
    // Without its type it would be another entry.
    for at in (v2::FIXED..bytes.len()).filter(|at| *at != v2::FIXED + V4.len()) {
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        assert!(parse(&broken).is_err(), "byte {at}");
    }
}

#[test]
fn what_is_written_can_be_read() {
    let both = [ends("192.0.2.1:56324", "198.51.100.2:443"), ends("[2001:db8::1]:1", "[2001:db8::2]:2")];
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        for ends in both {
            let bytes = header(version, Some(ends));
            assert_eq!(parse(&bytes), Ok(Parsed::Header(bytes.len(), Said::Ends(ends))));
        }
        let own = header(version, None);
        assert_eq!(parse(&own), Ok(Parsed::Header(own.len(), Said::Nothing)));
    }
    // By `[::]`, an IPv4 client's own address is told as such, and ours is still that of the socket.
    let mapped = header(ProxyProtocol::V1, Some(ends("10.0.0.1:1", "[::ffff:10.0.0.2]:2")));
    assert_eq!(mapped, b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n");
    let mixed = header(ProxyProtocol::V1, Some(ends("10.0.0.1:1", "[::1]:2")));
    assert_eq!(mixed, b"PROXY TCP6 ::ffff:10.0.0.1 ::1 1 2\r\n");
}
