//! A limit among a million clients. `cargo bench -p portcullis-middleware --bench rate_limit`
//!
//! The goal: under 200 ns a request.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use divan::{Bencher, black_box, counter::ItemsCount};
use portcullis_core::{Exchange, Request, keep::Keep, middleware::Around};

const CLIENTS: u32 = 1_000_000;
/// Requests of one sample: each from another client, so that no cache holds them.
const REQUESTS: usize = 10_000;

fn main() {
    divan::main();
}

#[divan::bench(args = [false, true])]
fn admit(bencher: Bencher<'_, '_>, told: bool) {
    let settings = serde_json::json!({ "requests_per_second": 1.0, "burst": 1_000_000, "headers": told, "max_clients": 4_000_000 });
    let (keep, stores, meters) = (Keep::default(), Default::default(), Default::default());
    let around =
        Around { name: "bench@file", folder: Path::new("."), keep: &keep, stores: &stores, meters: &meters };
    let row = portcullis_middleware::find("rate_limit").expect("the kind");
    let limit = (row.build)(&settings, &around).expect("a limit");
    let exchange = || Exchange::for_test(Request::new(http::Method::GET));
    let mut x = exchange();
    for client in 0..CLIENTS {
        x.client = Ipv4Addr::from_bits(client).into();
        x.started += Duration::from_nanos(1);
        assert!(limit.on_request(&mut x).is_ok());
        if told {
            x = exchange();
        }
    }
    let mut random = fastrand::Rng::with_seed(1);
    bencher
        .counter(ItemsCount::new(REQUESTS))
        .with_inputs(|| {
            let one = |_| {
                let mut x = exchange();
                x.client = Ipv4Addr::from_bits(random.u32(..CLIENTS)).into();
                x
            };
            (0..REQUESTS).map(one).collect::<Vec<_>>()
        })
        .bench_local_values(|mut requests| {
            for x in &mut requests {
                black_box(limit.on_request(black_box(x)).is_ok());
            }
            requests
        });
}
