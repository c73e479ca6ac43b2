//! What an earlier process left below `blocks/`: names and sizes only, no content is read.

use std::collections::HashMap;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::names::{Name, Parsed, block_count, has_index};
use crate::cache::disk;

/// A version that may be there.
#[derive(Debug)]
pub(super) struct FoundVersion {
    pub(super) name: Name,
    pub(super) size: u64,
    /// Disk that it takes, with its index.
    pub(super) bytes: u64,
    pub(super) sum: Option<u32>,
    /// The later of last access and last change, in seconds: accesses are not recorded everywhere.
    used_at: i64,
}

#[derive(Debug, Default)]
struct Parts {
    data: Option<FoundVersion>,
    index_bytes: Option<u64>,
}

/// The versions below `blocks`, least recently used first. Files that belong to none are removed.
pub(super) fn scan(blocks: &Path) -> io::Result<Vec<FoundVersion>> {
    let mut found = Vec::new();
    for shard in fs::read_dir(blocks)? {
        let shard = shard?;
        if shard.file_type()?.is_dir() {
            scan_shard(blocks, &shard.path(), &mut found)?;
        }
    }
    found.sort_by_key(|version| version.used_at);
    Ok(found)
}

fn scan_shard(blocks: &Path, shard: &Path, found: &mut Vec<FoundVersion>) -> io::Result<()> {
    let mut versions: HashMap<Name, Parts> = HashMap::new();
    for entry in fs::read_dir(shard)? {
        note(&entry?, &mut versions)?;
    }
    for (name, parts) in versions {
        match join(parts) {
            Ok(version) => found.push(version),
            Err(parts) => remove_parts(blocks, name, &parts),
        }
    }
    Ok(())
}

fn note(entry: &DirEntry, versions: &mut HashMap<Name, Parts>) -> io::Result<()> {
    let Some(parsed) = entry.file_name().to_str().and_then(Name::parse) else {
        tracing::warn!(path = %entry.path().display(), "not a cached file, left alone");
        return Ok(());
    };
    let meta = entry.metadata()?;
    let bytes = disk::allocated(&meta);
    match parsed {
        Parsed::Index(name) => versions.entry(name).or_default().index_bytes = Some(bytes),
        Parsed::Data(name, sum) => {
            let used_at = meta.atime().max(meta.mtime());
            let version = FoundVersion { name, size: meta.len(), bytes, sum, used_at };
            let twin = versions.entry(name).or_default().data.replace(version);
            if let Some(twin) = twin {
                disk::remove_or_warn(&entry.path().with_file_name(file_name(&twin)));
            }
        }
    }
    Ok(())
}

fn file_name(version: &FoundVersion) -> std::ffi::OsString {
    let path = version.name.data_path(Path::new(""), version.sum);
    path.file_name().map(std::ffi::OsStr::to_owned).unwrap_or_default()
}

/// A one-block content has its checksum in its name; a longer one has an index beside it. Anything else
/// was left half made.
fn join(parts: Parts) -> Result<FoundVersion, Parts> {
    match (parts.data, parts.index_bytes) {
        (Some(data), Some(index)) if has_index(data.size) && data.sum.is_none() => {
            Ok(FoundVersion { bytes: data.bytes + index, ..data })
        }
        (Some(data), None) if block_count(data.size) == 1 && data.sum.is_some() => Ok(data),
        (data, index_bytes) => Err(Parts { data, index_bytes }),
    }
}

fn remove_parts(blocks: &Path, name: Name, parts: &Parts) {
    if let Some(data) = &parts.data {
        disk::remove_or_warn(&name.data_path(blocks, data.sum));
    }
    if parts.index_bytes.is_some() {
        disk::remove_or_warn(&name.index_path(blocks));
    }
}
