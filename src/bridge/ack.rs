//! What `close` and `fsync` wait for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::bridge::{
    AckPolicy, Bridge, BridgeError, BridgeErrorKind, BridgeResult, Counts, Routing, blocking,
};
use crate::clock::{Instant, timeout_at};
use crate::ledger::{Replica, ReplicaState};
use crate::object::{Ino, LinkId, PerSide, Side, Version};

/// After so long without a receipt the store that is waited for is asked whether it is alive, so that a
/// dead one costs one bounded delay and not the whole deadline.
const PATIENCE: Duration = Duration::from_secs(2);

/// So many versions that were waited for in vain are remembered.
const GIVEN_UP_MAX: usize = 10_000;

/// A store that has failed so often to take an object is not waited for, if another one has it.
const FAILURES_MAX: u32 = 3;

/// Who waits for which inode.
#[derive(Debug, Default)]
pub(crate) struct AckBoard {
    waiting: Mutex<HashMap<Ino, Arc<Notify>>>,
    /// Versions that somebody has waited for in vain: `close` after a failed `fsync` does not wait once more.
    given_up: Mutex<HashMap<Ino, Version>>,
}

impl AckBoard {
    fn join(&self, ino: Ino) -> Arc<Notify> {
        Arc::clone(self.waiting.lock().entry(ino).or_default())
    }

    fn leave(&self, ino: Ino, notify: Arc<Notify>) {
        let mut waiting = self.waiting.lock();
        drop(notify);
        if waiting.get(&ino).is_some_and(|n| Arc::strong_count(n) == 1) {
            waiting.remove(&ino);
        }
    }

    fn give_up(&self, ino: Ino, version: Version) {
        let mut given_up = self.given_up.lock();
        if given_up.len() >= GIVEN_UP_MAX {
            given_up.clear();
        }
        given_up.insert(ino, version);
    }

    /// Whether somebody has, just before; the next one waits again.
    fn take_given_up(&self, ino: Ino, version: Version) -> bool {
        self.given_up.lock().remove(&ino) == Some(version)
    }

    /// Something happened to this inode: those who wait for it look again.
    pub(crate) fn wake(&self, ino: Ino) {
        if let Some(notify) = self.waiting.lock().get(&ino) {
            notify.notify_waiters();
        }
    }

    /// Something happened that may concern everybody.
    pub(crate) fn wake_all(&self) {
        self.waiting.lock().values().for_each(|notify| notify.notify_waiters());
    }
}

/// What is known of one side of a version that is waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    /// It has that version or a newer one.
    has_it: bool,
    /// It is sick: its breaker is open, it refuses what it is sent, or it will not take the object.
    out: bool,
    /// How long it is waited for, if it is.
    patience: Patience,
}

/// What a waiter is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    /// Fewer stores than the policy asks have it, because the others are sick.
    Degraded,
    /// This side is waited for; as long as it takes anything, if so.
    WaitFor(Side, Patience),
}

/// How long a side is waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The deadline counts from when it took something last, or a file for it was digested farther: a large file
    /// on a slow line is no failure.
    #[default]
    WhileItTakes,
    /// From when this one was held back from it: it takes other objects meanwhile.
    HeldBackSince(Instant),
    /// From the beginning: it takes other objects, but not this one.
    NoLonger,
}

/// The rule of each policy. A sick secondary never delays anything; a sick primary is replaced by the
/// secondary's receipt; with both sick there is only waiting.
fn judge(policy: AckPolicy, routing: &Routing, sides: PerSide<Progress>) -> Verdict {
    let primary = routing.route.primary;
    let secondary = primary.other();
    let (first, second) = (sides[primary], sides[secondary]);
    let wait = |side: Side| Verdict::WaitFor(side, sides[side].patience);
    match policy {
        AckPolicy::Journal => Verdict::Done,
        AckPolicy::Primary if first.has_it => Verdict::Done,
        AckPolicy::Both if first.has_it && (second.has_it || !routing.route.both) => Verdict::Done,
        AckPolicy::Both if first.has_it && second.out => Verdict::Degraded,
        AckPolicy::Both if first.has_it => wait(secondary),
        AckPolicy::Primary | AckPolicy::Both if routing.route.both && first.out && second.has_it => {
            Verdict::Degraded
        }
        AckPolicy::Primary | AckPolicy::Both => wait(primary),
    }
}

