//! What is under way when somebody else is faster.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::rig::Rig;
use crate::bridge::{AckPolicy, BridgeErrorKind, BridgeSettings, Coherence};
use crate::cache::{FileEnd, Lease, RangeChange};
use crate::clock::{sleep, timeout};
use crate::fs::{Access, HandleId, Place, SetAttrs, Truncate};
use crate::ledger::RenameMode;
use crate::object::{Ino, Key, LinkId, Position};
use crate::store::faulty::{Fault, Rule};
use crate::store::metered::Operation;
use crate::store::{Condition, ErrorKind, ObjectMeta, Store};

/// Longer than the longest pause before a commit is tried again.
const LONG: Duration = Duration::from_secs(100);

/// A file that is nowhere but on the stores, both of which stall in the middle of its content.
async fn stalling(rig: &Rig, content: &[u8]) -> Ino {
    let ino = rig.file("f", content).await;
    rig.settle().await;
    rig.cache.forget(ino);
    stall_bodies(rig);
    ino
}

fn stall_bodies(rig: &Rig) {
    for faults in [&rig.faults.old, &rig.faults.new] {
        faults.push(Rule::always(Fault::StallBody { after_bytes: 1 }).on(&[Operation::Get]));
    }
}

/// Until a call waits at a rule.
async fn stalled(rig: &Rig) {
    let waiting = async {
        while rig.faults.old.stalled() + rig.faults.new.stalled() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, waiting).await.expect("it comes to that");
}

fn let_go_on(rig: &Rig) {
    rig.faults.old.clear();
    rig.faults.new.clear();
}

/// Content on its way back to be sent, and held halfway.
async fn brought_back(rig: &Rig, ino: Ino) -> JoinHandle<Option<Lease>> {
    let bridge = Arc::clone(&rig.bridge);
    let task = tokio::spawn(async move { bridge.bring_back(ino).await.expect("brought back") });
    stalled(rig).await;
    task
}

/// Another program's content, through the mount, on both stores and no longer staged.
async fn write_anew(rig: &Rig, ino: Ino, content: &[u8]) {
    let handle = rig.opened(ino, Access::Write, Truncate::ToZero).await.handle;
    rig.write(handle, 0, content).await;
    rig.close(handle).await;
    rig.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_brought_back_to_be_sent_does_not_come_in_place_of_a_newer_one() {
    let rig = Rig::new().await;
    let ino = stalling(&rig, b"before").await;
    let task = brought_back(&rig, ino).await;
    write_anew(&rig, ino, b"newer").await;
    let_go_on(&rig);
    assert!(task.await.expect("no panic").is_none(), "it is not wanted any more");
    assert!(!rig.cache.is_staged(ino));
    assert_eq!(rig.content(ino).await, b"newer");
    let rig = rig.killed().await;
    assert_eq!(rig.content(ino).await, b"newer");
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"newer"[..]));
}

/// Asks the stores again at each open.
fn distrustful() -> BridgeSettings {
    let coherence = Coherence::Ttl(Duration::ZERO);
    let op_deadline = Duration::from_millis(20);
    BridgeSettings { ack: AckPolicy::Journal, coherence, op_deadline, ..BridgeSettings::default() }
}

/// Another program replaces the object in the old store, and the bridge sees it.
async fn replace_behind_the_bridge(rig: &Rig, ino: Ino, content: &'static [u8]) {
    let key = Key::new("f").expect("a key");
    let meta = ObjectMeta::default();
    rig.stores.old.put(&key, content.into(), &meta, &Condition::Always).await.expect("put");
    rig.tick();
    let pinned = rig.bridge.open(ino).await.expect("opened");
    assert_eq!(pinned.size(), content.len() as u64, "it is taken in");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_brought_back_to_be_sent_does_not_come_in_place_of_an_outsiders() {
    let rig = Rig::with(distrustful(), 1 << 30).await;
    let ino = stalling(&rig, b"before").await;
    let task = brought_back(&rig, ino).await;
    replace_behind_the_bridge(&rig, ino, b"their own").await;
    let_go_on(&rig);
    assert!(task.await.expect("no panic").is_none(), "it is not wanted any more");
    assert_eq!(rig.content(ino).await, b"their own");
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"their own"[..]));
}

