//! Content that was acknowledged, is on no store and was lost here: an error, never something older or zeros,
//! until the file is written anew or removed; and nobody is said to have done it.

use std::fs;
use std::time::Duration;

use super::rig::{ALICE, Rig};
use crate::bridge::BridgeErrorKind;
use crate::clock::sleep;
use crate::fs::{Access, FsError, HandleId, Place, SetAttrs, Truncate};
use crate::ledger::{Finding, FindingKind, RenameMode};
use crate::object::{Ino, Key, PerSide};

/// Longer than any pause of a lane.
const LONG: Duration = Duration::from_secs(300);

/// Stores where no disk can: the one refusal that needs no full disk.
async fn lose_a_store(rig: &Rig, handle: HandleId) {
    let lost = rig.fs.write(handle, Place::Mapped(i64::MAX.unsigned_abs()), b"lost").await;
    assert!(matches!(lost, Err(FsError::TooLarge)), "{lost:?}");
}

/// A file of this acknowledged content, which is only here, and open.
async fn only_here(rig: &Rig, content: &[u8]) -> (Ino, HandleId) {
    rig.fs.lookup(Ino::ROOT, "warm").await.expect("the root is known");
    rig.faults.old.down();
    rig.faults.new.down();
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 0, content).await;
    rig.fs.fsync(made.handle).await.expect("the journal has it");
    (made.info.ino, made.handle)
}

/// The same, and it lost a store through a mapping. Both stores are back.
async fn damaged(rig: &Rig, content: &[u8]) -> Ino {
    let (ino, handle) = only_here(rig, content).await;
    lose_a_store(rig, handle).await;
    rig.fs.release(handle).await.expect("released");
    back(rig);
    ino
}

fn back(rig: &Rig) {
    rig.faults.old.up();
    rig.faults.new.up();
}

/// The only open finding, which says what is damaged.
fn finding(rig: &Rig) -> Finding {
    let mut findings = rig.bridge.findings(false, 10).expect("read");
    assert_eq!(findings.len(), 1, "{findings:?}");
    let finding = findings.remove(0);
    assert_eq!(finding.kind, FindingKind::Damage);
    finding
}

fn is_lost<T>(answer: &Result<T, FsError>) -> bool {
    answer.as_ref().err().and_then(FsError::bridge_kind) == Some(BridgeErrorKind::Lost)
}

/// Whatever needs its content is an error; what does not is none. Nothing waits for a store.
async fn assert_lost(rig: &Rig, ino: Ino, len: u64) {
    let handle = rig.open(ino, Access::ReadWrite).await;
    assert!(is_lost(&rig.fs.read(handle, 0, 10).await));
    assert!(is_lost(&rig.fs.write(handle, Place::At(2), b"x").await));
    rig.fs.release(handle).await.expect("released");
    let cut = SetAttrs { size: Some(5), ..SetAttrs::default() };
    assert!(is_lost(&rig.fs.setattr(ino, None, cut).await));
    assert_eq!(rig.fs.getattr(ino).await.expect("there").size, len);
    let status = rig.bridge.status().expect("read");
    assert_eq!(status.given_up, 1);
    for store in status.stores {
        assert_eq!((store.counts.pending, store.counts.blocked), (0, 0), "{}", store.side);
    }
}

async fn rename(rig: &Rig, from: &str, to: &str) {
    let (from, to) = ((Ino::ROOT, from), (Ino::ROOT, to));
    rig.fs.rename(from, to, RenameMode::Replace).await.expect("renamed");
}

