//! `deny.toml` is held: licences, banned crates, sources, and no crate in two versions beyond those listed.
//!
//! cargo-deny reads the same file where it is installed (and checks advisories, for which it needs the network);
//! these tests need nothing but `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use crate::metadata::{packages, root, text};

fn deny() -> toml::Table {
    std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml").parse().expect("TOML")
}

fn strings(value: &toml::Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().filter_map(|item| item.as_str()).collect()
}

/// Is this licence expression met by the allowed licences? `OR` and `AND` as SPDX has them, `AND` binding tighter.
fn is_met(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ");
    let tokens: Vec<String> =
        expression.replace('(', " ( ").replace(')', " ) ").split_whitespace().map(str::to_owned).collect();
    let mut at = 0;
    let met = either(&tokens, &mut at, allowed);
    assert_eq!(at, tokens.len(), "a licence expression that is not understood: {expression}");
    met
}

fn either(tokens: &[String], at: &mut usize, allowed: &[&str]) -> bool {
    let mut met = all(tokens, at, allowed);
    while tokens.get(*at).is_some_and(|token| token == "OR") {
        *at += 1;
        met |= all(tokens, at, allowed);
    }
    met
}

fn all(tokens: &[String], at: &mut usize, allowed: &[&str]) -> bool {
    let mut met = one(tokens, at, allowed);
    while tokens.get(*at).is_some_and(|token| token == "AND") {
        *at += 1;
        met &= one(tokens, at, allowed);
    }
    met
}

fn one(tokens: &[String], at: &mut usize, allowed: &[&str]) -> bool {
    if tokens[*at] == "(" {
        *at += 1;
        let met = either(tokens, at, allowed);
        assert_eq!(tokens[*at], ")");
        *at += 1;
        return met;
    }
    let mut name = tokens[*at].clone();
    *at += 1;
    if tokens.get(*at).is_some_and(|token| token == "WITH") {
        name = format!("{name} WITH {}", tokens[*at + 1]);
        *at += 2;
    }
    allowed.contains(&name.as_str())
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception"];
    assert!(is_met("MIT OR GPL-3.0", &allowed));
    assert!(is_met("MIT/Apache-2.0", &allowed));
    assert!(!is_met("MIT AND GPL-3.0", &allowed));
    assert!(is_met("(GPL-3.0 OR MIT) AND Apache-2.0 WITH LLVM-exception", &allowed));
    assert!(!is_met("Apache-2.0", &allowed));
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let deny = deny();
    let allowed = strings(&deny["licenses"]["allow"]);
    for package in packages().iter().filter(|package| !package["source"].is_null()) {
        let licence = text(package, "license");
        let name = text(package, "name");
        assert!(!licence.is_empty(), "{name} names no licence");
        assert!(is_met(licence, &allowed), "{name}: {licence:?} is not allowed by deny.toml");
    }
}

#[test]
fn every_dependency_comes_from_the_registry() {
    // Without `allow-registry`, cargo-deny allows crates.io alone; so does this.
    assert_eq!(deny()["sources"]["unknown-registry"].as_str(), Some("deny"));
    for package in packages() {
        if let Some(source) = package["source"].as_str() {
            let registry = source.strip_prefix("registry+").unwrap_or_default();
            assert!(registry.ends_with("/crates.io-index"), "{} comes from {source}", text(package, "name"));
        }
    }
}

#[test]
fn no_banned_crate_is_used() {
    let deny = deny();
    let banned: BTreeSet<&str> = deny["bans"]["deny"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["crate"].as_str())
        .collect();
    assert!(!banned.is_empty());
    for package in packages() {
        assert!(!banned.contains(text(package, "name")), "{} is banned by deny.toml", text(package, "name"));
    }
}

#[test]
fn no_crate_comes_in_two_versions_unless_it_is_listed() {
    let deny = deny();
    let skipped: BTreeSet<&str> = deny["bans"]["skip"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["crate"].as_str())
        .collect();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages() {
        versions.entry(text(package, "name")).or_default().push(text(package, "version"));
    }
    let twice: Vec<_> =
        versions.iter().filter(|(name, versions)| versions.len() > 1 && !skipped.contains(*name)).collect();
    assert!(twice.is_empty(), "in several versions, and not listed in deny.toml: {twice:?}");
    for name in skipped {
        assert!(
            versions.get(name).is_some_and(|versions| versions.len() > 1),
            "{name} need not be skipped any more"
        );
    }
}
