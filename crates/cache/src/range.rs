//! Parts of an answer (RFC 9110 §14), cut out of a whole one.

/// What a request's `Range` means for a body of a known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    /// Nothing: the whole is sent.
    Whole,
    /// These, each as first byte and one past the last.
    These(Vec<(usize, usize)>),
    /// None of it is there: 416.
    Nothing,
}

/// Parts that one request may ask for. Whoever asks for more gets the whole (RFC 9110 §14.2): many small or overlapping
/// parts are an attack.
const MOST: usize = 8;

/// Reads a `Range`. What is not understood is as if it were not there.
pub fn parts(range: &[u8], length: usize) -> Parts {
    let Some(set) = std::str::from_utf8(range).ok().and_then(|text| text.split_once('=')) else {
        return Parts::Whole;
    };
    if !set.0.trim().eq_ignore_ascii_case("bytes") {
        return Parts::Whole;
    }
    let mut found = Vec::new();
    let mut count = 0;
    for each in set.1.split(',').map(str::trim).filter(|each| !each.is_empty()) {
        count += 1;
        match part(each, length) {
            None => return Parts::Whole,
            Some(Some(part)) => found.push(part),
            Some(None) => {}
        }
    }
    if count == 0 || found.len() > MOST {
        return Parts::Whole;
    }
    if found.is_empty() {
        return Parts::Nothing;
    }
    let is_rising = found.windows(2).all(|two| matches!(two, [(_, end), (start, _)] if end <= start));
    if is_rising { Parts::These(found) } else { Parts::Whole }
}

/// One part: `None` when it is not written well, `Some(None)` when it lies behind the end.
#[allow(clippy::option_option)] // two different things
fn part(text: &str, length: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| -> Option<usize> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(usize::MAX))
    };
    if first.is_empty() {
        let suffix = number(last)?;
        return Some((suffix > 0 && length > 0).then(|| (length.saturating_sub(suffix), length)));
    }
    let first = number(first)?;
    let end = if last.is_empty() { length } else { number(last)?.saturating_add(1) };
    if !last.is_empty() && end <= first {
        return None;
    }
    Some((first < length).then_some((first, end.min(length))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let these = |list: &[(usize, usize)]| Parts::These(list.to_vec());
        for (range, expected) in [
            ("bytes=0-0", these(&[(0, 1)])),
            ("bytes=0-", these(&[(0, 10)])),
            ("BYTES=2-4", these(&[(2, 5)])),
            ("bytes=-3", these(&[(7, 10)])),
            ("bytes=-30", these(&[(0, 10)])),
            ("bytes=8-99", these(&[(8, 10)])),
            ("bytes=0-1, 4-5", these(&[(0, 2), (4, 6)])),
            ("bytes=0-1,20-30", these(&[(0, 2)])),
            ("bytes=10-", Parts::Nothing),
            ("bytes=-0", Parts::Nothing),
            ("bytes=99999999999999999999999-", Parts::Nothing),
            ("bytes=4-2", Parts::Whole),
            ("bytes=", Parts::Whole),
            ("bytes=a-b", Parts::Whole),
            ("bytes=--1", Parts::Whole),
            ("bytes 0-1", Parts::Whole),
            ("items=0-1", Parts::Whole),
            ("bytes=4-5,0-1", Parts::Whole),
            ("bytes=0-5,3-8", Parts::Whole),
            ("bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8", Parts::Whole),
        ] {
            assert_eq!(parts(range.as_bytes(), 10), expected, "{range}");
        }
        assert_eq!(parts(b"bytes=0-", 0), Parts::Nothing);
    }
}
