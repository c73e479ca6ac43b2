use std::fs::File;
use std::io;

use bytes::Bytes;

use super::budget::Charge;
use super::{LiveTimes, clamp};
use crate::cache::disk::{self, Sought};

/// A private copy of a staged file as it was at one moment. It has no name: it is gone when it is
/// dropped or the process dies. Its disk space counts as staged.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) file: File,
    pub(super) len: u64,
    pub(super) generation: u64,
    pub(super) times: LiveTimes,
    pub(super) _charge: Charge,
}

impl Snapshot {
    /// Bytes of the copy; fewer than `len` only at its end.
    pub fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        disk::read_up_to(&self.file, offset, clamp(self.len, offset, len))
    }

    /// Where bytes that were written begin, at `offset` or after it; the length if only a hole is left, `None` from
    /// the end on.
    pub fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        if offset >= self.len {
            return Ok(None);
        }
        Ok(Some(disk::seek(&self.file, Sought::Data, offset)?.unwrap_or(self.len)))
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When its content was changed, as was known at that moment.
    pub fn times(&self) -> LiveTimes {
        self.times
    }

    /// The generation of the staged file that this is a copy of.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
