//! Whatever is written, reading it ends with findings and never with a panic. The inputs are the golden files,
//! changed at random from a fixed seed.

mod common;

use std::{fs, path::PathBuf};

use portcullis_config::{Format, load_text, rule};

/// A small generator; the same seed gives the same inputs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn inputs() -> Vec<(Format, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/config");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| Some((Format::of_file(&path)?, fs::read_to_string(&path).ok()?)))
        .filter(|(_, text)| text.len() < 4096)
        .collect()
}

/// Bits that mean something somewhere.
const PIECES: &[&str] = &[
    "\"",
    "'",
    "`",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "\n",
    "=",
    ":",
    ",",
    ".",
    "-",
    "  ",
    "\t",
    "\\",
    "#",
    "$",
    "${A",
    "${A:-",
    "}",
    "&a",
    "*a",
    "<<",
    "&&",
    "||",
    "!",
    "Host(`a`)",
    "0",
    "-1",
    "99999999999999999999",
    "1e400",
    "true",
    "null",
    "~",
    "é",
    "\u{feff}",
    "\u{0}",
    "%2f",
    "@",
    "*",
    "/*",
    "[[routes]]",
    "---",
    "...",
    "? ",
    "| ",
    "> ",
    "unix:",
    "inf",
    "nan",
];

fn mutate(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(chars.len() + 1);
        match random.below(4) {
            0 => {
                let end = (at + random.below(12)).min(chars.len());
                chars.drain(at..end);
            }
            1 => {
                let end = (at + random.below(40)).min(chars.len());
                let copy: Vec<char> = chars[at..end].to_vec();
                let to = random.below(chars.len() + 1);
                chars.splice(to..to, copy);
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                chars.splice(at..at, piece.chars());
            }
        }
    }
    chars.into_iter().collect()
}

#[test]
fn no_input_makes_it_panic() {
    let inputs = inputs();
    assert!(inputs.len() > 10);
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1500);
    let mut random = Random(0x5eed_cafe_f00d_0001);
    let env = common::env();
    for _ in 0..rounds {
        let (format, text) = &inputs[random.below(inputs.len())];
        let text = mutate(text, &mut random);
        // Each text as each format: what is not meant for a reader must not harm it either.
        let format = match random.below(8) {
            0 => Format::Toml,
            1 => Format::Yaml,
            2 => Format::Json,
            _ => *format,
        };
        let outcome = load_text(&text, format, "fuzz", &env, &common::TestKinds);
        let errors = outcome.findings.iter().any(|finding| finding.is_error());
        assert_eq!(outcome.model.is_none(), errors, "{text}");
        let shown = outcome.render(false);
        assert!(!shown.contains('\u{1b}'));
        if let Some(model) = &outcome.model {
            serde_json::to_string(model).unwrap();
        }
    }
}

#[test]
fn what_is_deep_or_wide_ends_with_a_finding() {
    let deep = 100_000;
    let cases = [
        (Format::Json, "[".repeat(deep)),
        (Format::Json, "{\"a\":".repeat(deep)),
        (Format::Yaml, "[".repeat(deep)),
        (Format::Yaml, "{a: ".repeat(deep)),
        (Format::Yaml, "- ".repeat(deep)),
        (Format::Yaml, (0..2000).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
        (Format::Toml, format!("a = {}", "[".repeat(deep))),
        (Format::Toml, format!("a = {}", "{a=".repeat(deep))),
        (Format::Toml, format!("{} = 1", vec!["a"; deep].join("."))),
        (Format::Toml, (0..20_000).map(|n| format!("k{n} = 1\n")).collect()),
        (Format::Yaml, (0..20_000).map(|n| format!("k{n}: 1\n")).collect()),
    ];
    for (format, text) in cases {
        let start = std::time::Instant::now();
        let outcome = load_text(&text, format, "deep", &common::env(), &common::TestKinds);
        assert!(outcome.refused());
        let shown: String = text.chars().take(20).collect();
        // A guard against quadratic readers, far from what a slow machine needs.
        assert!(start.elapsed().as_secs() < 60, "{format:?} {shown} took {:?}", start.elapsed());
    }
}

#[test]
fn no_rule_makes_the_parser_panic_and_what_it_prints_reads_back() {
    let seeds = [
        "Host(`a.example`) && (PathPrefix(`/b`) || !Header(`X`, `y`))",
        "!(!Query(`a`) || ClientIP(`::1/64`)) && HostRegexp(`^a\\.b$`)",
        "Path(\"/\\u00e9\\x41\") || Method(`GET`) && QueryRegexp(`k`, `[0-9]{2}`)",
    ];
    let mut random = Random(0x5eed_cafe_f00d_0002);
    let mut good = 0;
    for _ in 0..20_000 {
        let text = mutate(seeds[random.below(seeds.len())], &mut random);
        match rule::parse(&text) {
            Ok(parsed) => {
                good += 1;
                let canonical = parsed.to_string();
                assert_eq!(rule::parse(&canonical).as_ref(), Ok(&parsed), "{text} printed as {canonical}");
                assert!(parsed.implies(&parsed));
                parsed.contradiction();
            }
            Err(error) => assert!(error.offset <= text.len() && error.column >= 1, "{text}: {error}"),
        }
    }
    assert!(good > 500, "only {good} of the rules could be read: the test proves nothing");
}
