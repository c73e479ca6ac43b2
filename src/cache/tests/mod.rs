use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use super::disk::{Space, SpaceProbe, allocated};
use super::{Cache, CacheOptions, KeepFree};
use crate::object::BLOCK_BYTES;

mod cached;
mod directory;
mod fetch;
mod limits;
mod promote;
mod range;
mod staged;
mod staged_model;
mod version_model;

const MIB: u64 = 1 << 20;

fn options(bytes_max: u64) -> CacheOptions {
    CacheOptions {
        bytes_max,
        keep_free: KeepFree::Bytes(0),
        staged_bytes_max: 64 * MIB,
        volume: "here".to_owned(),
    }
}

fn open(dir: &Path) -> Arc<Cache> {
    Cache::open(dir, options(64 * MIB)).expect("the cache opens")
}

fn new_cache() -> (TempDir, Arc<Cache>) {
    let dir = TempDir::new().expect("a directory");
    let cache = open(dir.path());
    (dir, cache)
}

/// Bytes that differ from place to place and from seed to seed.
fn content(seed: u64, size: u64) -> Bytes {
    let mut bytes = vec![0; usize::try_from(size).expect("fits")];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn block_of(content: &Bytes, block: u64) -> Bytes {
    let start = usize::try_from(block * BLOCK_BYTES).expect("fits");
    let end = content.len().min(start + usize::try_from(BLOCK_BYTES).expect("fits"));
    content.slice(start..end)
}

/// Every file below a directory.
fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("readable") {
        let entry = entry.expect("readable");
        if entry.file_type().expect("typed").is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

fn disk_used(dir: &Path) -> u64 {
    files_below(dir).iter().map(|path| allocated(&fs::metadata(path).expect("there"))).sum()
}

/// A disk of a size of its own on which nothing but one directory takes space.
#[derive(Debug)]
struct SmallDisk {
    dir: std::path::PathBuf,
    total: u64,
}

impl SpaceProbe for SmallDisk {
    fn space(&self) -> io::Result<Space> {
        let available = self.total.saturating_sub(disk_used(&self.dir));
        Ok(Space { total: self.total, available })
    }
}
