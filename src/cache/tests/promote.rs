use tempfile::TempDir;

use super::{MIB, content, files_below, new_cache, open, options};
use crate::cache::{Cache, Promotion};
use crate::object::{BLOCK_BYTES, ContentDigest, Ino, Version};

const V1: Version = Version::FIRST;

#[test]
fn a_promoted_file_is_cached_with_all_its_blocks_also_after_a_restart() {
    let (dir, cache) = new_cache();
    for (ino, size) in [(1, 77), (2, BLOCK_BYTES), (3, 2 * BLOCK_BYTES + 1)] {
        let bytes = content(ino, size);
        let lease = cache.stage_empty(Ino(ino)).unwrap();
        lease.append(&bytes).unwrap();
        let generation = lease.stable().unwrap();
        drop(lease);
        let promoted = cache.promote(Ino(ino), V1, &ContentDigest::of(&bytes), generation).unwrap();
        assert_eq!(promoted, Promotion::Done);
        assert!(cache.lease(Ino(ino)).unwrap().is_none());
        let version = cache.version(Ino(ino), V1, size).unwrap();
        assert_eq!(version.read(0, usize::MAX).unwrap(), Some(bytes));
        assert!(version.is_complete());
    }
    assert_eq!(cache.staged_bytes(), 0);
    drop(cache);
    let cache = open(dir.path());
    assert!(cache.version(Ino(3), V1, 2 * BLOCK_BYTES + 1).unwrap().is_complete());
    assert_eq!(cache.stats().bad_blocks, 0);
}

#[test]
fn only_the_content_that_was_named_is_promoted() {
    let (_dir, cache) = new_cache();
    let digest = ContentDigest::of(b"content");
    assert_eq!(cache.promote(Ino(1), V1, &digest, 0).unwrap(), Promotion::Absent);
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(b"content").unwrap();
    let uploaded = lease.stable().unwrap();
    assert_eq!(cache.promote(Ino(1), V1, &digest, uploaded).unwrap(), Promotion::Leased);
    lease.write_at(0, b"C").unwrap();
    let second = lease.clone();
    drop(lease);
    assert_eq!(cache.promote(Ino(1), V1, &digest, uploaded).unwrap(), Promotion::Leased);
    drop(second);
    assert_eq!(cache.promote(Ino(1), V1, &digest, uploaded).unwrap(), Promotion::Changed);
    let longer = ContentDigest::of(b"Content and more");
    let now = cache.lease(Ino(1)).unwrap().unwrap().stable().unwrap();
    assert_eq!(cache.promote(Ino(1), V1, &longer, now).unwrap(), Promotion::Changed);
    let changed = ContentDigest::of(b"Content");
    assert_eq!(cache.promote(Ino(1), V1, &changed, now).unwrap(), Promotion::Done);
}

#[test]
fn bytes_that_changed_behind_our_back_are_not_served_after_the_promotion() {
    let (dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(b"content").unwrap();
    let generation = lease.stable().unwrap();
    drop(lease);
    std::fs::write(dir.path().join("staged/1"), b"CONTENT").unwrap();
    cache.promote(Ino(1), V1, &ContentDigest::of(b"content"), generation).unwrap();
    let version = cache.version(Ino(1), V1, 7).unwrap();
    assert_eq!(version.read(0, 7).unwrap(), None);
    assert_eq!(cache.stats().bad_blocks, 1);
}

#[test]
fn what_the_cache_has_no_room_for_is_removed() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), options(MIB)).unwrap();
    let bytes = content(1, 2 * MIB);
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(&bytes).unwrap();
    let generation = lease.generation();
    drop(lease);
    let promoted = cache.promote(Ino(1), V1, &ContentDigest::of(&bytes), generation).unwrap();
    assert_eq!(promoted, Promotion::Done);
    assert_eq!(files_below(dir.path()).len(), 1, "the volume file");
    assert_eq!((cache.stats().files, cache.stats().bytes, cache.staged_bytes()), (0, 0, 0));
}

#[test]
fn a_version_in_use_keeps_its_file_when_the_same_version_is_promoted() {
    let (_dir, cache) = new_cache();
    let bytes = content(1, 50);
    let pinned = cache.version(Ino(1), V1, 50).unwrap();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(&bytes).unwrap();
    let generation = lease.generation();
    drop(lease);
    cache.promote(Ino(1), V1, &ContentDigest::of(&bytes), generation).unwrap();
    assert_eq!(pinned.missing(0, 50), [0]);
    pinned.insert(0, bytes.clone(), None).unwrap();
    assert_eq!(pinned.read(0, 50).unwrap(), Some(bytes));
}
