use std::io::ErrorKind;

use super::{MIB, content, files_below, new_cache};
use crate::cache::disk::allocated;
use crate::cache::{FileEnd, Promotion, RangeChange, Region};
use crate::object::{ContentDigest, Ino, Version};

#[test]
fn space_that_was_taken_is_counted_and_needs_no_more_room() {
    let (_dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    assert_eq!(lease.growth(2 * MIB, 2 * MIB), 2 * MIB);
    lease.change_range(RangeChange::Allocate(FileEnd::Stays), 0, 4 * MIB).unwrap();
    assert_eq!(lease.len(), 0);
    assert!(cache.staged_bytes() >= 4 * MIB);
    assert_eq!(lease.growth(2 * MIB, 2 * MIB), 0, "its space is there");
    assert!(lease.growth(5 * MIB, 2 * MIB) > 0, "beyond it is none");
    lease.change_range(RangeChange::Allocate(FileEnd::Reaches), 0, 3 * MIB).unwrap();
    assert_eq!(lease.len(), 3 * MIB);
    assert_eq!(lease.read_at(0, 10).unwrap()[..], [0; 10]);
}

#[test]
fn a_hole_gives_its_space_back_and_asks_for_it_when_it_is_filled() {
    let (_dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(&content(1, 4 * MIB)).unwrap();
    let before = cache.staged_bytes();
    lease.change_range(RangeChange::Punch, MIB, 2 * MIB).unwrap();
    assert_eq!(lease.len(), 4 * MIB);
    assert!(cache.staged_bytes() <= before - 2 * MIB);
    assert_eq!(lease.growth(2 * MIB, MIB), MIB, "a write into a hole takes space");
    let found = lease.seek(Region::Hole, 0).unwrap().unwrap();
    assert_eq!((found.at, found.hole), (Some(MIB), MIB..3 * MIB));
    let found = lease.seek(Region::Data, MIB + 5).unwrap().unwrap();
    assert_eq!((found.at, found.hole), (Some(3 * MIB), MIB + 5..3 * MIB));
    assert_eq!(lease.seek(Region::Data, 4 * MIB).unwrap(), None);
}

#[test]
fn a_range_beyond_what_a_file_can_have_is_refused_and_changes_nothing() {
    let (_dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(b"content").unwrap();
    let allocate = RangeChange::Allocate(FileEnd::Reaches);
    let refused = lease.change_range(allocate, u64::MAX >> 1, 1).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FileTooLarge);
    // More than any disk has.
    let refused = lease.change_range(allocate, 0, 1 << 50).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::StorageFull | ErrorKind::FileTooLarge), "{refused}");
    assert_eq!((lease.len(), lease.file().metadata().unwrap().len()), (7, 7));
}

#[test]
fn a_copy_takes_what_there_is_and_no_more() {
    let (_dir, cache) = new_cache();
    let (from, to) = (cache.stage_empty(Ino(1)).unwrap(), cache.stage_empty(Ino(2)).unwrap());
    let bytes = content(1, 3 * MIB + 7);
    from.append(&bytes).unwrap();
    assert_eq!(to.copy_from(&from, MIB, 5, u64::MAX >> 2).unwrap(), 2 * MIB + 7);
    let copied = to.read_at(5, usize::MAX).unwrap();
    assert!(copied == bytes.slice(usize::try_from(MIB).unwrap()..));
    assert_eq!(to.copy_from(&from, 10 * MIB, 0, MIB).unwrap(), 0);
    assert!(cache.staged_bytes() >= 5 * MIB, "the copy is counted");
}

#[test]
fn space_beyond_the_end_is_given_back_when_a_file_becomes_cache() {
    let (dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(b"short").unwrap();
    lease.change_range(RangeChange::Allocate(FileEnd::Stays), 0, 8 * MIB).unwrap();
    let generation = lease.generation();
    drop(lease);
    let promoted = cache.promote(Ino(1), Version(1), &ContentDigest::of(b"short"), generation).unwrap();
    assert_eq!(promoted, Promotion::Done);
    let used: u64 = files_below(dir.path()).iter().map(|p| allocated(&p.metadata().unwrap())).sum();
    assert!(used < MIB, "{used}");
}

#[test]
fn space_far_beyond_the_end_pays_for_no_write_before_it() {
    let (_dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    let keep = RangeChange::Allocate(FileEnd::Stays);
    lease.change_range(keep, 100 * MIB, 8 * MIB).unwrap();
    for written in 0..4 {
        assert_eq!(lease.growth((written + 1) * MIB, MIB), MIB, "MiB {written}");
        lease.append(&content(written, MIB)).unwrap();
        assert!(cache.staged_bytes() >= (9 + written) * MIB);
    }
    lease.change_range(keep, 4 * MIB, 2 * MIB).unwrap();
    lease.set_len(107 * MIB).unwrap();
    assert_eq!(lease.growth(50 * MIB, MIB), MIB, "a hole takes space");
}

#[test]
fn space_beyond_the_end_that_an_earlier_run_took_is_given_back() {
    let (dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(b"short").unwrap();
    lease.change_range(RangeChange::Allocate(FileEnd::Stays), 0, 8 * MIB).unwrap();
    drop((lease, cache));
    let cache = super::open(dir.path());
    assert!(cache.staged_bytes() < MIB, "{}", cache.staged_bytes());
    assert_eq!(cache.lease(Ino(1)).unwrap().unwrap().read_at(0, 10).unwrap()[..], *b"short");
}
