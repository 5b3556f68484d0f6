//! The corpus of hostile requests: data in `e2e/corpus`, read here, played to any proxy.
//!
//! An entry says what it breaks, the exact bytes (or HTTP/2 frames), what the gateway answers, and the exact bytes that
//! may reach an endpoint. How it is written down stands in `e2e/corpus/README.md`.

use serde_json::Value;

pub mod expected;
pub mod frames;
pub mod http3;
pub mod peers;
pub mod play;
pub mod play3;
pub mod table;
pub mod text;

/// One hostile (or borderline) request.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is called, in the table of `docs/security.md` and when it fails.
    pub name: String,
    /// The file that it stands in: what it is about.
    pub group: &'static str,
    /// The rule that it breaks, or that says what is right.
    pub breaks: String,
    /// HTTP/2 frames instead of bytes?
    pub is_http2: bool,
    /// What the client writes, to the byte (for HTTP/2 behind preface and SETTINGS).
    pub send: Vec<u8>,
    /// Or, over HTTP/3, on which streams.
    pub streams: Vec<http3::Stream>,
    /// What the gateway answers.
    pub answer: String,
    /// What may reach an endpoint, to the byte; `{own}` stands for the fields that the gateway writes, `{endpoint}` for
    /// the endpoint's address, `{any}` for what is random.
    pub forwarded: String,
    /// Written in so many pieces at least; 0 for at once.
    pieces: usize,
}

/// The files of the corpus.
const FILES: [(&str, &str); 7] = [
    ("lengths", include_str!("../../corpus/lengths.toml")),
    ("chunks", include_str!("../../corpus/chunks.toml")),
    ("heads", include_str!("../../corpus/heads.toml")),
    ("targets", include_str!("../../corpus/targets.toml")),
    ("upgrades", include_str!("../../corpus/upgrades.toml")),
    ("http2", include_str!("../../corpus/http2.toml")),
    ("http3", include_str!("../../corpus/http3.toml")),
];

/// All entries, in order. Panics at the first that is written wrongly.
pub fn entries() -> Vec<Entry> {
    FILES.iter().flat_map(|(group, file)| read(group, file)).collect()
}

fn read(group: &'static str, file: &str) -> Vec<Entry> {
    let file: Value = toml::from_str(file).unwrap_or_else(|error| panic!("{group}.toml: {error}"));
    let written = file["request"].as_array().unwrap_or_else(|| panic!("{group}.toml: no requests"));
    written.iter().map(|entry| entry_of(group, entry)).collect()
}

impl Entry {
    /// Is it of HTTP/3?
    pub fn is_http3(&self) -> bool {
        !self.streams.is_empty()
    }
}

fn entry_of(group: &'static str, written: &Value) -> Entry {
    let name =
        written["name"].as_str().unwrap_or_else(|| panic!("{group}.toml: no name: {written}")).to_owned();
    let get = |key: &str| written[key].as_str().map(str::to_owned);
    let need = |key: &str| get(key).unwrap_or_else(|| panic!("{group}.toml: {name}: no {key}"));
    let known = ["name", "breaks", "send", "frames", "streams", "answer", "forwarded"];
    for key in written.as_object().into_iter().flat_map(|entry| entry.keys()) {
        assert!(known.contains(&key.as_str()), "{group}.toml: {name}: what is {key}?");
    }
    let frames = get("frames");
    let wrong = |error: String| -> ! { panic!("{group}.toml: {name}: {error}") };
    let streams = get("streams").map(|streams| http3::streams(&streams).unwrap_or_else(|error| wrong(error)));
    let send = match (&frames, &streams) {
        (Some(frames), _) => frames::bytes(frames),
        (None, Some(_)) => Ok(Vec::new()),
        (None, None) => text::bytes(&need("send")),
    };
    Entry {
        breaks: need("breaks"),
        is_http2: frames.is_some(),
        send: send.unwrap_or_else(|error| wrong(error)),
        streams: streams.unwrap_or_default(),
        answer: need("answer"),
        forwarded: get("forwarded").unwrap_or_default(),
        pieces: 0,
        group,
        name,
    }
}
