//! Routing among 10,000 routes, and compiling them. `cargo bench -p portcullis-proxy --bench route`
//!
//! The goals: under 1 µs a request, under 200 ms to compile.

use divan::{Bencher, black_box, counter::ItemsCount};
use portcullis_config::rule::{Matcher, PathTemplate, Rule};
use portcullis_core::Fields;
use portcullis_proxy::route::{Entry, Found, Query, Router};

const ROUTES: usize = 10_000;
/// Requests that are gone through in turn, so that the caches do not hold just one.
const REQUESTS: usize = 4_096;

fn main() {
    divan::main();
}

/// How the routes are spread.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// 100 hosts with 100 paths each: whole paths, templates with parameters, prefixes, tails; half of them by method.
    HostsAndPaths,
    /// A single host with all paths.
    OneHost,
    /// No host at all, only `PathPrefix`.
    Prefixes,
    /// A host each, `PathPrefix(`/`)`.
    Tenants,
}

/// Rules, and the request that each takes.
fn routes(shape: Shape) -> Vec<(Rule, String, String)> {
    let template = |text: &str| Matcher::PathTemplate(PathTemplate::parse(text).expect("a template"));
    let path = |number: usize| match number % 5 {
        0 => (Matcher::Path(format!("/api/v1/thing{number}").into()), format!("/api/v1/thing{number}")),
        1 => (
            template(&format!("/api/v1/users{number}/{{id}}/orders/{{order}}")),
            format!("/api/v1/users{number}/42/orders/17"),
        ),
        2 => (
            Matcher::PathPrefix(format!("/static/{number}/").into()),
            format!("/static/{number}/css/main.css"),
        ),
        3 => (template(&format!("/files{number}/*")), format!("/files{number}/a/b/c")),
        _ => (template(&format!("/api/{{version}}/items{number}")), format!("/api/v2/items{number}")),
    };
    (0..ROUTES)
        .map(|number| {
            let (host, (matcher, path)) = match shape {
                Shape::HostsAndPaths => (Some(number / 100), path(number % 100)),
                Shape::OneHost => (Some(0), path(number)),
                Shape::Prefixes => (
                    None,
                    (
                        Matcher::PathPrefix(format!("/service-{number}/").into()),
                        format!("/service-{number}/x"),
                    ),
                ),
                Shape::Tenants => (Some(number), (Matcher::PathPrefix("/".into()), "/any/where".to_owned())),
            };
            let name = format!("tenant-{}.example.com", host.unwrap_or(0));
            let mut parts = vec![Rule::Match(matcher)];
            if host.is_some() {
                parts.insert(0, Rule::Match(Matcher::Host(name.as_str().into())));
            }
            if number % 2 == 0 {
                parts.push(Rule::any(vec![
                    Rule::Match(Matcher::Method("POST".into())),
                    Rule::Match(Matcher::Method("GET".into())),
                ]));
            }
            (Rule::all(parts), name, path)
        })
        .collect()
}

fn compile(routes: &[(Rule, String, String)]) -> Router {
    let entries: Vec<Entry<'_>> = routes
        .iter()
        .enumerate()
        .map(|(index, (rule, ..))| Entry { index, rule, priority: (index % 7) as i64, name: "route@file" })
        .collect();
    Router::compile(&entries).expect("routes that compile")
}

const SHAPES: [Shape; 4] = [Shape::HostsAndPaths, Shape::OneHost, Shape::Prefixes, Shape::Tenants];

#[divan::bench(args = SHAPES)]
fn find(bencher: Bencher<'_, '_>, shape: Shape) {
    let routes = routes(shape);
    let router = compile(&routes);
    let fields: Fields = [("accept", "*/*"), ("user-agent", "bench")].into_iter().collect();
    let ip = std::net::IpAddr::from([127, 0, 0, 1]);
    let mut random = fastrand::Rng::with_seed(1);
    let requests: Vec<Query<'_>> = (0..REQUESTS)
        .map(|_| {
            let (_, host, path) = &routes[random.usize(..routes.len())];
            Query { host, path, query: None, method: "GET", fields: &fields, peer: ip, client: ip }
        })
        .collect();
    for request in &requests {
        assert!(matches!(router.find(request), Found::Route { .. }), "{}{}", request.host, request.path);
    }
    bencher.counter(ItemsCount::new(REQUESTS)).bench_local(|| {
        for request in &requests {
            black_box(router.find(black_box(request)));
        }
    });
}

#[divan::bench(args = SHAPES, sample_count = 10)]
fn compile_all(bencher: Bencher<'_, '_>, shape: Shape) {
    let routes = routes(shape);
    bencher.counter(ItemsCount::new(ROUTES)).bench_local(|| compile(black_box(&routes)));
}
