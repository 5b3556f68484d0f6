//! A limit among a million clients. `cargo bench -p portcullis-middleware --bench rate_limit`
//!
//! The goal: under 200 ns a request. Each request comes from another client, whose counter no cache holds; the request
//! itself is in the cache, as it is where it was just read.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use divan::{Bencher, black_box, counter::ItemsCount};
use portcullis_core::{Exchange, Request, keep::Keep, middleware::Around};

/// The binary's. Where its tables lie, and on how large pages, decides how long a request waits for memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MANY: u32 = 1_000_000;
const FEW: u32 = 1000;
/// Requests of one sample: few, so that most samples have the processor for themselves.
const REQUESTS: usize = 64;

fn main() {
    divan::main();
}

#[divan::bench(args = [(false, FEW), (true, FEW), (false, MANY), (true, MANY)], sample_count = 20_000)]
fn admit(bencher: Bencher<'_, '_>, (told, clients): (bool, u32)) {
    let settings = serde_json::json!({ "requests_per_second": 1.0, "burst": 1_000_000, "headers": told, "max_clients": 4_000_000 });
    let (keep, stores, meters) = (Keep::default(), Default::default(), Default::default());
    let around =
        Around { name: "bench@file", folder: Path::new("."), keep: &keep, stores: &stores, meters: &meters };
    let row = portcullis_middleware::find("rate_limit").expect("the kind");
    let limit = (row.build)(&settings, &around).expect("a limit");
    let exchange = || Exchange::for_test(Request::new(http::Method::GET));
    let mut x = exchange();
    for client in 0..clients {
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
                x.client = Ipv4Addr::from_bits(random.u32(..clients)).into();
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
