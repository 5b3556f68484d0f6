//! `compress`: compresses answers, while they pass.

mod accept;
mod coding;
mod gzip;
mod media;
mod stream;

use std::sync::Arc;

use http::{Method, StatusCode};
use portcullis_core::{
    Answer, Body, Done, Error, Exchange, Fields, Flow, Known, Line, Middleware,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    scratch,
    settings::{Size, Words},
    vary,
};
use accept::Accepted;
use coding::{Coding, Encoder, Levels};
use media::MediaTypes;
use stream::Compressed;

/// Settings of `compress`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compress {
    /// Codings on offer. The client's preference decides; among those it likes equally, the first of this list.
    #[serde(default = "all_codings")]
    pub encodings: Vec<Coding>,
    /// Answers known to be smaller stay as they are.
    #[serde(default = "one_kilobyte")]
    pub min_size: Size,
    /// Media types to compress, such as `application/json`, `text/*` or `application/*+json`; without it, the usual
    /// forms of text.
    pub include: Option<Words>,
    /// Media types not to compress, even if included.
    #[serde(default)]
    pub exclude: Words,
    /// How hard zstd tries, from 1 to 19.
    #[serde(default = "zstd_level")]
    pub zstd_level: i32,
    /// How hard brotli tries, from 0 to 11.
    #[serde(default = "br_level")]
    pub br_level: u32,
    /// How hard gzip tries, from 1 to 9.
    #[serde(default = "gzip_level")]
    pub gzip_level: u32,
}

fn all_codings() -> Vec<Coding> {
    vec![Coding::Zstd, Coding::Br, Coding::Gzip]
}

fn one_kilobyte() -> Size {
    Size(1024)
}

fn zstd_level() -> i32 {
    3
}

fn br_level() -> u32 {
    4
}

fn gzip_level() -> u32 {
    5
}

struct Codings {
    offered: Vec<(Coding, Line)>,
    names: Vec<Coding>,
    min_size: u64,
    include: MediaTypes,
    exclude: MediaTypes,
    levels: Levels,
}

/// A whole body of at most this size is compressed at once, so that the answer keeps a known length.
const AT_ONCE: usize = 64 * 1024;

impl MiddlewareKind for Compress {
    const NAME: &'static str = "compress";
    const SUMMARY: &'static str = "Compresses answers with zstd, brotli or gzip, while they pass.";
    const EXAMPLE: &'static str =
        "encodings = [\"zstd\", \"br\", \"gzip\"]\nmin_size = \"2 KiB\"\nexclude = [\"text/csv\"]";

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        let mut offered = Vec::new();
        for (index, coding) in self.encodings.iter().enumerate() {
            let at = format!("encodings[{index}]");
            if self.encodings.iter().take(index).any(|earlier| earlier == coding) {
                return Err(
                    Problem::at(at, format!("`{}` stands there twice", coding.name())).help("remove one")
                );
            }
            let line = coding.line().ok_or_else(|| Problem::at(at, "not a coding"))?;
            offered.push((*coding, line));
        }
        if offered.is_empty() {
            return Err(
                Problem::at("encodings", "there is none").help("`zstd`, `br`, `gzip`, or leave it out")
            );
        }
        level("zstd_level", i64::from(self.zstd_level), 1, 19)?;
        level("br_level", i64::from(self.br_level), 0, 11)?;
        level("gzip_level", i64::from(self.gzip_level), 1, 9)?;
        let include = match &self.include {
            Some(words) => MediaTypes::compile("include", words)?,
            None => MediaTypes::compile("include", &Words::from(media::WORTH_IT.as_slice()))?,
        };
        Ok(Arc::new(Codings {
            offered,
            names: self.encodings,
            min_size: self.min_size.0,
            include,
            exclude: MediaTypes::compile("exclude", &self.exclude)?,
            levels: Levels { zstd: self.zstd_level, br: self.br_level, gzip: self.gzip_level },
        }))
    }
}

fn level(path: &str, level: i64, least: i64, most: i64) -> Result<(), Problem> {
    if (least..=most).contains(&level) {
        return Ok(());
    }
    Err(Problem::at(path, format!("there is no level {level}")).help(format!("{least} to {most}")))
}

