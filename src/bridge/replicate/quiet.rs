//! What has just changed may change again in a moment: a temporary file is renamed, `cp -a` sets mode, owner
//! and times one after the other. Where nobody waits for a store, it is sent once it has been quiet.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::sync::Situation;
use crate::bridge::{AckPolicy, Bridge};
use crate::clock::{Instant, sleep};
use crate::object::{Ino, Key};

/// So long nothing must have changed.
const QUIET: Duration = Duration::from_secs(1);

/// What never gets quiet is sent so long after its first change.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// So many files are remembered; beyond, those that are quiet are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// The changes of the last moments.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    changes: Mutex<HashMap<Ino, Change>>,
    ringing: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    first: Instant,
    last: Instant,
}

impl Change {
    fn quiet_at(self) -> Instant {
        (self.last + QUIET).min(self.first + QUIET_MAX)
    }
}

impl Quiet {
    /// A node is about to change.
    pub(crate) fn disturbed(&self, ino: Ino) {
        let now = Instant::now();
        let mut changes = self.changes.lock();
        if changes.len() >= REMEMBERED_MAX {
            changes.retain(|_, change| change.quiet_at() > now);
        }
        let before = changes.get(&ino).filter(|change| change.quiet_at() > now);
        let first = before.map_or(now, |change| change.first);
        changes.insert(ino, Change { first, last: now });
    }

    /// When a node will have been quiet for long enough; `None` if it has been.
    fn at(&self, ino: Ino) -> Option<Instant> {
        let mut changes = self.changes.lock();
        let at = changes.get(&ino)?.quiet_at();
        if at > Instant::now() {
            return Some(at);
        }
        changes.remove(&ino);
        None
    }
}

impl Bridge {
    /// Until when what is to be sent waits, if it does. `metadata`: that is all there is to send.
    pub(super) fn rests_until(&self, situation: &Situation, metadata: bool) -> Option<Instant> {
        let unattended = metadata || self.ack_policy(&situation.routing) == AckPolicy::Journal;
        if unattended { self.replicator.quiet.at(situation.node.ino) } else { None }
    }

    /// Wakes the lanes for a change under `key`: at once where a store is waited for.
    pub(crate) fn wake_for(&self, key: Option<&Key>) {
        if self.ack_policy(&self.routing(key)) == AckPolicy::Journal {
            self.wake_when_quiet();
        } else {
            self.replicator.wake_all();
        }
    }

    /// Wakes the lanes once what has just changed may be sent. One call is enough for all changes until then.
    pub(crate) fn wake_when_quiet(&self) {
        let ringing = &self.replicator.quiet.ringing;
        if ringing.swap(true, Ordering::SeqCst) {
            return;
        }
        let (ringing, bells) = (Arc::clone(ringing), Arc::clone(&self.replicator.bells));
        tokio::spawn(async move {
            sleep(QUIET).await;
            ringing.store(false, Ordering::SeqCst);
            bells.ring_all();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{QUIET, QUIET_MAX, Quiet};
    use crate::clock::{Instant, sleep};
    use crate::object::Ino;

    #[tokio::test(start_paused = true)]
    async fn a_change_rests_until_it_is_quiet_but_not_for_ever() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        assert_eq!(quiet.at(Ino(7)), None);
        quiet.disturbed(Ino(7));
        assert_eq!(quiet.at(Ino(7)), Some(start + QUIET));
        while start.elapsed() < QUIET_MAX {
            assert!(quiet.at(Ino(7)).is_some_and(|at| at <= start + QUIET_MAX));
            quiet.disturbed(Ino(7));
            sleep(QUIET / 2).await;
        }
        assert_eq!(quiet.at(Ino(7)), None);
        quiet.disturbed(Ino(7));
        assert_eq!(quiet.at(Ino(7)), Some(Instant::now() + QUIET));
    }
}
