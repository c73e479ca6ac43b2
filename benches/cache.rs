//! What a read of cached data costs: a hit in a warm block, the first use of a version after it was
//! released, and a fetch that finds the block there.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use bridgefs::cache::{Cache, CacheOptions, KeepFree};
use bridgefs::object::{BLOCK_BYTES, Ino, Version};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BLOCKS: u64 = 16;

fn filled(dir: &std::path::Path) -> Arc<Cache> {
    let options = CacheOptions {
        bytes_max: 1 << 30,
        keep_free: KeepFree::Bytes(0),
        staged_bytes_max: 1 << 30,
        volume: "bench".to_owned(),
    };
    let cache = Cache::open(dir, options).expect("opens");
    let block = Bytes::from(vec![7; usize::try_from(BLOCK_BYTES).expect("fits")]);
    let version = cache.version(Ino(1), Version(1), BLOCKS * BLOCK_BYTES).expect("pins");
    (0..BLOCKS).for_each(|number| version.insert(number, block.clone(), None).expect("inserts"));
    let small = cache.version(Ino(2), Version(1), 4096).expect("pins");
    small.insert(0, block.slice(..4096), None).expect("inserts");
    cache
}

fn hits(c: &mut Criterion) {
    let dir = tempfile::TempDir::new().expect("a directory");
    let cache = filled(dir.path());
    let version = cache.version(Ino(1), Version(1), BLOCKS * BLOCK_BYTES).expect("pins");
    let mut group = c.benchmark_group("hit");
    for len in [4096, 128 << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(len));
        let mut offset = 0;
        group.bench_function(format!("{}KiB", len >> 10), |b| {
            b.iter(|| {
                offset = (offset + 5 * len) % (BLOCKS * BLOCK_BYTES);
                let len = usize::try_from(len).expect("fits");
                black_box(version.read(offset, len).expect("reads").expect("is there"))
            });
        });
    }
    group.finish();
}

fn whole_files(c: &mut Criterion) {
    let dir = tempfile::TempDir::new().expect("a directory");
    let cache = filled(dir.path());
    let mut group = c.benchmark_group("file");
    group.bench_function("pin, read 4KiB, release", |b| {
        b.iter(|| {
            let version = cache.version(Ino(2), Version(1), 4096).expect("pins");
            black_box(version.read(0, 4096).expect("reads").expect("is there"))
        });
    });
    let bytes = Bytes::from(vec![9; 4096]);
    let mut number = 10;
    group.bench_function("insert a file of 4KiB", |b| {
        b.iter(|| {
            number += 1;
            let version = cache.version(Ino(number), Version(1), 4096).expect("pins");
            version.insert(0, bytes.clone(), None).expect("inserts");
        });
    });
    group.finish();
}

fn fetch(c: &mut Criterion) {
    let dir = tempfile::TempDir::new().expect("a directory");
    let cache = filled(dir.path());
    let version = cache.version(Ino(1), Version(1), BLOCKS * BLOCK_BYTES).expect("pins");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    c.bench_function("fetch a block that is there", |b| {
        b.iter(|| {
            let fetched = version.fetch(3, || async { Ok::<_, Infallible>(Bytes::new()) });
            black_box(runtime.block_on(fetched).expect("infallible"))
        });
    });
}

criterion_group!(benches, hits, whole_files, fetch);
criterion_main!(benches);
