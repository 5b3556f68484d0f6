//! Fields of heads as HTTP/2 and HTTP/3 carry them, which is without those of a connection.

use portcullis_core::{Error, Fields, Kind, Known};

use crate::h1::framing;

/// Fields of a connection, for which there is no place (RFC 9113 §8.2.2, RFC 9114 §4.2).
pub(crate) const OF_CONNECTION: u64 = Known::Connection.bit()
    | Known::KeepAlive.bit()
    | Known::ProxyConnection.bit()
    | Known::TransferEncoding.bit()
    | Known::Upgrade.bit()
    | Known::Http2Settings.bit();

/// The fields of a request as they arrive, one by one. Names in lower case and without anything that is no token, values
/// without control characters: that is seen to by whoever reads them. The rest of RFC 9113 §8.2.1 and what HTTP/1.1
/// endpoints could read differently is refused here.
#[derive(Default)]
pub(crate) struct Arriving {
    fields: Fields,
    count: usize,
    /// Of the cookie's crumbs, the whole.
    cookie: Option<Vec<u8>>,
    has_length: bool,
}

impl Arriving {
    /// Takes one more.
    ///
    /// # Errors
    /// `HeadersTooLarge` for more than `most` fields; `BadRequest`.
    pub(crate) fn add(&mut self, name: &str, value: &[u8], most: usize) -> Result<(), Error> {
        self.count += 1;
        if self.count > most {
            return Err(Error::because(Kind::HeadersTooLarge, "too many fields"));
        }
        let is_padded = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if is_padded(value.first()) || is_padded(value.last()) {
            return Err(Error::because(Kind::BadRequest, "white space around a field value"));
        }
        let known = Known::of(name.as_bytes());
        match known {
            Known::ContentLength => {
                let again = std::mem::replace(&mut self.has_length, true);
                if again || framing::decimal(value).is_none() {
                    return Err(Error::because(Kind::BadRequest, "content-length"));
                }
            }
            Known::Cookie => {
                self.add_cookie(value);
                return Ok(());
            }
            _ => {}
        }
        self.fields.append_classified(known, name, value);
        Ok(())
    }

    /// A cookie may come in crumbs, one field each, for better compression; nobody behind us knows of that
    /// (RFC 9113 §8.2.3, RFC 9114 §4.2.1).
    fn add_cookie(&mut self, crumb: &[u8]) {
        match &mut self.cookie {
            Some(whole) => {
                whole.extend_from_slice(b"; ");
                whole.extend_from_slice(crumb);
            }
            none => *none = Some(crumb.to_vec()),
        }
    }

    /// All of them.
    pub(crate) fn whole(mut self) -> Fields {
        if let Some(cookie) = self.cookie {
            self.fields.append_classified(Known::Cookie, "cookie", &cookie);
        }
        self.fields
    }
}

/// Fields as they are sent: without those of a connection, and without the known names of `left_out` (a set of
/// [`Known::bit`]s).
pub(crate) fn sent(fields: &Fields, left_out: u64) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
    let left_out = (left_out | OF_CONNECTION) & !Known::Other.bit();
    fields
        .iter_known()
        .filter(move |(known, ..)| known.bit() & left_out == 0)
        .map(|(known, name, value)| (known, name, value.trim_ascii()))
        .filter(|(known, _, value)| *known != Known::Te || value.eq_ignore_ascii_case(b"trailers"))
}
