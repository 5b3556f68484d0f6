use std::{fs, os::unix::fs::symlink};

use portcullis_core::provider::{Board, Stopper};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

struct Running {
    board: Arc<Board>,
    _stopper: Stopper,
}

/// Starts a provider and waits for its first snapshot. With a long poll, only the watcher can tell of changes.
async fn start(path: PathBuf, poll: Duration) -> Running {
    let board = Arc::new(Board::default());
    let (stopper, stop) = Stop::pair();
    let publisher = Publisher::new("file", board.clone());
    tokio::spawn(async move { File { path, poll }.run(publisher, stop).await });
    let running = Running { board, _stopper: stopper };
    running.changed().await;
    running
}

impl Running {
    async fn changed(&self) {
        timeout(Duration::from_secs(10), self.board.changed()).await.expect("a snapshot");
    }

    async fn becomes(&self, expected: &str) {
        while self.text() != expected {
            self.changed().await;
        }
    }

    fn text(&self) -> String {
        match self.board.all().get("file") {
            Some(Snapshot::Text { text, dot_env, .. }) => {
                format!("{text}{}", dot_env.as_deref().unwrap_or(""))
            }
            Some(Snapshot::Unreadable { source, .. }) => format!("unreadable {source}"),
            other => format!("{other:?}"),
        }
    }
}

const NEVER: Duration = Duration::from_secs(3600);

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gateway.toml");
    fs::write(&file, "one").expect("write");
    (folder, file)
}

#[tokio::test]
async fn a_file_written_in_place() {
    let (_folder, file) = folder();
    let running = start(file.clone(), NEVER).await;
    assert_eq!(running.text(), "one");
    // The same length, within the same tick of the file system's clock.
    fs::write(&file, "two").expect("write");
    running.becomes("two").await;
}

#[tokio::test]
async fn a_file_replaced_by_a_rename() {
    let (folder, file) = folder();
    let running = start(file.clone(), NEVER).await;
    for round in 0..3 {
        let new = folder.path().join("gateway.toml~");
        fs::write(&new, format!("round {round}")).expect("write");
        fs::rename(&new, &file).expect("rename");
        running.becomes(&format!("round {round}")).await;
    }
}

#[tokio::test]
async fn links_swapped_as_kubernetes_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for (version, text) in [("..1", "one"), ("..2", "two"), ("..3", "three")] {
        fs::create_dir(at(version)).expect("a folder");
        fs::write(at(version).join("gateway.toml"), text).expect("write");
    }
    symlink("..1", at("..data")).expect("link");
    symlink("..data/gateway.toml", at("gateway.toml")).expect("link");
    let running = start(at("gateway.toml"), NEVER).await;
    for (version, text) in [("..2", "two"), ("..3", "three")] {
        symlink(version, at("..data_tmp")).expect("link");
        fs::rename(at("..data_tmp"), at("..data")).expect("rename");
        running.becomes(text).await;
    }
}

#[tokio::test]
async fn the_target_of_a_link_in_another_folder() {
    let (_elsewhere, target) = folder();
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("gateway.toml");
    symlink(&target, &link).expect("link");
    let running = start(link, NEVER).await;
    fs::write(&target, "two").expect("write");
    running.becomes("two").await;
}

#[tokio::test]
async fn without_being_told_the_poll_finds_it() {
    let (_elsewhere, target) = folder();
    let file = File { path: target.clone(), poll: Duration::from_millis(20) };
    let board = Arc::new(Board::default());
    let (_stopper, stop) = Stop::pair();
    let publisher = Publisher::new("file", board.clone());
    // A link to a link in a folder that nobody watches: only the stamp of what is behind them changes.
    let (middle, outer) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (other, between) = (target.with_file_name("other.toml"), middle.path().join("between"));
    fs::write(&other, "two").expect("write");
    symlink(&target, &between).expect("link");
    symlink(&between, outer.path().join("gateway.toml")).expect("link");
    let file = File { path: outer.path().join("gateway.toml"), ..file };
    tokio::spawn(async move { file.run(publisher, stop).await });
    let running = Running { board, _stopper };
    running.becomes("one").await;
    symlink(&other, middle.path().join("new")).expect("link");
    fs::rename(middle.path().join("new"), &between).expect("rename");
    running.becomes("two").await;
}

#[tokio::test]
async fn the_dot_env_beside_it_belongs_to_it() {
    let (folder, file) = folder();
    let running = start(file, NEVER).await;
    fs::write(folder.path().join(".env"), "A=1").expect("write");
    running.becomes("oneA=1").await;
    fs::remove_file(folder.path().join(".env")).expect("remove");
    running.becomes("one").await;
}

#[tokio::test]
async fn a_file_that_goes_and_comes_back() {
    let (_folder, file) = folder();
    let running = start(file.clone(), NEVER).await;
    fs::remove_file(&file).expect("remove");
    running.becomes(&format!("unreadable {}", file.display())).await;
    fs::write(&file, "again").expect("write");
    running.becomes("again").await;
}

#[test]
fn what_cannot_be_read_says_why() {
    let (folder, file) = folder();
    fs::write(&file, b"a\nb\xff").expect("write");
    let reason = |path: &Path| match File::read_now(path) {
        Snapshot::Unreadable { reason, .. } => reason.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(reason(&file), "line 2 holds bytes that are not UTF-8");
    assert_eq!(reason(folder.path()), "it is a folder");
    assert!(reason(&folder.path().join("none")).contains("No such file"));
}

/// Written in place, a file is empty for a moment: that moment is never published.
#[test]
fn a_file_being_written_is_not_read_as_empty() {
    let (_folder, file) = folder();
    let writing = file.clone();
    let writer = std::thread::spawn(move || {
        for round in 0..2000 {
            fs::write(&writing, format!("round {round}")).expect("write");
        }
    });
    while !writer.is_finished() {
        match File::read_now(&file) {
            Snapshot::Text { text, .. } => assert!(!text.is_empty()),
            Snapshot::Unreadable { reason, .. } => {
                assert_eq!(&*reason, "it is empty", "and then the old one stays")
            }
            other => panic!("{other:?}"),
        }
    }
    writer.join().expect("the writer");
    fs::write(&file, " \n").expect("write");
    assert!(matches!(File::read_now(&file), Snapshot::Unreadable { .. }));
}
