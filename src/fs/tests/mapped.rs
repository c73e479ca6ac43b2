//! What a mapping stored: never refused by a limit; where the disk refuses it, never a version with holes.

use std::time::Duration;

use super::rig::{ALICE, Rig};
use crate::bridge::{AckPolicy, BridgeErrorKind, BridgeSettings};
use crate::fs::{Access, FsError, HandleId, Pages, Place, Release, SetAttrs, Truncate};
use crate::ledger::FindingKind;
use crate::object::Ino;

const BLOCK: u64 = 1 << 20;

/// Stores where no disk can: the one refusal that needs no full disk.
async fn lose_a_store(rig: &Rig, handle: HandleId) {
    let lost = rig.fs.write(handle, Place::Mapped(i64::MAX.unsigned_abs()), b"lost").await;
    assert!(matches!(lost, Err(FsError::TooLarge)), "{lost:?}");
}

fn is_damaged<T>(answer: Result<T, FsError>) -> bool {
    matches!(answer, Err(FsError::Damaged(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_staged_content_makes_a_mapping_wait_and_refuses_it_nothing() {
    let op_deadline = Duration::from_millis(20);
    let settings = BridgeSettings { ack: AckPolicy::Journal, op_deadline, ..BridgeSettings::default() };
    let rig = Rig::with(settings, 2 * BLOCK).await;
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    let content: Vec<u8> = (0..8_u8).flat_map(|i| vec![i; 1 << 20]).collect();
    for (offset, piece) in (0..).step_by(1 << 20).zip(content.chunks(1 << 20)) {
        rig.fs.write(made.handle, Place::Mapped(offset), piece).await.expect("taken");
    }
    let refused = rig.fs.write(made.handle, Place::End, b"x").await.expect_err("who can be told is refused");
    assert_eq!(refused.bridge_kind(), Some(BridgeErrorKind::NoSpace));
    rig.close(made.handle).await;
    assert!(rig.stored("f").await.expect("stored") == content);
    // Larger than the limit, and not here any more: it is brought in to be changed.
    rig.settle().await;
    rig.cache.forget(made.info.ino);
    let handle = rig.open(made.info.ino, Access::ReadWrite).await;
    rig.fs.write(handle, Place::Mapped(0), b"changed").await.expect("taken");
    rig.close(handle).await;
    assert_eq!(rig.stored("f").await.expect("stored")[..7], *b"changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_lost_a_store_is_never_a_version_and_everybody_hears_so() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"before").await;
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"before"[..]));
    let (writer, reader) = (rig.open(ino, Access::ReadWrite).await, rig.open(ino, Access::Read).await);
    rig.write(writer, 0, b"later!").await;
    lose_a_store(&rig, writer).await;
    for handle in [writer, reader] {
        assert!(is_damaged(rig.fs.fsync(handle).await));
        assert!(is_damaged(rig.fs.flush(handle).await));
        assert!(is_damaged(rig.fs.read(handle, 0, 10).await));
    }
    assert!(is_damaged(rig.fs.write(writer, Place::At(0), b"x").await));
    assert!(is_damaged(rig.fs.write(writer, Place::Mapped(0), b"x").await));
    for handle in [writer, reader] {
        assert_eq!(rig.fs.release(handle).await.expect("released"), Release::Damaged);
    }
    assert_eq!((rig.fs.open_inodes(), rig.fs.unsettled().len()), (0, 0), "there is nothing left to try");
    let again = rig.opened(ino, Access::Read, Truncate::Keep).await;
    assert!(matches!(again.pages, Pages::Drop(_)), "they have what is lost");
    assert_eq!(rig.read(again.handle).await, b"before");
    rig.close(again.handle).await;
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"before"[..]));
    let finding = rig.bridge.findings(false, 10).expect("read").remove(0);
    assert_eq!((finding.kind, finding.key.as_deref()), (FindingKind::Damage, Some("f")));
    assert!(finding.detail.contains("again what it was before"), "{}", finding.detail);
    assert_eq!(rig.cache.staged_inos().expect("read"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_content_that_no_store_has_is_kept_aside() {
    let rig = Rig::new().await;
    rig.fs.lookup(Ino::ROOT, "warm").await.expect("the root is known");
    rig.faults.old.down();
    rig.faults.new.down();
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 0, b"acknowledged").await;
    rig.fs.fsync(made.handle).await.expect("the journal has it");
    lose_a_store(&rig, made.handle).await;
    rig.fs.release(made.handle).await.expect("released");
    let finding = rig.bridge.findings(false, 10).expect("read").remove(0);
    let aside = finding.detail.split_whitespace().find(|word| word.contains("/damaged/")).expect("a path");
    let kept = std::fs::read(aside.trim_end_matches(',')).expect("there");
    assert_eq!(kept, b"acknowledged");
    let handle = rig.open(made.info.ino, Access::Read).await;
    assert!(rig.fs.read(handle, 0, 10).await.is_err(), "an error, and not something older");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_that_lost_a_store_is_empty() {
    let rig = Rig::new().await;
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 0, b"never acknowledged").await;
    lose_a_store(&rig, made.handle).await;
    rig.fs.release(made.handle).await.expect("released");
    assert_eq!(rig.content(made.info.ino).await, b"");
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b""[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_that_is_cut_to_nothing_is_whole_again() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"before").await;
    let handle = rig.open(ino, Access::ReadWrite).await;
    lose_a_store(&rig, handle).await;
    let cut = |size| SetAttrs { size: Some(size), ..SetAttrs::default() };
    assert!(is_damaged(rig.fs.setattr(ino, Some(handle), cut(3)).await));
    assert_eq!(rig.fs.setattr(ino, Some(handle), cut(0)).await.expect("cut").size, 0);
    rig.write(handle, 0, b"anew").await;
    rig.close(handle).await;
    assert_eq!(rig.content(ino).await, b"anew");
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"anew"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_that_lost_a_store_is_gone_with_its_last_handle() {
    let rig = Rig::new().await;
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 0, b"x").await;
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    lose_a_store(&rig, made.handle).await;
    assert!(is_damaged(rig.fs.read(made.handle, 0, 1).await));
    rig.fs.release(made.handle).await.expect("released");
    assert_eq!(rig.bridge.findings(false, 10).expect("read").len(), 0);
    assert_eq!(rig.cache.staged_inos().expect("read"), []);
}