/// Brings the content in to be changed, which then is refused.
async fn refused(rig: &Rig, handle: HandleId) {
    let refused = rig.fs.change_range(handle, RangeChange::Allocate(FileEnd::Stays), 0, 1 << 20).await;
    assert_eq!(refused.expect_err("too much").bridge_kind(), Some(BridgeErrorKind::NoSpace));
    let refused = rig.fs.write(handle, Place::End, &vec![1; 1 << 20]).await;
    assert_eq!(refused.expect_err("too much").bridge_kind(), Some(BridgeErrorKind::NoSpace));
    assert_eq!(rig.cache.stats().staged_files, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_was_brought_in_and_not_changed_is_let_go_of_with_the_last_handle() {
    let meta = ObjectMeta::default();
    let rig = Rig::holding(distrustful(), 64 << 10, Some(("before", b"the bridge", &meta))).await;
    let ours = rig.file("f", b"through it").await;
    rig.settle().await;
    let theirs = rig.fs.lookup(Ino::ROOT, "before").await.expect("asked").expect("there").ino;
    for ino in [ours, theirs] {
        let version = rig.bridge.node(ino).await.expect("read").expect("there").version;
        let handle = rig.open(ino, Access::ReadWrite).await;
        refused(&rig, handle).await;
        rig.close(handle).await;
        assert_eq!(rig.cache.stats().staged_files, 0);
        assert_eq!(rig.bridge.node(ino).await.expect("read").expect("there").version, version);
        assert_eq!(rig.content(ino).await.len(), 10);
    }
    assert_eq!(rig.bridge.left().expect("read").pending, 0, "nothing is sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_was_brought_in_and_not_changed_does_not_come_in_place_of_an_outsiders() {
    let rig = Rig::with(distrustful(), 64 << 10).await;
    let ino = rig.file("f", b"before").await;
    rig.settle().await;
    let handle = rig.open(ino, Access::ReadWrite).await;
    replace_behind_the_bridge(&rig, ino, b"their own").await;
    refused(&rig, handle).await;
    rig.close(handle).await;
    assert_eq!(rig.content(ino).await, b"their own");
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"their own"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_cut_by_path_while_the_last_writer_closes_reaches_the_stores() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"0123456789").await;
    let handle = rig.open(ino, Access::Write).await;
    rig.write(handle, 0, b"X").await;
    // The steps of a `release`: the cut comes between them, and leaves its commit to whoever writes.
    let file = rig.fs.files.remove(handle).expect("open");
    rig.fs.commit_changes(&file.inode).await.expect("committed");
    let cut = SetAttrs { size: Some(4), ..SetAttrs::default() };
    assert_eq!(rig.fs.setattr(ino, None, cut).await.expect("cut").size, 4);
    rig.fs.close(&file.inode, file.access).await;
    drop(file);
    sleep(LONG).await;
    assert_eq!((rig.fs.unsettled(), rig.fs.open_inodes()), (vec![], 0), "nobody needs to write once more");
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"X123"[..]));
}

