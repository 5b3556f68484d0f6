use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::StatusCode;
use portcullis_core::{Answer, Appended, Body, Error, Exchange, Fields, Frame, Kind, Middleware, Stream};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use serde_json::{Value, json};

use crate::testing::{build, passed, problem, request, told};

const SECRET: &str = "a-secret-for-tests-of-32-letters";
const RSA_PRIVATE: &str = include_str!("testdata/only-for-tests.pem");
const RSA_PUBLIC: &str = include_str!("testdata/only-for-tests.pub.pem");
const RSA_PKCS1: &str = include_str!("testdata/only-for-tests.pkcs1.pem");

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn hmac_with(algorithm: hmac::Algorithm, secret: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(algorithm, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

/// HS256 under [`SECRET`].
fn token(claims: Value) -> String {
    by(SECRET, claims)
}

fn by(secret: &str, claims: Value) -> String {
    let sign = hmac_with(hmac::HMAC_SHA256, secret.as_bytes());
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), &lasting(claims), sign)
}

/// With an end, unless it says one, or that there is none.
fn lasting(mut claims: Value) -> Value {
    let table = claims.as_object_mut().unwrap();
    table.entry("exp").or_insert_with(|| json!(now() + 600));
    table.retain(|_, value| !value.is_null());
    claims
}

fn with(token: &str) -> Exchange {
    let mut x = request("/");
    x.request.fields.append("authorization", format!("Bearer {token}"));
    x
}

/// What became of a request: the error and the challenge of its answer.
fn refused(check: &std::sync::Arc<dyn Middleware>, x: &mut Exchange) -> (Kind, String) {
    let error = check.on_request(x).err().expect("a refusal");
    let mut answer = Answer::new(StatusCode::UNAUTHORIZED, "test");
    told(check, x, &mut answer);
    (error.kind, answer.fields.get_str("www-authenticate").unwrap_or_default().to_owned())
}

/// The description in the challenge; empty when it passed.
fn why(settings: Value, token: &str) -> String {
    let check = build("jwt", settings);
    let mut x = with(token);
    if check.on_request(&mut x).is_ok() {
        return String::new();
    }
    let (kind, challenge) = refused(&check, &mut with(token));
    assert_eq!(kind, Kind::Unauthenticated);
    challenge.split("error_description=").nth(1).unwrap_or("none").trim_matches('"').to_owned()
}

#[test]
fn a_good_token_says_who_it_is() {
    let check = build("jwt", json!({ "secret": SECRET }));
    let mut x = with(&token(json!({ "sub": "ana", "realm": { "tenant": "north" } })));
    passed(check.on_request(&mut x).unwrap());
    let identity = x.identity().unwrap();
    assert_eq!((&*identity.subject, identity.by), ("ana", "jwt"));
    assert_eq!(identity.claim("realm.tenant").as_deref(), Some("north"));
    let mut answer = Answer::new(StatusCode::OK, "test");
    told(&check, &mut x, &mut answer);
    assert!(!answer.fields.contains("www-authenticate"));
}

#[test]
fn who_brings_nothing_is_told_how() {
    let check = build("jwt", json!({ "secret": SECRET, "realm": "shop" }));
    let expected = (Kind::Unauthenticated, "Bearer realm=\"shop\"".to_owned());
    assert_eq!(refused(&check, &mut request("/")), expected);
    // Credentials of another scheme are none of this.
    let mut x = request("/");
    x.request.fields.append("authorization", "Basic YTpi");
    assert_eq!(refused(&check, &mut x), expected);
}

/// The same but for the first letter.
fn other(signature: &str) -> String {
    let (first, rest) = signature.split_at(1);
    format!("{}{rest}", if first == "A" { "B" } else { "A" })
}

