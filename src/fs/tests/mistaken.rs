//! A store that answers wrongly for a moment about what it has, and what is in the way of others while it is lost.

use std::time::Duration;

use super::rig::Rig;
use super::stores::{history, kinds};
use crate::bridge::BridgeErrorKind;
use crate::clock::sleep;
use crate::fs::{Access, FsError, Truncate};
use crate::ledger::{FindingKind, RenameMode};
use crate::object::{Ino, Key, Side};
use crate::stage::Stage;
use crate::store::faulty::{Fault, Rule};
use crate::store::metered::Operation;
use crate::store::{ErrorKind, ObjectMeta};

const BEFORE: &[u8] = b"from before";
/// Longer than any pause of a lane.
const LONG: Duration = Duration::from_secs(300);

async fn until(rig: &Rig, is_so: impl Fn(&Rig) -> bool) {
    let mut looks = 0;
    while !is_so(rig) {
        looks += 1;
        assert!(
            looks < 10_000,
            "it comes to that: {:?} {:?} {:?}",
            rig.bridge.findings(false, 10),
            rig.bridge.left(),
            rig.bridge.status()
        );
        sleep(Duration::from_millis(100)).await;
    }
}

fn blocked(rig: &Rig) -> u64 {
    rig.bridge.left().expect("read").blocked
}

/// The next answers to these requests about `f` are wrong.
fn mistake(rig: &Rig, fault: Fault, operations: &[Operation], count: u64) {
    rig.faults.old.push(Rule::always(fault).on(operations).below("f").within(0..count));
}

/// What a read of the file fails with.
async fn refusal(rig: &Rig, ino: Ino) -> Option<BridgeErrorKind> {
    let handle = rig.open(ino, Access::Read).await;
    let read = rig.fs.read(handle, 0, 1 << 20).await;
    rig.close(handle).await;
    read.err().as_ref().and_then(FsError::bridge_kind)
}

/// The file is whole, and nobody is told of anything.
async fn assert_whole(rig: &Rig, ino: Ino, why: &str) {
    assert_eq!(rig.content(ino).await, BEFORE, "{why}");
    rig.drain().await;
    assert_eq!(kinds(rig), [], "{why}");
    assert_eq!(blocked(rig), 0, "{why}");
}

async fn rename(rig: &Rig, from: &str, to: &str) {
    let (from, to) = ((Ino::ROOT, from), (Ino::ROOT, to));
    rig.fs.rename(from, to, RenameMode::Replace).await.expect("renamed");
}

