//! The bridge (not the mount) against a plain in-memory model: random operations, store failures, crashes,
//! stage flips, clock jumps. `README.md` here says how to repeat a failure and what was shown to be caught.
//!
//! `BRIDGEFS_CASES` sets the number of cases of all tests together, `BRIDGEFS_SEED` runs one seed only,
//! `BRIDGEFS_FROM` begins at another seed.

#![allow(unreachable_pub)]

mod converge;
mod outage;
mod recorder;
mod regressions;
mod run;
mod shrink;
mod step;
mod tree;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use step::Dimensions;

/// Cases of all tests together unless the environment says otherwise.
const CASES: u64 = 10_000;

/// The share of each test in ten.
const ONE_DIMENSION: u64 = 1;
const EVERYTHING: u64 = 5;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|raw| raw.parse().unwrap_or_else(|_| panic!("{name} is no number: {raw}")))
}

/// Says what happens, if `RUST_LOG` asks for it.
fn trace() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .without_time()
        .with_test_writer()
        .try_init();
}

/// Runs the cases of a test; a failure is shortened and printed.
fn check(dims: Dimensions, offset: u64, tenths: u64) {
    trace();
    if let Some(seed) = number("BRIDGEFS_SEED") {
        return shrink::check_seed(seed, dims).unwrap_or_else(|why| panic!("{why}"));
    }
    let cases = number("BRIDGEFS_CASES").unwrap_or(CASES).div_ceil(10) * tenths;
    let first = number("BRIDGEFS_FROM").unwrap_or(offset);
    let next = AtomicU64::new(first);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + cases {
                break;
            }
            // After a failure the other threads stop as well.
            shrink::check_seed(seed, dims).inspect_err(|_| next.store(u64::MAX / 2, Ordering::Relaxed))?;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let broken: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().expect("panics are caught").err()).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn operations_without_faults_match_a_local_disk() {
    check(Dimensions::NONE, 1_000_000, ONE_DIMENSION);
}

#[test]
fn operations_match_under_changes_of_stage() {
    check(Dimensions { flips: true, ..Dimensions::NONE }, 2_000_000, ONE_DIMENSION);
}

#[test]
fn operations_match_after_crashes() {
    check(Dimensions { crashes: true, ..Dimensions::NONE }, 3_000_000, ONE_DIMENSION);
}

#[test]
fn operations_match_while_stores_fail() {
    check(Dimensions { troubles: true, ..Dimensions::NONE }, 4_000_000, ONE_DIMENSION);
}

#[test]
fn operations_match_beside_history() {
    check(Dimensions { history: true, ..Dimensions::NONE }, 5_000_000, ONE_DIMENSION);
}

#[test]
fn everything_at_once_keeps_the_promises() {
    check(Dimensions::ALL, 0, EVERYTHING);
}