#[test]
fn bad_tokens_are_refused_and_told_why() {
    let only = json!({ "secret": SECRET });
    let sign = |header: Value, claims: Value| {
        signed(&header, &lasting(claims), hmac_with(hmac::HMAC_SHA256, SECRET.as_bytes()))
    };
    let good = token(json!({ "sub": "a" }));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let malformed = "not a token";
    let signed_badly = "not signed by the issuer";
    let hs = |more: Value| {
        let mut header = json!({ "alg": "HS256" });
        header.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        sign(header, json!({ "sub": "a" }))
    };
    let cases = [
        (String::new(), malformed),
        ("a.b.c".to_owned(), malformed),
        (head.to_owned(), malformed),
        (format!("{good}.x"), malformed),
        (format!("{head}."), signed_badly),
        (format!("{head}.!"), malformed),
        (format!("{head}.{}", other(signature)), signed_badly),
        (by("another secret", json!({ "sub": "a" })), signed_badly),
        // RFC 8725 §3.1: whatever the token says, the algorithm is the key's.
        (signed(&json!({ "alg": "none" }), &lasting(json!({ "sub": "a" })), |_| Vec::new()), malformed),
        (sign(json!({ "alg": "HS512" }), json!({ "sub": "a" })), signed_badly),
        (sign(json!({ "alg": "RS256" }), json!({ "sub": "a" })), signed_badly),
        // RFC 7515 §4.1.11, CVE-2018-0114.
        (hs(json!({ "crit": ["exp"] })), malformed),
        (hs(json!({ "jku": "https://evil.example/keys" })), malformed),
        (hs(json!({ "x5u": "https://evil.example/cert" })), malformed),
        (hs(json!({ "jwk": { "kty": "oct", "k": "AAAA" } })), malformed),
        (token(json!({ "sub": "a", "exp": now() - 60 })), "the token has expired"),
        (token(json!({ "sub": "a", "nbf": now() + 60 })), "the token is not valid yet"),
        (token(json!({ "sub": "a", "exp": null })), "the token is not for here"),
        (token(json!({ "sub": "a", "exp": "never" })), "the token is not for here"),
        (token(json!({ "sub": "a", "nbf": "soon" })), "the token is not for here"),
        (token(json!({ "sub": "a", "aud": "somebody" })), "the token is not for here"),
        (token(json!({ "sub": "a", "aud": 7 })), "the token is not for here"),
        (token(json!({ "sub": "a", "aud": ["a", 1] })), "the token is not for here"),
        (token(json!({ "name": "without a subject" })), "the token says nobody's name"),
        (token(json!({ "sub": "" })), "the token says nobody's name"),
    ];
    for (token, expected) in cases {
        assert_eq!(why(only.clone(), &token), expected, "{token}");
    }
    // Within what clocks may differ by.
    for good in [json!({ "sub": "a", "exp": now() - 10 }), json!({ "sub": "a", "nbf": now() + 10 })] {
        assert_eq!(why(only.clone(), &token(good)), "");
    }
    let strict = json!({ "secret": SECRET, "leeway": "0s" });
    assert_eq!(why(strict, &token(json!({ "sub": "a", "exp": now() - 2 }))), "the token has expired");
    let endless = json!({ "secret": SECRET, "expiry": false });
    assert_eq!(why(endless.clone(), &token(json!({ "sub": "a", "exp": null }))), "");
    assert_eq!(why(endless, &token(json!({ "sub": "a", "exp": 1 }))), "the token has expired");
}

#[test]
fn issuer_and_audience() {
    let settings = json!({ "secret": SECRET, "issuer": ["x", "y"], "audience": "shop" });
    let not_for_here = "the token is not for here";
    for (claims, expected) in [
        (json!({ "sub": "a", "iss": "y", "aud": "shop" }), ""),
        (json!({ "sub": "a", "iss": "x", "aud": ["other", "shop"] }), ""),
        (json!({ "sub": "a", "iss": "z", "aud": "shop" }), not_for_here),
        (json!({ "sub": "a", "iss": 7, "aud": "shop" }), not_for_here),
        (json!({ "sub": "a", "aud": "shop" }), not_for_here),
        (json!({ "sub": "a", "iss": "x", "aud": "other" }), not_for_here),
        (json!({ "sub": "a", "iss": "x", "aud": [] }), not_for_here),
        (json!({ "sub": "a", "iss": "x", "aud": { "shop": 1 } }), not_for_here),
        (json!({ "sub": "a", "iss": "x" }), not_for_here),
    ] {
        assert_eq!(why(settings.clone(), &token(claims.clone())), expected, "{claims}");
    }
}

