//! Local files: staged content that is not on every store yet, and cached blocks of versions that are.
//! Knows no store and no ledger.

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::object::{ContentDigest, Ino, Version};

mod error;
mod options;

pub use error::{CacheError, NoSpace};
pub use options::{CacheOptions, CacheStats, KeepFree, Promotion};

/// The cache directory of one bridge.
#[derive(Debug)]
pub struct Cache {}

/// A shared handle to a staged file.
#[derive(Debug, Clone)]
pub struct Lease {}

/// A staged file that is being brought in.
#[derive(Debug)]
pub struct Fill {}

/// A private consistent copy of a staged file.
#[derive(Debug)]
pub struct Snapshot {}

/// A pinned cached version.
#[derive(Debug, Clone)]
pub struct CachedVersion {}

fn later<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

#[expect(missing_docs, clippy::unused_async, reason = "signatures first; the bodies follow")]
mod skeleton {
    use super::*;
    impl Cache {
        pub fn open(_dir: &Path, _options: CacheOptions) -> Result<Arc<Cache>, CacheError> {
            Ok(Arc::new(Cache {}))
        }
        pub fn stage_empty(self: &Arc<Self>, _ino: Ino) -> io::Result<Lease> {
            later()
        }
        pub fn lease(self: &Arc<Self>, _ino: Ino) -> io::Result<Option<Lease>> {
            later()
        }
        pub fn begin_fill(self: &Arc<Self>, _ino: Ino, _bytes: u64) -> io::Result<Fill> {
            later()
        }
        pub fn staged_inos(&self) -> io::Result<Vec<Ino>> {
            later()
        }
        pub fn discard(&self, _ino: Ino) -> io::Result<bool> {
            later()
        }
        pub fn promote(
            &self,
            _ino: Ino,
            _version: Version,
            _content: &ContentDigest,
            _generation: u64,
        ) -> io::Result<Promotion> {
            later()
        }
        pub fn staged_bytes(&self) -> u64 {
            0
        }
        pub async fn reserve(&self, _bytes: u64, _deadline: Duration) -> Result<(), NoSpace> {
            Ok(())
        }
        pub fn version(
            self: &Arc<Self>,
            _ino: Ino,
            _version: Version,
            _size: u64,
        ) -> io::Result<CachedVersion> {
            later()
        }
        pub fn forget(&self, _ino: Ino) {}
        pub fn stats(&self) -> CacheStats {
            CacheStats::default()
        }
    }
    impl Lease {
        pub fn ino(&self) -> Ino {
            Ino::ROOT
        }
        pub fn read_at(&self, _offset: u64, _len: usize) -> io::Result<Bytes> {
            later()
        }
        pub fn write_at(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
            later()
        }
        pub fn append(&self, _data: &[u8]) -> io::Result<u64> {
            later()
        }
        pub fn set_len(&self, _len: u64) -> io::Result<()> {
            later()
        }
        #[expect(clippy::len_without_is_empty, reason = "a file")]
        pub fn len(&self) -> u64 {
            0
        }
        pub fn sync(&self) -> io::Result<()> {
            later()
        }
        pub fn generation(&self) -> u64 {
            0
        }
        pub fn stable(&self) -> Option<u64> {
            None
        }
        pub fn snapshot(&self) -> io::Result<Snapshot> {
            later()
        }
        pub fn file(&self) -> &File {
            unreachable!("no lease exists yet")
        }
    }
    impl Fill {
        pub fn write_at(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
            later()
        }
        pub fn finish(self) -> io::Result<Lease> {
            later()
        }
    }
    impl Snapshot {
        pub fn read_at(&self, _offset: u64, _len: usize) -> io::Result<Bytes> {
            later()
        }
        #[expect(clippy::len_without_is_empty, reason = "a file")]
        pub fn len(&self) -> u64 {
            0
        }
        pub fn generation(&self) -> u64 {
            0
        }
    }
    impl CachedVersion {
        pub fn read(&self, _offset: u64, _len: usize) -> io::Result<Option<Bytes>> {
            later()
        }
        pub fn missing(&self, _offset: u64, _len: u64) -> Vec<u64> {
            Vec::new()
        }
        pub fn insert(&self, _block: u64, _data: Bytes, _expected: Option<u32>) -> io::Result<()> {
            later()
        }
        pub async fn fetch<F, Fut, E>(&self, _block: u64, fetch: F) -> Result<Bytes, E>
        where
            F: FnOnce() -> Fut,
            Fut: Future<Output = Result<Bytes, E>>,
        {
            fetch().await
        }
        pub fn is_complete(&self) -> bool {
            false
        }
        pub fn size(&self) -> u64 {
            0
        }
        pub fn file(&self) -> &File {
            unreachable!("no version exists yet")
        }
    }
}
