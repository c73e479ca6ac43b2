//! How a staged file lies on the disk: ranges that are allocated, zeroed or given back, holes, and copies
//! from one staged file to another.

use std::io;
use std::ops::Range;

use super::lease::{Lease, end_of};
use crate::cache::disk::{self, Sought};

/// Where a file ends after a range of it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileEnd {
    /// Where it was.
    Stays,
    /// At the end of the range, if that is farther.
    Reaches,
}

/// A change of a range that is no write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeChange {
    /// Disk space is taken for all of it; what is there already stays as it is.
    Allocate(FileEnd),
    /// It reads as zeros, and disk space is taken for it.
    Zero(FileEnd),
    /// It reads as zeros, and its disk space is given back.
    Punch,
}

/// Space that was taken beyond the end of a file. Never less than there is.
#[derive(Debug, Default)]
pub(super) struct Beyond {
    bytes: u64,
    end: u64,
}

impl Beyond {
    fn add(&mut self, start: u64, end: u64) {
        self.bytes = self.bytes.saturating_add(end.saturating_sub(start));
        self.end = self.end.max(end);
    }

    /// How much of it lies after `at` at most: as the file grows into it, it becomes less.
    fn after(&self, at: u64) -> u64 {
        self.bytes.min(self.end.saturating_sub(at))
    }
}

/// What is looked for in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// Bytes that were written.
    Data,
    /// Bytes that never were, and so are zeros; the end of a file is the beginning of a hole.
    Hole,
}

/// Where a region begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The first byte of it; `None` if there is no more of it.
    pub at: Option<u64>,
    /// The hole that this answer says is there; empty if it says so of none. It is true of what was
    /// written here, and not of pages that a mapping changed and the kernel still keeps.
    pub hole: Range<u64>,
    /// The length of the file.
    pub len: u64,
}

impl RangeChange {
    fn on_disk(self) -> disk::RangeChange {
        match self {
            RangeChange::Allocate(_) => disk::RangeChange::Allocate,
            RangeChange::Zero(_) => disk::RangeChange::Zero,
            RangeChange::Punch => disk::RangeChange::Punch,
        }
    }

    /// Whether it can take disk space.
    pub fn takes_space(self) -> bool {
        match self {
            RangeChange::Allocate(_) | RangeChange::Zero(_) => true,
            RangeChange::Punch => false,
        }
    }

    fn file_end(self) -> FileEnd {
        match self {
            RangeChange::Allocate(end) | RangeChange::Zero(end) => end,
            RangeChange::Punch => FileEnd::Stays,
        }
    }
}

impl Lease {
    /// Disk space that the file takes, in bytes, from memory.
    pub fn allocated(&self) -> u64 {
        self.content().charge.bytes()
    }

    /// By how many bytes of disk at most the file grows when `len` bytes that end at `end` are written or
    /// allocated: what lies in space that was taken before needs none. Space that lies beyond is no help.
    pub fn growth(&self, end: u64, len: u64) -> u64 {
        let end = self.len().max(end);
        let usable = self.allocated().saturating_sub(self.content().beyond.lock().after(end));
        end.saturating_sub(usable).min(len)
    }

    /// Changes a range without writing it. If it fails the length is what it was, and a part of the range
    /// may be done. `Unsupported` where the local file system cannot.
    pub fn change_range(&self, change: RangeChange, offset: u64, len: u64) -> io::Result<()> {
        let end = end_of(offset, len)?;
        let need = if change.takes_space() { self.growth(end, len) } else { 0 };
        let gate = self.content().gate.write();
        let writing = self.content().begin_write(&gate, offset..end);
        // The length is set apart from the space: a disk that fills up halfway must not leave a longer file.
        let change_on_disk = || disk::change_range(self.file(), change.on_disk(), offset, len);
        if change.takes_space() && change.file_end() == FileEnd::Stays {
            // Before it is done: a part may be, if it fails.
            self.content().beyond.lock().add(offset.max(self.len()), end);
        }
        let mut done = self.with_room(need, change_on_disk);
        if done.is_ok() && change.file_end() == FileEnd::Reaches && end > self.len() {
            done = self.file().set_len(end).map(|()| self.content().set_len(end));
        }
        drop((writing, gate));
        self.recount()?;
        done
    }

    /// Where the next region of this sort begins, at `offset` or after it. `None` if the file ends before.
    pub fn seek(&self, region: Region, offset: u64) -> io::Result<Option<Found>> {
        // Whoever moves the cursor of the file to rely on it has the gate for himself.
        let _gate = self.content().gate.read();
        let len = self.len();
        if offset >= len {
            return Ok(None);
        }
        let data = |from| disk::seek(self.file(), Sought::Data, from);
        let at = match region {
            Region::Data => data(offset)?,
            Region::Hole => disk::seek(self.file(), Sought::Hole, offset)?,
        };
        let hole = match (region, at) {
            (Region::Data, at) => offset..at.unwrap_or(len),
            (Region::Hole, Some(at)) => at..data(at)?.unwrap_or(len).max(at),
            (Region::Hole, None) => len..len,
        };
        Ok(Some(Found { at, hole, len }))
    }

    /// Copies up to `len` bytes at `from_offset` of `from` to `offset`, in shared blocks where the disk
    /// can -> how many; fewer only at the end of `from` or before a failure, which the next call will
    /// meet. Ranges of one file must not overlap.
    pub fn copy_from(&self, from: &Lease, from_offset: u64, offset: u64, len: u64) -> io::Result<u64> {
        let len = len.min(from.len().saturating_sub(from_offset));
        let end = end_of(offset, len)?;
        let need = self.growth(end, len);
        let gate = self.content().gate.read();
        let writing = self.content().begin_write(&gate, offset..end);
        let mut done = 0;
        let mut outcome = Ok(());
        while done < len {
            let (source, target) = (from_offset + done, offset + done);
            let copied = self.with_room(need.min(len - done), || {
                disk::copy_range(from.file(), source, self.file(), target, len - done)
            });
            match copied {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if done > 0 {
            self.content().reached(offset + done);
        }
        drop((writing, gate));
        self.recount()?;
        if done > 0 { Ok(done) } else { outcome.map(|()| 0) }
    }
}