/// RFC 7515 A.1: its signature is right, and it ended in 2011.
#[test]
fn the_example_of_the_standard() {
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let right = json!({ "secret": secret, "secret_is_base64": true });
    assert_eq!(why(right, token), "the token has expired");
    assert_eq!(why(json!({ "secret": secret }), token), "not signed by the issuer");
}

fn pem(prefix: &[u8], key: &[u8]) -> String {
    let der = [prefix, key].concat();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

/// `SubjectPublicKeyInfo` (RFC 5480, RFC 8410) up to the key itself.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3,
    1, 7, 3, 0x42, 0,
];
const P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22, 3, 0x62,
    0,
];
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

#[test]
fn all_algorithms() {
    let random = SystemRandom::new();
    let claims = lasting(json!({ "sub": "ana" }));
    let of = |algorithm: &str| json!({ "alg": algorithm });
    for (name, algorithm) in [("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        let token = signed(&of(name), &claims, hmac_with(algorithm, SECRET.as_bytes()));
        assert_eq!(why(json!({ "secret": SECRET, "algorithms": ["HS256", name] }), &token), "", "{name}");
        assert_eq!(why(json!({ "secret": SECRET }), &token), "not signed by the issuer", "{name}");
    }
    let der =
        STANDARD.decode(RSA_PRIVATE.lines().filter(|line| !line.contains('-')).collect::<String>()).unwrap();
    let rsa = RsaKeyPair::from_pkcs8(&der).unwrap();
    let encodings: [(&str, &'static dyn signature::RsaEncoding); 6] = [
        ("RS256", &signature::RSA_PKCS1_SHA256),
        ("RS384", &signature::RSA_PKCS1_SHA384),
        ("RS512", &signature::RSA_PKCS1_SHA512),
        ("PS256", &signature::RSA_PSS_SHA256),
        ("PS384", &signature::RSA_PSS_SHA384),
        ("PS512", &signature::RSA_PSS_SHA512),
    ];
    for (name, encoding) in encodings {
        let token = signed(&of(name), &claims, |message| {
            let mut signature = vec![0; rsa.public().modulus_len()];
            rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        });
        for key in [RSA_PUBLIC, RSA_PKCS1] {
            assert_eq!(why(json!({ "public_key": key, "algorithms": name }), &token), "", "{name}");
        }
        let expected = if name == "RS256" { "" } else { "not signed by the issuer" };
        assert_eq!(why(json!({ "public_key": RSA_PUBLIC }), &token), expected, "{name}");
    }
    for (name, prefix, algorithm) in [
        ("ES256", P256, &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        ("ES384", P384, &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
    ] {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let sign = |message: &[u8]| pair.sign(&random, message).unwrap().as_ref().to_vec();
        let token = signed(&of(name), &claims, sign);
        let key = pem(prefix, pair.public_key().as_ref());
        assert_eq!(why(json!({ "public_key": key }), &token), "", "{name}");
        // Another key of the same kind is tried too.
        assert_eq!(why(json!({ "public_key": [RSA_PUBLIC, key] }), &token), "", "{name}");
        assert_eq!(why(json!({ "public_key": RSA_PUBLIC }), &token), "not signed by the issuer", "{name}");
    }
    let pair = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
    let token = signed(&of("EdDSA"), &claims, |message| pair.sign(message).as_ref().to_vec());
    assert_eq!(why(json!({ "public_key": pem(ED25519, pair.public_key().as_ref()) }), &token), "");
}

/// CVE-2016-10555: a public key, which everybody knows, taken for a secret.
#[test]
fn a_public_key_is_no_secret() {
    for key in [RSA_PUBLIC.as_bytes(), RSA_PUBLIC.trim().as_bytes()] {
        let sign = hmac_with(hmac::HMAC_SHA256, key);
        let token = signed(&json!({ "alg": "HS256" }), &lasting(json!({ "sub": "a" })), sign);
        assert_eq!(why(json!({ "public_key": RSA_PUBLIC }), &token), "not signed by the issuer");
        let both = json!({ "public_key": RSA_PUBLIC, "secret": SECRET });
        assert_eq!(why(both, &token), "not signed by the issuer");
    }
}

#[test]
fn several_secrets_while_one_takes_anothers_place() {
    let both = json!({ "secret": ["the new one", "the old one"] });
    for secret in ["the new one", "the old one"] {
        assert_eq!(why(both.clone(), &by(secret, json!({ "sub": "a" }))), "");
        let expired = by(secret, json!({ "sub": "a", "exp": 1 }));
        assert_eq!(why(both.clone(), &expired), "the token has expired", "{secret}");
    }
    assert_eq!(why(both, &by("a third", json!({ "sub": "a" }))), "not signed by the issuer");
}

#[test]
fn what_is_required_is_asked_for() {
    let settings = |require: Value| json!({ "secret": SECRET, "require": require });
    let claims = json!({
        "sub": "a", "role": "editor", "groups": ["x", 7], "scope": "read write", "level": 3,
        "note": "read write", "realm": { "admin": true },
    });
    for (require, passes) in [
        (json!({ "role": ["admin", "editor"] }), true),
        (json!({ "role": "admin" }), false),
        (json!({ "groups": "x" }), true),
        (json!({ "groups": "7" }), true),
        (json!({ "groups": "y" }), false),
        (json!({ "scope": "write" }), true),
        (json!({ "scope": "rea" }), false),
        (json!({ "note": "read" }), false),
        (json!({ "level": "3", "realm.admin": "true" }), true),
        (json!({ "level": "3", "realm.admin": "false" }), false),
        (json!({ "missing": "x" }), false),
    ] {
        let check = build("jwt", settings(require.clone()));
        let mut x = with(&token(claims.clone()));
        if passes {
            passed(check.on_request(&mut x).unwrap());
            continue;
        }
        let expected = "Bearer realm=\"portcullis\", error=\"insufficient_scope\"";
        assert_eq!(refused(&check, &mut x), (Kind::Denied, expected.to_owned()), "{require}");
        assert!(x.identity().is_none(), "{require}");
    }
}

#[test]
fn where_the_token_stands() {
    let good = token(json!({ "sub": "ana" }));
    let check = build("jwt", json!({ "secret": SECRET, "header": "X-Token", "cookie": "session" }));
    let who = |fields: &[(&str, String)]| {
        let mut x = request("/");
        fields.iter().for_each(|(name, value)| x.request.fields.append(name, value));
        let passed = check.on_request(&mut x).is_ok();
        (passed, x.identity().map(|identity| identity.subject.to_string()))
    };
    let ana = (true, Some("ana".to_owned()));
    let nobody = (false, None);
    assert_eq!(who(&[("x-token", good.clone())]), ana);
    assert_eq!(who(&[("X-Token", format!("bEARER   {good}"))]), ana);
    assert_eq!(who(&[("cookie", format!("a=1; session={good}"))]), ana);
    assert_eq!(who(&[("authorization", format!("Bearer {good}"))]), nobody);
    // Two of them: the service might believe the other.
    assert_eq!(who(&[("x-token", good.clone()), ("x-token", good.clone())]), nobody);
    assert_eq!(who(&[("cookie", format!("session={good}; session=x"))]), nobody);
    assert_eq!(who(&[("x-token", "x".to_owned()), ("cookie", format!("session={good}"))]), nobody);
    let check = build("jwt", json!({ "secret": SECRET, "cookie": "session", "optional": true }));
    let who = |authorization: &str, cookie: &str| {
        let mut x = request("/");
        x.request.fields.append("authorization", authorization.replace("GOOD", &good));
        if !cookie.is_empty() {
            x.request.fields.append("cookie", format!("session={}", cookie.replace("GOOD", &good)));
        }
        let passed = check.on_request(&mut x).is_ok();
        (passed, x.identity().map(|identity| identity.by_authorization))
    };
    assert_eq!(who("Bearer GOOD", ""), (true, Some(true)));
    assert_eq!(who("bearer\t GOOD", ""), (true, Some(true)));
    // Beside another scheme's credentials, the cookie counts.
    assert_eq!(who("Basic YTpi", "GOOD"), (true, Some(false)));
    assert_eq!(who("Digest a=\"b\", c=d", ""), (true, None));
    // A second token, or what somebody might take for one, is refused whatever the first says.
    for (authorization, cookie) in [
        ("Bearer GOOD", "GOOD"),
        ("Bearer GOOD", "forged"),
        ("Bearer forged", "GOOD"),
        ("GOOD", ""),
        ("forged", "GOOD"),
        ("Bearer", ""),
        ("Bearer ", "GOOD"),
        ("Basic YTpi, Bearer GOOD", ""),
        ("Basic YTpi,bearer\tforged", "GOOD"),
        ("Bearer GOOD, Bearer forged", ""),
    ] {
        assert_eq!(who(authorization, cookie), (false, None), "{authorization}; {cookie}");
    }
}

/// A body of these frames, the last first.
struct Frames(Vec<Frame>);

impl Stream for Frames {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        Poll::Ready(self.0.pop().map(Ok))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

/// What merges trailers into the fields of the head would believe them.
#[tokio::test]
async fn trailers_say_nothing_of_who_it_is() {
    let settings = json!({ "secret": SECRET, "headers": { "X-User-Id": "sub" } });
    for by_appending in [true, false] {
        let check = build("jwt", settings.clone());
        let mut x = with(&token(json!({ "sub": "ana" })));
        let trailers = [("x_user_id", "evil"), ("X-User-Id", "evil"), ("x-sum", "1")].into_iter().collect();
        x.request.body = Body::stream(Frames(vec![Frame::Trailers(trailers), Frame::Data("abc".into())]));
        passed(check.on_request(&mut x).unwrap());
        let (mut data, mut seen) = (Vec::new(), None);
        while seen.is_none() {
            if by_appending {
                match poll_fn(|cx| x.request.body.poll_append(cx, &mut data, 100)).await.unwrap() {
                    Appended::Data(_) => {}
                    Appended::Trailers(fields) => seen = Some(fields),
                    Appended::End => panic!("no trailers"),
                }
            } else {
                match x.request.body.frame().await.unwrap().unwrap() {
                    Frame::Data(bytes) => data.extend_from_slice(&bytes),
                    Frame::Trailers(fields) => seen = Some(fields),
                }
            }
        }
        assert_eq!(data, b"abc");
        let names: Vec<_> = seen.iter().flat_map(Fields::iter).map(|(name, _)| name.to_vec()).collect();
        assert_eq!(names, [b"x-sum"]);
    }
}

#[test]
fn other_spellings_of_the_token_do_not_pass() {
    let check = build("jwt", json!({ "secret": SECRET, "header": "X-Token" }));
    let mut x = request("/");
    x.request.fields.append("x-token", token(json!({ "sub": "ana" })));
    x.request.fields.append("X_Token", "forged");
    passed(check.on_request(&mut x).unwrap());
    assert!(x.request.fields.contains("x-token") && !x.request.fields.contains("x_token"));
}

#[test]
fn without_a_token_when_it_is_optional() {
    let check = build("jwt", json!({ "secret": SECRET, "optional": true, "headers": { "X-User": "sub" } }));
    let mut x = request("/");
    x.request.fields.append("x-user", "ana");
    passed(check.on_request(&mut x).unwrap());
    assert!(x.identity().is_none() && !x.request.fields.contains("x-user"));
    let (kind, challenge) = refused(&check, &mut with("nonsense"));
    assert_eq!(kind, Kind::Unauthenticated);
    assert!(challenge.contains("invalid_token"), "{challenge}");
}

#[test]
fn the_service_is_told_of_claims_and_nothing_else() {
    let headers =
        json!({ "X-User-Id": "sub", "X-Tenant": "realm.tenant", "X-Roles": "roles", "X-Name": "name" });
    let check = build("jwt", json!({ "secret": SECRET, "headers": headers, "hide": true }));
    let claims = json!({ "sub": "ana", "roles": ["a", "b"], "name": "line\r\nX-Evil: 1" });
    let mut x = with(&token(claims));
    for spelling in ["X-User-Id", "x_user_id", "x.user-id", "X-USER-ID", "X-Tenant", "x_tenant", "x-name"] {
        x.request.fields.append(spelling, "evil");
    }
    passed(check.on_request(&mut x).unwrap());
    let text = |(name, value): (&[u8], &[u8])| {
        format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
    };
    let mut seen: Vec<String> = x.request.fields.iter().map(text).collect();
    seen.sort();
    assert_eq!(seen, ["X-Roles: [\"a\",\"b\"]", "X-User-Id: ana"]);
}

#[test]
fn settings_are_judged() {
    let path = |settings: Value| {
        let found = problem("jwt", settings);
        assert!(found.help.is_some(), "{found}");
        found.path
    };
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    // 1024 bits; secp256k1.
    let short_rsa = pem(
        &[
            0x30, 0x81, 0x9f, 0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0, 3, 0x81, 0x8d,
            0, 0x30, 0x81, 0x89, 2, 0x81, 0x81, 0, 0x80,
        ],
        &[&[1; 127][..], &[2, 3, 1, 0, 1]].concat(),
    );
    let other_curve = pem(
        &[
            0x30, 0x56, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 10, 3,
            0x42, 0, 4,
        ],
        &[7; 64],
    );
    let nonsense = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    for (settings, expected) in [
        (json!({}), ""),
        (json!({ "secret": [] }), ""),
        (json!({ "secret": "" }), "secret"),
        (json!({ "secret": ["a", ""] }), "secret[1]"),
        (json!({ "secret": RSA_PUBLIC }), "secret"),
        (json!({ "secret": "not base64!", "secret_is_base64": true }), "secret"),
        (json!({ "public_key": RSA_PUBLIC, "secret_is_base64": true }), "secret_is_base64"),
        (json!({ "public_key": "/nonexistent/key.pem" }), "public_key"),
        (json!({ "public_key": private }), "public_key"),
        (json!({ "public_key": RSA_PRIVATE }), "public_key"),
        (json!({ "public_key": [RSA_PUBLIC, nonsense] }), "public_key[1]"),
        (json!({ "secret": "x", "algorithms": "none" }), "algorithms"),
        (json!({ "secret": "x", "algorithms": ["HS256", "hs1"] }), "algorithms[1]"),
        (json!({ "secret": "x", "algorithms": "RS256" }), "secret"),
        (json!({ "public_key": RSA_PUBLIC, "algorithms": "HS256" }), "public_key"),
        (json!({ "secret": "x", "algorithms": ["HS256", "RS256"] }), "algorithms[1]"),
        (json!({ "secret": "x", "issuer": "" }), "issuer"),
        (json!({ "secret": "x", "audience": [] }), "audience"),
        (json!({ "secret": "x", "leeway": "2h" }), "leeway"),
        (json!({ "secret": "x", "header": "a b" }), "header"),
        (json!({ "secret": "x", "cookie": "a;b" }), "cookie"),
        (json!({ "secret": "x", "subject": "" }), "subject"),
        (json!({ "secret": "x", "realm": "a\"b" }), "realm"),
        (json!({ "secret": "x", "headers": { "Content-Length": "sub" } }), "headers.\"Content-Length\""),
        (json!({ "secret": "x", "headers": { "Authorization": "sub" } }), "headers.\"Authorization\""),
        (json!({ "secret": "x", "headers": { "X-A": "" } }), "headers.\"X-A\""),
        (json!({ "secret": "x", "headers": { "Host": "sub" } }), "headers.\"Host\""),
        (json!({ "secret": "x", "headers": { "X-Real-IP": "sub" } }), "headers.\"X-Real-IP\""),
        (json!({ "secret": "x", "headers": { "Cookie": "sub" } }), "headers.\"Cookie\""),
        (json!({ "secret": "x", "headers": { "X-A": "sub", "x_a": "sub" } }), "headers.\"x_a\""),
        (json!({ "secret": "x", "header": "Host" }), "header"),
        (json!({ "secret": "x", "header": "Connection" }), "header"),
        (json!({ "secret": "x", "leeway": "900ms" }), "leeway"),
        (json!({ "public_key": format!("{RSA_PUBLIC}{RSA_PUBLIC}") }), "public_key"),
        (json!({ "public_key": short_rsa }), "public_key"),
        (json!({ "public_key": other_curve }), "public_key"),
        (json!({ "public_key": pem(ED25519, &[1; 31]) }), "public_key"),
        (json!({ "secret": "x", "require": { "": "a" } }), "require"),
        (json!({ "secret": "x", "require": { "scope": "a b" } }), "require.\"scope\""),
        (json!({ "secret": "x", "require": { "role": [] } }), "require.\"role\""),
    ] {
        assert_eq!(path(settings.clone()), expected, "{settings}");
    }
}
