//! A real Redis that speaks TLS and lets each user do only what it must: what the gateway needs, and what it says when
//! that is wanting.

use http::Response;
use portcullis_e2e::{
    Endpoint, Gateway, Setup, certs::Authority, client::full, redis::Redis, wait::LONG, within,
};

/// What docs/stores.md says that a user needs.
const NEEDED: &str = "+ping +select +script|load +eval +evalsha +get +set +time +incrby +pexpireat +sadd +pttl +pexpire +unlink +spop +scan +zadd +zrangebyscore +zremrangebyscore";

const BOTH: &str = r#"
[[routes]]
path = "/cached/*"
service = "cached"

[[routes]]
path = "/*"
service = "app"
middlewares = ["limit"]

[services.app]
endpoints = ["{app}"]

[services.cached]
endpoints = ["{app}"]
cache = true

[cache]
store = "main"

[middlewares.limit.rate_limit]
limits = [{ requests = 30, per = "1h" }, { requests = 40, per = "day" }]
store = "main"
allowance = { share = 0.1 }

[stores.main.redis]
url = "{redis}"
{more}
"#;

async fn cacheable() -> Endpoint {
    Endpoint::with(|_| {
        let fields = Response::builder().header("Cache-Control", "max-age=600").header("Cache-Tag", "all");
        fields.body(full("answer")).unwrap()
    })
    .await
}

async fn gateway(app: &Endpoint, redis: &str, more: &str, ca: &str) -> Gateway {
    let setup = Setup::new(BOTH).set("app", app.url()).set("redis", redis).set("more", more);
    setup.file("ca.pem", ca).start().await
}

async fn sum(gateway: &Gateway, name: &str, labels: &[(&str, &str)]) -> f64 {
    gateway.metrics().await.sum(name, labels)
}

/// Over TLS, as a user with no more rights than are documented, in a database of its own: limits and cache work.
#[tokio::test]
async fn a_user_with_few_rights_over_tls_is_enough() {
    let authority = Authority::new("own");
    let redis = Redis::secure(&authority).await;
    redis.say(&format!("ACL SETUSER gate on >s3:cret@ ~shop:* resetchannels -@all {NEEDED}")).await;
    redis.say("ACL LOG RESET").await;
    let app = cacheable().await;
    let url = redis.secure_url("gate:s3%3Acret%40@").replace("redis://", "rediss://") + "/2";
    let tls = "prefix = \"shop:\"\ntls = { ca = \"ca.pem\" }";
    let (one, two) =
        (gateway(&app, &url, tls, &authority.pem()).await, gateway(&app, &url, tls, &authority.pem()).await);
    for gateway in [&one, &two] {
        within(LONG, "the store", || async { sum(gateway, "gateway_store_up", &[]).await > 0.5 }).await;
    }
    let mut passed = 0;
    for _ in 0..25 {
        passed += u32::from(one.get("/").await.status == 200) + u32::from(two.get("/").await.status == 200);
    }
    // What the other holds may be wanting.
    assert!((24..=30).contains(&passed), "{passed}");
    assert_eq!(one.get("/cached/a").await.status, 200);
    let before = app.count();
    within(LONG, "it is kept", || async {
        two.get("/cached/a").await.header("cache-status").contains("hit")
    })
    .await;
    assert!(app.count() <= before + 1);
    assert_eq!(one.admin_post("/api/cache/purge?tag=all").await.status, 200);
    assert_eq!(one.admin_post("/api/cache/purge?prefix=http://127.0.0.1/cached").await.status, 200);
    assert_eq!(redis.say("ACL LOG").await, "*0", "it asked for what it may not");
    for gateway in [&one, &two] {
        assert_eq!(sum(gateway, "gateway_store_errors_total", &[]).await, 0.0);
        assert_eq!(sum(gateway, "gateway_rate_limit_store_away_total", &[]).await, 0.0);
    }
}

/// What is wrong is said in the log, and requests go on.
async fn says(url: &str, more: &str, ca: &str, said: &[&str]) {
    let app = cacheable().await;
    let gateway = gateway(&app, url, more, ca).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/").await.status, 200);
        assert_eq!(gateway.get("/cached/a").await.status, 200);
    }
    for said in said {
        gateway.says(said).await;
    }
    assert!(sum(&gateway, "gateway_rate_limit_store_away_total", &[]).await >= 3.0);
    let text = format!("{}{}", gateway.stdout(), gateway.stderr());
    assert!(!text.contains("hunter2"), "the password is in the log");
}

#[tokio::test]
async fn a_wrong_password_an_unknown_user_and_rights_that_are_wanting_are_told() {
    let redis = Redis::start().await;
    redis.say("ACL SETUSER gate on >right ~* -@all +ping").await;
    let url = |user: &str| redis.url().replace("redis://", &format!("redis://{user}"));
    says(&url("gate:hunter2@"), "", "", &["the store does not answer", "user or password"]).await;
    says(&url("nobody:hunter2@"), "", "", &["user or password"]).await;
    says(&url("gate:right@"), "", "", &["the store refuses", "NoPerm", "docs/stores.md"]).await;
    redis.say("CONFIG SET requirepass right").await;
    says(&redis.url(), "", "", &["the store does not answer", "wants a password"]).await;
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_and_tls_on_one_side_only_are_told() {
    let (authority, other) = (Authority::new("own"), Authority::new("other"));
    let redis = Redis::secure(&authority).await;
    let (secure, ca) = (redis.secure_url("").replace("redis://", "rediss://"), "tls = { ca = \"ca.pem\" }");
    says(&secure, ca, &other.pem(), &["the store does not answer", "UnknownIssuer", "tls.ca"]).await;
    says(&secure, "", "", &["UnknownIssuer", "tls.ca"]).await;
    says(
        &redis.url().replace("redis://", "rediss://"),
        ca,
        &authority.pem(),
        &["does not speak TLS", "write redis://"],
    )
    .await;
    says(&redis.secure_url(""), "", "", &["the store does not answer", "rediss://"]).await;
}