/// Reads the file, or copies it into this one, while another program writes it anew -> what was read.
async fn read_over(rig: &Rig, ino: Ino, copy: Option<Ino>) -> Vec<u8> {
    rig.cache.forget(ino);
    let reader = rig.open(ino, Access::Read).await;
    let target = rig.open(copy.unwrap_or(ino), Access::ReadWrite).await;
    for faults in [&rig.faults.old, &rig.faults.new] {
        faults.push(Rule::always(Fault::Stall).on(&[Operation::Get]));
    }
    let fs = Arc::clone(&rig.fs);
    let read = tokio::spawn(async move {
        if copy.is_none() {
            return fs.read(reader, 0, 100).await;
        }
        fs.copy_range((reader, 0), (target, 0), 100).await?;
        fs.read(target, 0, 100).await
    });
    stalled(rig).await;
    let writer = rig.opened(ino, Access::Write, Truncate::ToZero).await.handle;
    rig.write(writer, 0, b"the present").await;
    rig.fs.fsync(writer).await.expect("synced");
    rig.stored("f").await.expect("both have it");
    let_go_on(rig);
    let read = read.await.expect("no panic").expect("read").to_vec();
    for handle in [reader, target, writer] {
        rig.close(handle).await;
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_under_way_while_another_program_writes_the_file_anew_has_the_present_content() {
    for copies in [false, true] {
        let rig = Rig::new().await;
        let ino = rig.file("f", b"before").await;
        let copy = rig.file("copy", b"").await;
        rig.settle().await;
        assert_eq!(read_over(&rig, ino, copies.then_some(copy)).await, b"the present");
        assert_eq!(rig.bridge.findings(false, 10).expect("read"), [], "nobody is accused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_an_object_under_the_name_that_it_had_makes_no_name() {
    let rig = Rig::over("f", b"before", &ObjectMeta::default()).await;
    let listed = rig.bridge.list(Ino::ROOT, Position::START, 10).await.expect("listed").remove(0);
    rig.fs.rename((Ino::ROOT, "f"), (Ino::ROOT, "g"), RenameMode::Replace).await.expect("renamed");
    assert_eq!(rig.stored("f").await, None, "both stores have it under its new name");
    let known = rig.bridge.look_again(listed.clone()).await.expect("asked");
    assert!(rig.fs.lookup(Ino::ROOT, "f").await.expect("asked").is_none());
    assert_eq!((known.ino, &*known.name), (listed.ino, "g"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_found_while_its_directory_is_renamed() {
    let rig = Rig::over("a/f", b"before", &ObjectMeta::default()).await;
    let dir = rig.fs.lookup(Ino::ROOT, "a").await.expect("asked").expect("there").ino;
    let once = |fault, operation| Rule::always(fault).on(&[operation]).below("a/").within(0..1);
    rig.faults.old.push(once(Fault::Fail(ErrorKind::Denied), Operation::List));
    rig.faults.old.push(once(Fault::Stall, Operation::Head));
    let fs = Arc::clone(&rig.fs);
    let found = tokio::spawn(async move { fs.lookup(dir, "f").await });
    stalled(&rig).await;
    rig.fs.rename((Ino::ROOT, "a"), (Ino::ROOT, "b"), RenameMode::Replace).await.expect("renamed");
    assert_eq!(rig.stored("a/f").await, None, "both stores have it under its new name");
    let_go_on(&rig);
    assert!(found.await.expect("no panic").expect("asked").is_some(), "it was there all the while");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_store_that_is_asked_whether_the_name_of_a_link_is_free() {
    let rig = Rig::over("d/x", b"before", &ObjectMeta::default()).await;
    let dir = rig.fs.lookup(Ino::ROOT, "d").await.expect("asked").expect("there").ino;
    let ino = rig.file("f", b"two names").await;
    rig.faults.old.push(Rule::always(Fault::Stall).on(&[Operation::List]).below("d/"));
    let fs = Arc::clone(&rig.fs);
    let linked = tokio::spawn(async move { fs.link(ino, dir, "g").await });
    stalled(&rig).await;
    let shown = timeout(LONG, rig.fs.getattr(ino)).await.expect("it waits for nobody");
    assert_eq!(shown.expect("there").nlink, 1);
    assert_eq!(rig.content(ino).await, b"two names");
    let_go_on(&rig);
    assert_eq!(linked.await.expect("no panic").expect("linked").nlink, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_an_outsider_copied_onto_itself_is_known_again_at_the_next_open() {
    let rig = Rig::with(distrustful(), 1 << 30).await;
    let ino = rig.file("f", b"content").await;
    rig.settle().await;
    let key = Key::new("f").expect("a key");
    let (body, meta) = rig.stores.old.snapshot().remove(&key).expect("it is there");
    let etag = rig.stores.old.bypass_put(&key, body, meta);
    rig.tick();
    rig.bridge.open(ino).await.expect("opened");
    let replicas = rig.ledger.replicas(LinkId::first(ino)).expect("read");
    assert_eq!(replicas.old.expect("as before").receipt.etag, etag);
    assert_eq!(rig.bridge.findings(true, 9).expect("read"), []);
}