impl Bridge {
    /// Waits until the slice's ack policy is met for `version` of a file. An error means that the
    /// content is only in the local journal so far; it goes on being tried.
    pub async fn acknowledged(&self, ino: Ino, version: Version) -> BridgeResult<()> {
        let notify = self.acks.join(ino);
        let waited = self.wait_for_ack(ino, version, &notify).await;
        self.acks.leave(ino, notify);
        waited
    }

    async fn wait_for_ack(&self, ino: Ino, version: Version, notify: &Notify) -> BridgeResult<()> {
        let start = Instant::now();
        let mut next_look = start + PATIENCE;
        let mut breakers = PerSide::from_fn(|side| self.handle(side).breaker.watch());
        let mut waits_at = None;
        loop {
            // Registered before the ledger is read: a receipt in between is not missed.
            let woken = notify.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let (side, patience) = match self.ack_verdict(ino, version, &mut waits_at)? {
                Verdict::Done => return Ok(()),
                Verdict::Degraded => {
                    Counts::bump(&self.counts.degraded_acks);
                    return Ok(());
                }
                Verdict::WaitFor(side, patience) => (side, patience),
            };
            if self.acks.take_given_up(ino, version) {
                return Err(self.not_acknowledged(side));
            }
            let deadline = self.ack_deadline(side, patience, start);
            let event = async {
                tokio::select! {
                    () = woken => {}
                    _ = breakers.old.changed() => {}
                    _ = breakers.new.changed() => {}
                }
            };
            if timeout_at(next_look.min(deadline), event).await.is_err() {
                if Instant::now() >= self.ack_deadline(side, patience, start) {
                    self.acks.give_up(ino, version);
                    return Err(self.not_acknowledged(side));
                }
                self.handle(side).breaker.suspect();
                next_look = Instant::now() + PATIENCE;
            }
        }
    }

    pub(crate) fn ack_deadline(&self, side: Side, patience: Patience, start: Instant) -> Instant {
        let taken = match patience {
            Patience::WhileItTakes => self.replicator.acceptance(side).progressed_at(),
            Patience::HeldBackSince(at) => Some(at),
            Patience::NoLonger => None,
        };
        taken.map_or(start, |at| at.max(start)) + self.settings.ack_deadline
    }

    /// Every name of the file is an object of its own, so each is waited for. `waits_at`: the one that the last look
    /// found to be waited for. Those before it are asked again only when it is the last one, because names may have
    /// changed numbers meanwhile: else a file with many names would have all of them asked with every receipt.
    fn ack_verdict(
        &self,
        ino: Ino,
        version: Version,
        waits_at: &mut Option<LinkId>,
    ) -> BridgeResult<Verdict> {
        let mut begun_at = waits_at.take().unwrap_or(LinkId::first(ino));
        loop {
            let (mut next, mut verdict) = (Some(begun_at), Verdict::Done);
            while let Some(name) = next {
                match self.name_verdict(name, version)? {
                    Verdict::Done => {}
                    Verdict::Degraded => verdict = Verdict::Degraded,
                    waits @ Verdict::WaitFor(..) => {
                        *waits_at = Some(name);
                        return Ok(waits);
                    }
                }
                next = blocking(|| self.ledger.name_after(ino, name))?;
            }
            if begun_at == LinkId::first(ino) {
                return Ok(verdict);
            }
            begun_at = LinkId::first(ino);
        }
    }

