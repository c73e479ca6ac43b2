//! Several programs at once, over directories that nobody has listed before: some change names, each its own ones,
//! the others look them up, read them and list the directories. Every answer must be one that some order of all that
//! overlapped could give (linearizability, each name for itself), and a listing must have every name that was there
//! all the while exactly once.

mod name;
mod programs;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::rig::{LATE_REQUEST_MAX, Rig};
use crate::bridge::{AckPolicy, BridgeSettings};
use crate::object::{Ino, Key, Side};
use crate::store::faulty::{Fault, Rule};
use crate::store::metered::Operation;
use crate::store::{Condition, ErrorKind, ObjectMeta, Store};
use name::{Name, Thing};
use programs::World;

const WRITERS: usize = 5;
const READERS: usize = 4;
/// Directories under `d`; all of a listing of the last one does not fit on one page of a store.
const DIRECTORIES: usize = 3;
const FILES_IN_THE_LAST: usize = 1100;
/// The one that is a slice of its own, whose stage changes meanwhile.
const FLIPPED: usize = 1;
/// Names of each writer in each directory; every second one is there before the bridge is.
const OWN_NAMES: usize = 3;

/// What the stores do beside being slow.
#[derive(Debug, Clone, Copy)]
enum Weather {
    Fair,
    /// Some changes are refused, and of some the answer is lost.
    Foul,
}

impl Weather {
    fn rules(self) -> Vec<Rule> {
        let changes = [Operation::Put, Operation::Delete, Operation::SetMeta, Operation::Copy];
        match self {
            Weather::Fair => Vec::new(),
            Weather::Foul => vec![
                Rule::always(Fault::FailAfter).on(&changes).sometimes(0.03),
                Rule::always(Fault::Fail(ErrorKind::Throttled)).on(&changes).sometimes(0.03),
            ],
        }
    }
}

fn content(path: &str) -> Vec<u8> {
    format!("this was in `{path}` before the bridge").into_bytes()
}

fn own_name(writer: usize, number: usize) -> String {
    format!("w{writer}-{number}")
}

/// The names in a directory that are there from the beginning.
fn early_names(directory: usize) -> Vec<String> {
    let files = if directory == DIRECTORIES - 1 { FILES_IN_THE_LAST } else { 4 };
    let own = (0..WRITERS).flat_map(|writer| (0..OWN_NAMES).step_by(2).map(move |n| own_name(writer, n)));
    own.chain((0..files).map(|number| format!("f{number}"))).collect()
}

/// A store that is slow from time to time, and what stood in it.
async fn over_history(ack: AckPolicy, weather: Weather) -> Rig {
    let settings = BridgeSettings { ack, late_request_max: LATE_REQUEST_MAX, ..BridgeSettings::default() };
    let first = ("d/0/f0", &b"replaced below"[..], &ObjectMeta::default());
    let rig = Rig::holding(settings, 1 << 30, Some(first)).await;
    for directory in 0..DIRECTORIES {
        for name in early_names(directory) {
            let path = format!("d/{directory}/{name}");
            let (key, meta) = (Key::new(path.clone()).expect("a key"), ObjectMeta::default());
            rig.stores.old.put(&key, content(&path).into(), &meta, &Condition::Always).await.expect("put");
        }
    }
    let slow = Rule::always(Fault::Delay(Duration::from_millis(2))).sometimes(0.2);
    let slow = slow.on(&[Operation::List, Operation::Head, Operation::Get, Operation::Copy]);
    for rule in weather.rules().into_iter().chain([slow]) {
        rig.faults.old.push(rule.clone());
        rig.faults.new.push(rule);
    }
    rig
}

