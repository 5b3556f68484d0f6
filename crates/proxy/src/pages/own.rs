//! Pages of the configuration's own: a body with holes, cut into pieces once.

use portcullis_config::model::ErrorPage;

use super::{Facts, escape_html, escape_json};

/// A page, compiled.
#[derive(Debug)]
pub(super) struct OwnPage {
    /// As it is sent.
    pub content_type: Box<str>,
    /// Without parameters, lower-case.
    pub essence: Box<str>,
    language: Language,
    pieces: Vec<Piece>,
}

/// How values are escaped.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Language {
    Markup,
    Json,
    Plain,
}

#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    Hole(Hole),
}

/// What may stand in a body. Other braces, as in style sheets, are text.
#[derive(Debug, Clone, Copy)]
enum Hole {
    Status,
    Title,
    Detail,
    RequestId,
}

const HOLES: [(&str, Hole); 4] = [
    ("{status}", Hole::Status),
    ("{title}", Hole::Title),
    ("{detail}", Hole::Detail),
    ("{request_id}", Hole::RequestId),
];

impl OwnPage {
    pub fn compile(page: &ErrorPage) -> OwnPage {
        let essence = page.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let language = match essence.as_str() {
            "text/html" | "application/xml" | "text/xml" => Language::Markup,
            essence if essence.ends_with("+xml") => Language::Markup,
            essence if essence == "application/json" || essence.ends_with("+json") => Language::Json,
            _ => Language::Plain,
        };
        OwnPage {
            content_type: page.content_type.as_ref().into(),
            essence: essence.into(),
            language,
            pieces: pieces(&page.body),
        }
    }

    /// The body for an error.
    pub fn fill(&self, facts: &Facts<'_>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Hole(Hole::Status) => out.push_str(facts.status.as_str()),
                Piece::Hole(Hole::Title) => self.put(facts.title, &mut out),
                Piece::Hole(Hole::Detail) => self.put(facts.detail, &mut out),
                Piece::Hole(Hole::RequestId) => self.put(facts.id, &mut out),
            }
        }
        out
    }

    fn put(&self, value: &str, out: &mut String) {
        match self.language {
            Language::Markup => escape_html(value, out),
            Language::Json => escape_json(value, out),
            Language::Plain => out.push_str(value),
        }
    }
}

fn pieces(body: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = body;
    loop {
        let next = HOLES
            .iter()
            .filter_map(|(name, hole)| Some((rest.find(name)?, name.len(), *hole)))
            .min_by_key(|n| n.0);
        let Some((at, length, hole)) = next else { break };
        if let Some(text) = rest.get(..at).filter(|text| !text.is_empty()) {
            pieces.push(Piece::Text(text.into()));
        }
        pieces.push(Piece::Hole(hole));
        rest = rest.get(at + length..).unwrap_or_default();
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.into()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn filled(content_type: &str, body: &str) -> String {
        let page = ErrorPage { content_type: content_type.into(), body: body.into() };
        let facts = Facts {
            status: StatusCode::BAD_GATEWAY,
            title: "T",
            detail: "D & \"d\"",
            slug: "s",
            id: "<script>",
            violated: None,
        };
        OwnPage::compile(&page).fill(&facts)
    }

    #[test]
    fn holes_are_filled_and_other_braces_stay() {
        let body = "<style>b{color:red}</style>{status} {title}{{detail}}{request_id}{unknown}";
        let expected = "<style>b{color:red}</style>502 T{D &amp; &quot;d&quot;}&lt;script&gt;{unknown}";
        assert_eq!(filled("text/html; charset=utf-8", body), expected);
        assert_eq!(filled("text/plain", "{request_id}"), "<script>");
        assert_eq!(filled("application/hal+json", "{\"d\":\"{detail}\"}"), "{\"d\":\"D & \\\"d\\\"\"}");
        assert_eq!(filled("TEXT/HTML", ""), "");
    }
}
