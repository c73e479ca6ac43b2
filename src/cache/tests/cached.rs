use bytes::Bytes;

use super::{block_of, content, files_below, new_cache, open};
use crate::object::{BLOCK_BYTES, Ino, Version};

const V1: Version = Version::FIRST;

#[test]
fn a_read_is_answered_only_when_every_block_of_it_is_there() {
    let (_dir, cache) = new_cache();
    let bytes = content(1, 2 * BLOCK_BYTES + 10);
    let version = cache.version(Ino(5), V1, bytes.len() as u64).unwrap();
    version.insert(1, block_of(&bytes, 1), None).unwrap();
    assert_eq!(version.missing(0, u64::MAX), [0, 2]);
    assert_eq!(version.read(BLOCK_BYTES - 1, 2).unwrap(), None);
    assert_eq!(version.read(BLOCK_BYTES, 3).unwrap(), Some(block_of(&bytes, 1).slice(..3)));
    version.insert(0, block_of(&bytes, 0), None).unwrap();
    assert!(!version.is_complete());
    version.insert(2, block_of(&bytes, 2), None).unwrap();
    assert!(version.is_complete());
    assert_eq!(version.read(0, usize::MAX).unwrap(), Some(bytes.clone()));
    assert_eq!(version.read(bytes.len() as u64, 1).unwrap(), Some(Bytes::new()));
}

#[test]
fn blocks_survive_a_restart() {
    let (dir, cache) = new_cache();
    for (ino, size) in [(1, 3), (2, BLOCK_BYTES), (3, BLOCK_BYTES + 1)] {
        let bytes = content(ino, size);
        let version = cache.version(Ino(ino), V1, size).unwrap();
        version.insert(0, block_of(&bytes, 0), None).unwrap();
    }
    let stats = cache.stats();
    drop(cache);
    let cache = open(dir.path());
    assert_eq!(cache.stats().files, 3);
    assert!(cache.stats().bytes.abs_diff(stats.bytes) <= 3 * 4096);
    for (ino, size) in [(1, 3), (2, BLOCK_BYTES), (3, BLOCK_BYTES + 1)] {
        let version = cache.version(Ino(ino), V1, size).unwrap();
        assert_eq!(version.read(1, 2).unwrap(), Some(content(ino, size).slice(1..3)));
    }
    assert_eq!(cache.stats().bad_blocks, 0);
}

#[test]
fn a_block_with_another_length_or_checksum_is_refused() {
    let (_dir, cache) = new_cache();
    let bytes = content(1, 100);
    let version = cache.version(Ino(5), V1, 100).unwrap();
    assert!(version.insert(0, bytes.slice(..99), None).is_err());
    assert!(version.insert(1, bytes.clone(), None).is_err());
    assert!(version.insert(0, bytes.clone(), Some(crc32fast::hash(&bytes) ^ 1)).is_err());
    assert_eq!(version.missing(0, 100), [0]);
    version.insert(0, bytes.clone(), Some(crc32fast::hash(&bytes))).unwrap();
    assert!(version.is_complete());
}

#[test]
fn the_version_of_another_size_is_another_content() {
    let (_dir, cache) = new_cache();
    let version = cache.version(Ino(5), V1, 100).unwrap();
    version.insert(0, content(1, 100), None).unwrap();
    assert!(cache.version(Ino(5), V1, 101).is_err(), "while it is in use");
    drop(version);
    let version = cache.version(Ino(5), V1, 101).unwrap();
    assert_eq!(version.missing(0, 101), [0]);
}

#[test]
fn a_forgotten_version_serves_its_user_and_is_then_gone() {
    let (dir, cache) = new_cache();
    let bytes = content(1, BLOCK_BYTES + 1);
    let pinned = cache.version(Ino(5), Version(2), BLOCK_BYTES + 1).unwrap();
    pinned.insert(0, block_of(&bytes, 0), None).unwrap();
    cache.version(Ino(5), V1, 9).unwrap().insert(0, content(2, 9), None).unwrap();
    cache.version(Ino(6), V1, 9).unwrap().insert(0, content(2, 9), None).unwrap();
    cache.forget(Ino(5));
    assert_eq!(pinned.read(7, 2).unwrap(), Some(bytes.slice(7..9)));
    drop(pinned);
    assert_eq!(cache.stats().files, 1);
    assert_eq!(files_below(&dir.path().join("blocks")).len(), 1);
    cache.forget(Ino(6));
    assert_eq!((cache.stats().files, cache.stats().bytes), (0, 0));
    assert_eq!(cache.version(Ino(5), V1, 9).unwrap().missing(0, 9), [0]);
}

#[test]
fn a_version_without_a_block_leaves_no_file() {
    let (dir, cache) = new_cache();
    drop(cache.version(Ino(5), V1, 10 * BLOCK_BYTES).unwrap());
    drop(cache.version(Ino(6), V1, 0).unwrap());
    assert_eq!(files_below(&dir.path().join("blocks")).len(), 0);
    assert_eq!((cache.stats().files, cache.stats().bytes), (0, 0));
}

#[test]
fn an_empty_content_is_complete() {
    let (_dir, cache) = new_cache();
    let version = cache.version(Ino(5), V1, 0).unwrap();
    assert!(version.is_complete());
    assert_eq!(version.read(0, 10).unwrap(), Some(Bytes::new()));
}
