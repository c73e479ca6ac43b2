use std::time::Duration;

use super::rig::{ALICE, Rig};
use crate::bridge::{AckPolicy, BridgeErrorKind, BridgeSettings};
use crate::cache::{FileEnd, RangeChange, Region};
use crate::fs::{Access, FsError, HandleId, Place, SetAttrs};
use crate::object::Ino;

const ALLOCATE: RangeChange = RangeChange::Allocate(FileEnd::Reaches);
const KIB: u64 = 1 << 10;

/// With so much room for staged content, and little patience.
async fn small_area(staged_bytes_max: u64) -> Rig {
    let op_deadline = Duration::from_millis(20);
    let settings = BridgeSettings { ack: AckPolicy::Journal, op_deadline, ..BridgeSettings::default() };
    Rig::with(settings, staged_bytes_max).await
}

async fn change(rig: &Rig, handle: HandleId, change: RangeChange, offset: u64, len: u64) {
    rig.fs.change_range(handle, change, offset, len).await.expect("changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_range_is_a_change_of_content_that_is_committed_and_stored() {
    let rig = Rig::new().await;
    let ino = rig.file("f", &[7; 40_000]).await;
    let mut expected = vec![7; 40_000];
    let steps = [
        (RangeChange::Punch, 10_000, 5_000, 40_000),
        (RangeChange::Zero(FileEnd::Stays), 39_000, 5_000, 40_000),
        (RangeChange::Zero(FileEnd::Reaches), 39_500, 1_000, 40_500),
        (ALLOCATE, 100, 42_000, 42_100),
        (RangeChange::Allocate(FileEnd::Stays), 0, 100_000, 42_100),
    ];
    for (what, offset, len, size) in steps {
        rig.drain().await;
        let written = rig.tick();
        let handle = rig.open(ino, Access::Write).await;
        change(&rig, handle, what, offset, len).await;
        let info = rig.fs.getattr(ino).await.expect("there");
        assert_eq!((info.size, info.mtime, info.ctime), (size, written, written), "{what:?}");
        rig.close(handle).await;
        expected.resize(usize::try_from(size).expect("fits"), 0);
        if what != ALLOCATE && what != RangeChange::Allocate(FileEnd::Stays) {
            let end = expected.len().min(usize::try_from(offset + len).expect("fits"));
            expected[usize::try_from(offset).expect("fits")..end].fill(0);
        }
        assert_eq!(rig.stored("f").await, Some(expected.clone()), "{what:?}");
    }
    assert_eq!(rig.content(ino).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn space_that_was_promised_is_there_and_too_much_is_refused_at_once() {
    let rig = small_area(1024 * KIB).await;
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    change(&rig, made.handle, RangeChange::Allocate(FileEnd::Stays), 0, 900 * KIB).await;
    assert_eq!(rig.fs.getattr(made.info.ino).await.expect("there").size, 0);
    assert!(rig.fs.getattr(made.info.ino).await.expect("there").blocks >= 1800);
    let refused = rig.fs.change_range(made.handle, ALLOCATE, 0, 2000 * KIB).await;
    assert_eq!(refused.expect_err("too much").bridge_kind(), Some(BridgeErrorKind::NoSpace));
    let other = rig.fs.create(Ino::ROOT, "g", 0o644, ALICE).await.expect("made");
    let refused = rig.fs.write(other.handle, Place::At(0), &[1; 500 << 10]).await;
    assert_eq!(refused.expect_err("it is promised").bridge_kind(), Some(BridgeErrorKind::NoSpace));
    rig.write(made.handle, 0, &[1; 900 << 10]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fills_holes_is_held_to_the_limit_too() {
    let rig = small_area(1024 * KIB).await;
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    let size = SetAttrs { size: Some(1 << 30), ..SetAttrs::default() };
    rig.fs.setattr(made.info.ino, Some(made.handle), size).await.expect("a hole takes no room");
    assert_eq!(rig.fs.getattr(made.info.ino).await.expect("there").blocks, 0);
    rig.write(made.handle, 1 << 20, &[1; 700 << 10]).await;
    let refused = rig.fs.write(made.handle, Place::At(1 << 25), &[1; 700 << 10]).await;
    assert_eq!(refused.expect_err("too much").bridge_kind(), Some(BridgeErrorKind::NoSpace));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_changed_through_a_handle_for_writing_and_inside_what_a_file_can_have() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"x").await;
    let (reader, writer) = (rig.open(ino, Access::Read).await, rig.open(ino, Access::Write).await);
    let refused = rig.fs.change_range(reader, ALLOCATE, 0, 1).await;
    assert!(matches!(refused, Err(FsError::BadHandle)));
    let refused = rig.fs.change_range(writer, ALLOCATE, u64::MAX >> 1, 1).await;
    assert!(matches!(refused, Err(FsError::TooLarge)));
    assert!(matches!(rig.fs.change_range(writer, ALLOCATE, 0, 0).await, Err(FsError::Invalid(_))));
    rig.write(writer, 0, b"still writable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_are_those_of_the_local_file_and_stored_content_has_none() {
    let rig = Rig::new().await;
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 0, &[1; 4096]).await;
    rig.write(made.handle, 1 << 20, &[1; 4096]).await;
    let seek = async |handle, region, offset| {
        rig.fs.seek(handle, region, offset).await.expect("answered").map(|found| found.at)
    };
    assert_eq!(seek(made.handle, Region::Hole, 0).await, Some(Some(4096)));
    assert_eq!(seek(made.handle, Region::Data, 4096).await, Some(Some(1 << 20)));
    rig.close(made.handle).await;
    rig.settle().await;
    let handle = rig.open(made.info.ino, Access::Read).await;
    assert_eq!(seek(handle, Region::Data, 4096).await, Some(Some(4096)));
    assert_eq!(seek(handle, Region::Hole, 4096).await, Some(Some((1 << 20) + 4096)));
    assert_eq!(seek(handle, Region::Hole, (1 << 20) + 4096).await, None);
    assert_eq!(rig.fs.getattr(made.info.ino).await.expect("there").blocks, (1 << 20) / 512 + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_copied_from_local_and_from_stored_content() {
    let rig = Rig::new().await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let stored = rig.file("stored", &bytes).await;
    rig.settle().await;
    rig.cache.forget(stored);
    let from = rig.open(stored, Access::Read).await;
    let to = rig.fs.create(Ino::ROOT, "to", 0o644, ALICE).await.expect("made");
    let mut done = 0;
    while done < 2_500_000 {
        let left = 2_500_000 - done;
        let copied = rig.fs.copy_range((from, 400_000 + done), (to.handle, 10 + done), left).await;
        done += copied.expect("copied");
    }
    assert_eq!(rig.fs.copy_range((from, 3_000_000), (to.handle, 0), 1).await.expect("the end"), 0);
    // From one staged file to another place in it.
    let copied = rig.fs.copy_range((to.handle, 1_000_010), (to.handle, 0), 10).await.expect("copied");
    assert_eq!(copied, 10);
    let overlap = rig.fs.copy_range((to.handle, 0), (to.handle, 5), 10).await;
    assert!(matches!(overlap, Err(FsError::Invalid(_))));
    let backwards = rig.fs.copy_range((to.handle, 0), (from, 0), 10).await;
    assert!(matches!(backwards, Err(FsError::BadHandle)));
    rig.close(to.handle).await;
    let mut expected = bytes[1_400_000..1_400_010].to_vec();
    expected.extend_from_slice(&bytes[400_000..2_900_000]);
    assert!(rig.stored("to").await == Some(expected), "both stores have the copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_from_a_store_that_is_away_fails_and_changes_nothing() {
    let rig = small_area(1 << 30).await;
    let stored = rig.file("stored", &[1; 1000]).await;
    rig.settle().await;
    let to = rig.fs.create(Ino::ROOT, "to", 0o644, ALICE).await.expect("made");
    rig.cache.forget(stored);
    let from = rig.open(stored, Access::Read).await;
    rig.faults.old.down();
    rig.faults.new.down();
    let failed = rig.fs.copy_range((from, 0), (to.handle, 0), 1000).await.expect_err("nobody has it");
    assert_eq!(failed.bridge_kind(), Some(BridgeErrorKind::Unavailable));
    assert_eq!(rig.fs.getattr(to.info.ino).await.expect("there").size, 0);
}
