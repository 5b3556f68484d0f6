//! Tokens (AVX4, PET7): who is let in, what the service is told, and what goes by who the client is: limits, the cache.

use http::{Request, Response};
use portcullis_e2e::{
    Client, Endpoint, Gateway, Reply, Setup,
    client::{empty, full},
    endpoint, gateway,
    grpc::{self, Caller, Note},
    token::{hs256, signed},
    wait::LONG,
    within,
};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use serde_json::{Value, json};
use tonic::Code;

const SECRET: &str = "a-secret-for-tests-of-32-letters";

/// Every path behind `jwt` with these settings and, after it, what else is written.
async fn guarded(endpoint: &Endpoint, settings: &str, more: &str) -> Gateway {
    Setup::new(&text(settings, more)).set("app", endpoint.url()).start().await
}

fn text(settings: &str, more: &str) -> String {
    let text = crate::one("").replace("service = \"app\"\n", "service = \"app\"\nmiddlewares = [\"auth\"]\n");
    format!("{text}\n{more}\n[middlewares.auth.jwt]\n{settings}\n")
}

fn secret(more: &str) -> String {
    format!("secret = \"{SECRET}\"\n{more}")
}

fn token(user: &str) -> String {
    hs256(SECRET, json!({ "sub": user, "jti": fastrand::u64(..) }))
}

async fn here() -> Endpoint {
    Endpoint::with(|_| endpoint::text(200, "here")).await
}

async fn ask(gateway: &Gateway, path: &str, token: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(path).header("authorization", format!("Bearer {token}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    gateway.send(request.body(empty()).unwrap()).await
}

/// AVX4, PET7.
#[tokio::test]
async fn who_is_let_in_and_who_is_told_what() {
    let endpoint = here().await;
    let gateway = guarded(&endpoint, &secret("realm = \"shop\"\nrequire = { role = \"admin\" }"), "").await;
    let admin = |exp: Value| hs256(SECRET, json!({ "sub": "ana", "role": "admin", "exp": exp }));
    let reply = ask(&gateway, "/", &admin(json!(4_000_000_000_u64)), &[]).await;
    assert_eq!((reply.status, reply.text()), (200, "here".to_owned()));
    let nothing = gateway.get("/").await;
    assert_eq!((nothing.status, nothing.header("www-authenticate")), (401, "Bearer realm=\"shop\""));
    let wrong = ask(&gateway, "/", &hs256("other", json!({ "sub": "ana" })), &[]).await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("www-authenticate").contains("error=\"invalid_token\""), "{wrong:?}");
    let problem: Value = serde_json::from_str(&wrong.text()).unwrap();
    assert_eq!((&problem["status"], &problem["title"]), (&json!(401), &json!("Authentication required")));
    let expired = ask(&gateway, "/", &admin(json!(1_000_000_000)), &[]).await;
    assert!(expired.header("www-authenticate").contains("the token has expired"), "{expired:?}");
    let other = ask(&gateway, "/", &token("beto"), &[]).await;
    assert_eq!(other.status, 403);
    assert!(other.header("www-authenticate").contains("error=\"insufficient_scope\""), "{other:?}");
    assert_eq!(endpoint.count(), 1, "nobody else got through");
    let metrics = gateway.metrics().await;
    for (result, expected) in [
        ("accepted", 1.0),
        ("missing", 1.0),
        ("signature", 1.0),
        ("expired", 1.0),
        ("scope", 1.0),
        ("claims", 0.0),
    ] {
        let labels = [("middleware", "auth@file"), ("result", result)];
        assert_eq!(metrics.sum("gateway_auth_requests_total", &labels), expected, "{result}");
    }
}

/// AVX4: over HTTP/2 and for gRPC as for all others.
#[tokio::test]
async fn over_http2_and_for_grpc() {
    let endpoint = grpc::endpoint().await;
    let gateway = Setup::new(&text(&secret(""), "")).set("app", endpoint.url_as("h2c")).start().await;
    let mut client = Client::h2(gateway.addr()).await;
    let reply = client.get("/").await;
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Bearer realm=\"portcullis\""));
    let mut caller = Caller::connect(gateway.addr()).await;
    let refused = caller.say("/notes.Notes/Say", Note::new("hello", 7)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(endpoint.count(), 0);
}