impl Codings {
    /// Is this an answer that would be compressed for a client that takes it?
    fn is_worth_it(&self, answer: &Answer, head: bool) -> bool {
        let fields = &answer.fields;
        let status = answer.status;
        let bodiless = status.is_informational()
            || matches!(
                status,
                StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
            );
        // The answer to HEAD has no body, but should say what the one to GET would (RFC 9110 §9.3.2).
        let length = if head { announced(fields) } else { answer.body.remaining() };
        let plain = |value: &[u8]| value.trim_ascii().eq_ignore_ascii_case(b"identity");
        !bodiless
            // A range is one of the bytes as they are.
            && status != StatusCode::PARTIAL_CONTENT
            && answer.tunnel.is_none()
            && fields.known_all(Known::ContentEncoding).all(plain)
            && !forbids_transform(fields)
            && length.is_none_or(|length| length >= self.min_size && length > 0)
            && fields.known_str(Known::ContentType).is_some_and(|text| self.takes_type(text))
    }

    fn takes_type(&self, content_type: &str) -> bool {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        scratch::with(|lower| {
            lower.push_str(media_type);
            lower.make_ascii_lowercase();
            !media::never(lower) && self.include.contains(lower) && !self.exclude.contains(lower)
        })
    }

    fn compress(&self, answer: &mut Answer, coding: Coding) -> Result<(), Error> {
        let Some((_, line)) = self.offered.iter().find(|(offered, _)| *offered == coding) else {
            return Ok(());
        };
        let mut encoder = Encoder::new(coding, self.levels, answer.body.remaining())?;
        let body = match std::mem::take(&mut answer.body) {
            Body::Full(data) if data.len() <= AT_ONCE => {
                encoder.write(&data)?;
                Body::Full(encoder.finish()?.into())
            }
            source => Body::stream(Compressed::new(source, encoder)),
        };
        answer.wrap_body(|_| body);
        // Digests of the representation as it was (RFC 9530 §3, and its predecessor's).
        answer.fields.remove("repr-digest");
        answer.fields.remove("digest");
        answer.fields.set_line(line);
        weaken_etag(&mut answer.fields);
        Ok(())
    }
}

fn announced(fields: &Fields) -> Option<u64> {
    fields.known_str(Known::ContentLength)?.parse().ok()
}

/// `Cache-Control: no-transform` (RFC 9111 §5.2.2.6, §5.2.1.6).
fn forbids_transform(fields: &Fields) -> bool {
    let mut all = fields.known_all(Known::CacheControl).flat_map(|line| line.split(|b| *b == b','));
    all.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// A strong validator promises the same bytes (RFC 9110 §8.8.1), which they no longer are.
fn weaken_etag(fields: &mut Fields) {
    let strong = fields.known(Known::Etag).filter(|tag| !tag.starts_with(b"W/"));
    if let Some(weak) = strong.map(|tag| [b"W/", tag].concat()) {
        fields.set("etag", weak);
    }
}

impl Middleware for Codings {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        // Read now: what follows may change the request's fields. `Accepted` is the same for every `compress` on the
        // way, so that one slot is enough.
        if x.request.fields.has(Known::AcceptEncoding)
            && !forbids_transform(&x.request.fields)
            && let Some(accepted) = Accepted::of(&x.request.fields)
        {
            x.remember(accepted);
        }
        Ok(Flow::Next)
    }

    fn on_response<'a>(&'a self, x: &'a mut Exchange, answer: &'a mut Answer) -> Result<Done<'a>, Error> {
        let head = x.request.method == Method::HEAD;
        if !self.is_worth_it(answer, head) {
            return Ok(Done::Now);
        }
        vary::add(&mut answer.fields, "Accept-Encoding");
        if !head
            && let Some(coding) = x.recall::<Accepted>().and_then(|accepted| accepted.choose(&self.names))
        {
            self.compress(answer, coding)?;
        }
        Ok(Done::Now)
    }
}

#[cfg(test)]
mod tests;
