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
use crate::ledger::Node;
use crate::object::{Ino, Key, LinkId, Side};

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
    /// When what never got quiet was sent under a name to a store last.
    sent: Mutex<HashMap<(LinkId, Side), Instant>>,
    ringing: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    first: Instant,
    last: Instant,
}

impl Change {
    fn is_quiet(self, now: Instant) -> bool {
        self.last + QUIET <= now
    }
}

impl Quiet {
    /// A node is about to change.
    pub(crate) fn disturbed(&self, ino: Ino) {
        let now = Instant::now();
        let mut changes = self.changes.lock();
        if changes.len() >= REMEMBERED_MAX {
            changes.retain(|_, change| !change.is_quiet(now));
        }
        let before = changes.get(&ino).filter(|change| !change.is_quiet(now));
        let first = before.map_or(now, |change| change.first);
        changes.insert(ino, Change { first, last: now });
    }

    /// When a node will have been quiet for long enough to be sent under a name to a store; `None` if it has been, or
    /// has not been sent for so long that it is now. Each name and store counts for itself: with changes all the time
    /// the first one to look would begin another wait for the others.
    fn at(&self, ino: Ino, name: LinkId, side: Side) -> Option<Instant> {
        let now = Instant::now();
        let change = self.changes.lock().get(&ino).copied().filter(|change| !change.is_quiet(now))?;
        let mut sent = self.sent.lock();
        let since = sent.get(&(name, side)).map_or(change.first, |sent| change.first.max(*sent));
        let at = (change.last + QUIET).min(since + QUIET_MAX);
        if at > now {
            return Some(at);
        }
        if sent.len() >= REMEMBERED_MAX {
            sent.retain(|_, sent| *sent + QUIET_MAX > now);
        }
        sent.insert((name, side), now);
        None
    }
}

impl Bridge {
    /// Until when what is to be sent waits, if it does. `metadata`: that is all there is to send.
    pub(super) fn rests_until(&self, side: Side, situation: &Situation, metadata: bool) -> Option<Instant> {
        let unattended = metadata || self.ack_policy(&situation.routing) == AckPolicy::Journal;
        let Node { ino, link, .. } = situation.node;
        if unattended { self.replicator.quiet.at(ino, link, side) } else { None }
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
    use std::time::Duration;

    use super::{QUIET, QUIET_MAX, Quiet};
    use crate::clock::{Instant, sleep};
    use crate::object::{Ino, LinkId, Side};

    const FILE: Ino = Ino(7);

    impl Quiet {
        fn on_old(&self) -> Option<Instant> {
            self.at(FILE, LinkId::first(FILE), Side::Old)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_rests_until_it_is_quiet_but_not_for_ever() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        assert_eq!(quiet.on_old(), None);
        quiet.disturbed(FILE);
        assert_eq!(quiet.on_old(), Some(start + QUIET));
        while start.elapsed() < QUIET_MAX {
            assert!(quiet.on_old().is_some_and(|at| at <= start + QUIET_MAX));
            quiet.disturbed(FILE);
            sleep(QUIET / 2).await;
        }
        assert_eq!(quiet.on_old(), None);
        quiet.disturbed(FILE);
        assert_eq!(quiet.on_old(), Some(Instant::now() + QUIET));
        sleep(QUIET).await;
        assert_eq!(quiet.on_old(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_all_the_time_is_sent_everywhere_at_its_time_however_late_anybody_looks() {
        let (quiet, tick) = (Quiet::default(), Duration::from_millis(1));
        let names = [LinkId::first(FILE), LinkId(8)];
        let look = || names.map(|name| Side::BOTH.map(|side| quiet.at(FILE, name, side))).concat();
        for _ in 0..2 {
            let begun = Instant::now();
            while begun.elapsed() < QUIET_MAX + 3 * tick {
                quiet.disturbed(FILE);
                assert!(begun.elapsed() >= QUIET_MAX || look().iter().all(Option::is_some));
                sleep(tick).await;
            }
            assert!(look().iter().all(Option::is_none), "every store gets it under every name");
        }
    }
}
