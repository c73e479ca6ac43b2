use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::content::Content;
use super::{StagedArea, clamp};
use crate::cache::disk;
use crate::object::Ino;

/// A shared handle to a staged file. While one lives the file is not promoted, and its content stays even
/// if it is discarded.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Hold>);

/// One count in the area's leases, given back by Drop.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) area: Arc<StagedArea>,
    pub(super) content: Arc<Content>,
    pub(super) file: Arc<File>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.area.release(&self.content);
    }
}

impl Lease {
    pub(super) fn new(hold: Hold) -> Lease {
        Lease(Arc::new(hold))
    }

    pub(super) fn content(&self) -> &Content {
        &self.0.content
    }

    pub(super) fn area(&self) -> &StagedArea {
        &self.0.area
    }

    /// Whose content it is.
    pub fn ino(&self) -> Ino {
        self.content().ino
    }

    /// Bytes as they are now; fewer than `len` only at the end.
    pub fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        disk::read_up_to(&self.0.file, offset, clamp(self.len(), offset, len))
    }

    /// Writes all of `data`, or says why not; then a part of it may be there. A gap before it reads as
    /// zeros. Writers of different places do not wait for each other.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = end_of(offset, data.len() as u64)?;
        let gate = self.content().gate.read();
        let writing = self.content().begin_write(&gate, offset..end);
        let written = self.put(offset, data);
        match &written {
            Ok(()) if data.is_empty() => {}
            Ok(()) => self.content().reached(end),
            Err(_) => self.content().reached(self.0.file.metadata()?.len()),
        }
        drop((writing, gate));
        self.recount()?;
        written
    }

    /// Writes `data` at the end, wherever that is by then -> where it begins. Nothing is changed if it fails.
    pub fn append(&self, data: &[u8]) -> io::Result<u64> {
        let gate = self.content().gate.write();
        let offset = self.len();
        let end = end_of(offset, data.len() as u64)?;
        let writing = self.content().begin_write(&gate, offset..end);
        let written = self.put(offset, data);
        if written.is_ok() {
            self.content().reached(end);
        } else {
            self.0.file.set_len(offset)?;
        }
        drop((writing, gate));
        self.recount()?;
        written.map(|()| offset)
    }

    /// Cuts the file, or lengthens it with zeros.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        let gate = self.content().gate.write();
        let writing = self.content().begin_write(&gate, len.min(self.len())..u64::MAX);
        self.0.file.set_len(len)?;
        self.content().set_len(len);
        if len == 0 {
            // Nothing that a failed sync may have lost is part of the content any more.
            self.content().sync_failed.store(false, Ordering::SeqCst);
        }
        drop((writing, gate));
        self.recount()
    }

    /// Length in bytes, from memory.
    pub fn len(&self) -> u64 {
        self.content().len()
    }

    /// Whether it has no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns when the content and the file's existence survive a power failure. After a failure every
    /// later sync fails as well, until the file is cut to nothing: the kernel drops what it could not
    /// write and would call the next sync a success.
    pub fn sync(&self) -> io::Result<()> {
        self.check_whole()?;
        let content = self.content();
        if let Err(error) = self.0.file.sync_data() {
            content.sync_failed.store(true, Ordering::SeqCst);
            return Err(error);
        }
        if !content.name_synced.load(Ordering::SeqCst) {
            self.0.area.opened_dir.sync_all()?;
            content.name_synced.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Something that belongs into this content is lost: no later sync or snapshot of it succeeds, so that it
    /// cannot become a version.
    pub fn condemn(&self) {
        self.content().condemned.store(true, Ordering::SeqCst);
    }

    /// Whether something that belongs into it is lost.
    pub fn is_condemned(&self) -> bool {
        self.content().condemned.load(Ordering::SeqCst)
    }

    pub(super) fn check_whole(&self) -> io::Result<()> {
        if self.is_condemned() {
            return Err(io::Error::other("a part of what was written to this staged file is lost"));
        }
        if self.content().sync_failed.load(Ordering::SeqCst) {
            return Err(io::Error::other("an earlier sync of this staged file failed"));
        }
        Ok(())
    }

    /// Changes with every write and every change of length, before and after it. Starts again at 0 with
    /// the process.
    pub fn generation(&self) -> u64 {
        self.content().generation()
    }

    /// The generation, if no write is in progress.
    pub fn stable(&self) -> Option<u64> {
        self.content().stable()
    }

    /// The file itself, for handing it to the kernel. Whoever writes to it past this lease makes `len`
    /// and `generation` wrong.
    pub fn file(&self) -> &File {
        &self.0.file
    }

    fn put(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with_room(data.len() as u64, || self.0.file.write_all_at(data, offset))
    }

    /// Does what takes up to `need` bytes of disk. A full disk is tried again after cached blocks have
    /// made room: changes matter more than they do.
    pub(super) fn with_room<T>(&self, need: u64, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
        self.0.area.blocks.leave_room_for_ledger(need)?;
        match work() {
            Err(e) if disk::is_full(&e) && self.0.area.blocks.free_disk(need) > 0 => work(),
            other => other,
        }
    }

    /// After the gate: what follows may evict, which is I/O on other files.
    pub(super) fn recount(&self) -> io::Result<()> {
        let grown = self.content().charge.update(&self.0.file)?;
        self.0.area.grew(grown);
        Ok(())
    }
}

/// Where `len` bytes at `offset` end.
pub(super) fn end_of(offset: u64, len: u64) -> io::Result<u64> {
    let end = offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok());
    end.ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "the end lies beyond what a file can have"))
}
