//! The documents tell the truth: configurations in them load, and the command line is described whole.

use std::{fs, path::Path, process::Command};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Code blocks of a kind.
fn blocks<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    let open = format!("```{kind}\n");
    text.split(&open).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

fn portcullis(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .env_remove("PORTCULLIS_CONFIG")
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_configuration_in_the_readme_has_nothing_wrong() {
    let readme = document("README.md");
    let found = blocks(&readme, "toml");
    assert_eq!(found.len(), 1);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gateway.toml");
    fs::write(&file, found[0]).expect("written");
    let (code, out, err) = portcullis(&["check", "-c", file.to_str().expect("a path")]);
    assert!(code == Some(0) && out.contains("nothing wrong"), "{out}{err}");
    let (code, out, _) =
        portcullis(&["explain", "GET", "/api/users/7", "-c", file.to_str().expect("a path")]);
    assert!(code == Some(0) && out.contains("with the path /7"), "{out}");
}

/// The words of a help text that start with this.
fn words<'a>(help: &'a str, start: &str) -> Vec<&'a str> {
    help.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with(start)))
        .map(|word| word.trim_end_matches(','))
        .collect()
}

#[test]
fn every_command_and_option_is_described() {
    let described = document("docs/cli.md");
    let (_, help, _) = portcullis(&["--help"]);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() >= 10, "{help}");
    for command in commands {
        assert!(described.contains(&format!("`{command}`")), "docs/cli.md tells nothing of `{command}`");
        let (code, help, _) = portcullis(&[command, "--help"]);
        assert_eq!(code, Some(0), "{command} --help");
        for option in words(&help, "--").into_iter().filter(|option| *option != "--help") {
            assert!(described.contains(option), "docs/cli.md tells nothing of {command} {option}");
        }
    }
}

#[test]
fn exit_codes_are_as_described() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("written");
        file.display().to_string()
    };
    let good = at("good.toml", "[[routes]]\npath = \"/*\"\nservice = \"@echo\"\n");
    let doubtful = at(
        "doubtful.toml",
        "[[routes]]\npath = \"/*\"\nservice = \"@echo\"\n[services.idle]\nurls = [\"http://a\"]\n",
    );
    let bad = at("bad.toml", "[[routes]]\npath = \"/*\"\nservice = \"nobody\"\npth = 1\n");
    let missing = folder.path().join("none.toml").display().to_string();
    let code = |arguments: &[&str]| portcullis(arguments).0;
    assert_eq!(code(&["check", "-c", &good]), Some(0));
    assert_eq!(code(&["check", "-c", &doubtful]), Some(0));
    assert_eq!(code(&["check", "--deny-warnings", "-c", &doubtful]), Some(1));
    assert_eq!(code(&["check", "-c", &bad]), Some(1));
    assert_eq!(code(&["check", "-c", &missing]), Some(2));
    assert_eq!(code(&["run", "-c", &bad]), Some(1));
    assert_eq!(code(&["run", "-c", &missing]), Some(2));
    assert_eq!(code(&["show", "model", "-c", &bad]), Some(1));
    assert_eq!(code(&["no-such-command"]), Some(2));
    // What cannot be meant is bad usage, said before anything runs.
    for wrong in [
        &["--to", "ftp://x"][..],
        &["--to", "http://x:99999"],
        &["--to", ""],
        &["--to", "http://x", "--from", "here"],
    ] {
        let (code, _, err) = portcullis(&[&["proxy"], wrong].concat());
        assert!(code == Some(2) && err.contains("invalid value"), "{wrong:?}: {code:?} {err}");
    }
    for url in ["foo", "ftp://x/", "", "http://", "/a b"] {
        assert_eq!(code(&["explain", "GET", url, "-c", &good]), Some(2), "{url}");
    }
    let log = at(
        "log.toml",
        "access_log = { file = \"no/such/folder/a.log\" }\n[[routes]]\npath = \"/*\"\nservice = \"@echo\"\n",
    );
    for command in ["check", "run"] {
        let (code, out, err) = portcullis(&[command, "-c", &log]);
        let told = format!("{out}{err}");
        assert!(code == Some(1) && told.contains("log.toml:1:23 (access_log.file)"), "{command}: {told}");
        assert!(told.contains("does not exist") && told.contains("mkdir -p"), "{command}: {told}");
    }
    let (_, out, _) = portcullis(&["check", "--format", "json", "-c", &bad]);
    let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&found["ok"], &found["errors"]), (&false.into(), &2.into()), "{out}");
    let place =
        |at: usize| (found["findings"][at]["line"].as_u64(), found["findings"][at]["column"].as_u64());
    assert_eq!((place(0), place(1)), ((Some(3), Some(11)), (Some(4), Some(1))), "{out}");
}
