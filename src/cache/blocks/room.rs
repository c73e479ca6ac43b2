//! Eviction: the two limits, and who has to go.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Blocks;
use super::index::IndexFile;
use super::names::{Name, block_len, disk_cost, has_index};
use super::registry::{Idle, Victim};
use super::table::{BlockState, Table};
use crate::cache::disk::{self, Space, SpaceProbe};
use crate::cache::options::KeepFree;
use crate::object::BLOCK_BYTES;

/// A version that is larger than what is needed by this much loses blocks instead of everything.
const THIN_OUT_FROM: u64 = 16 * BLOCK_BYTES;

/// What staged content leaves free of the disk, at most: the ledger writes there too, and content that filled the
/// last block could never be confirmed, so never be removed.
const LEDGER_ROOM_MAX: u64 = 64 << 20;

/// What cached versions may take.
#[derive(Debug)]
pub(in crate::cache) struct Limits {
    pub(in crate::cache) bytes_max: u64,
    pub(in crate::cache) keep_free: KeepFree,
    pub(in crate::cache) probe: Box<dyn SpaceProbe>,
}

impl Limits {
    /// By how much the disk falls short if `need` more is written.
    fn disk_shortage(&self, need: u64) -> io::Result<u64> {
        let space = self.probe.space()?;
        let keep = match self.keep_free {
            KeepFree::Bytes(bytes) => bytes,
            KeepFree::Percent(percent) => space.total / 100 * u64::from(percent.min(100)),
        };
        Ok(keep.saturating_add(need).saturating_sub(space.available))
    }
}

impl Blocks {
    /// Whether `need` more bytes of staged content leave room for the ledger, after evicting if they must.
    pub(in crate::cache) fn leave_room_for_ledger(&self, need: u64) -> io::Result<()> {
        let short = |space: Space| {
            let room = (space.total / 20).min(LEDGER_ROOM_MAX);
            room.saturating_add(need).saturating_sub(space.available)
        };
        let missing = short(self.limits.probe.space()?);
        if missing > 0 && self.free_disk(missing) < missing && short(self.limits.probe.space()?) > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Makes room for `need` bytes and charges them to `name` -> whether they fit. What is in use stays, so
    /// they may not.
    pub(super) fn admit(&self, name: Name, need: u64) -> io::Result<bool> {
        if need > self.limits.bytes_max {
            return Ok(false);
        }
        let mut disk_short = self.limits.disk_shortage(need)?;
        loop {
            let mut registry = self.registry.lock();
            let over = (registry.bytes() + need).saturating_sub(self.limits.bytes_max);
            let short = over.max(disk_short);
            if short == 0 {
                registry.charge(name, need);
                return Ok(true);
            }
            let Some(victim) = registry.take_oldest() else { return Ok(false) };
            drop(registry);
            // What the disk says lags behind what was removed, so it is not asked again.
            disk_short = disk_short.saturating_sub(self.evict(victim, short));
        }
    }

    /// Brings the cache under its limits, as far as what is in use allows. Others write to the disk too.
    pub(in crate::cache) fn trim(&self) -> io::Result<()> {
        let disk_short = self.limits.disk_shortage(0)?;
        let over = self.registry.lock().bytes().saturating_sub(self.limits.bytes_max);
        self.free_disk(over.max(disk_short));
        Ok(())
    }

    /// As `trim`, where nobody can be told: the next write that finds the disk full is.
    pub(in crate::cache) fn trim_or_warn(&self) {
        if let Err(error) = self.trim() {
            tracing::warn!(%error, "the cache could not ask for the free space of its disk");
        }
    }

    /// Evicts at least `bytes`, as far as what is in use allows -> how much it was.
    pub(in crate::cache) fn free_disk(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        while freed < bytes {
            let Some(victim) = self.registry.lock().take_oldest() else { break };
            freed += self.evict(victim, bytes - freed);
        }
        freed
    }

    /// Takes at least `short` bytes from a version, or all of it -> how much it was.
    fn evict(&self, victim: Victim, short: u64) -> u64 {
        self.counters.evictions.fetch_add(1, Ordering::Relaxed);
        if victim.bytes >= short.saturating_add(THIN_OUT_FROM) && has_index(victim.size) {
            match self.thin_out(&victim, short) {
                Ok((table, freed)) if freed >= short => {
                    let idle = Idle { sum: None, table: Some(table) };
                    let mut registry = self.registry.lock();
                    registry.give_back(victim.name, freed);
                    registry.settle_idle_at(victim.name, idle, victim.used);
                    self.settled.notify_all();
                    return freed;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(name = %victim.name, %error, "removed instead of thinned out"),
            }
        }
        self.unlink(victim.name, victim.idle.sum, victim.size);
        self.settle_removed(victim.name);
        victim.bytes
    }

    /// Punches blocks from the end: what is read again is more often the beginning.
    fn thin_out(&self, victim: &Victim, short: u64) -> io::Result<(Arc<Table>, u64)> {
        let (name, size) = (victim.name, victim.size);
        let index = IndexFile::open(&name.index_path(&self.dir), name, size)?;
        let index = index.ok_or_else(|| io::Error::other("its index is damaged"))?;
        let data = disk::open_existing(&name.data_path(&self.dir, None))?;
        let table = match &victim.idle.table {
            Some(table) => Arc::clone(table),
            None => Arc::new(Table::new(index.load(size)?.states)),
        };
        let mut freed = 0;
        for (block, _) in table.present().into_iter().rev() {
            if freed >= short {
                break;
            }
            let state = table.get(block);
            index.clear(block)?;
            table.change(block, state, BlockState::Absent);
            disk::punch(&data, block * BLOCK_BYTES, BLOCK_BYTES)?;
            freed += disk_cost(block_len(size, block));
        }
        Ok((table, freed))
    }
}
