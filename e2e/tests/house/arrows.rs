//! The arrows between the crates go one way, `unsafe` is forbidden in each, and everybody takes the lints.

use std::collections::{BTreeMap, BTreeSet};

use crate::metadata::{metadata, packages, root, text};

/// Who may depend on whom among our own crates; nothing else may.
const ALLOWED: &[(&str, &[&str])] = &[
    ("portcullis-core", &[]),
    ("portcullis-cache", &["portcullis-core"]),
    ("portcullis-config", &["portcullis-core"]),
    ("portcullis-middleware", &["portcullis-core", "portcullis-config"]),
    ("portcullis-providers", &["portcullis-core", "portcullis-config"]),
    ("portcullis-store", &["portcullis-core", "portcullis-config"]),
    ("portcullis-proxy", &["portcullis-core", "portcullis-config", "portcullis-cache"]),
    ("portcullis-admin", &["portcullis-core", "portcullis-config", "portcullis-proxy"]),
    (
        "portcullis",
        &[
            "portcullis-core",
            "portcullis-config",
            "portcullis-middleware",
            "portcullis-providers",
            "portcullis-store",
            "portcullis-proxy",
            "portcullis-admin",
        ],
    ),
    // The tests drive the binary, not the crates.
    ("portcullis-e2e", &[]),
];

fn ours() -> BTreeMap<String, BTreeSet<String>> {
    let members: Vec<&str> = metadata()["workspace_members"]
        .as_array()
        .expect("members")
        .iter()
        .filter_map(|id| id.as_str())
        .collect();
    let of_workspace = packages().iter().filter(|package| members.contains(&text(package, "id")));
    of_workspace
        .map(|package| {
            let wanted = package["dependencies"].as_array().expect("dependencies");
            // Development dependencies of tests beside the code are not arrows of the design.
            let wanted = wanted.iter().filter(|wanted| wanted["kind"].is_null());
            let wanted =
                wanted.map(|wanted| text(wanted, "name")).filter(|name| name.starts_with("portcullis"));
            (text(package, "name").to_owned(), wanted.map(str::to_owned).collect())
        })
        .collect()
}

/// Architecture §2: `portcullis → {admin, providers, middleware, proxy} → {core, config}`.
#[test]
fn arrows_between_crates_go_one_way() {
    for (name, wanted) in ours() {
        let Some((_, allowed)) = ALLOWED.iter().find(|(crate_name, _)| *crate_name == name) else {
            assert_eq!(name, "portcullis-bench", "a new crate takes its place in this table");
            continue;
        };
        for other in wanted {
            assert!(allowed.contains(&other.as_str()), "{name} must not depend on {other}");
        }
    }
}

/// `middleware` and `providers` never see `proxy`, not even through another crate of ours.
#[test]
fn middleware_and_providers_never_reach_the_proxy() {
    let ours = ours();
    for start in [
        "portcullis-middleware",
        "portcullis-providers",
        "portcullis-store",
        "portcullis-core",
        "portcullis-config",
    ] {
        let mut reached = BTreeSet::new();
        let mut left = vec![start.to_owned()];
        while let Some(name) = left.pop() {
            left.extend(ours[&name].iter().filter(|other| reached.insert((*other).clone())).cloned());
        }
        assert!(!reached.contains("portcullis-proxy"), "{start} reaches the proxy through {reached:?}");
    }
}

/// AVX11: no unsafe code; the workspace forbids it and every crate takes the workspace's lints.
#[test]
fn unsafe_is_forbidden_in_every_crate() {
    let workspace: toml::Table = read("Cargo.toml");
    assert_eq!(workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for package in packages().iter().filter(|package| package["source"].is_null()) {
        let path = text(package, "manifest_path");
        let manifest: toml::Table = std::fs::read_to_string(path).expect("a manifest").parse().expect("TOML");
        assert_eq!(
            manifest["lints"]["workspace"].as_bool(),
            Some(true),
            "{path} takes the workspace's lints"
        );
    }
}

fn read(name: &str) -> toml::Table {
    std::fs::read_to_string(root().join(name)).expect("a file").parse().expect("TOML")
}
