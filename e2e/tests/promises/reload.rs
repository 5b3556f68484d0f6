//! Reload: every way a file changes, a signal, the admin API; bad files refused whole; listeners come and go; state
//! stays.

use std::os::unix::fs::symlink;

use portcullis_e2e::{Client, Endpoint, Gateway, RawClient, Setup, wait::LONG, within};
use rustix::process::Signal;

fn answering(text: &str) -> String {
    format!(
        "[[routes]]\nname = \"all\"\npath = \"/*\"\nservice = \"@echo\"\n\
         middlewares = [{{ static_response = {{ status = 200, body = \"{text}\" }} }}]\n"
    )
}

async fn says(gateway: &Gateway, text: &str) {
    within(LONG, &format!("the gateway to answer {text}"), || async {
        gateway.get("/").await.text() == text
    })
    .await;
}

/// Written in place.
#[tokio::test]
async fn a_file_written_in_place() {
    let mut gateway = Gateway::start(&answering("one")).await;
    says(&gateway, "one").await;
    for text in ["two", "three"] {
        gateway.rewrite(&answering(text));
        says(&gateway, text).await;
    }
}

/// Replaced by renaming, as editors do, again and again.
#[tokio::test]
async fn a_file_renamed_over() {
    let mut gateway = Gateway::start(&answering("one")).await;
    for text in ["two", "three", "four"] {
        let rendered = gateway.render(&answering(text));
        let next = gateway.dir.path().join("gateway.toml.swp");
        std::fs::write(&next, rendered).unwrap();
        std::fs::rename(&next, &gateway.config).unwrap();
        says(&gateway, text).await;
    }
}

/// Moved away first, then written anew (vim's other way).
#[tokio::test]
async fn a_file_moved_away_and_written_anew() {
    let mut gateway = Gateway::start(&answering("one")).await;
    let rendered = gateway.render(&answering("two"));
    std::fs::rename(&gateway.config, gateway.dir.path().join("gateway.toml~")).unwrap();
    assert_eq!(gateway.get("/").await.text(), "one", "a file that is away changes nothing");
    std::fs::write(&gateway.config, rendered).unwrap();
    says(&gateway, "two").await;
}

/// A symlink to a folder swapped, as Kubernetes does with a ConfigMap.
#[tokio::test]
async fn a_symlink_swapped() {
    let setup = Setup::new(&answering("one"));
    let dir = setup.dir().to_owned();
    let mut gateway = setup.start().await;
    // Lay the volume out as the kubelet does: gateway.toml -> ..data/gateway.toml, ..data -> ..2026_01.
    for (folder, text) in [("..2026_01", "two"), ("..2026_02", "three"), ("..2026_03", "four")] {
        let rendered = gateway.render(&answering(text));
        std::fs::create_dir(dir.join(folder)).unwrap();
        std::fs::write(dir.join(folder).join("gateway.toml"), rendered).unwrap();
        symlink(folder, dir.join("..data_tmp")).unwrap();
        std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        if text == "two" {
            symlink("..data/gateway.toml", dir.join("next")).unwrap();
            std::fs::rename(dir.join("next"), dir.join("gateway.toml")).unwrap();
        }
        says(&gateway, text).await;
    }
}

/// SIGHUP and `POST /reload` read it at once.
#[tokio::test]
async fn a_signal_and_the_admin_api() {
    let mut gateway = Gateway::start(&answering("one")).await;
    gateway.rewrite(&answering("two"));
    let reply = gateway.admin_post("/reload").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(gateway.get("/").await.text(), "two", "done when the answer is there");
    gateway.rewrite(&answering("three"));
    gateway.signal(Signal::HUP);
    says(&gateway, "three").await;
}

/// A bad file is refused whole, with every finding in the log and the admin API; the old configuration keeps running,
/// and a good file afterwards is taken.
#[tokio::test]
async fn a_bad_file_is_refused_whole() {
    let mut gateway = Gateway::start(&answering("one")).await;
    let bad = r#"
[[routes]]
name = "all"
path = "/*"
service = "nowhere"

[[routes]]
name = "rule"
rule = "Hos(`a`)"
service = "nowhere"
"#;
    for _ in 0..2 {
        gateway.rewrite(bad);
        let reply = gateway.admin_post("/reload").await;
        assert!((400..500).contains(&reply.status), "{} {}", reply.status, reply.text());
        let said = reply.text();
        assert!(said.contains("nowhere") && said.contains("Hos"), "every finding: {said}");
        assert!(said.contains("line"), "with its place: {said}");
        assert_eq!(gateway.get("/").await.text(), "one");
    }
    gateway.says("nowhere").await;
    let metrics = gateway.metrics().await;
    let failed = metrics.sum("gateway_config_reloads_total", &[("result", "failure")]);
    assert!(failed >= 2.0, "the metrics count it: {failed}");
    assert_eq!(metrics.sum("gateway_config_last_reload_successful", &[]), 0.0);
    // Not TOML at all.
    std::fs::write(&gateway.config, "[[routes\n").unwrap();
    assert!((400..500).contains(&gateway.admin_post("/reload").await.status));
    assert_eq!(gateway.get("/").await.text(), "one");
    gateway.rewrite(&answering("two"));
    assert_eq!(gateway.admin_post("/reload").await.status, 200);
    assert_eq!(gateway.get("/").await.text(), "two");
    assert!(gateway.runs());
}

