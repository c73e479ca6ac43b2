//! What versions there are, in memory: sizes, states, and the order of last use.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::body::Body;
use super::names::Name;
use super::table::Table;

/// All versions of a cache. Never locked across I/O.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) slots: BTreeMap<Name, Slot>,
    /// The idle ones, by the time of their last release.
    order: BTreeMap<u64, Name>,
    clock: u64,
    bytes: u64,
}

/// One version.
#[derive(Debug)]
pub(super) struct Slot {
    /// Length of the content.
    pub(super) size: u64,
    /// Disk that it takes.
    bytes: u64,
    pub(super) state: State,
}

/// What is being done with a version.
///
/// ```text
/// Busy -> Pinned -> Idle -> Busy (pinned again, evicted, forgotten)
///           '-> Busy -> gone (forgotten while pinned, or nothing in it)
/// ```
#[derive(Debug)]
pub(super) enum State {
    /// One thread makes, opens or removes its files, and settles it.
    Busy,
    /// In use.
    Pinned { body: Arc<Body>, pins: usize, fate: Fate },
    /// On the disk only.
    Idle { used: u64, what: Idle },
}

/// What happens at the last release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays in the cache.
    Keep,
    /// Its files are removed.
    Remove,
}

/// What is remembered of a version that is not in use.
#[derive(Debug, Clone)]
pub(super) struct Idle {
    /// The checksum that is part of a one-block content's name.
    pub(super) sum: Option<u32>,
    /// Its blocks, if it was used by this process: they need no second check.
    pub(super) table: Option<Arc<Table>>,
}

impl Registry {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A version that only the caller may touch until it settles it.
    pub(super) fn insert_busy(&mut self, name: Name, size: u64) {
        self.slots.insert(name, Slot { size, bytes: 0, state: State::Busy });
    }

    /// An idle version becomes the caller's, until it settles it.
    pub(super) fn take_idle(&mut self, name: Name) -> Option<Idle> {
        let slot = self.slots.get_mut(&name)?;
        match std::mem::replace(&mut slot.state, State::Busy) {
            State::Idle { used, what } => {
                self.order.remove(&used);
                Some(what)
            }
            other @ (State::Busy | State::Pinned { .. }) => {
                slot.state = other;
                None
            }
        }
    }

    /// The idle version that was released longest ago becomes the caller's.
    pub(super) fn take_oldest(&mut self) -> Option<Victim> {
        let (&used, &name) = self.order.first_key_value()?;
        let idle = self.take_idle(name)?;
        let slot = self.slots.get(&name)?;
        Some(Victim { name, idle, used, size: slot.size, bytes: slot.bytes })
    }

    /// Becomes the one that was used last.
    pub(super) fn settle_idle(&mut self, name: Name, idle: Idle) {
        self.clock += 1;
        self.settle_idle_at(name, idle, self.clock);
    }

    /// Goes back to the place that it had.
    pub(super) fn settle_idle_at(&mut self, name: Name, what: Idle, used: u64) {
        if let Some(slot) = self.slots.get_mut(&name) {
            slot.state = State::Idle { used, what };
            self.order.insert(used, name);
        }
    }

    pub(super) fn settle(&mut self, name: Name, state: State) {
        if let Some(slot) = self.slots.get_mut(&name) {
            slot.state = state;
        }
    }

    /// A version of the caller's is no longer there.
    pub(super) fn remove(&mut self, name: Name) {
        if let Some(slot) = self.slots.remove(&name) {
            self.bytes -= slot.bytes;
        }
    }

    pub(super) fn charge(&mut self, name: Name, bytes: u64) {
        if let Some(slot) = self.slots.get_mut(&name) {
            slot.bytes += bytes;
            self.bytes += bytes;
        }
    }

    /// A version that another process left was never charged block by block: no more is given back than
    /// was taken.
    pub(super) fn give_back(&mut self, name: Name, bytes: u64) {
        if let Some(slot) = self.slots.get_mut(&name) {
            let bytes = bytes.min(slot.bytes);
            slot.bytes -= bytes;
            self.bytes -= bytes;
        }
    }
}

/// A version that has to make room.
#[derive(Debug)]
pub(super) struct Victim {
    pub(super) name: Name,
    pub(super) idle: Idle,
    pub(super) used: u64,
    pub(super) size: u64,
    pub(super) bytes: u64,
}
