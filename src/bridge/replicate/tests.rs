//! Large files on their way: what stops them, and what counts as progress. The files are sparse and so large that
//! whoever goes on with one to its end does not pass. And names that wait for each other.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::sync::is_undone;
use crate::bridge::ack::Patience;
use crate::bridge::{
    AckPolicy, Bridge, BridgeParts, BridgeSettings, BridgeTasks, ContentTimes, Drained, StoreHandle,
};
use crate::cache::{Cache, CacheOptions, KeepFree, Lease};
use crate::clock::{Clock, Instant, sleep, timeout};
use crate::ledger::{
    AttrChange, BlockReason, Intent, Ledger, LedgerMode, LedgerOptions, NewNode, Node, RenameMode,
};
use crate::object::{Attrs, Ino, Key, Kind, PerSide, Side};
use crate::stage::Stage;
use crate::store::breaker::Breaker;
use crate::store::faulty::{Fault, Faults, Faulty, Rule};
use crate::store::memory::MemoryStore;
use crate::store::metered::{Metered, Operation, RequestCounts};
use crate::store::{Condition, ErrorKind, ObjectMeta, SharedStore, Store};

const MIB: u64 = 1 << 20;
/// What may be staged in all.
const STAGED_MAX: u64 = 64 * MIB;
/// So much takes minutes at the least.
const HUGE: u64 = 4 << 40;
/// Long enough for anything else.
const LONG: Duration = Duration::from_secs(120);

/// A bridge over two stores in memory, of which only the old one is written.
struct Rig {
    bridge: Arc<Bridge>,
    tasks: BridgeTasks,
    faults: Faults,
    counts: Arc<RequestCounts>,
    stored: Arc<MemoryStore>,
    _dir: TempDir,
}

impl Rig {
    async fn new() -> Rig {
        Rig::over(&[]).await
    }

    /// Over a store that has these objects.
    async fn over(history: &[&str]) -> Rig {
        let dir = TempDir::new().expect("a directory");
        let clock = Clock::System;
        let memory = PerSide::from_fn(|side| Arc::new(MemoryStore::new(format!("{side}"), clock.clone())));
        for key in history {
            let (key, body) = (Key::new(*key).expect("a key"), b"from before".as_slice().into());
            memory.old.put(&key, body, &ObjectMeta::default(), &Condition::Always).await.expect("put");
        }
        let (faulty, faults) = Faulty::new(Arc::clone(&memory.old) as SharedStore, 1);
        let metered = Metered::new("old", Arc::new(faulty) as SharedStore);
        let counts = metered.counts();
        let new = Arc::clone(&memory.new) as SharedStore;
        let stores = PerSide { old: handle(Arc::new(metered)), new: handle(new) };
        let options = LedgerOptions { mode: LedgerMode::of_this_test(), sync: false, clock: clock.clone() };
        let ledger = Arc::new(Ledger::open(dir.path(), options).expect("a ledger"));
        let volume = ledger.bridge_id().to_owned();
        let keep_free = KeepFree::Bytes(0);
        let options = CacheOptions { bytes_max: 1 << 30, keep_free, staged_bytes_max: STAGED_MAX, volume };
        let cache = Cache::open(&dir.path().join("cache"), options).expect("a cache");
        let settings = BridgeSettings { ack: AckPolicy::Primary, ..BridgeSettings::default() };
        let bridge = Bridge::start(BridgeParts { ledger, cache, stores, clock, settings }).await;
        let bridge = bridge.expect("a bridge");
        bridge.set_stage("", Stage::Off, 100, "test", "test").await.expect("a stage");
        Rig { tasks: bridge.run(), bridge, faults, counts, stored: memory.old, _dir: dir }
    }

    /// Makes a file of zeros that takes no disk, and commits it.
    async fn commit(&self, name: &str, len: u64) -> Lease {
        let lease = self.make(Ino::ROOT, name).await;
        self.commit_again(&lease, len).await;
        lease
    }

    async fn make(&self, parent: Ino, name: &str) -> Lease {
        let attrs = Attrs { mode: 0o644, uid: 0, gid: 0, mtime: 0 };
        let new = NewNode { kind: Kind::File, attrs, now: 0, target: None };
        let node = self.bridge.create(parent, name, new).await.expect("made");
        self.bridge.stage_empty(node.ino).expect("a staged file")
    }

