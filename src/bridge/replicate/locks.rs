//! One at a time per key and store, and keys that must stay as they are for now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Instant;
use crate::ledger::Replica;
use crate::object::{ETag, Ino, Key, PerSide, Receipt, Side};

/// Wakes the lanes. A ring is kept until its lane looks, so none is lost.
#[derive(Debug, Default)]
pub(crate) struct Bells(PerSide<Notify>);

impl Bells {
    pub(crate) fn ring_all(&self) {
        Side::BOTH.into_iter().for_each(|side| self.0[side].notify_one());
    }

    pub(crate) async fn heard(&self, side: Side) {
        self.0[side].notified().await;
    }
}

/// Who was refused a key because it is being read comes back within this time. Until then nobody else begins to
/// read it: a file that is linked again and again would keep a change of its first name away.
const COMES_BACK: Duration = Duration::from_secs(2);

/// Which keys are being changed, or read by the store itself as the source of a copy. Not awaited: who finds a key
/// taken comes back later, so no two tasks can wait for each other's keys.
#[derive(Debug, Default)]
pub(crate) struct KeyLocks {
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    taken: HashMap<(Side, Key), Use>,
    /// Since when somebody wants to change what is being read.
    wanted: HashMap<(Side, Key), Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Changed,
    Read { by: usize },
}

/// Keys of one store that only the holder may change, or that nobody changes while it is held.
#[derive(Debug)]
pub(crate) struct KeyGuard<'a> {
    locks: &'a KeyLocks,
    keys: Vec<(Side, Key)>,
}

impl KeyLocks {
    /// Takes all of `keys` to change them, or none if one of them is taken.
    pub(crate) fn try_lock(&self, side: Side, keys: &[&Key]) -> Option<KeyGuard<'_>> {
        let Keys { taken, wanted } = &mut *self.keys.lock();
        let mut mine: Vec<(Side, Key)> = keys.iter().map(|key| (side, (*key).clone())).collect();
        mine.dedup();
        if let Some(key) = mine.iter().find(|key| taken.contains_key(key)) {
            if taken[key] != Use::Changed {
                wanted.retain(|_, since| since.elapsed() < COMES_BACK);
                wanted.insert(key.clone(), Instant::now());
            }
            return None;
        }
        for key in &mine {
            wanted.remove(key);
            taken.insert(key.clone(), Use::Changed);
        }
        Some(KeyGuard { locks: self, keys: mine })
    }

    /// Keeps `key` as it is, if nobody changes it or waits to.
    pub(crate) fn try_share(&self, side: Side, key: &Key) -> Option<KeyGuard<'_>> {
        let Keys { taken, wanted } = &mut *self.keys.lock();
        let key = (side, key.clone());
        if wanted.get(&key).is_some_and(|since| since.elapsed() < COMES_BACK) {
            return None;
        }
        match taken.entry(key.clone()).or_insert(Use::Read { by: 0 }) {
            Use::Changed => return None,
            Use::Read { by } => *by += 1,
        }
        Some(KeyGuard { locks: self, keys: vec![key] })
    }

    /// Whether somebody changes this key.
    pub(crate) fn is_changing(&self, side: Side, key: &Key) -> bool {
        self.keys.lock().taken.get(&(side, key.clone())) == Some(&Use::Changed)
    }
}

impl Drop for KeyGuard<'_> {
    fn drop(&mut self) {
        let taken = &mut self.locks.keys.lock().taken;
        for key in &self.keys {
            match taken.get_mut(key) {
                Some(Use::Read { by }) if *by > 1 => *by -= 1,
                _ => drop(taken.remove(key)),
            }
        }
    }
}

/// What is still read by files that are open but no longer in the tree.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// How often a key is held.
    keys: HashMap<(Side, Key), usize>,
    /// Where each node's content stood when it left the tree, which may be elsewhere than when it was opened.
    nodes: HashMap<Ino, PerSide<Option<Replica>>>,
}

impl Holds {
    pub(crate) fn contains(&self, side: Side, key: &Key) -> bool {
        self.held.lock().keys.contains_key(&(side, key.clone()))
    }

    /// The object that is held has another tag than was known, by a change of its attributes.
    pub(crate) fn retagged(&self, ino: Ino, side: Side, seen: &Receipt, etag: &ETag) {
        let mut held = self.held.lock();
        let replica = held.nodes.get_mut(&ino).and_then(|replicas| replicas[side].as_mut());
        if let Some(replica) = replica.filter(|replica| replica.receipt == *seen) {
            replica.receipt.etag = etag.clone();
        }
    }