/// AVX4: the service hears of the client from the gateway alone, however somebody spells the fields himself, or has them
/// taken away as if they were of one connection (CVE-2024-45410).
#[tokio::test]
async fn the_service_is_told_who_it_is() {
    let endpoint = here().await;
    let headers = "headers = { X-User-Id = \"sub\", X-Tenant = \"realm.tenant\" }\nhide = true";
    // Otherwise the listener drops the odd names before anybody sees them.
    let listener = "[listeners.odd]\naddress = \"127.0.0.1:{port2}\"\nallow_odd_header_names = true";
    let gateway = guarded(&endpoint, &secret(headers), listener).await;
    let mut client = Client::h1(gateway.at("port2")).await;
    let token = hs256(SECRET, json!({ "sub": "ana", "realm": { "tenant": 7 } }));
    let mut ask = async |token: &str, fields: &[(&str, &str)]| {
        let mut request = Request::get("/").header("authorization", format!("Bearer {token}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        client.fetch(request.body(empty()).unwrap()).await.status
    };
    let evil = [("x-user-id", "evil"), ("X_User_Id", "evil"), ("x.tenant", "evil"), ("x_other", "odd")];
    assert_eq!(ask(&token, &evil).await, 200);
    let seen = endpoint.last();
    assert_eq!((seen.header("x-user-id"), seen.header("x-tenant")), ("ana", "7"));
    assert_eq!(seen.header("x_other"), "odd", "odd names pass here");
    for name in ["authorization", "x_user_id", "x.tenant"] {
        assert_eq!(seen.header(name), "", "{name}");
    }
    let named = [("connection", "x-user-id, x-tenant"), ("x-user-id", "evil")];
    assert_eq!(ask(&token, &named).await, 200);
    assert_eq!((endpoint.last().header("x-user-id"), endpoint.last().header("x-tenant")), ("ana", "7"));
    let token = hs256(SECRET, json!({ "sub": "ana" }));
    assert_eq!(ask(&token, &[("x-tenant", "evil")]).await, 200);
    assert_eq!(endpoint.last().header("x-tenant"), "");
}

/// A limit for each user and one for each tenant, whatever tokens they have.
#[tokio::test]
async fn limits_go_by_who_it_is() {
    let endpoint = here().await;
    let limit = "[middlewares.limit.rate_limit]\nlimits = [\n\
                 { name = \"user\", requests = 2, per = \"hour\", key = \"identity\" },\n\
                 { name = \"tenant\", requests = 3, per = \"hour\", key = { claim = \"realm.tenant\" } },\n]";
    let text = text(&secret(""), limit).replace("[\"auth\"]", "[\"auth\", \"limit\"]");
    let gateway = Setup::new(&text).set("app", endpoint.url()).start().await;
    let of = |user: &str, tenant: &str| {
        hs256(SECRET, json!({ "sub": user, "realm": { "tenant": tenant }, "jti": fastrand::u64(..) }))
    };
    let mut statuses = Vec::new();
    for (user, tenant) in [
        ("ana", "north"),
        ("ana", "north"),
        ("ana", "north"),
        ("beto", "north"),
        ("carla", "north"),
        ("carla", "south"),
    ] {
        statuses.push(ask(&gateway, "/", &of(user, tenant), &[]).await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 200, 429, 200]);
}

/// PET3: answers for each user alone, also when his token is a new one; nothing is kept of whom nobody vouches for.
#[tokio::test]
async fn the_cache_goes_by_who_it_is() {
    let endpoint = Endpoint::with(|seen| {
        let body = format!("{} for {}", seen.target, seen.header("x-user-id"));
        Response::builder().header("cache-control", "max-age=60").body(full(body)).unwrap()
    })
    .await;
    let settings = secret("optional = true\nheaders = { X-User-Id = \"sub\" }");
    let cached = text(&settings, "").replace(
        "[services.app]\n",
        "[services.app]\ncache = { key = { claims = [\"sub\"] }, x_cache = true }\n",
    );
    let gateway = Setup::new(&cached).set("app", endpoint.url()).start().await;
    let mut seen = Vec::new();
    for user in ["ana", "ana", "beto", "ana", "beto"] {
        let reply = ask(&gateway, "/me", &token(user), &[]).await;
        assert_eq!(reply.text(), format!("/me for {user}"));
        seen.push(reply.header("x-cache").to_owned());
    }
    assert_eq!(seen, ["MISS", "HIT", "MISS", "HIT", "HIT"]);
    // Without a token there are answers for all who have none, but none of a user's; a token of a scheme that nothing
    // checks is credentials all the same (RFC 9111 §3.5).
    for expected in ["MISS", "HIT"] {
        let reply = gateway.get("/me").await;
        assert_eq!((reply.header("x-cache"), reply.text()), (expected, "/me for ".to_owned()));
    }
    for _ in 0..2 {
        let request = Request::get("/other").header("authorization", "Basic YTpi").body(empty()).unwrap();
        assert_eq!(gateway.send(request).await.header("x-cache"), "MISS");
    }
}

/// Credentials that the gateway has taken away, or found in a cookie, are credentials all the same: nobody gets another's
/// answer because the cache does not see them (RFC 9111 §3.5).
#[tokio::test]
async fn nobody_gets_anothers_answer() {
    let endpoint = Endpoint::with(|seen| {
        let body = format!("for {}", seen.header("x-user-id"));
        Response::builder().header("cache-control", "max-age=60").body(full(body)).unwrap()
    })
    .await;
    for (settings, header) in [
        ("hide = true", "authorization"),
        ("cookie = \"session\"", "cookie"),
        ("header = \"X-Token\"", "x-token"),
    ] {
        let settings = secret(&format!("headers = {{ X-User-Id = \"sub\" }}\n{settings}"));
        for (cache, again) in [("true", "MISS"), ("{ key = { identity = true } }", "HIT")] {
            let cached = format!("[services.app]\ncache = {cache}\n");
            let text = text(&settings, "").replace("[services.app]\n", &cached);
            let gateway = Setup::new(&text).set("app", endpoint.url()).start().await;
            let anas = token("ana");
            for (user, token, expected) in
                [("ana", anas.clone(), "MISS"), ("beto", token("beto"), "MISS"), ("ana", anas, again)]
            {
                let value = match header {
                    "authorization" => format!("Bearer {token}"),
                    "cookie" => format!("session={token}"),
                    _ => token,
                };
                let request = Request::get("/me").header(header, value).body(empty()).unwrap();
                let reply = gateway.send(request).await;
                assert_eq!(reply.text(), format!("for {user}"), "{header}, {cache}");
                let hit = reply.header("cache-status").contains("hit");
                assert_eq!(hit, expected == "HIT", "{header}, {cache}: {}", reply.header("cache-status"));
            }
        }
    }
}

/// A key in a file, and another one that takes its place without a refused request.
#[tokio::test]
async fn keys_change_without_a_gap() {
    let endpoint = here().await;
    let [old, new] = [(); 2].map(|()| KeyPair::generate_for(&PKCS_ED25519).unwrap());
    let claims = json!({ "sub": "ana", "exp": 4_000_000_000_u64 });
    let by = |key: &KeyPair| signed("EdDSA", &claims, |message| key.sign(message).unwrap());
    let mut gateway = Setup::new(&text("public_key = \"old.pem\"", ""))
        .set("app", endpoint.url())
        .file("old.pem", old.public_key_pem())
        .file("new.pem", new.public_key_pem())
        .start()
        .await;
    let (by_old, by_new) = (by(&old), by(&new));
    assert_eq!(ask(&gateway, "/", &by_old, &[]).await.status, 200);
    assert_eq!(ask(&gateway, "/", &by_new, &[]).await.status, 401);
    gateway.rewrite(&text("public_key = [\"new.pem\", \"old.pem\"]", ""));
    within(LONG, "the new key", || async {
        assert_eq!(ask(&gateway, "/", &by_old, &[]).await.status, 200);
        ask(&gateway, "/", &by_new, &[]).await.status == 200
    })
    .await;
    gateway.rewrite(&text("public_key = \"new.pem\"", ""));
    within(LONG, "the old key to go", || async {
        assert_eq!(ask(&gateway, "/", &by_new, &[]).await.status, 200);
        ask(&gateway, "/", &by_old, &[]).await.status == 401
    })
    .await;
}

/// What is wrong is said by `check`, with its line and what would be right; each way is tested beside the code.
#[tokio::test]
async fn wrong_settings_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    for (settings, expected) in [
        ("secret = \"\"", "the secret is empty"),
        ("public_key = \"missing.pem\"", "missing.pem cannot be read"),
        ("secret = \"x\"\nalgorithms = [\"RS256\"]", "no algorithm in `algorithms` is one for this key"),
        ("issuer = \"x\"", "`secret` or `public_key` is missing"),
    ] {
        std::fs::write(&file, text(settings, "").replace("{app}", "http://127.0.0.1:1")).unwrap();
        let output = gateway::run(dir.path(), &["check", "-c", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{settings}: {said}");
        assert!(said.contains(expected) && said.contains("gateway.toml:"), "{settings}: {said}");
    }
}
