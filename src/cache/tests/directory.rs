use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{content, files_below, new_cache, open, options};
use crate::cache::{Cache, CacheError, CacheOptions};
use crate::object::{BLOCK_BYTES, Ino, Version};

fn elsewhere() -> CacheOptions {
    CacheOptions { volume: "elsewhere".to_owned(), ..options(1 << 30) }
}

#[test]
fn a_directory_with_another_bridges_staged_files_is_refused_and_left_as_it_is() {
    let (dir, cache) = new_cache();
    cache.stage_empty(Ino(7)).unwrap().append(b"the only copy").unwrap();
    cache.version(Ino(8), Version(1), 3).unwrap().insert(0, content(1, 3), None).unwrap();
    drop(cache);
    let before = files_below(dir.path());
    let error = Cache::open(dir.path(), elsewhere()).expect_err("it is not ours");
    assert!(matches!(&error, CacheError::Foreign { files: 1, found, .. } if found == "here"), "{error}");
    assert_eq!(files_below(dir.path()), before);
    assert_eq!(open(dir.path()).lease(Ino(7)).unwrap().unwrap().len(), 13);
}

#[test]
fn another_bridges_blocks_are_removed() {
    let (dir, cache) = new_cache();
    cache.version(Ino(8), Version(1), 3).unwrap().insert(0, content(1, 3), None).unwrap();
    drop(cache);
    let cache = Cache::open(dir.path(), elsewhere()).unwrap();
    assert_eq!(cache.version(Ino(8), Version(1), 3).unwrap().missing(0, 3), [0]);
    drop(cache);
    assert_eq!(open(dir.path()).stats().files, 0);
}

#[test]
fn staged_files_of_unknown_origin_are_refused() {
    let (dir, cache) = new_cache();
    drop(cache.stage_empty(Ino(7)).unwrap());
    drop(cache);
    fs::remove_file(dir.path().join("volume")).unwrap();
    assert!(Cache::open(dir.path(), options(1 << 30)).is_err());
}

#[test]
fn only_the_owner_may_look() {
    let (dir, cache) = new_cache();
    drop(cache.stage_empty(Ino(7)).unwrap());
    let version = cache.version(Ino(8), Version(1), BLOCK_BYTES + 1).unwrap();
    version.insert(1, content(1, 1), None).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for part in ["", "staged", "blocks", "blocks/08"] {
        assert_eq!(mode(&dir.path().join(part)), 0o700, "{part}");
    }
    for part in ["staged", "blocks"] {
        for file in files_below(&dir.path().join(part)) {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }
}

#[test]
fn what_a_crash_left_half_made_is_removed() {
    let (dir, cache) = new_cache();
    let fill = cache.begin_fill(Ino(7), 100).unwrap();
    fill.write_at(0, &content(1, 50)).unwrap();
    std::mem::forget(fill);
    for left in ["blocks/08/8-1", "blocks/09/9-1.i", "blocks/0a/a-1-00000000"] {
        fs::create_dir_all(dir.path().join(left).parent().unwrap()).unwrap();
        fs::write(dir.path().join(left), content(1, 0)).unwrap();
    }
    fs::create_dir(dir.path().join("blocks/0b")).unwrap();
    let large = fs::File::create(dir.path().join("blocks/0b/b-1")).unwrap();
    large.set_len(3 * BLOCK_BYTES).unwrap();
    let cache = open(dir.path());
    assert_eq!(files_below(dir.path()), [dir.path().join("volume")]);
    assert_eq!((cache.stats().files, cache.stats().bytes, cache.staged_bytes()), (0, 0, 0));
}