    pub(crate) fn of_node(&self, ino: Ino) -> Option<PerSide<Option<Replica>>> {
        self.held.lock().nodes.get(&ino).cloned()
    }
}

/// While it lives, the objects of a node that has left the tree are neither deleted nor overwritten.
#[derive(Debug)]
pub struct Hold {
    holds: Arc<Holds>,
    ino: Ino,
    keys: Vec<(Side, Key)>,
    bells: Arc<Bells>,
}

impl Hold {
    pub(crate) fn new(
        holds: &Arc<Holds>,
        ino: Ino,
        replicas: PerSide<Option<Replica>>,
        bells: &Arc<Bells>,
    ) -> Hold {
        let stands = replicas.iter().filter_map(|(side, r)| Some((side, r.as_ref()?.receipt.key.clone())));
        let keys: Vec<(Side, Key)> = stands.collect();
        let mut held = holds.held.lock();
        for key in &keys {
            *held.keys.entry(key.clone()).or_default() += 1;
        }
        held.nodes.insert(ino, replicas);
        drop(held);
        Hold { holds: Arc::clone(holds), ino, keys, bells: Arc::clone(bells) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.held.lock();
        for key in self.keys.drain(..) {
            if let Some(count) = held.keys.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    held.keys.remove(&key);
                }
            }
        }
        held.nodes.remove(&self.ino);
        drop(held);
        self.bells.ring_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{COMES_BACK, Hold, Holds, KeyLocks};
    use crate::clock::sleep;
    use crate::ledger::{Replica, ReplicaState};
    use crate::object::{ETag, Ino, Key, LinkId, PerSide, Receipt, Side, Version};

    #[test]
    fn a_key_is_changed_by_one_at_a_time_on_each_side() {
        let (a, b) = (Key::new("a").expect("key"), Key::new("b").expect("key"));
        let locks = KeyLocks::default();
        let first = locks.try_lock(Side::Old, &[&a, &a]).expect("free");
        assert!(locks.try_lock(Side::Old, &[&b, &a]).is_none());
        assert!(locks.try_lock(Side::Old, &[&b]).is_some(), "a refused lock takes nothing");
        assert!(locks.try_lock(Side::New, &[&a]).is_some());
        drop(first);
        assert!(locks.try_lock(Side::Old, &[&a]).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_read_by_many_at_a_time_and_changed_once_they_are_done() {
        let key = Key::new("a").expect("key");
        let locks = KeyLocks::default();
        let share = || locks.try_share(Side::Old, &key);
        let change = || locks.try_lock(Side::Old, &[&key]);
        let readers = (share().expect("free"), share().expect("shared"));
        assert!(!locks.is_changing(Side::Old, &key));
        assert!(change().is_none(), "it is read");
        assert!(share().is_none(), "a change waits");
        drop(readers.0);
        assert!(change().is_none(), "it is still read");
        drop(readers.1);
        assert!(share().is_none(), "the change comes first");
        let changed = change().expect("nobody reads it");
        assert!(locks.is_changing(Side::Old, &key) && share().is_none());
        drop(changed);
        drop(share().expect("nobody waits any more"));

        let reader = share().expect("free");
        assert!(change().is_none(), "and never comes back");
        sleep(COMES_BACK).await;
        assert!(share().is_some());
        drop(reader);
    }

    #[test]
    fn a_hold_ends_with_its_last_holder() {
        let key = Key::new("a").expect("key");
        let (holds, bells) = (Arc::new(Holds::default()), Arc::default());
        let receipt = Receipt {
            key: key.clone(),
            version: Version::FIRST,
            etag: ETag::new("1"),
            size: 1,
            digest: None,
        };
        let replica = |ino| Replica {
            name: LinkId(ino),
            receipt: receipt.clone(),
            attr_version: 0,
            state: ReplicaState::Copied,
            received_at: 0,
        };
        let hold = |ino| {
            let there = PerSide { old: Some(replica(ino)), new: None };
            Hold::new(&holds, Ino(ino), there, &bells)
        };
        let (one, two) = (hold(5), hold(6));
        drop(one);
        assert!(holds.contains(Side::Old, &key) && !holds.contains(Side::New, &key));
        assert!(holds.of_node(Ino(5)).is_none() && holds.of_node(Ino(6)).is_some());
        drop(two);
        assert!(!holds.contains(Side::Old, &key));
        assert!(holds.of_node(Ino(6)).is_none());
    }
}
