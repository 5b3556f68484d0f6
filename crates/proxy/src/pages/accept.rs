//! Content negotiation by `Accept` (RFC 9110 §12.5.1).

/// The index of the offer that the client likes best; of equals, the first. `None` when it likes none of them. Without
/// `Accept`, everything is liked.
pub fn choose<'a>(
    accept: impl Iterator<Item = &'a [u8]>,
    offers: impl Iterator<Item = &'a str>,
) -> Option<usize> {
    let ranges: Vec<Range<'a>> = accept
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .take(64)
        .collect();
    if ranges.is_empty() {
        return Some(0);
    }
    let mut best: Option<(usize, u16)> = None;
    for (index, offer) in offers.enumerate() {
        let quality = quality(&ranges, offer);
        if quality > 0 && best.is_none_or(|(_, known)| quality > known) {
            best = Some((index, quality));
        }
    }
    best.map(|(index, _)| index)
}

/// `type/subtype;q=0.5`; other parameters are ignored.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(element: &'a str) -> Option<Range<'a>> {
        let mut parts = element.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut quality = 1000;
        for parameter in parts {
            if let Some(value) = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")) {
                quality = weight(value)?;
            }
        }
        Some(Range { kind, subtype, quality })
    }

    /// How closely it names a type: 0 not at all, 3 exactly.
    fn names(&self, kind: &str, subtype: &str) -> u8 {
        let kinds = self.kind.eq_ignore_ascii_case(kind);
        match (self.kind, self.subtype) {
            ("*", "*") => 1,
            (_, "*") if kinds => 2,
            (_, own) if kinds && own.eq_ignore_ascii_case(subtype) => 3,
            _ => 0,
        }
    }
}

/// What the closest range says of a type.
fn quality(ranges: &[Range<'_>], offer: &str) -> u16 {
    let Some((kind, subtype)) = offer.split_once('/') else { return 0 };
    let named = ranges.iter().map(|range| (range.names(kind, subtype), range.quality));
    named.filter(|(closeness, _)| *closeness > 0).max().map_or(0, |(_, quality)| quality)
}

/// `0`, `0.5`, `1.000` (RFC 9110 §12.4.2), in thousandths.
fn weight(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [&str; 4] = ["application/problem+json", "application/json", "text/html", "text/plain"];

    fn chosen(accept: &str) -> Option<&'static str> {
        let values = [accept.as_bytes()];
        choose(values.into_iter().filter(|value| !value.is_empty()), OFFERS.into_iter())
            .map(|index| OFFERS[index])
    }

    #[test]
    fn the_best_liked_offer_wins() {
        for (accept, expected) in [
            ("", Some("application/problem+json")),
            ("*/*", Some("application/problem+json")),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Some("text/html")),
            ("application/json", Some("application/json")),
            ("application/*", Some("application/problem+json")),
            ("text/*;q=0.5, application/json;q=0.4", Some("text/html")),
            ("text/html;q=0.3, text/plain; Q=0.7", Some("text/plain")),
            ("text/*, text/html;q=0.1", Some("text/plain")),
            ("*/*, application/problem+json;q=0, application/json;q=0", Some("text/html")),
            ("TEXT/PLAIN", Some("text/plain")),
            ("image/png", None),
            ("*/*;q=0", None),
            ("text/html;q=1.5, text/plain;q=0.001", Some("text/plain")),
            ("nonsense", Some("application/problem+json")),
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
    }
}
