//! Staged files: one per inode, written in place. Nothing here is ever evicted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::blocks::Blocks;
use super::disk;
use crate::object::Ino;

mod budget;
mod content;
mod copying;
mod fill;
mod lease;
mod outgoing;
mod range;
mod snapshot;
mod times;

pub(super) use budget::Budget;
use budget::Charge;
use content::Content;
#[cfg(test)]
pub(super) use copying::Copying;
pub use fill::Fill;
use fill::{Covered, PartFile};
use lease::Hold;
pub use lease::Lease;
pub use range::{FileEnd, Found, RangeChange, Region};
pub use snapshot::Snapshot;
pub use times::LiveTimes;
use times::Times;

/// After so many bytes of growth the limits of the cached versions are looked at: staged data takes
/// the same disk.
const GROWTH_UNTIL_TRIM: u64 = 1 << 20;

/// All staged files of a cache.
#[derive(Debug)]
pub(super) struct StagedArea {
    pub(super) dir: PathBuf,
    /// Open from the start: whoever has used up all descriptors can still make staged files safe and close them.
    pub(super) opened_dir: File,
    /// Where damaged files go. There from the start, because a full disk can make no directory.
    aside: PathBuf,
    pub(super) budget: Arc<Budget>,
    blocks: Arc<Blocks>,
    slots: Mutex<HashMap<Ino, Slot>>,
    /// A slot stopped being busy.
    settled: Condvar,
    part_number: AtomicU64,
    growth: AtomicU64,
}

#[derive(Debug)]
enum Slot {
    /// Being made, opened or promoted by one thread, which settles it.
    Busy,
    /// There, not open.
    Closed(Arc<Content>),
    /// There, with leases.
    Open { content: Arc<Content>, file: Arc<File> },
}

impl Slot {
    /// The last lease may have gone while the slot was busy. Under the lock of the slots.
    fn settled_down(self) -> Slot {
        match self {
            Slot::Open { content, .. } if content.leases.load(Ordering::SeqCst) == 0 => Slot::Closed(content),
            Slot::Open { .. } | Slot::Closed(_) | Slot::Busy => self,
        }
    }
}

