//! A header of the PROXY protocol: what is missing is more than what is there, a header is the same whatever follows it
//! and however it is cut, and what it says can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_config::model::ProxyProtocol;
use portcullis_proxy::proxy_protocol::{LONGEST, Parsed, Said, header, parse};

fuzz_target!(|data: &[u8]| match parse(data) {
    Ok(Parsed::More(wanted)) => {
        assert!(wanted > data.len() && wanted <= LONGEST);
    }
    Ok(Parsed::Header(length, said)) => {
        assert!(length <= data.len() && length <= LONGEST);
        assert_eq!(parse(&data[..length]), Ok(Parsed::Header(length, said)));
        for cut in 0..length {
            assert!(matches!(parse(&data[..cut]), Ok(Parsed::More(_))));
        }
        let Said::Ends(ends) = said else { return };
        if ends.source.is_ipv4() == ends.destination.is_ipv4() {
            for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
                let again = header(version, Some(ends));
                assert_eq!(parse(&again), Ok(Parsed::Header(again.len(), said)));
            }
        }
    }
    Ok(Parsed::Absent) => {
        // Whatever follows.
        let longer = [data, b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n"].concat();
        assert_eq!(parse(&longer), Ok(Parsed::Absent));
    }
    Err(_) => {}
});
