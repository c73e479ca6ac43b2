//! Durable commits of the ledger: one caller, and callers that share a sync.
#![allow(missing_docs, reason = "criterion's macros make functions without documentation")]

use std::sync::Arc;

use bridgefs::clock::Clock;
use bridgefs::ledger::{Commit, Ledger, LedgerMode, LedgerOptions, NewNode};
use bridgefs::object::{Attrs, Ino, Kind};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const CALLERS: [usize; 3] = [1, 16, 128];

async fn files(ledger: &Ledger, count: usize) -> Vec<Ino> {
    let attrs = Attrs { mode: 0o644, uid: 0, gid: 0, mtime: 0 };
    let mut inos = Vec::new();
    for i in 0..count {
        let new = NewNode { kind: Kind::File, attrs, now: 0, target: None };
        let made = ledger.create(Ino::ROOT, &format!("file-{count}-{i}"), new).await;
        inos.push(made.expect("created").ino);
    }
    inos
}

/// Every caller commits once, at the same time.
async fn round(ledger: &Arc<Ledger>, inos: &[Ino]) {
    let commit = Commit { size: 4096, mtime: 1, ctime: 1 };
    let callers: Vec<_> = inos
        .iter()
        .map(|ino| {
            let (ledger, ino) = (Arc::clone(ledger), *ino);
            tokio::spawn(async move { ledger.commit(ino, commit).await })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic").expect("committed");
    }
}

fn commits(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = LedgerOptions { mode: LedgerMode::Threaded, sync: true, clock: Clock::System };
    let ledger = Arc::new(Ledger::open(dir.path(), options).expect("opens"));
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("ledger-commit");
    for callers in CALLERS {
        let inos = runtime.block_on(files(&ledger, callers));
        group.throughput(Throughput::Elements(callers as u64));
        group.bench_with_input(BenchmarkId::from_parameter(callers), &inos, |bench, inos| {
            bench.iter(|| runtime.block_on(round(&ledger, inos)));
        });
    }
    group.finish();
}

criterion_group!(benches, commits);
criterion_main!(benches);
