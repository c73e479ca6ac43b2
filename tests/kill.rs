//! `kill -9` of the daemon at random moments under a write load with `fsync` (P1, P2, P3, P5).
//!
//! `BRIDGEFS_KILLS` is the number of kills (200), `BRIDGEFS_SEED` repeats a run's choices.

#![allow(clippy::print_stdout, reason = "a failed run is repeated by what it printed")]

mod support;

#[path = "kill/writer.rs"]
mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bridgefs::clock::Clock;
use bridgefs::ledger::{Ledger, LedgerMode, LedgerOptions};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::mount::{Mount, Site, pause, run};
use writer::Writer;

const WRITERS: u64 = 4;

#[test]
fn what_was_acknowledged_survives_kill_9_at_any_moment_and_both_stores_become_equal() {
    let kills = from_environment("BRIDGEFS_KILLS").unwrap_or(200);
    let seed = from_environment("BRIDGEFS_SEED").unwrap_or_else(rand::random);
    println!("BRIDGEFS_KILLS={kills} BRIDGEFS_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut site = Site::folders();
    let mountpoint = site.mountpoint();
    let mut writers: Vec<Writer> =
        (0..WRITERS).map(|n| Writer::new(&mountpoint, format!("writer {n}"), seed ^ n)).collect();
    for kill in 0..kills {
        let ack = ["journal", "primary", "both"][rng.random_range(0..3)];
        site.set("ack", ack);
        if rng.random_ratio(1, 5) {
            kill_while_starting(&site, &mut rng);
            continue;
        }
        let mut mount = site.mount();
        if rng.random_ratio(1, 4) {
            mount.stage(["dual-write", "live", "shadow"][rng.random_range(0..3)]);
        }
        let moment = Duration::from_millis(rng.random_range(1..600));
        println!("kill {kill} after {moment:?} with ack {ack}");
        kill_under_load(&mut mount, &mut writers, moment);
    }
    finish(&site, &mut writers);
}

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}")))
}

/// The crash that hits the recovery from the crash before.
fn kill_while_starting(site: &Site, rng: &mut SmallRng) {
    let mut mount = site.start();
    pause(Duration::from_millis(rng.random_range(0..150)));
    mount.kill();
}

/// Everything is looked at first, so that each crash is judged by the next mount.
fn kill_under_load(mount: &mut Mount<'_>, writers: &mut [Writer], moment: Duration) {
    look(writers);
    let killed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in writers {
            let killed = &killed;
            scope.spawn(move || {
                let error = writer.work();
                assert!(killed.load(Ordering::SeqCst), "an operation failed before the kill: {error}");
            });
        }
        pause(moment);
        killed.store(true, Ordering::SeqCst);
        mount.kill();
    });
}

fn look(writers: &mut [Writer]) {
    std::thread::scope(|scope| {
        for writer in writers {
            scope.spawn(|| writer.look());
        }
    });
}

fn finish(site: &Site, writers: &mut [Writer]) {
    let mount = site.mount();
    look(writers);
    mount.settle(Duration::from_secs(15));
    leftovers_go(site);
    mount.unmount();
    let acked: u64 = writers.iter().map(|writer| writer.acked).sum();
    println!("{acked} operations were acknowledged");
    compare(&site.home().join("old"), &site.home().join("new"), writers);
    assert_eq!(orphans(&site.state_dir()), Vec::<String>::new(), "staged files that nobody needs");
    let options = LedgerOptions { mode: LedgerMode::Threaded, sync: true, clock: Clock::System };
    let ledger = Ledger::open(&site.state_dir(), options).expect("the ledger opens");
    assert_eq!(ledger.check().expect("the ledger can be checked"), Vec::<String>::new());
}

/// By `diff`, and one of the two against what the writers were told.
fn compare(old: &Path, new: &Path, writers: &[Writer]) {
    run(Command::new("diff").args(["-r", "--exclude=.bridgefs"]).args([old, new]));
    let expected: BTreeMap<String, &[u8]> = writers.iter().flat_map(Writer::acked_files).collect();
    let found = run(Command::new("find").current_dir(new).args([
        ".",
        "-name",
        ".bridgefs",
        "-prune",
        "-o",
        "-type",
        "f",
        "-printf",
        "%P\n",
    ]));
    let mut names: Vec<&str> = found.lines().collect();
    names.sort_unstable();
    assert_eq!(names, expected.keys().collect::<Vec<_>>(), "the objects on the stores");
    for (key, content) in expected {
        assert!(
            fs::read(new.join(&key)).expect("it was listed") == content,
            "{key} is not what was acknowledged"
        );
    }
}

/// What killed uploads left in the folders is given up in the background.
fn leftovers_go(site: &Site) {
    let count = |folder: &str| {
        let entries = |kind| fs::read_dir(site.home().join(folder).join(".bridgefs").join(kind));
        ["uploads", "tmp"].map(|kind| entries(kind).expect("a store has it").count()).iter().sum::<usize>()
    };
    for _ in 0..150 {
        if count("old") + count("new") == 0 {
            return;
        }
        pause(Duration::from_millis(100));
    }
    panic!("uploads of killed daemons stay: {} in old, {} in new", count("old"), count("new"));
}

fn orphans(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir.join("cache/staged")).expect("the staging directory is there");
    entries.map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned()).collect()
}