/// Nothing of it is left in the books.
async fn assert_over(rig: &Rig) {
    rig.drain().await;
    assert_eq!(rig.bridge.findings(false, 10).expect("read"), []);
    assert_eq!(rig.bridge.status().expect("read").given_up, 0);
    assert_eq!(rig.bridge.check().expect("read"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn content_that_no_store_ever_had_is_an_error_and_accuses_nobody() {
    let rig = Rig::new().await;
    let ino = damaged(&rig, b"acknowledged").await;
    sleep(LONG).await;
    assert_lost(&rig, ino, 12).await;
    let told = finding(&rig);
    assert_eq!(told.key.as_deref(), Some("f"));
    let aside = told.detail.split_whitespace().find(|word| word.contains("/damaged/")).expect("a path");
    assert_eq!(fs::read(aside.trim_end_matches(',')).expect("kept"), b"acknowledged");
    let rig = rig.killed().await;
    sleep(LONG).await;
    assert_lost(&rig, ino, 12).await;
    assert_eq!(finding(&rig), told, "it is told once");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_stays_one_under_every_name_and_with_other_attributes() {
    let rig = Rig::new().await;
    let ino = damaged(&rig, b"acknowledged").await;
    rig.fs.link(ino, Ino::ROOT, "further").await.expect("linked");
    let mode = SetAttrs { mode: Some(0o600), ..SetAttrs::default() };
    rig.fs.setattr(ino, None, mode).await.expect("changed");
    rename(&rig, "f", "renamed").await;
    sleep(LONG).await;
    assert_lost(&rig, ino, 12).await;
    assert_eq!(finding(&rig).key.as_deref(), Some("renamed"));
    rig.fs.unlink(Ino::ROOT, "renamed").await.expect("removed");
    sleep(LONG).await;
    assert_lost(&rig, ino, 12).await;
    assert_eq!(finding(&rig).key.as_deref(), Some("further"));
    rig.fs.unlink(Ino::ROOT, "further").await.expect("removed");
    assert_over(&rig).await;
    assert_eq!(rig.stored("further").await, None);
}

#[tokio::test(start_paused = true)]
async fn who_opens_a_damaged_file_with_o_trunc_and_writes_it_anew_has_a_whole_one() {
    for is_open in [false, true] {
        let rig = Rig::new().await;
        let ino = damaged(&rig, b"acknowledged").await;
        let reader = rig.open(ino, Access::Read).await;
        if !is_open {
            rig.close(reader).await;
        }
        let handle = rig.opened(ino, Access::Write, Truncate::ToZero).await.handle;
        rig.write(handle, 0, b"anew").await;
        rig.close(handle).await;
        assert_over(&rig).await;
        assert_eq!(rig.content(ino).await, b"anew");
        assert_eq!(rig.stored("f").await.as_deref(), Some(&b"anew"[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_that_is_replaced_or_removed_is_over() {
    for is_replaced in [true, false] {
        let rig = Rig::new().await;
        damaged(&rig, b"acknowledged").await;
        if is_replaced {
            rig.file("other", b"whole").await;
            rename(&rig, "other", "f").await;
        } else {
            rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
        }
        assert_over(&rig).await;
        let left = is_replaced.then_some(&b"whole"[..]);
        assert_eq!(rig.stored("f").await.as_deref(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_version_needs_no_staged_file() {
    let rig = Rig::new().await;
    let ino = damaged(&rig, b"").await;
    assert!(finding(&rig).detail.contains("again what it was before"));
    assert_eq!(rig.content(ino).await, b"");
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b""[..]));
    assert_eq!(rig.bridge.status().expect("read").given_up, 0);
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_nobody_was_told_of_is_told_when_the_stores_are_back() {
    let rig = Rig::new().await;
    let (ino, handle) = only_here(&rig, b"acknowledged").await;
    rig.close(handle).await;
    rig.cache.set_aside(ino).expect("moved").expect("there");
    back(&rig);
    sleep(LONG).await;
    assert_lost(&rig, ino, 12).await;
    let told = finding(&rig);
    assert!(told.detail.contains("/damaged/"), "{}", told.detail);
    assert!(!told.detail.contains("somebody"), "{}", told.detail);
}

#[tokio::test(start_paused = true)]
async fn what_the_stores_had_and_have_not_any_more_is_missing_there() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"confirmed").await;
    rig.settle().await;
    rig.cache.forget(ino);
    let key = Key::new("f").expect("a key");
    let gone = PerSide::from_fn(|side| rig.stores[side].bypass_delete(&key));
    assert!(gone.old && gone.new);
    let handle = rig.open(ino, Access::Read).await;
    let read = rig.fs.read(handle, 0, 10).await.expect_err("it is gone");
    assert_eq!(read.bridge_kind(), Some(BridgeErrorKind::Stale));
    sleep(LONG).await;
    let findings = rig.bridge.findings(false, 10).expect("read");
    assert!(findings.iter().all(|finding| finding.kind == FindingKind::Missing), "{findings:?}");
    assert!(findings.iter().any(|f| f.detail.contains("confirmed by a store before")), "{findings:?}");
    assert_eq!(rig.bridge.status().expect("read").given_up, 0);
}