impl StagedArea {
    /// Takes in what an earlier process left.
    pub(super) fn open(
        (dir, aside): (PathBuf, PathBuf),
        bytes_max: u64,
        blocks: Arc<Blocks>,
    ) -> io::Result<Arc<StagedArea>> {
        let budget = Budget::new(bytes_max);
        let mut slots = HashMap::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let Some(ino) = parse_ino(&entry.file_name().to_string_lossy()) else {
                tracing::warn!(path = %entry.path().display(), "not a staged file, left alone");
                continue;
            };
            // Who took space beyond the end has gone.
            disk::cut_beyond(&entry.path(), entry.metadata()?.len())?;
            let meta = entry.metadata()?;
            let content = Content::new(ino, meta.len(), Charge::new(&budget, disk::allocated(&meta)));
            slots.insert(ino, Slot::Closed(Arc::new(content)));
        }
        Ok(Arc::new(StagedArea {
            opened_dir: File::open(&dir)?,
            dir,
            aside,
            budget,
            blocks,
            slots: Mutex::new(slots),
            settled: Condvar::new(),
            part_number: AtomicU64::new(0),
            growth: AtomicU64::new(0),
        }))
    }

    pub(super) fn path(&self, ino: Ino) -> PathBuf {
        self.dir.join(format!("{:x}", ino.0))
    }

    pub(super) fn contains(&self, ino: Ino) -> bool {
        self.settled(ino).contains_key(&ino)
    }

    pub(super) fn inos(&self) -> Vec<Ino> {
        self.slots.lock().keys().copied().collect()
    }

    /// The slots, once the one of `ino` is not busy.
    fn settled(&self, ino: Ino) -> MutexGuard<'_, HashMap<Ino, Slot>> {
        let mut slots = self.slots.lock();
        while matches!(slots.get(&ino), Some(Slot::Busy)) {
            self.settled.wait(&mut slots);
        }
        slots
    }

    fn settle(&self, ino: Ino, slot: Option<Slot>) {
        let mut slots = self.slots.lock();
        match slot {
            Some(slot) => drop(slots.insert(ino, slot)),
            None => drop(slots.remove(&ino)),
        }
        self.settled.notify_all();
    }

    /// A first lease on a file that was just made or opened, in a slot that is busy.
    fn settle_open(self: &Arc<Self>, content: Arc<Content>, file: File) -> Lease {
        let file = Arc::new(file);
        content.leases.store(1, Ordering::SeqCst);
        self.settle(content.ino, Some(Slot::Open { content: Arc::clone(&content), file: Arc::clone(&file) }));
        Lease::new(Hold { area: Arc::clone(self), content, file })
    }

    pub(super) fn create(self: &Arc<Self>, ino: Ino) -> io::Result<Lease> {
        if !self.occupy(ino) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the inode has a staged file"));
        }
        self.create_in_slot(ino)
    }

    pub(super) fn lease_or_create(self: &Arc<Self>, ino: Ino) -> io::Result<(Lease, bool)> {
        loop {
            if self.occupy(ino) {
                return Ok((self.create_in_slot(ino)?, true));
            }
            if let Some(lease) = self.lease(ino)? {
                return Ok((lease, false));
            }
        }
    }

    /// Makes an empty file, in a slot that was made busy for it.
    fn create_in_slot(self: &Arc<Self>, ino: Ino) -> io::Result<Lease> {
        match disk::create_new(&self.path(ino)) {
            Ok(file) => {
                let content = Content::new(ino, 0, Charge::new(&self.budget, 0));
                Ok(self.settle_open(Arc::new(content), file))
            }
            Err(e) => {
                self.settle(ino, None);
                Err(e)
            }
        }
    }

    pub(super) fn lease(self: &Arc<Self>, ino: Ino) -> io::Result<Option<Lease>> {
        let mut slots = self.settled(ino);
        let content = match slots.get_mut(&ino) {
            None | Some(Slot::Busy) => return Ok(None),
            Some(Slot::Open { content, file }) => {
                content.leases.fetch_add(1, Ordering::SeqCst);
                let (content, file) = (Arc::clone(content), Arc::clone(file));
                return Ok(Some(Lease::new(Hold { area: Arc::clone(self), content, file })));
            }
            Some(Slot::Closed(content)) => Arc::clone(content),
        };
        slots.insert(ino, Slot::Busy);
        drop(slots);
        match disk::open_existing(&self.path(ino)) {
            Ok(file) => Ok(Some(self.settle_open(content, file))),
            Err(e) => {
                self.settle(ino, Some(Slot::Closed(content)));
                Err(e)
            }
        }
    }

    /// One lease less; with the last one the file is closed. A discarded content has no slot any more,
    /// and the slot of its inode may be another content's.
    fn release(&self, content: &Arc<Content>) {
        let mut slots = self.slots.lock();
        let last = content.leases.fetch_sub(1, Ordering::SeqCst) == 1;
        if last
            && let Some(Slot::Open { content: there, .. }) = slots.get(&content.ino)
            && Arc::ptr_eq(there, content)
        {
            slots.insert(content.ino, Slot::Closed(Arc::clone(content)));
        }
    }

    pub(super) fn begin_fill(self: &Arc<Self>, ino: Ino, bytes: u64) -> io::Result<Fill> {
        let path = self.part_path(&format!("{:x}", ino.0));
        let part = PartFile { file: disk::create_new(&path)?, path };
        part.file.set_len(bytes)?;
        let charge = Charge::new(&self.budget, 0);
        Ok(Fill { area: Arc::clone(self), ino, bytes, part, charge, covered: Mutex::new(Covered::default()) })
    }

    /// The end of a fill -> the staged file, and whether it is the one that was filled.
    fn adopt(fill: Fill) -> io::Result<(Lease, bool)> {
        let area = Arc::clone(&fill.area);
        loop {
            if area.occupy(fill.ino) {
                return Ok((StagedArea::name(fill)?, true));
            }
            if let Some(lease) = area.lease(fill.ino)? {
                return Ok((lease, false));
            }
        }
    }

    /// The end of a fill that only an inode without a staged file gets, and only if it is wanted then.
    fn adopt_if(fill: Fill, is_wanted: impl FnOnce() -> bool) -> io::Result<Option<Lease>> {
        let area = Arc::clone(&fill.area);
        if !area.occupy(fill.ino) {
            return Ok(None);
        }
        if !is_wanted() {
            area.settle(fill.ino, None);
            return Ok(None);
        }
        StagedArea::name(fill).map(Some)
    }

    /// Makes the slot of an inode that has no staged file busy -> false if it has one.
    fn occupy(&self, ino: Ino) -> bool {
        let mut slots = self.settled(ino);
        let Entry::Vacant(vacant) = slots.entry(ino) else { return false };
        vacant.insert(Slot::Busy);
        true
    }

    /// Gives a fill its name, in a slot that was made busy for it.
    fn name(fill: Fill) -> io::Result<Lease> {
        let Fill { area, ino, bytes, part, charge, .. } = fill;
        let named = part.file.try_clone().and_then(|file| {
            fs::rename(&part.path, area.path(ino))?;
            Ok(file)
        });
        match named {
            Ok(file) => Ok(area.settle_open(Arc::new(Content::new(ino, bytes, charge)), file)),
            Err(e) => {
                area.settle(ino, None);
                Err(e)
            }
        }
    }

    pub(super) fn discard(&self, ino: Ino) -> io::Result<bool> {
        Ok(self.take_away(ino, disk::remove)?.is_some())
    }

    /// It survives a power failure: what was moved away is not recovered.
    pub(super) fn set_aside(&self, ino: Ino) -> io::Result<Option<PathBuf>> {
        let aside = &self.aside;
        self.take_away(ino, |path| {
            let free = |number: &u64| !aside.join(format!("{:x}.{number}", ino.0)).exists();
            let number = (0..).find(free).expect("fewer files than numbers");
            let target = aside.join(format!("{:x}.{number}", ino.0));
            fs::rename(path, &target)?;
            disk::sync_dir(aside)?;
            self.opened_dir.sync_all()?;
            Ok(target)
        })
    }

    pub(super) fn aside_of(&self, ino: Ino) -> io::Result<Vec<PathBuf>> {
        let stem = format!("{:x}.", ino.0);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.aside)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&stem) {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    /// Takes the name of a staged file away -> what `take` said of it; `None` if there is no such file. If
    /// `take` fails it is still there.
    fn take_away<T>(&self, ino: Ino, take: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<Option<T>> {
        let mut slots = self.settled(ino);
        let Some(slot) = slots.insert(ino, Slot::Busy) else {
            slots.remove(&ino);
            return Ok(None);
        };
        drop(slots);
        let taken = take(&self.path(ino));
        let mut slots = self.slots.lock();
        if taken.is_ok() {
            slots.remove(&ino);
        } else {
            slots.insert(ino, slot.settled_down());
        }
        self.settled.notify_all();
        drop(slots);
        taken.map(Some)
    }

    /// A file without a name, for a snapshot.
    fn nameless_file(&self) -> io::Result<File> {
        let path = self.part_path("snapshot");
        let file = disk::create_new(&path)?;
        disk::remove(&path)?;
        Ok(file)
    }

    fn part_path(&self, stem: &str) -> PathBuf {
        let number = self.part_number.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{stem}.{number}.part"))
    }

    fn grew(&self, bytes: u64) {
        if self.growth.fetch_add(bytes, Ordering::Relaxed) + bytes >= GROWTH_UNTIL_TRIM {
            self.growth.store(0, Ordering::Relaxed);
            self.blocks.trim_or_warn();
        }
    }
}

/// How much of `len` bytes at `offset` lies before the end.
fn clamp(end: u64, offset: u64, len: usize) -> usize {
    usize::try_from(end.saturating_sub(offset)).map_or(len, |left| left.min(len))
}

fn parse_ino(name: &str) -> Option<Ino> {
    let ino = Ino(u64::from_str_radix(name, 16).ok()?);
    (format!("{:x}", ino.0) == name).then_some(ino)
}