    async fn commit_again(&self, lease: &Lease, len: u64) {
        lease.set_len(len).expect("set");
        self.bridge.commit(lease, ContentTimes { mtime: 0, ctime: 0 }).await.expect("committed");
    }

    async fn remove(&self, name: &str) {
        self.bridge.unlink(Ino::ROOT, name, false).await.expect("removed");
    }

    /// Until a pass over this file has got somewhere.
    async fn digested(&self, lease: &Lease) {
        until(|| self.bridge.staging.get(lease.ino()).is_some_and(|committed| committed.digested() > 0))
            .await;
    }

    async fn drained(&self) {
        let nothing = Drained { pending: 0, bytes: 0, blocked: 0 };
        assert_eq!(self.bridge.drain(LONG).await.expect("drained"), nothing);
    }
}

fn handle(store: SharedStore) -> StoreHandle {
    let breaker = Arc::new(Breaker::new("store", store, 1));
    tokio::spawn(Arc::clone(&breaker).run_probe());
    StoreHandle { name: "store".to_owned(), store: Arc::clone(&breaker) as SharedStore, breaker }
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, waiting).await.expect("it comes to that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_over_a_large_file_moves_the_deadline_of_its_acknowledgement_on() {
    let rig = Rig::new().await;
    let deadline = |start| rig.bridge.ack_deadline(Side::Old, Patience::WhileItTakes, start);
    let start = Instant::now();
    assert_eq!(deadline(start), start + rig.bridge.settings.ack_deadline, "nothing goes on");
    let lease = rig.commit("large", HUGE).await;
    for _ in 0..3 {
        let start = Instant::now();
        until(|| deadline(start) > start + rig.bridge.settings.ack_deadline).await;
    }
    assert_eq!(rig.counts.of(Operation::StartUpload), 0, "nothing is sent yet");
    drop(lease);
    rig.remove("large").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_ends_when_its_file_is_removed_and_its_key_and_space_are_free() {
    let rig = Rig::new().await;
    let lease = rig.commit("large", HUGE).await;
    rig.digested(&lease).await;
    drop(lease);
    rig.remove("large").await;
    let key = Key::new("large").expect("a key");
    until(|| rig.bridge.replicator.locks.try_lock(Side::Old, &[&key]).is_some()).await;
    rig.drained().await;
    until(|| rig.bridge.cache.staged_bytes() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_ends_when_its_file_is_written_again_and_the_new_content_arrives() {
    let rig = Rig::new().await;
    let lease = rig.commit("large", HUGE).await;
    rig.digested(&lease).await;
    rig.commit_again(&lease, 7).await;
    drop(lease);
    rig.drained().await;
    let stored: Vec<usize> = rig.stored.snapshot().into_values().map(|(body, _)| body.len()).collect();
    assert_eq!(stored, [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_ends_when_the_bridge_is_stopped() {
    let Rig { bridge, tasks, _dir, .. } = {
        let rig = Rig::new().await;
        let lease = rig.commit("large", HUGE).await;
        rig.digested(&lease).await;
        rig
    };
    timeout(LONG, tasks.stop()).await.expect("it stops");
    assert_eq!(bridge.left().expect("read").pending, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_ends_when_its_file_is_removed_and_leaves_nothing_behind() {
    let rig = Rig::new().await;
    rig.faults.push(Rule::always(Fault::Stall).on(&[Operation::PutPart]));
    drop(rig.commit("large", 400 * MIB).await);
    until(|| rig.counts.of(Operation::PutPart) > 0).await;
    rig.remove("large").await;
    rig.faults.clear();
    rig.drained().await;
    until(|| rig.counts.of(Operation::AbortUpload) == 1).await;
    assert!(rig.counts.of(Operation::PutPart) <= 4, "those that were under way, and no more");
    assert_eq!(rig.counts.of(Operation::CompleteUpload), 0);
    until(|| rig.bridge.ledger.open_uploads().expect("read").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_ends_when_its_file_is_written_again_and_the_new_content_arrives() {
    let rig = Rig::new().await;
    rig.faults.push(Rule::always(Fault::Stall).on(&[Operation::PutPart]));
    let lease = rig.commit("large", 400 * MIB).await;
    until(|| rig.counts.of(Operation::PutPart) > 0).await;
    rig.commit_again(&lease, 7).await;
    drop(lease);
    rig.faults.clear();
    rig.drained().await;
    assert!(rig.counts.of(Operation::PutPart) <= 4, "those that were under way, and no more");
    assert_eq!(rig.counts.of(Operation::CompleteUpload), 0);
    let stored: Vec<usize> = rig.stored.snapshot().into_values().map(|(body, _)| body.len()).collect();
    assert_eq!(stored, [7]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_committed_again_faster_than_it_can_be_sent_still_arrives() {
    let rig = Rig::new().await;
    rig.faults.push(Rule::always(Fault::Delay(Duration::from_secs(2))).on(&[Operation::PutPart]));
    let mut len = 20 * MIB;
    let lease = rig.commit("busy", len).await;
    while rig.stored.snapshot().is_empty() {
        assert!(len < 20 * MIB + 1000, "none of {len} versions has arrived");
        len += 1;
        rig.commit_again(&lease, len).await;
        sleep(Duration::from_millis(500)).await;
    }
    drop(lease);
    rig.drained().await;
    let stored: Vec<u64> = rig.stored.snapshot().into_values().map(|(body, _)| body.len() as u64).collect();
    assert_eq!(stored, [len]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_file_of_which_there_is_no_room_for_a_copy_is_sent_when_it_is_quiet() {
    let rig = Rig::new().await;
    rig.faults.push(Rule::always(Fault::Delay(Duration::from_secs(2))).on(&[Operation::PutPart]));
    let lease = rig.commit("busy", 20 * MIB).await;
    // What is left of the limit is less than the busy file has.
    let other = rig.bridge.stage_empty(Ino(1 << 40)).expect("a staged file");
    let bytes = vec![1; usize::try_from(STAGED_MAX - 10 * MIB).expect("fits")];
    other.write_at(0, &bytes).expect("written");
    lease.write_at(0, &bytes[..usize::try_from(9 * MIB).expect("fits")]).expect("written");
    for more in 1..40 {
        rig.commit_again(&lease, 20 * MIB + more).await;
        sleep(Duration::from_millis(500)).await;
    }
    assert!(rig.stored.snapshot().is_empty(), "no copy was made");
    drop(lease);
    rig.drained().await;
    assert_eq!(rig.stored.snapshot().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_is_overwritten_or_deleted_when_the_move_is_on_the_local_disk() {
    for is_replaced in [true, false] {
        let rig = Rig::over(&["d/a"]).await;
        let dir = rig.bridge.lookup(Ino::ROOT, "d").await.expect("asked").expect("there").ino;
        rig.bridge.lookup(dir, "a").await.expect("asked").expect("there");
        rig.faults.push(Rule::always(Fault::Stall).on(&[Operation::Copy]));
        rig.bridge.rename((dir, "a"), (dir, "b"), RenameMode::Replace, false).await.expect("renamed");
        if is_replaced {
            let lease = rig.make(dir, "a").await;
            rig.commit_again(&lease, 7).await;
        }
        until(|| rig.faults.stalled() == 1).await;
        let syncs = || rig.bridge.ledger.counters().syncs;
        let before = syncs();
        rig.faults.clear();
        rig.faults.push(Rule::always(Fault::Stall).on(&[Operation::Put, Operation::Delete]));
        until(|| rig.counts.of(Operation::Put) + rig.counts.of(Operation::Delete) > 0).await;
        assert!(syncs() > before, "the ledger has to know where it is now: replaced {is_replaced}");
        rig.faults.clear();
        rig.drained().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_one_file_that_have_changed_places_do_not_wait_for_each_other() {
    let rig = Rig::new().await;
    let lease = rig.commit("x", 7).await;
    let to = rig.bridge.prepare_link(lease.ino(), Ino::ROOT, "a").await.expect("free");
    rig.bridge.link(lease.ino(), to).await.expect("linked");
    rig.drained().await;
    let keys = ["a", "b", "x"].map(|key| Key::new(key).expect("a key"));
    let lock = |key: &Key| rig.bridge.replicator.locks.try_lock(Side::Old, &[key]);
    // The last receipt is a moment earlier than the end of its task.
    until(|| keys.iter().all(|key| lock(key).is_some())).await;
    let locks = keys.each_ref().map(|key| lock(key).expect("free"));
    for (from, to) in [("a", "b"), ("x", "a")] {
        let renamed = rig.bridge.rename((Ino::ROOT, from), (Ino::ROOT, to), RenameMode::Replace, false);
        renamed.await.expect("renamed");
    }
    rig.commit_again(&lease, 9).await;
    drop(lease);
    drop(locks);
    rig.drained().await;
    let stored: Vec<_> =
        rig.stored.snapshot().into_iter().map(|(key, (body, _))| (key.to_string(), body.len())).collect();
    assert_eq!(stored, [("a".to_owned(), 9), ("b".to_owned(), 9)]);
}

/// Waits for the acknowledgement of what was committed last -> whether it came, and after how long.
async fn acknowledged(rig: &Rig, lease: &Lease, meanwhile: impl AsyncFn(u32)) -> (bool, Duration) {
    let node = rig.bridge.node(lease.ino()).await.expect("read").expect("there");
    let (bridge, start) = (Arc::clone(&rig.bridge), Instant::now());
    let waiting = tokio::spawn(async move { bridge.acknowledged(node.ino, node.version).await });
    let mut seconds = 0;
    while !waiting.is_finished() {
        assert!(start.elapsed() < 5 * rig.bridge.settings.ack_deadline, "who waits is told at last");
        sleep(Duration::from_secs(1)).await;
        seconds += 1;
        meanwhile(seconds).await;
    }
    (waiting.await.expect("no panic").is_ok(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_to_be_sent_is_not_waited_for_longer_because_others_are() {
    let rig = Rig::new().await;
    let key = Key::new("held").expect("a key");
    let lock = rig.bridge.replicator.locks.try_lock(Side::Old, &[&key]).expect("free");
    let lease = rig.commit("held", 7).await;
    let others = async |n: u32| drop(rig.commit(&n.to_string(), 7).await);
    let (came, after) = acknowledged(&rig, &lease, others).await;
    let deadline = rig.bridge.settings.ack_deadline;
    assert!(
        !came && after >= deadline && after < deadline + Duration::from_secs(5),
        "{came} after {after:?}"
    );
    assert!(rig.stored.snapshot().len() > 50, "the others have arrived");
    drop((lock, lease));
    rig.drained().await;
}

#[tokio::test(start_paused = true)]
async fn what_had_to_wait_before_it_was_sent_has_its_time_from_then_on() {
    let rig = Rig::new().await;
    rig.faults.push(Rule::always(Fault::Delay(Duration::from_secs(40))).on(&[Operation::PutPart]));
    let key = Key::new("large").expect("a key");
    let lock = Mutex::new(rig.bridge.replicator.locks.try_lock(Side::Old, &[&key]));
    let lease = rig.commit("large", 64 * MIB).await;
    let let_go_after_50s = async |seconds| {
        if seconds == 50 {
            drop(lock.lock().take());
        }
    };
    let (came, after) = acknowledged(&rig, &lease, let_go_after_50s).await;
    assert!(came && after > rig.bridge.settings.ack_deadline, "{came} after {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_waits_for_another_one_of_its_file_has_its_time_as_well() {
    let rig = Rig::new().await;
    rig.faults.push(Rule::always(Fault::Delay(Duration::from_secs(40))).on(&[Operation::PutPart]));
    rig.faults.push(Rule::always(Fault::Delay(Duration::from_secs(5))).on(&[Operation::Copy]));
    let lease = rig.make(Ino::ROOT, "large").await;
    let to = rig.bridge.prepare_link(lease.ino(), Ino::ROOT, "further").await.expect("free");
    rig.bridge.link(lease.ino(), to).await.expect("linked");
    rig.commit_again(&lease, 64 * MIB).await;
    let (came, after) = acknowledged(&rig, &lease, async |_| ()).await;
    assert!(came && after > rig.bridge.settings.ack_deadline, "{came} after {after:?}");
    assert_eq!(rig.counts.of(Operation::StartUpload), 1, "the further name is a copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_on_the_local_disk_before_a_store_gets_them() {
    let rig = Rig::over(&["f"]).await;
    let node = rig.bridge.lookup(Ino::ROOT, "f").await.expect("asked").expect("there");
    rig.faults.push(Rule::always(Fault::Stall).on(&[Operation::SetMeta]));
    let syncs = || rig.bridge.ledger.counters().syncs;
    let before = syncs();
    let change = AttrChange { mode: Some(0o600), ctime: 1, ..AttrChange::default() };
    rig.bridge.set_attrs(node.ino, change).await.expect("changed");
    until(|| rig.faults.stalled() == 1).await;
    assert!(syncs() > before, "a power failure would leave the store with what nobody knows of");
    rig.faults.clear();
    rig.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_may_have_more_than_was_committed_while_it_was_made_but_not_less() {
    let rig = Rig::new().await;
    rig.faults.push(Rule::always(Fault::Stall).on(&[Operation::Put]));
    let lease = rig.commit("busy", 7).await;
    let node = async || rig.bridge.node(lease.ino()).await.expect("read").expect("there");
    let write = |content: &[u8]| lease.write_at(0, content).expect("written");
    let copied = async |begun: &Node, copy| rig.bridge.commit_copy(begun, &lease, copy).await.expect("asked");

    let begun = node().await;
    write(b"synced meanwhile");
    rig.commit_again(&lease, 20).await;
    write(b"written after that");
    let copy = lease.snapshot().expect("copied");
    write(b"and after the copy");
    let committed = copied(&begun, copy).await.expect("it is newer");
    assert_eq!(committed.version, begun.version.next().next());

    let begun = node().await;
    let copy = lease.snapshot().expect("copied");
    write(b"what is synced after the copy");
    rig.commit_again(&lease, 30).await;
    assert!(copied(&begun, copy).await.is_none(), "it is older");
    assert_eq!(node().await.version, begun.version.next());
    rig.faults.clear();
    drop(lease);
    rig.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_content_that_was_given_up_meanwhile_becomes_no_version() {
    let rig = Rig::new().await;
    let lease = rig.commit("busy", 7).await;
    let begun = rig.bridge.node(lease.ino()).await.expect("read").expect("there");
    lease.write_at(0, b"of which something is lost").expect("written");
    let copy = lease.snapshot().expect("copied");
    lease.condemn();
    assert!(rig.bridge.commit_copy(&begun, &lease, copy).await.expect("asked").is_none());
    let node = rig.bridge.node(lease.ino()).await.expect("read").expect("there");
    assert_eq!((node.version, node.size), (begun.version, begun.size));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_does_not_keep_a_file_from_the_name_of_its_directory() {
    let rig = Rig::over(&["a/b"]).await;
    let dir = rig.bridge.lookup(Ino::ROOT, "a").await.expect("asked").expect("there").ino;
    rig.bridge.lookup(dir, "b").await.expect("asked").expect("there");
    assert!(rig.stored.bypass_delete(&Key::new("a/b").expect("a key")));
    rig.bridge.rename((dir, "b"), (Ino::ROOT, "c"), RenameMode::Replace, false).await.expect("renamed");
    until(|| rig.bridge.left().expect("read").blocked == 1).await;
    rig.bridge.rmdir(Ino::ROOT, "a").await.expect("removed");
    // As a folder does while something stands below.
    rig.faults.push(Rule::always(Fault::Fail(ErrorKind::Unsupported)).on(&[Operation::Put]).within(0..1));
    let lease = rig.make(Ino::ROOT, "a").await;
    rig.commit_again(&lease, 7).await;
    until(|| rig.bridge.ledger.obstacle(Side::Old, &Key::new("a").expect("a key")).expect("read").is_none())
        .await;
    drop(lease);
    until(|| rig.bridge.left().expect("read").pending == 0).await;
    let stored: Vec<_> =
        rig.stored.snapshot().into_iter().map(|(key, (body, _))| (key.to_string(), body.len())).collect();
    assert_eq!(stored, [("a".to_owned(), 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_and_still_asked_for_as_before_is_not_done() {
    let rig = Rig::new().await;
    rig.faults.push(Rule::always(Fault::Stall).on(&[Operation::Put]));
    let lease = rig.commit("f", 7).await;
    let node = rig.bridge.ledger.node(lease.ino()).expect("read").expect("there");
    let asked = || rig.bridge.ledger.intent(node.link, Side::Old).expect("read");
    let before = asked();
    assert!(is_undone(before.as_ref(), asked().as_ref()));
    assert!(!is_undone(before.as_ref(), None), "it is done");
    let blocked = before.clone().map(|intent| Intent { blocked: Some(BlockReason::SourceLost), ..intent });
    assert!(!is_undone(before.as_ref(), blocked.as_ref()), "it is not tried again");
    rig.bridge.ledger.request(node.link, Side::Old, 0).await.expect("asked");
    assert!(!is_undone(before.as_ref(), asked().as_ref()), "more is asked for");
}