/// Listeners are added and removed live; a listener whose port is taken refuses the whole configuration.
#[tokio::test]
async fn listeners_come_and_go() {
    let route = "[[routes]]\nname = \"all\"\npath = \"/*\"\nservice = \"@health\"\n";
    let more = format!("[listeners.second]\naddress = \"127.0.0.1:{{port2}}\"\n{route}");
    let mut gateway = Gateway::start(route).await;
    let mut open = RawClient::connect(gateway.addr()).await;
    gateway.rewrite(&more);
    assert_eq!(gateway.admin_post("/reload").await.status, 200);
    let second = gateway.at("port2");
    assert_eq!(Client::h1(second).await.get("/").await.status, 200);
    let mut staying = RawClient::connect(second).await;
    gateway.rewrite(route);
    assert_eq!(gateway.admin_post("/reload").await.status, 200);
    within(LONG, "the second listener to be gone", || async { Client::try_h1(second).await.is_err() }).await;
    // A connection from before is not cut off in the middle of something: it may ask once more, or was closed idle.
    staying.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    open.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(open.reply().await.status, 200, "the other listener never noticed");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text =
        format!("[listeners.third]\naddress = \"{}\"\n{}", taken.local_addr().unwrap(), answering("new"));
    gateway.rewrite(&text);
    let reply = gateway.admin_post("/reload").await;
    assert_ne!(reply.status, 200, "{}", reply.text());
    assert_ne!(gateway.get("/").await.text(), "new", "refused whole");
}

/// Health survives: an endpoint that is out stays out over a reload, and one that is in is not asked to prove it again.
#[tokio::test]
async fn health_is_kept() {
    let good = Endpoint::with(|_| portcullis_e2e::endpoint::named("good")).await;
    let bad = Endpoint::with(|_| portcullis_e2e::endpoint::text(500, "bad")).await;
    let text = |more: &str| {
        format!(
            r#"
[[routes]]
name = "all"
path = "/*"
service = "app"

[services.app]
endpoints = [{{ url = "{{good}}" }}, {{ url = "{{bad}}" }}]
health_check = {{ path = "/health", interval = "2s", unhealthy_interval = "2s", unhealthy_after = 1 }}
{more}
"#
        )
    };
    let setup = Setup::new(&text("")).set("good", good.url()).set("bad", bad.url());
    let mut gateway = setup.start().await;
    within(LONG, "the good one to be in", || async { gateway.get("/").await.endpoint() == "good" }).await;
    within(LONG, "the bad one to be out", || async { bad.count() > 0 }).await;
    for round in 0..5 {
        gateway.rewrite(&text(&format!("[middlewares.m{round}.compress]\n")));
        assert_eq!(gateway.admin_post("/reload").await.status, 200);
        for _ in 0..6 {
            let reply = gateway.get("/").await;
            assert_eq!((reply.status, reply.endpoint()), (200, "good"), "round {round}: {}", reply.text());
        }
    }
}

/// A limiter's count survives a reload that does not concern it.
#[tokio::test]
async fn limits_are_kept() {
    let text = |body: &str| {
        format!(
            "[[routes]]\nname = \"all\"\npath = \"/*\"\nservice = \"@echo\"\nmiddlewares = [\"slow\", \"say\"]\n\
             [middlewares.slow.rate_limit]\nrequests_per_second = 0.01\nburst = 3\n\
             [middlewares.say.static_response]\nstatus = 200\nbody = \"{body}\"\n"
        )
    };
    let mut gateway = Gateway::start(&text("one")).await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/").await.text(), "one");
    }
    gateway.rewrite(&text("two"));
    assert_eq!(gateway.admin_post("/reload").await.status, 200);
    assert_eq!(gateway.get("/").await.text(), "two");
    assert_eq!(gateway.get("/").await.status, 429, "three in all, before and after the reload");
}

