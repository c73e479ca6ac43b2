use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::budget::Charge;
use super::{Lease, StagedArea};
use crate::cache::disk;
use crate::object::Ino;

/// A staged file that is being brought in; it has its name only when all its bytes are there. Dropped
/// before that it leaves nothing.
#[derive(Debug)]
pub struct Fill {
    pub(super) area: Arc<StagedArea>,
    pub(super) ino: Ino,
    pub(super) bytes: u64,
    pub(super) part: PartFile,
    pub(super) charge: Charge,
    pub(super) covered: Mutex<Covered>,
}

/// A file under a temporary name, removed by Drop; after a rename there is nothing left to remove.
#[derive(Debug)]
pub(super) struct PartFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Drop for PartFile {
    fn drop(&mut self) {
        disk::remove_or_warn(&self.path);
    }
}

impl Fill {
    /// Writes a piece, in any order, from any thread.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= self.bytes);
        let Some(end) = end else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a piece lies beyond the announced length",
            ));
        };
        self.area.blocks.leave_room_for_ledger(data.len() as u64)?;
        match self.part.file.write_all_at(data, offset) {
            Err(e) if disk::is_full(&e) && self.area.blocks.free_disk(data.len() as u64) > 0 => {
                self.part.file.write_all_at(data, offset)?;
            }
            other => other?,
        }
        self.covered.lock().add(offset, end);
        self.area.grew(self.charge.update(&self.part.file)?);
        Ok(())
    }

    /// The generation of a staged file that was just filled and nobody has written to.
    pub const GENERATION: u64 = 0;

    /// Gives the file its name -> the staged file, and whether it is this one. If the inode has another by now, that
    /// one stays, and this is thrown away. A fill with a gap is refused: a hole would be uploaded as zeros.
    pub fn finish(self) -> io::Result<(Lease, bool)> {
        self.complete()?;
        StagedArea::adopt(self)
    }

    /// The same if the inode has no staged file and `is_wanted` says so, which is asked while nobody can get or make
    /// one: what it goes by can then be changed by no commit. `None`: it is thrown away.
    pub fn finish_if(self, is_wanted: impl FnOnce() -> bool) -> io::Result<Option<Lease>> {
        self.complete()?;
        StagedArea::adopt_if(self, is_wanted)
    }

    /// The bytes are on the disk before the name is: a file that a power failure left with its name and length and
    /// without its bytes would be taken for the newest version, and sent as zeros.
    fn complete(&self) -> io::Result<()> {
        if !self.covered.lock().is_all_of(self.bytes) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a staged file was filled with a gap"));
        }
        self.part.file.sync_data()
    }
}

/// Which bytes were written: disjoint ranges, start to end.
#[derive(Debug, Default)]
pub(super) struct Covered(BTreeMap<u64, u64>);

impl Covered {
    fn add(&mut self, mut start: u64, mut end: u64) {
        while let Some((&s, &e)) = self.0.range(..=end).next_back() {
            if e < start {
                break;
            }
            self.0.remove(&s);
            (start, end) = (start.min(s), end.max(e));
        }
        self.0.insert(start, end);
    }

    fn is_all_of(&self, bytes: u64) -> bool {
        bytes == 0 || self.0.get(&0) == Some(&bytes)
    }
}
