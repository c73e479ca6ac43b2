//! How a file that is being written is copied as it was at one moment, while its writers hardly wait: pass after
//! pass copies what changed during the one before, and only the last one, which is short, keeps them out. Virtual
//! machines move between hosts in this way ("pre-copy", Clark et al., "Live Migration of Virtual Machines", 2005).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;

use parking_lot::{Mutex, MutexGuard};

use super::budget::Charge;
use super::content::Content;
use super::{Lease, Snapshot};
use crate::cache::disk;

/// What is left when the writers have to wait, in bytes: some milliseconds' work.
const LAST_PASS_BYTES: u64 = 16 << 20;
/// After so many passes somebody is writing faster than is copied, and waits for what is left all the same.
const PASSES_MAX: usize = 8;
/// Changes are noted in units of this, so that a note is small beside what it stands for.
const UNIT_BYTES: u64 = 16 << 10;

/// Ranges that changed; they neither overlap nor touch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes(BTreeMap<u64, u64>);

impl Changes {
    /// One range.
    pub(super) fn of(range: Range<u64>) -> Changes {
        let mut changes = Changes::default();
        changes.add(range);
        changes
    }

    /// Notes what changes; the units that it touches.
    pub(super) fn add(&mut self, range: Range<u64>) {
        let mut start = range.start - range.start % UNIT_BYTES;
        let mut end = range.end.checked_next_multiple_of(UNIT_BYTES).unwrap_or(u64::MAX);
        while let Some((&from, &to)) = self.0.range(..=end).next_back().filter(|(_, to)| **to >= start) {
            self.0.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.0.insert(start, end);
    }

    /// The ranges as far as they lie below `len`.
    fn below(&self, len: u64) -> impl Iterator<Item = Range<u64>> {
        self.0.range(..len).map(move |(start, end)| *start..(*end).min(len))
    }
}

/// A copy in the making.
#[derive(Debug)]
pub(in crate::cache) struct Copying<'a> {
    lease: &'a Lease,
    file: File,
    charge: Charge,
    noting: Noting<'a>,
}

/// While it lives, the changes of a content are noted.
#[derive(Debug)]
struct Noting<'a> {
    content: &'a Content,
    _alone: MutexGuard<'a, ()>,
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        *self.content.gate.write() = None;
    }
}

impl Lease {
    /// A copy at one moment; writers wait only for the last few of its bytes. Refused where a sync is, and as
    /// `StorageFull` where it would take the room of what programs write: as much as it takes must be left.
    pub fn snapshot(&self) -> io::Result<Snapshot> {
        let copying = Copying::begin(self)?;
        for _ in 0..PASSES_MAX {
            if copying.pass()? <= LAST_PASS_BYTES {
                break;
            }
        }
        copying.finish()
    }
}

impl<'a> Copying<'a> {
    /// Makes room; nothing is copied yet. A second copy of the same file waits for the end of the first.
    pub(in crate::cache) fn begin(lease: &'a Lease) -> io::Result<Copying<'a>> {
        lease.check_whole()?;
        let (area, content) = (lease.area(), lease.content());
        let need = disk::allocated(&lease.file().metadata()?);
        if !area.budget.fits(need) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        area.blocks.leave_room_for_ledger(need.saturating_mul(2))?;
        let (file, charge) = (area.nameless_file()?, Charge::new(&area.budget, 0));
        let alone = content.copying.lock();
        let all = Changes::of(0..u64::MAX);
        *content.gate.write() = Some(Mutex::new(all));
        Ok(Copying { lease, file, charge, noting: Noting { content, _alone: alone } })
    }

    /// Copies what changed since the pass before, or everything -> how many bytes changed meanwhile.
    pub(in crate::cache) fn pass(&self) -> io::Result<u64> {
        let changed = {
            // Nobody is in the middle of a write that is noted here and not there yet.
            let mut gate = self.noting.content.gate.write();
            gate.replace(Mutex::default()).unwrap_or_default().into_inner()
        };
        self.copy(&changed)?;
        self.charge.update(&self.file)?;
        let gate = self.noting.content.gate.read();
        let noted = gate.as_ref().map(Mutex::lock);
        let left =
            noted.iter().flat_map(|noted| noted.below(self.lease.len())).map(|range| range.end - range.start);
        Ok(left.sum())
    }

    /// Copies the rest while nobody writes.
    pub(in crate::cache) fn finish(self) -> io::Result<Snapshot> {
        let Copying { lease, ref file, .. } = self;
        let gate = self.noting.content.gate.write();
        let (len, generation, times) = (lease.len(), lease.generation(), lease.times());
        if let Some(changed) = gate.as_ref() {
            self.copy(&changed.lock())?;
        }
        file.set_len(len)?;
        let on_disk = lease.file().metadata()?.len();
        if on_disk != len {
            return Err(io::Error::other(format!("a staged file of {len} bytes has {on_disk} on the disk")));
        }
        drop(gate);
        self.charge.update(file)?;
        Ok(Snapshot { file: self.file, len, generation, times, _charge: self.charge })
    }

    /// Makes these ranges of the copy what they are in the file: shared blocks where the file system can, else what
    /// is written in them, so that holes stay holes.
    fn copy(&self, changed: &Changes) -> io::Result<()> {
        let (from, to) = (self.lease.file(), &self.file);
        let had = to.metadata()?.len();
        if had == 0 && disk::clone_content(from, to)? {
            return Ok(());
        }
        for range in changed.below(had) {
            disk::punch(to, range.start, range.end - range.start)?;
        }
        changed.below(self.lease.len()).try_for_each(|range| disk::copy_written(from, to, range))
    }
}

#[cfg(test)]
mod tests {
    use super::{Changes, UNIT_BYTES};

    #[test]
    fn ranges_that_touch_become_one() {
        let unit = |from: u64, to: u64| from * UNIT_BYTES..to * UNIT_BYTES;
        let mut changes = Changes::default();
        changes.add(unit(1, 2));
        changes.add(unit(5, 6));
        changes.add(9 * UNIT_BYTES + 1..9 * UNIT_BYTES + 2);
        assert_eq!(changes.below(u64::MAX).collect::<Vec<_>>(), [unit(1, 2), unit(5, 6), unit(9, 10)]);
        changes.add(unit(2, 5));
        assert_eq!(changes.below(u64::MAX).collect::<Vec<_>>(), [unit(1, 6), unit(9, 10)]);
        changes.add(unit(0, 20));
        changes.add(unit(3, 4));
        assert_eq!(changes.below(u64::MAX).collect::<Vec<_>>(), [unit(0, 20)]);
        assert_eq!(changes.below(7).next(), Some(0..7));
        changes.add(5..u64::MAX);
        assert_eq!(changes, Changes::of(0..u64::MAX));
    }
}
