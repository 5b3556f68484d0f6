//! Which service of a split takes a request.

#![allow(missing_docs)]

mod stage;

use portcullis_core::Fields;
use portcullis_proxy::{
    forward::split::{Split, Why},
    runtime::Target,
};
use stage::Stage;

fn stage(split: &str) -> Stage {
    let service = |name: &str| format!("[services.{name}]\nendpoints = [\"http://10.0.0.1:1\"]\n");
    let services: String = ["a", "b", "c"].map(service).concat();
    Stage::new(&format!("[[routes]]\npath = \"/*\"\nservice = \"a\"\nsplit = {split}\n{services}"))
}

fn split(stage: &Stage) -> &Split {
    let Target::Split(split) = &stage.route().target else { panic!("no split") };
    split
}

fn fields(list: &[(&str, &str)]) -> Fields {
    list.iter().copied().collect()
}

/// The service's letter, and why.
fn chosen<'a>(split: &'a Split, list: &[(&str, &str)], chance: f64) -> (char, Why<'a>) {
    let chosen = split.choose(&fields(list), chance).unwrap();
    (chosen.place.service.name.chars().next().unwrap(), chosen.why)
}

#[tokio::test]
async fn chance_by_shares() {
    let stage = stage(
        "{ to = [{ service = \"b\", share = \"20%\" }, { service = \"c\", share = 0.3 }, \
         { service = \"b\", share = \"10%\" }] }",
    );
    let split = split(&stage);
    let at = |chance: f64| chosen(split, &[], chance).0;
    let all: String = [0.0, 0.29, 0.31, 0.59, 0.61, 0.999_999].into_iter().map(at).collect();
    assert_eq!(all, "bbccaa");
    let shares: Vec<i64> = split.places().iter().map(|place| (place.share * 100.0).round() as i64).collect();
    assert_eq!(shares, [40, 30, 30]);
}

#[tokio::test]
async fn whose_share_is_all_leaves_nothing_to_others() {
    let thirds = "{ service = \"b\", share = \"33.4%\" }, { service = \"c\", share = \"66.6%\" }";
    let stage = stage(&format!("{{ to = [{thirds}] }}"));
    for chance in [0.0, 0.5, 0.999_999_999_999_999_9] {
        assert_ne!(chosen(split(&stage), &[], chance).0, 'a', "{chance}");
    }
}

#[tokio::test]
async fn headers_and_cookies_come_before_chance_in_the_order_written() {
    let stage = stage(
        "{ to = [{ service = \"b\", header = \"X-Canary\", value = \"1\" }, \
         { service = \"c\", cookie = \"beta\" }, { service = \"a\", header = \"X-Stable\" }, \
         { service = \"b\", share = \"100%\" }] }",
    );
    let split = split(&stage);
    for (list, expected) in [
        (&[("x-canary", "1")][..], ('b', Why::Header("X-Canary"))),
        (&[("X-Canary", "2"), ("x-canary", "1"), ("cookie", "beta")], ('b', Why::Header("X-Canary"))),
        (&[("X-Canary", "2"), ("cookie", "a=b; beta=")], ('c', Why::Cookie("beta"))),
        (&[("x-stable", "")], ('a', Why::Header("X-Stable"))),
        (&[("x-canary", "2"), ("cookie", "xbeta=1; Beta=1")], ('b', Why::Chance)),
    ] {
        assert_eq!(chosen(split, list, 0.5), expected, "{list:?}");
    }
}

#[tokio::test]
async fn a_cookie_keeps_until_its_service_gets_nobody_any_longer() {
    let with = |share: u8| {
        format!("{{ to = [{{ service = \"b\", share = \"{share}%\", header = \"X-B\" }}], sticky = \"v\" }}")
    };
    let stage = stage(&with(50));
    let told = |chance: f64| {
        let chosen = split(&stage).choose(&fields(&[]), chance).unwrap();
        chosen.set_cookie.unwrap().split(';').next().unwrap().to_owned()
    };
    let (of_b, of_a) = (told(0.0), told(0.9));
    assert_ne!(of_a, of_b);
    for (cookie, letter) in [(&of_a, 'a'), (&of_b, 'b')] {
        for chance in [0.0, 0.9] {
            let chosen = split(&stage).choose(&fields(&[("cookie", cookie)]), chance).unwrap();
            assert_eq!((chosen.why, chosen.set_cookie), (Why::Sticky, None));
            assert!(chosen.place.service.name.starts_with(letter));
        }
    }
    // By header, and no cookie for it.
    let by_header = split(&stage).choose(&fields(&[("x-b", "1"), ("cookie", &of_a)]), 0.9).unwrap();
    assert_eq!((by_header.why, by_header.set_cookie), (Why::Header("X-B"), None));
    // Another share: who was there stays.
    let more = self::stage(&with(1));
    assert_eq!(chosen(split(&more), &[("cookie", &of_b)], 0.9), ('b', Why::Sticky));
    // None: everybody leaves.
    let none = self::stage(&with(0));
    assert_eq!(chosen(split(&none), &[("cookie", &of_b)], 0.0), ('a', Why::Chance));
    let all = self::stage(&with(100));
    assert_eq!(chosen(split(&all), &[("cookie", &of_a)], 0.99), ('b', Why::Chance));
}

#[tokio::test]
async fn counts_survive_a_reload() {
    let mut stage = stage("{ to = [{ service = \"b\", share = \"20%\" }] }");
    split(&stage).places()[1].count(0);
    let text = "[[routes]]\npath = \"/*\"\nservice = \"a\"\nsplit = { to = [{ service = \"b\", share = 0.5 }] }\n\
                [services.a]\nendpoints = [\"http://10.0.0.1:1\"]\n[services.b]\nendpoints = [\"http://10.0.0.1:1\"]";
    stage.reload(text);
    let taken = &split(&stage).places()[1].taken;
    assert_eq!(taken.iter().map(|count| count.load(std::sync::atomic::Ordering::Relaxed)).sum::<u64>(), 1);
}