#[tokio::test(start_paused = true)]
async fn one_wrong_answer_about_the_only_copy_is_not_believed() {
    let kinds =
        [ErrorKind::Corrupt, ErrorKind::NotFound, ErrorKind::PreconditionFailed, ErrorKind::Unsupported];
    for fault in kinds.map(Fault::Fail).into_iter().chain([Fault::WrongEtag]) {
        let (rig, ino) = history("f", BEFORE).await;
        mistake(&rig, fault, &[Operation::Get], 1);
        assert_whole(&rig, ino, &format!("{fault:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_read_wrong_twice_is_good_again_once_it_reads_right() {
    for stage in [Stage::Off, Stage::DualWrite, Stage::Complete] {
        let is_history = stage != Stage::Off;
        let (rig, ino) = if is_history {
            let (rig, ino) = history("f", BEFORE).await;
            rig.bridge.set_stage("", stage, 100, "test", "test").await.expect("a stage");
            (rig, ino)
        } else {
            let rig = Rig::new().await;
            rig.bridge.set_stage("", Stage::Off, 100, "test", "test").await.expect("a stage");
            let ino = rig.file("f", BEFORE).await;
            rig.settle().await;
            rig.cache.forget(ino);
            (rig, ino)
        };
        mistake(&rig, Fault::Fail(ErrorKind::Corrupt), &[Operation::Get], 2);
        assert_eq!(refusal(&rig, ino).await, Some(BridgeErrorKind::Damaged));
        rig.drain().await;
        assert_whole(&rig, ino, stage.as_str()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_store_denied_for_long_is_looked_for_again() {
    for occasion in ["a restart", "the store is back", "time passes"] {
        let (rig, ino) = history("f", BEFORE).await;
        mistake(&rig, Fault::Fail(ErrorKind::NotFound), &[Operation::Get, Operation::Head], u64::MAX);
        assert_eq!(refusal(&rig, ino).await, Some(BridgeErrorKind::Stale));
        until(&rig, |rig| blocked(rig) == 1).await;
        rig.faults.old.clear();
        assert_eq!(refusal(&rig, ino).await, Some(BridgeErrorKind::Stale));
        let rig = match occasion {
            "a restart" => rig.killed().await,
            "the store is back" => {
                rig.faults.old.down();
                rig.file("t", b"meanwhile").await;
                sleep(LONG).await;
                rig.faults.old.up();
                rig
            }
            _ => {
                sleep(Duration::from_secs(3600)).await;
                rig
            }
        };
        until(&rig, |rig| blocked(rig) == 0).await;
        rig.drain().await;
        assert_whole(&rig, ino, occasion).await;
    }
}

/// A file that was at `a`, which outsiders deleted or replaced everywhere, has been renamed to `b`.
async fn lost(how: &str) -> (Rig, Ino) {
    let key = Key::new("a").expect("a key");
    let (rig, ino) = if how.starts_with("written") {
        let rig = Rig::new().await;
        let ino = rig.file("a", BEFORE).await;
        rig.settle().await;
        rig.cache.forget(ino);
        (rig, ino)
    } else if how.starts_with("listed") {
        let rig = Rig::over("a", BEFORE, &ObjectMeta::default()).await;
        let dir = rig.fs.opendir(Ino::ROOT).await.expect("opened");
        let entries = rig.fs.readdir(dir, 2, 10).await.expect("listed");
        let ino = entries.iter().find(|entry| &*entry.name == "a").expect("shown").info.ino;
        (rig, ino)
    } else {
        let (rig, ino) = history("a", BEFORE).await;
        let handle = rig.open(ino, Access::Read).await;
        rig.close(handle).await;
        (rig, ino)
    };
    for side in Side::BOTH {
        if !rig.stores[side].bypass_delete(&key) {
            assert!(!how.starts_with("written") && side == Side::New);
        } else if how.ends_with("replaced") {
            rig.stores[side].bypass_put(&key, &b"theirs"[..], ObjectMeta::default());
        }
    }
    rename(&rig, "a", "b").await;
    (rig, ino)
}

#[tokio::test(start_paused = true)]
async fn a_new_file_at_the_old_name_of_a_lost_one_reaches_both_stores() {
    for how in ["written", "written, replaced", "history", "history, replaced", "listed", "listed, replaced"]
    {
        for waits in [false, true] {
            let (rig, ino) = lost(how).await;
            if waits {
                until(&rig, |rig| blocked(rig) > 0).await;
            }
            rig.file("a", b"new").await;
            assert_eq!(rig.stored("a").await.as_deref(), Some(&b"new"[..]), "{how}");
            assert_eq!(refusal(&rig, ino).await, Some(BridgeErrorKind::Stale), "{how}");
            let objects = rig.stores.old.snapshot();
            let kept = objects.iter().filter(|(key, _)| key.as_str().contains("-kept-"));
            let kept: Vec<&[u8]> = kept.map(|(_, (body, _))| &body[..]).collect();
            let theirs: &[&[u8]] = if how.ends_with("replaced") { &[b"theirs"] } else { &[] };
            assert_eq!(kept, theirs, "{how}: nobody's bytes are lost");
            for finding in rig.bridge.findings(false, 10).expect("read") {
                let is_of_new = finding.key.as_deref() == Some("a");
                assert!(!is_of_new || !finding.detail.contains("nowhere"), "{how}: {finding:?}");
                assert_ne!(finding.kind, FindingKind::Damage, "{how}: {finding:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_only_called_lost_makes_room_for_a_new_file_and_is_kept() {
    let (rig, ino) = history("f", BEFORE).await;
    mistake(&rig, Fault::Fail(ErrorKind::NotFound), &[Operation::Get, Operation::Head], u64::MAX);
    assert_eq!(refusal(&rig, ino).await, Some(BridgeErrorKind::Stale));
    until(&rig, |rig| blocked(rig) == 1).await;
    rename(&rig, "f", "g").await;
    until(&rig, |rig| blocked(rig) == 2).await;
    rig.faults.old.clear();
    rig.file("f", b"new").await;
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"new"[..]));
    assert_eq!(rig.stored("g").await.as_deref(), Some(BEFORE));
    assert_whole(&rig, ino, "renamed").await;
}

/// No store can copy from now on.
fn refuse_copies(rig: &Rig) {
    for faults in [&rig.faults.old, &rig.faults.new] {
        faults.push(Rule::always(Fault::Fail(ErrorKind::Unsupported)).on(&[Operation::Copy]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_copy_gets_the_content_again_under_the_new_name() {
    let rig = Rig::new().await;
    let ino = rig.file("f", BEFORE).await;
    rig.drain().await;
    refuse_copies(&rig);
    rename(&rig, "f", "g").await;
    assert_eq!(rig.stored("g").await.as_deref(), Some(BEFORE));
    assert_eq!(rig.stored("f").await, None);
    assert_whole(&rig, ino, "renamed").await;
}

#[tokio::test(start_paused = true)]
async fn what_others_put_beside_a_content_goes_with_it_where_the_store_cannot_copy() {
    let user = [("author".to_owned(), "jim".to_owned())].into();
    let rig = Rig::over("f", BEFORE, &ObjectMeta::of_user(user)).await;
    rig.bridge.set_stage("", Stage::Off, 100, "test", "test").await.expect("a stage");
    let ino = rig.fs.lookup(Ino::ROOT, "f").await.expect("asked").expect("there").ino;
    refuse_copies(&rig);
    rename(&rig, "f", "g").await;
    assert_whole(&rig, ino, "renamed").await;
    let objects = rig.stores.old.snapshot().into_iter();
    let objects: Vec<_> =
        objects.map(|(key, (_, meta))| (key.to_string(), meta.user.get("author").cloned())).collect();
    assert_eq!(objects, [("g".to_owned(), Some("jim".to_owned()))]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_copy_gets_a_large_content_in_parts() {
    let rig = Rig::new().await;
    let content = vec![7; 9 << 20];
    rig.file("f", &content).await;
    rig.drain().await;
    refuse_copies(&rig);
    rename(&rig, "f", "g").await;
    assert!(rig.stored("g").await.is_some_and(|stored| stored == content));
    assert_eq!(rig.stored("f").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_and_written_anew_is_not_lost_again() {
    let (rig, ino) = history("f", BEFORE).await;
    assert_eq!(rig.content(ino).await, BEFORE);
    rig.cache.forget(ino);
    rig.bridge.set_stage("", Stage::Complete, 100, "test", "test").await.expect("a stage");
    mistake(&rig, Fault::Fail(ErrorKind::NotFound), &[Operation::Get, Operation::Head], u64::MAX);
    assert_eq!(refusal(&rig, ino).await, Some(BridgeErrorKind::Stale));
    until(&rig, |rig| blocked(rig) == 1).await;
    rig.faults.new.push(Rule::always(Fault::Fail(ErrorKind::Denied)).on(&[Operation::Put]));
    let handle = rig.opened(ino, Access::Write, Truncate::ToZero).await.handle;
    rig.write(handle, 0, b"anew").await;
    rig.close(handle).await;
    // All that is called lost is looked for meanwhile.
    sleep(2 * Duration::from_secs(3600)).await;
    rig.faults.new.clear();
    rig.drain().await;
    assert_eq!(blocked(&rig), 0);
    let on_new: Vec<_> = rig.stores.new.snapshot().into_values().map(|(body, _)| body).collect();
    assert_eq!(on_new, [&b"anew"[..]]);
}
