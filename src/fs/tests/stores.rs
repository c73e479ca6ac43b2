//! Stores that refuse, that are slow, and that others write to.

use std::time::Duration;

use super::rig::{ALICE, Rig};
use crate::bridge::{AckPolicy, BridgeSettings};
use crate::fs::SetAttrs;
use crate::ledger::FindingKind;
use crate::object::{Ino, Key, Side};
use crate::store::faulty::{Fault, Rule};
use crate::store::metered::Operation;
use crate::store::{Condition, ErrorKind, ObjectMeta, Store};

const MIB: usize = 1 << 20;

async fn waiting_for_primary(ack_deadline: Duration) -> Rig {
    let settings = BridgeSettings { ack: AckPolicy::Primary, ack_deadline, ..BridgeSettings::default() };
    Rig::with(settings, 1 << 30).await
}

/// Another program replaces the content and keeps the metadata, as `rclone copyto` does.
async fn replace_behind_the_bridge(rig: &Rig, side: Side, name: &str, content: &'static [u8]) {
    let key = Key::new(name).expect("a key");
    let store = &rig.stores[side];
    let meta = store.head(&key).await.expect("it is there").meta;
    store.put(&key, content.into(), &meta, &Condition::Always).await.expect("replaced");
}

pub(super) fn kinds(rig: &Rig) -> Vec<FindingKind> {
    rig.bridge.findings(false, 10).expect("read").into_iter().map(|finding| finding.kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_put_under_our_metadata_is_neither_served_nor_called_a_copy() {
    for foreign in [&b"longer than ours"[..], b"HELLO"] {
        let rig = Rig::new().await;
        let ino = rig.file("f", b"hello").await;
        rig.settle().await;
        rig.cache.forget(ino);
        replace_behind_the_bridge(&rig, Side::Old, "f", foreign).await;
        assert_eq!(rig.content(ino).await, b"hello");
        assert_eq!(rig.stored("f").await.as_deref(), Some(&b"hello"[..]));
        assert!(kinds(&rig).contains(&FindingKind::Bypass), "{:?}", kinds(&rig));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_put_under_our_metadata_is_kept_aside_when_it_is_written_over() {
    let rig = Rig::new().await;
    rig.file("f", b"hello").await;
    rig.drain().await;
    replace_behind_the_bridge(&rig, Side::Old, "f", b"theirs").await;
    let ino = rig.bridge.lookup(Ino::ROOT, "f").await.expect("known").expect("there").ino;
    let handle = rig.open(ino, crate::fs::Access::Write).await;
    rig.write(handle, 0, b"HELLO").await;
    rig.close(handle).await;
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"HELLO"[..]));
    let kept: Vec<_> =
        rig.stores.old.snapshot().into_iter().filter(|(key, _)| key.as_str().contains("-kept-")).collect();
    assert_eq!(kept.len(), 1, "nobody's bytes are lost");
    assert_eq!(&kept[0].1.0[..], b"theirs");
    assert!(kinds(&rig).contains(&FindingKind::Bypass));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_answers_and_takes_nothing_is_not_waited_for() {
    for refusal in [ErrorKind::Throttled, ErrorKind::Denied] {
        let rig = waiting_for_primary(Duration::from_secs(20)).await;
        rig.faults.old.push(Rule::always(Fault::Fail(refusal)).on(&[Operation::Put]));
        for name in ["a", "b", "c"] {
            rig.file(name, b"acknowledged by the other store").await;
        }
        let status = rig.bridge.status().expect("read");
        assert_eq!(status.degraded_acks, 3);
        assert!(status.stores[0].refusal.is_some(), "a person is told");
        rig.faults.old.clear();
        rig.stored("a").await.expect("it is sent when the store takes it");
        assert!(rig.bridge.status().expect("read").stores[0].refusal.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_on_a_slow_line_is_acknowledged_however_long_it_takes() {
    let deadline = Duration::from_secs(5);
    let settings = BridgeSettings {
        ack: AckPolicy::Primary,
        ack_deadline: deadline,
        upload_memory: 8 * MIB as u64,
        ..BridgeSettings::default()
    };
    let rig = Rig::with(settings, 1 << 30).await;
    let slow = Rule::always(Fault::Delay(deadline / 4)).on(&[Operation::PutPart]);
    rig.faults.old.push(slow);
    rig.faults.new.down();
    let made = rig.fs.create(Ino::ROOT, "large", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 47 * MIB as u64, b"the end of six parts").await;
    rig.close(made.handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_fails_is_sent_again_and_not_the_whole_file() {
    let rig = Rig::new().await;
    rig.faults
        .old
        .push(Rule::always(Fault::Fail(ErrorKind::Unavailable)).on(&[Operation::PutPart]).within(1..3));
    // A second upload would be refused for good.
    let once =
        Rule::always(Fault::Fail(ErrorKind::Unsupported)).on(&[Operation::StartUpload]).within(1..u64::MAX);
    rig.faults.old.push(once);
    let made = rig.fs.create(Ino::ROOT, "large", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 30 * MIB as u64, b"the end of four parts").await;
    rig.close(made.handle).await;
    rig.stored("large").await.expect("both have it");
    assert_eq!(kinds(&rig), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_renamed_to_where_old_is_not_written_any_more_leaves_nothing_under_its_old_name() {
    let rig = Rig::new().await;
    let dir = rig.fs.mkdir(Ino::ROOT, "moved", 0o755, ALICE).await.expect("made").ino;
    rig.bridge.set_stage("moved", crate::stage::Stage::Complete, 100, "test", "test").await.expect("a stage");
    let ino = rig.file("f", b"on both").await;
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"on both"[..]));
    let to = (dir, "f");
    rig.fs.rename((Ino::ROOT, "f"), to, crate::ledger::RenameMode::Replace).await.expect("renamed");
    rig.drain().await;
    let keys = |side: Side| -> Vec<String> {
        rig.stores[side].snapshot().into_keys().map(|key| key.to_string()).collect()
    };
    assert_eq!((keys(Side::Old), keys(Side::New)), (vec![], vec!["moved/f".to_owned()]));
    assert_eq!(rig.content(ino).await, b"on both");
    assert_eq!(kinds(&rig), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_both_stores_have_is_not_lost_with_the_receipts_that_a_power_failure_took() {
    let rig = Rig::new().await;
    let refuse = Rule::always(Fault::Fail(ErrorKind::Unavailable)).on(&[Operation::Put]);
    for faults in [&rig.faults.old, &rig.faults.new] {
        faults.push(refuse.clone());
    }
    let ino = rig.file("f", b"acknowledged").await;
    let synced = rig.ledger_files();
    rig.faults.old.clear();
    rig.faults.new.clear();
    rig.settle().await;
    let rig = rig.lost_power(synced).await;
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"acknowledged"[..]));
    assert_eq!(rig.content(ino).await, b"acknowledged");
    assert_eq!((kinds(&rig), rig.bridge.left().expect("read").blocked), (vec![], 0));
}

/// One object that was there before the bridge, without any metadata of ours.
pub(super) async fn history(name: &str, content: &'static [u8]) -> (Rig, Ino) {
    let rig = Rig::over(name, content, &ObjectMeta::default()).await;
    let ino = rig.fs.lookup(Ino::ROOT, name).await.expect("asked").expect("there").ino;
    (rig, ino)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_change_of_mode_does_not_lose_what_was_there_before_the_bridge() {
    let (rig, ino) = history("f", b"from before").await;
    rig.bridge.set_stage("", crate::stage::Stage::Off, 100, "test", "test").await.expect("a stage");
    rig.faults.old.push(Rule::always(Fault::FailAfter).on(&[Operation::SetMeta]).within(0..1));
    let change = crate::fs::SetAttrs { mode: Some(0o600), ..Default::default() };
    rig.fs.setattr(ino, None, change).await.expect("changed");
    rig.drain().await;
    assert_eq!(rig.content(ino).await, b"from before");
    assert_eq!(kinds(&rig), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_the_bridge_is_replaced_after_a_change_of_mode_and_nobody_is_accused() {
    let (rig, ino) = history("f", b"from before").await;
    assert_eq!(rig.content(ino).await, b"from before");
    let change = crate::fs::SetAttrs { mode: Some(0o600), ..Default::default() };
    rig.fs.setattr(ino, None, change).await.expect("changed");
    rig.file("t", b"newer").await;
    let (from, to) = ((Ino::ROOT, "t"), (Ino::ROOT, "f"));
    rig.fs.rename(from, to, crate::ledger::RenameMode::Replace).await.expect("renamed");
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"newer"[..]));
    let keys: Vec<String> = rig.stores.old.snapshot().into_keys().map(|key| key.to_string()).collect();
    assert_eq!((keys, kinds(&rig)), (vec!["f".to_owned()], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symbolic_link_that_a_listing_showed_is_one_once_it_is_read() {
    let user = [("mode".to_owned(), "120777".to_owned())].into();
    let rig = Rig::over("l", b"target", &ObjectMeta::of_user(user)).await;
    let dir = rig.fs.opendir(Ino::ROOT).await.expect("opened");
    let entries = rig.fs.readdir(dir, 2, 10).await.expect("listed");
    let ino = entries.iter().find(|entry| &*entry.name == "l").expect("shown").info.ino;
    rig.open(ino, crate::fs::Access::Read).await;
    assert_eq!(rig.fs.getattr(ino).await.expect("there").kind, crate::object::Kind::Symlink);
    assert_eq!(&*rig.fs.readlink(ino).await.expect("read"), b"target");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_attributes_that_only_a_read_finds_is_brought_in_order_at_once() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    let change = SetAttrs { mode: Some(0o640), ..SetAttrs::default() };
    rig.fs.setattr(ino, None, change).await.expect("changed");
    rig.settle().await;
    rig.cache.forget(ino);
    // The store has it and the ledger does not: its receipt is lost.
    let (key, store) = (Key::new("f").expect("a key"), &rig.stores.old);
    let info = store.head(&key).await.expect("there");
    let mut changed = info.meta.clone();
    changed.user.insert("mode".to_owned(), "0600".to_owned());
    store.set_meta(&key, &info.etag, &changed).await.expect("changed");
    assert_eq!(rig.content(ino).await, b"content");
    rig.drain().await;
    assert_eq!(store.head(&key).await.expect("there").meta, info.meta);
}

#[tokio::test(start_paused = true)]
async fn attributes_that_a_power_failure_took_back_are_the_same_on_both_stores() {
    let rig = Rig::new().await;
    let refuse = Rule::always(Fault::Fail(ErrorKind::Unavailable)).on(&[Operation::Put]);
    rig.faults.new.push(refuse);
    let ino = rig.fs.symlink(Ino::ROOT, "link", b"target", ALICE).await.expect("made").ino;
    let synced = rig.ledger_files();
    let change = SetAttrs { uid: Some(7), ..SetAttrs::default() };
    rig.fs.setattr(ino, None, change).await.expect("changed");
    let owner = |rig: &Rig, side: Side| {
        let objects = rig.stores[side].snapshot();
        objects.get(&Key::new("link").expect("a key")).and_then(|(_, meta)| meta.user.get("uid").cloned())
    };
    while owner(&rig, Side::Old).is_none() {
        crate::clock::sleep(Duration::from_millis(100)).await;
    }
    let rig = rig.lost_power(synced).await;
    rig.faults.new.clear();
    rig.drain().await;
    let known = rig.fs.getattr(ino).await.expect("there").uid.to_string();
    let both = [owner(&rig, Side::Old), owner(&rig, Side::New)];
    assert_eq!(both, [Some(known.clone()), Some(known)]);
}
