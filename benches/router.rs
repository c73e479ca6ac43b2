//! Routing: every operation asks for it at least once, and it grows with the number of slices.
#![allow(missing_docs, reason = "criterion's macros make functions without documentation")]

use std::hint::black_box;

use bridgefs::bridge::Router;
use bridgefs::ledger::Slice;
use bridgefs::object::Key;
use bridgefs::stage::Stage;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SLICES: [usize; 3] = [1, 16, 256];
const KEYS: u64 = 1000;

/// The default slice and more, all in stages whose reads are split by key.
fn router(slices: usize) -> Router {
    let slice = |prefix: String| Slice {
        prefix,
        stage: Stage::Live,
        read_percent: 50,
        since: 0,
        backfill_complete: false,
    };
    let named = (1..slices).map(|n| slice(format!("exports/customer-{n:04}")));
    Router::new(std::iter::once(slice(String::new())).chain(named).collect())
}

fn keys() -> Vec<Key> {
    let key = |n| Key::new(format!("exports/customer-{:04}/2026/report-{n}.pdf", n % 300));
    (0..KEYS).map(|n| key(n).expect("a key")).collect()
}

fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routing");
    group.throughput(Throughput::Elements(KEYS));
    let keys = keys();
    for slices in SLICES {
        let router = router(slices);
        group.bench_function(BenchmarkId::from_parameter(slices), |bencher| {
            bencher.iter(|| {
                for key in &keys {
                    black_box(router.routing(Some(black_box(key))));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, routing);
criterion_main!(benches);