async fn world(rig: &Rig) -> World {
    let lookup =
        async |parent, name: &str| rig.fs.lookup(parent, name).await.expect("asked").expect("there").ino;
    let top = lookup(Ino::ROOT, "d").await;
    let mut world =
        World { top, directories: Vec::new(), own: vec![Vec::new(); WRITERS], log: Mutex::default() };
    for number in 0..DIRECTORIES {
        let (name, ino) = (number.to_string(), lookup(top, &number.to_string()).await);
        let mut names = Vec::new();
        for file in early_names(number) {
            let before = Thing::new(content(&format!("d/{name}/{file}")), true);
            names.push(Name::new(ino, file, Some(before)));
        }
        for writer in 0..WRITERS {
            let late = (1..OWN_NAMES).step_by(2).map(|number| Name::new(ino, own_name(writer, number), None));
            names.extend(late);
            let prefix = format!("w{writer}-");
            world.own[writer].extend(names.iter().filter(|n| n.name.starts_with(&prefix)).cloned());
        }
        world.directories.push((ino, names));
    }
    world
}

/// What the stores hold in the end is what the programs have left.
async fn assert_stored(rig: &Rig, world: &World) {
    for faults in [&rig.faults.old, &rig.faults.new] {
        faults.clear();
    }
    rig.drain().await;
    let findings = rig.bridge.findings(false, 10).expect("read");
    assert!(findings.is_empty(), "{findings:#?} after {:#?}", world.log.lock());
    let held = [Side::Old, Side::New].map(|side| rig.stores[side].snapshot());
    for (number, (_, names)) in world.directories.iter().enumerate() {
        for name in names {
            let key = Key::new(format!("d/{number}/{}", name.name)).expect("a key");
            let expected = name.state().map(|thing| thing.content.clone());
            let on_old = held[0].get(&key).map(|(body, _)| body.to_vec());
            assert_eq!(on_old, expected, "`{key}` on the old store");
            if let Some((body, _)) = held[1].get(&key) {
                assert_eq!(Some(body.to_vec()), expected, "`{key}` on the new store");
            }
        }
    }
}

async fn run(seed: u64, ack: AckPolicy, weather: Weather) {
    let rig = over_history(ack, weather).await;
    let world = Arc::new(world(&rig).await);
    let over = Arc::new(AtomicBool::new(false));
    let mut seeds = SmallRng::seed_from_u64(seed);
    let mut random = || SmallRng::seed_from_u64(seeds.random());
    let asking: Vec<_> = (0..READERS)
        .flat_map(|number| {
            let (fs, world, over) = (Arc::clone(&rig.fs), Arc::clone(&world), Arc::clone(&over));
            let asking = programs::Asking { fs, world, over };
            let reader = tokio::spawn(asking.clone().look_up(random()));
            [reader, tokio::spawn(asking.list(number % DIRECTORIES, random()))]
        })
        .collect();
    let flipping =
        tokio::spawn(programs::flip(Arc::clone(&rig.bridge), format!("d/{FLIPPED}"), Arc::clone(&over)));
    let changing: Vec<_> = (0..WRITERS)
        .map(|writer| {
            tokio::spawn(programs::change(Arc::clone(&rig.fs), Arc::clone(&world), writer, random()))
        })
        .chain([tokio::spawn(programs::move_a_directory(Arc::clone(&rig.fs), Arc::clone(&world)))])
        .collect();
    for task in changing {
        task.await.expect("every change succeeds");
    }
    over.store(true, Ordering::SeqCst);
    flipping.await.expect("every flip succeeds");
    for task in asking {
        task.await.expect("every answer is right");
    }
    assert_stored(&rig, &world).await;
}

/// Other interleavings each time; `BRIDGEFS_SEED` begins with other programs.
async fn run_seeds(weather: Weather, seeds: u64) {
    let first = std::env::var("BRIDGEFS_SEED").ok().and_then(|raw| raw.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        println!("seed {seed}");
        run(seed, AckPolicy::Journal, weather).await;
        run(seed, AckPolicy::Primary, weather).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_is_one_that_some_order_of_what_overlaps_could_give() {
    run_seeds(Weather::Fair, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn so_it_is_while_the_stores_refuse_and_lose_answers() {
    run_seeds(Weather::Foul, 1).await;
}