/// `portcullis reload` asks the running gateway, and its exit code tells what became of it.
#[tokio::test]
async fn the_command_asks_for_a_reload() {
    let mut gateway = Gateway::start(&answering("one")).await;
    let reload = |gateway: &Gateway| {
        let config = gateway.config.to_str().unwrap().to_owned();
        portcullis_e2e::gateway::run(
            gateway.dir.path(),
            &["reload", "--admin", &gateway.admin().to_string(), "-c", &config],
        )
    };
    gateway.rewrite(&answering("two"));
    let done = reload(&gateway);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(gateway.get("/").await.text(), "two");
    gateway.rewrite("[[routes]]\npath = \"/*\"\nservice = \"nowhere\"\n");
    let refused = reload(&gateway);
    assert_eq!(refused.status.code(), Some(1));
    let said =
        format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert!(said.contains("nowhere"), "{said}");
}

/// An error page in a file: its new text is served without a restart, and without the configuration being touched.
#[tokio::test]
async fn an_error_page_changes() {
    let text = r#"
[error_pages]
404 = { file = "missing.html" }
"#;
    let setup = Setup::new(text).file("missing.html", "page one");
    let page = setup.dir().join("missing.html");
    let gateway = setup.start().await;
    says(&gateway, "page one").await;
    std::fs::write(&page, "page two").unwrap();
    says(&gateway, "page two").await;
    // Replaced by a rename, then gone: the last good one stays, and the log says what is missing.
    std::fs::write(page.with_extension("new"), "page three").unwrap();
    std::fs::rename(page.with_extension("new"), &page).unwrap();
    says(&gateway, "page three").await;
    std::fs::remove_file(&page).unwrap();
    gateway.says("cannot read").await;
    assert_eq!(gateway.get("/").await.text(), "page three");
    std::fs::write(&page, "page four").unwrap();
    says(&gateway, "page four").await;
}

/// The `.env` file beside the configuration, also one that comes later.
#[tokio::test]
async fn the_dot_env_file_changes() {
    let gateway = Gateway::start(&answering("${WORD:-none}")).await;
    says(&gateway, "none").await;
    for word in ["one", "two"] {
        std::fs::write(gateway.dir.path().join(".env"), format!("WORD={word}\n")).unwrap();
        says(&gateway, word).await;
    }
}

/// A file that is written through another name in another folder, as behind a bind mount: the folder of the
/// configuration is told nothing.
#[tokio::test]
async fn a_file_written_where_nobody_watches() {
    let mut gateway = Gateway::start(&answering("one")).await;
    let elsewhere = tempfile::tempdir_in(gateway.dir.path().parent().unwrap()).unwrap();
    let source = elsewhere.path().join("source.toml");
    std::fs::write(&source, gateway.render(&answering("two"))).unwrap();
    std::fs::remove_file(&gateway.config).unwrap();
    std::fs::hard_link(&source, &gateway.config).unwrap();
    says(&gateway, "two").await;
    for text in ["three", "four"] {
        std::fs::write(&source, gateway.render(&answering(text))).unwrap();
        says(&gateway, text).await;
    }
}

/// A real bind mount of the single file, as containers have it, where the system lets us mount; elsewhere the same
/// through a hard link, which the kernel reports as little of.
#[tokio::test]
async fn a_bind_mounted_file() {
    let mut gateway = Gateway::start(&answering("one")).await;
    let elsewhere = tempfile::tempdir_in(gateway.dir.path().parent().unwrap()).unwrap();
    let source = elsewhere.path().join("source.toml");
    std::fs::write(&source, gateway.render(&answering("two"))).unwrap();
    let mount = Mount::bind(&source, &gateway.config);
    if mount.is_none() {
        std::fs::remove_file(&gateway.config).unwrap();
        std::fs::hard_link(&source, &gateway.config).unwrap();
    }
    says(&gateway, "two").await;
    for text in ["three", "four"] {
        std::fs::write(&source, gateway.render(&answering(text))).unwrap();
        says(&gateway, text).await;
    }
    drop(mount);
}

/// A mount that ends with the test.
struct Mount(std::path::PathBuf);

impl Mount {
    fn bind(source: &std::path::Path, target: &std::path::Path) -> Option<Mount> {
        let mut command = std::process::Command::new("mount");
        let made = command.arg("--bind").args([source, target]).stderr(std::process::Stdio::null()).status();
        made.is_ok_and(|status| status.success()).then(|| Mount(target.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}
