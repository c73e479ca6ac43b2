use tempfile::TempDir;

use super::{MIB, SmallDisk, block_of, content, disk_used, new_cache, options};
use crate::cache::{Cache, CacheOptions, KeepFree};
use crate::object::{BLOCK_BYTES, Ino, Version};

const V1: Version = Version::FIRST;

fn fill(cache: &std::sync::Arc<Cache>, ino: u64, size: u64) {
    let bytes = content(ino, size);
    let version = cache.version(Ino(ino), V1, size).unwrap();
    for block in version.missing(0, size) {
        version.insert(block, block_of(&bytes, block), None).unwrap();
    }
}

fn present(cache: &std::sync::Arc<Cache>, ino: u64, size: u64) -> bool {
    cache.version(Ino(ino), V1, size).unwrap().missing(0, size).is_empty()
}

#[test]
fn bytes_stay_under_the_limit_and_the_least_recently_used_goes_first() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), options(4 * MIB)).unwrap();
    (1..=4).for_each(|ino| fill(&cache, ino, MIB));
    assert!(present(&cache, 1, MIB), "and it is now the last used");
    fill(&cache, 5, MIB);
    assert!(disk_used(&dir.path().join("blocks")) <= 4 * MIB);
    assert_eq!(cache.stats().bytes, 4 * MIB);
    assert_eq!(cache.stats().evictions, 1);
    let there: Vec<u64> = (1..=5).filter(|ino| present(&cache, *ino, MIB)).collect();
    assert_eq!(there, [1, 3, 4, 5]);
}

#[test]
fn what_is_in_use_is_never_evicted_and_reading_goes_on_with_a_full_cache() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), options(2 * MIB)).unwrap();
    fill(&cache, 1, MIB);
    fill(&cache, 2, MIB);
    let (one, two) = (cache.version(Ino(1), V1, MIB).unwrap(), cache.version(Ino(2), V1, MIB).unwrap());
    let three = cache.version(Ino(3), V1, MIB).unwrap();
    three.insert(0, content(3, MIB), None).unwrap();
    assert_eq!(three.read(9, 9).unwrap(), Some(content(3, MIB).slice(9..18)), "from memory");
    assert_eq!(three.missing(0, MIB), [0]);
    assert!(one.is_complete() && two.is_complete());
    assert!(disk_used(&dir.path().join("blocks")) <= 2 * MIB);
    drop(three);
    assert_eq!(cache.stats().files, 2);
}

#[test]
fn a_large_version_loses_blocks_from_its_end_instead_of_everything() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), options(20 * MIB)).unwrap();
    fill(&cache, 1, 18 * BLOCK_BYTES);
    fill(&cache, 2, 3 * BLOCK_BYTES);
    assert!(present(&cache, 2, 3 * BLOCK_BYTES));
    let thinned = cache.version(Ino(1), V1, 18 * BLOCK_BYTES).unwrap();
    let missing = thinned.missing(0, u64::MAX);
    assert_eq!(missing, [16, 17]);
    assert!(disk_used(&dir.path().join("blocks")) <= 20 * MIB);
    assert_eq!(thinned.read(0, 9).unwrap(), Some(content(1, 18 * BLOCK_BYTES).slice(..9)));
}

#[test]
fn the_limit_holds_from_the_start() {
    let (dir, cache) = new_cache();
    (1..=8).for_each(|ino| fill(&cache, ino, MIB));
    drop(cache);
    let cache = Cache::open(dir.path(), options(3 * MIB)).unwrap();
    assert!(cache.stats().bytes <= 3 * MIB);
    assert!(disk_used(&dir.path().join("blocks")) <= 3 * MIB);
}

#[test]
fn free_space_is_left_on_the_disk_whoever_takes_it() {
    let dir = TempDir::new().unwrap();
    let options = CacheOptions { keep_free: KeepFree::Percent(25), ..options(64 * MIB) };
    let disk = SmallDisk { dir: dir.path().to_owned(), total: 16 * MIB };
    let cache = Cache::open_on(dir.path(), options, Box::new(disk)).unwrap();
    for ino in 1..=20 {
        fill(&cache, ino, MIB);
        assert!(disk_used(dir.path()) <= 12 * MIB);
    }
    assert!(cache.stats().files >= 11);
    std::fs::write(dir.path().join("somebody else's"), content(1, 4 * MIB)).unwrap();
    cache.trim().unwrap();
    assert!(disk_used(dir.path()) <= 12 * MIB);
    assert!(cache.stats().files >= 7);
}

#[test]
fn staged_data_pushes_cached_data_off_the_disk_and_is_not_pushed_itself() {
    let dir = TempDir::new().unwrap();
    let options = CacheOptions { keep_free: KeepFree::Bytes(4 * MIB), ..options(64 * MIB) };
    let disk = SmallDisk { dir: dir.path().to_owned(), total: 40 * MIB };
    let cache = Cache::open_on(dir.path(), options, Box::new(disk)).unwrap();
    (1..=20).for_each(|ino| fill(&cache, ino, MIB));
    let lease = cache.stage_empty(Ino(99)).unwrap();
    for _ in 0..32 {
        lease.append(&content(1, MIB)).unwrap();
    }
    drop(lease);
    assert!(disk_used(dir.path()) <= 36 * MIB);
    assert_eq!(cache.lease(Ino(99)).unwrap().unwrap().len(), 32 * MIB);
    fill(&cache, 50, 8 * MIB);
    assert_eq!(cache.lease(Ino(99)).unwrap().unwrap().len(), 32 * MIB);
}

#[test]
fn staged_data_leaves_the_ledger_room_to_confirm_it() {
    let dir = TempDir::new().unwrap();
    let disk = SmallDisk { dir: dir.path().to_owned(), total: 40 * MIB };
    let cache = Cache::open_on(dir.path(), options(64 * MIB), Box::new(disk)).unwrap();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    let refused = (0..40).find_map(|_| lease.append(&content(1, MIB)).err()).expect("the disk is full");
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
    assert!(disk_used(dir.path()) <= 38 * MIB);
    assert!(lease.len() >= 36 * MIB);
}