    fn name_verdict(&self, name: LinkId, version: Version) -> BridgeResult<Verdict> {
        blocking(|| {
            let key = self.ledger.key_of(name)?;
            let routing = self.routing(key.as_ref());
            let policy = self.ack_policy(&routing);
            // A file that was removed after its commit has nobody left to tell.
            if policy == AckPolicy::Journal || key.is_none() {
                return Ok(Verdict::Done);
            }
            let replicas = self.ledger.replicas(name)?;
            let mut sides = PerSide::<Progress>::default();
            for side in Side::BOTH {
                let has_it =
                    |r: &Replica| r.receipt.version >= version && r.state != ReplicaState::Mismatched;
                let has_it = replicas[side].as_ref().is_some_and(has_it);
                let intent = if has_it { None } else { self.ledger.intent(name, side)? };
                let failures = intent.as_ref().map_or(0, |intent| intent.attempts);
                let refuses =
                    || self.handle(side).breaker.is_open() || self.replicator.acceptance(side).refuses();
                let blocked = intent.as_ref().is_some_and(|intent| intent.blocked.is_some());
                let out = !has_it && (blocked || failures >= FAILURES_MAX || refuses());
                let held_back = intent.and_then(|intent| self.replicator.held_back.since(&intent));
                let patience = match held_back {
                    _ if blocked || failures > 0 => Patience::NoLonger,
                    Some(since) => Patience::HeldBackSince(since),
                    None => Patience::WhileItTakes,
                };
                sides[side] = Progress { has_it, out, patience };
            }
            Ok(judge(policy, &routing, sides))
        })
    }

    /// What is waited for in a slice.
    pub(crate) fn ack_policy(&self, routing: &Routing) -> AckPolicy {
        self.settings.slice_acks.get(&routing.prefix).copied().unwrap_or(self.settings.ack)
    }

    fn not_acknowledged(&self, side: Side) -> BridgeError {
        let detail = format!(
            "the content is in the local journal, but the {side} store `{}` did not confirm it within {:?}. It is \
             tried again until it is there; `bridgefs status` shows it",
            self.handle(side).name,
            self.settings.ack_deadline
        );
        BridgeError::new(BridgeErrorKind::Unavailable, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::{Patience, Progress, Verdict, judge};
    use crate::bridge::AckPolicy;
    use crate::bridge::router::Router;
    use crate::ledger::Slice;
    use crate::object::{PerSide, Side};
    use crate::stage::Stage;

    const HAS: Progress = Progress { has_it: true, out: false, patience: Patience::WhileItTakes };
    const OUT: Progress = Progress { has_it: false, out: true, patience: Patience::WhileItTakes };
    const FAILED: Progress = Progress { has_it: false, out: false, patience: Patience::NoLonger };
    const YET: Progress = Progress { has_it: false, out: false, patience: Patience::WhileItTakes };

    #[test]
    fn who_is_waited_for() {
        use AckPolicy::{Both, Journal, Primary};
        use Verdict::{Degraded, Done};
        let waits = |side| Verdict::WaitFor(side, Patience::WhileItTakes);
        let table = [
            (Journal, Stage::DualWrite, YET, YET, Done),
            (Primary, Stage::DualWrite, HAS, YET, Done),
            (Primary, Stage::DualWrite, YET, HAS, waits(Side::Old)),
            (Primary, Stage::DualWrite, OUT, HAS, Degraded),
            (Primary, Stage::DualWrite, OUT, OUT, waits(Side::Old)),
            (Primary, Stage::Live, YET, HAS, Done),
            (Primary, Stage::Off, OUT, HAS, waits(Side::Old)),
            (Both, Stage::DualWrite, HAS, HAS, Done),
            (Both, Stage::DualWrite, HAS, YET, waits(Side::New)),
            (Both, Stage::DualWrite, HAS, OUT, Degraded),
            (Both, Stage::DualWrite, OUT, HAS, Degraded),
            (Both, Stage::DualWrite, YET, HAS, waits(Side::Old)),
            (Both, Stage::Complete, YET, HAS, Done),
            (Primary, Stage::DualWrite, FAILED, HAS, Verdict::WaitFor(Side::Old, Patience::NoLonger)),
        ];
        for (policy, stage, old, new, verdict) in table {
            let slice =
                Slice { prefix: String::new(), stage, read_percent: 100, since: 0, backfill_complete: false };
            let routing = Router::new(vec![slice]).routing(None);
            assert_eq!(
                judge(policy, &routing, PerSide { old, new }),
                verdict,
                "{policy:?} {stage} {old:?} {new:?}"
            );
        }
    }
}
