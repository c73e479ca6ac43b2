//! What a scan in flight must not bring back. A listing is as old as its scan: a name that was removed
//! after the scan began may still stand in its pages, although nothing in the tables hides it any more.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

/// Names one scan; a later scan has a larger number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScanId(pub u64);

/// A scan that runs; dropping it ends it. Nothing new is adopted for a scan that has ended.
#[derive(Debug)]
pub struct Scan {
    id: ScanId,
    scans: Arc<Scans>,
}

impl Scan {
    /// The number to give to `adopt` and `directory_complete`.
    pub fn id(&self) -> ScanId {
        self.id
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.scans.end(self.id);
    }
}

/// The scans that run, and the names that were removed while they did.
#[derive(Debug, Default)]
pub(super) struct Scans {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: BTreeSet<u64>,
    /// Key, or prefix with a trailing slash, to the number of the first scan that began after its removal.
    removed: HashMap<Box<str>, u64>,
}

impl Scans {
    pub(super) fn begin(self: &Arc<Self>) -> Scan {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.running.insert(id);
        Scan { id: ScanId(id), scans: Arc::clone(self) }
    }

    fn end(&self, id: ScanId) {
        let mut state = self.state.lock();
        state.running.remove(&id.0);
        match state.running.first().copied() {
            None => state.removed = HashMap::new(),
            Some(oldest) => state.removed.retain(|_, first_after| *first_after > oldest),
        }
    }

    /// Notes that `key` (or everything below it, with a trailing slash) is no longer what running scans saw.
    pub(super) fn removed(&self, key: &str) {
        let mut state = self.state.lock();
        if !state.running.is_empty() {
            let first_after = state.next;
            state.removed.insert(key.into(), first_after);
        }
    }

    /// Whether `scan` may no longer be believed about `key`.
    pub(super) fn hides(&self, scan: ScanId, key: &str) -> bool {
        let state = self.state.lock();
        if !state.running.contains(&scan.0) {
            return true;
        }
        if state.removed.is_empty() {
            return false;
        }
        let hidden = |name: &str| state.removed.get(name).is_some_and(|first_after| scan.0 < *first_after);
        hidden(key) || ancestors(key).any(hidden)
    }
}

/// The prefixes (with slash) that cover `key`, outermost first. A key with a trailing slash covers itself.
pub(super) fn ancestors(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').map(|(at, slash)| &key[..at + slash.len()])
}

#[cfg(test)]
mod tests {
    use super::{Scans, ancestors};
    use std::sync::Arc;

    #[test]
    fn only_scans_that_began_before_the_removal_are_doubted() {
        let scans = Arc::new(Scans::default());
        let before = scans.begin();
        scans.removed("a/b");
        scans.removed("d/");
        let after = scans.begin();
        assert!(scans.hides(before.id(), "a/b"));
        assert!(scans.hides(before.id(), "d/x/y"));
        assert!(!scans.hides(before.id(), "a/c"));
        assert!(!scans.hides(after.id(), "a/b"));
        let ended = after.id();
        drop(after);
        assert!(scans.hides(ended, "anything"));
        assert!(scans.hides(before.id(), "a/b"));
        drop(before);
        assert!(scans.state.lock().removed.is_empty());
    }

    #[test]
    fn prefixes_of_a_key() {
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a/", "a/b/"]);
        assert_eq!(ancestors("a/").collect::<Vec<_>>(), ["a/"]);
        assert_eq!(ancestors("a").count(), 0);
    }
}
