//! Brings each store to what the ledger says: one lane per store, so that a sick store never delays the
//! other. What is wanted is a state (this version, under this key, with these attributes), not a list of
//! operations: newer changes take the place of older ones, and a repeated task is harmless.
//!
//! | file | what |
//! |---|---|
//! | `lane` | which task runs when: oldest first, several at once, backoff, pause |
//! | `sync` | one node on one store: what is missing there, and doing it |
//! | `source` | the content of an upload, and one pass over it |
//! | `upload` | content to a store, in one request or in parts |
//! | `inherit` | what others put beside a content from before the bridge |
//! | `condition` | replacing exactly what we know is there; what to do when something else is |
//! | `refusal` | what does not arrive, and what a person is told |
//! | `again` | what is called lost, and is not |
//! | `room` | what stands where an object is to go |
//! | `remove` | one deletion on one store |
//! | `quiet` | what has just changed waits a moment |
//! | `acceptance` | whether a store takes what it is sent |
//! | `held_back` | what does not come to be sent |
//! | `leftovers` | uploads that an earlier run did not end |
//! | `locks` | one at a time per key; keys that must stay for now |

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::bridge::{Bridge, BridgeResult, BridgeSettings, blocking};
use crate::clock::{Instant, sleep, timeout_at};
use crate::ledger::{OpenUpload, Replica};
use crate::object::{ETag, Ino, Key, LinkId, PerSide, Position, Receipt, Side};

mod acceptance;
mod again;
mod condition;
mod held_back;
mod inherit;
mod lane;
mod leftovers;
mod locks;
mod quiet;
mod refusal;
mod remove;
mod room;
mod source;
mod sync;
mod upload;

#[cfg(test)]
mod tests;

pub use locks::Hold;

use acceptance::Acceptance;
use held_back::HeldBack;
use locks::{Bells, Holds, KeyLocks};
use quiet::Quiet;

/// How long requests of a process that was killed may still take effect: its connections are closed, so what has not
/// arrived will not.
const DOUBT_AFTER_START: Duration = Duration::from_secs(5);

/// A lane that failed inside rests so long, so that it cannot keep the host busy with failing.
const LANE_RESTART: Duration = Duration::from_secs(5);

/// The unit in which memory for uploads is counted, in bytes.
const MEMORY_UNIT: u64 = 64 << 10;

/// One thing to do on one store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Task {
    /// Bring what a store holds under one name of a node up to date.
    Sync(LinkId),
    /// Delete what stands under a key.
    Remove(Key),
}

/// What a task led to.
#[derive(Debug)]
enum Outcome {
    /// Nothing is left to do.
    Done,
    /// Something else must happen first; not a failure.
    Later(&'static str),
    /// The same, and that is under way: another name of the file is being sent, of which this one is made.
    AfterTwin,
    /// Nothing but time must pass.
    NotBefore(Instant),
}

/// A request whose answer was lost.
#[derive(Debug)]
struct Doubt {
    /// When it can no longer take effect.
    until: Instant,
    /// If it was a copy, until it is known what stands under the key: the object that was to be copied. A copy of
    /// what was there before the bridge says nowhere whose it is.
    copy_of: Option<(Key, ETag)>,
}

/// What the lanes share.
#[derive(Debug)]
pub(crate) struct Replicator {
    locks: KeyLocks,
    holds: Arc<Holds>,
    bells: Arc<Bells>,
    /// Rung when a task has ended, for whoever waits for the queues to drain.
    progress: Notify,
    /// Half of it for each store: a slow one does not hold up the other.
    memory: PerSide<Semaphore>,
    memory_units: u32,
    uploads_max: usize,
    late_request_max: Duration,
    /// Keys with a request whose answer was lost.
    doubtful: Mutex<HashMap<(Side, Key), Doubt>>,
    /// Requests of the process before this one may still take effect until then.
    doubt_after_start: Mutex<Option<Instant>>,
    acceptance: PerSide<Acceptance>,
    pub(crate) held_back: HeldBack,
    pub(crate) quiet: Quiet,
    /// Uploads that the run before this one left.
    pub(crate) abandoned: Mutex<Vec<OpenUpload>>,
}

/// The running lanes. Dropping it stops them where they are; nothing is lost by that.
#[derive(Debug)]
pub struct BridgeTasks {
    handles: Vec<JoinHandle<()>>,
}

impl Drop for BridgeTasks {
    fn drop(&mut self) {
        self.handles.iter().for_each(JoinHandle::abort);
    }
}

impl BridgeTasks {
    /// Stops the lanes and waits until they are gone.
    pub async fn stop(mut self) {
        for handle in self.handles.drain(..) {
            handle.abort();
            // Aborted on purpose: how it ended says nothing.
            let _ = handle.await;
        }
    }
}

/// What was left when draining ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Changes that are not on every store yet.
    pub pending: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Changes that a store refuses, which are not waited for. The journal may hold the only copy.
    pub blocked: u64,
}

impl Replicator {
    pub(crate) fn new(settings: &BridgeSettings) -> Replicator {
        let memory_units =
            u32::try_from(settings.upload_memory.div_ceil(2 * MEMORY_UNIT)).unwrap_or(u32::MAX).max(1);
        let memory = || Semaphore::new(usize::try_from(memory_units).unwrap_or(Semaphore::MAX_PERMITS));
        Replicator {
            locks: KeyLocks::default(),
            holds: Arc::default(),
            bells: Arc::default(),
            progress: Notify::new(),
            memory: PerSide::from_fn(|_side| memory()),
            memory_units,
            uploads_max: settings.uploads_max,
            late_request_max: settings.late_request_max,
            doubtful: Mutex::default(),
            doubt_after_start: Mutex::default(),
            acceptance: PerSide::default(),
            held_back: HeldBack::default(),
            quiet: Quiet::default(),
            abandoned: Mutex::default(),
        }
    }

    /// Something changed: the lanes look at the ledger again.
    pub(crate) fn wake_all(&self) {
        self.bells.ring_all();
    }

    /// Keeps what the stores have of a node that is about to leave the tree.
    pub(crate) fn hold(&self, ino: Ino, replicas: PerSide<Option<Replica>>) -> Hold {
        Hold::new(&self.holds, ino, replicas, &self.bells)
    }

    /// Where the content of a node that has left the tree can still be read, while a hold keeps it.
    pub(crate) fn held(&self, ino: Ino) -> Option<PerSide<Option<Replica>>> {
        self.holds.of_node(ino)
    }

    /// The same object has another tag: a change of its attributes was not confirmed before its node left the tree.
    pub(crate) fn retagged(&self, ino: Ino, side: Side, seen: &Receipt, etag: &ETag) {
        self.holds.retagged(ino, side, seen, etag);
    }

    /// Whether the store takes what it is sent.
    pub(crate) fn acceptance(&self, side: Side) -> &Acceptance {
        &self.acceptance[side]
    }

    /// The answer of a mutation of `key` was lost: it may still happen.
    fn doubt(&self, side: Side, key: &Key, copy_of: Option<(Key, ETag)>) {
        let mut doubtful = self.doubtful.lock();
        let now = Instant::now();
        doubtful.retain(|_, doubt| doubt.until > now || doubt.copy_of.is_some());
        let before = doubtful.remove(&(side, key.clone()));
        let copy_of = copy_of.or_else(|| before.and_then(|before| before.copy_of));
        doubtful.insert((side, key.clone()), Doubt { until: now + self.late_request_max, copy_of });
    }

    /// What the lost request for `key` was to copy there.
    fn lost_copy(&self, side: Side, key: &Key) -> Option<(Key, ETag)> {
        self.doubtful.lock().get(&(side, key.clone()))?.copy_of.clone()
    }

    /// It is known what stands under the key.
    fn copy_found(&self, side: Side, key: &Key) {
        if let Some(doubt) = self.doubtful.lock().get_mut(&(side, key.clone())) {
            doubt.copy_of = None;
        }
    }

    /// The same, if no other copy was lost there meanwhile, and this one can no longer take effect.
    fn copy_looked_at(&self, side: Side, to: &Key, from: &Key) {
        let mut doubtful = self.doubtful.lock();
        if let Some(doubt) = doubtful.get_mut(&(side, to.clone()))
            && doubt.until <= Instant::now()
            && doubt.copy_of.as_ref().is_some_and(|(source, _)| source == from)
        {
            doubt.copy_of = None;
        }
    }

    /// What lost copies of `key` may have made, and until when.
    fn lost_copies_of(&self, side: Side, key: &Key) -> Vec<(Key, Instant)> {
        let of_key = |doubt: &Doubt| doubt.copy_of.as_ref().is_some_and(|(from, _)| from == key);
        let doubtful = self.doubtful.lock();
        let copies = doubtful.iter().filter(|((at, _), doubt)| *at == side && of_key(doubt));
        copies.map(|((_, to), doubt)| (to.clone(), doubt.until)).collect()
    }

    /// Requests of the process before this one may still be on their way.
    pub(crate) fn expect_late_requests(&self) {
        *self.doubt_after_start.lock() = Some(Instant::now() + DOUBT_AFTER_START);
    }

    /// Until when a lost request for `key` may still take effect.
    fn doubtful_until(&self, side: Side, key: &Key) -> Option<Instant> {
        let after_start = *self.doubt_after_start.lock();
        let of_key = self.doubtful.lock().get(&(side, key.clone())).map(|doubt| doubt.until);
        after_start.max(of_key).filter(|until| *until > Instant::now())
    }
}

impl Bridge {
    /// Starts the lanes and the probes of the breakers.
    pub fn run(self: &Arc<Self>) -> BridgeTasks {
        let mut handles: Vec<JoinHandle<()>> =
            Side::BOTH.into_iter().map(|side| tokio::spawn(Arc::clone(self).lane_for_ever(side))).collect();
        handles
            .extend(Side::BOTH.map(|side| tokio::spawn(Arc::clone(&self.handle(side).breaker).run_probe())));
        let abandoned = std::mem::take(&mut *self.replicator.abandoned.lock());
        handles.push(tokio::spawn(Arc::clone(self).give_up_abandoned(abandoned)));
        handles.push(tokio::spawn(Arc::clone(self).look_for_the_lost()));
        let bridge = Arc::clone(self);
        // Known early, the root still answers for new names while the stores cannot be reached.
        handles.push(tokio::spawn(async move {
            if let Err(error) = bridge.list(Ino::ROOT, Position(u64::MAX >> 1), 1).await {
                tracing::warn!(%error, "the root directory could not be listed yet");
            }
        }));
        BridgeTasks { handles }
    }

    /// A lane that ended by a panic would leave its store behind for as long as the daemon lives, and nobody
    /// would be told: it begins again with what the ledger says.
    async fn lane_for_ever(self: Arc<Self>, side: Side) {
        loop {
            let lane = AssertUnwindSafe(Arc::clone(&self).lane(side)).catch_unwind();
            if lane.await.is_err() {
                tracing::error!(%side, "the replication to this store failed inside; it begins again");
            }
            sleep(LANE_RESTART).await;
        }
    }

    /// Waits until every change is on every store that it must reach, at most `limit`.
    pub async fn drain(&self, limit: Duration) -> BridgeResult<Drained> {
        let deadline = Instant::now() + limit;
        loop {
            let progress = self.replicator.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let left = self.left()?;
            if left.pending == 0 || timeout_at(deadline, progress).await.is_err() {
                return Ok(left);
            }
        }
    }

    /// What is not on every store yet.
    pub fn left(&self) -> BridgeResult<Drained> {
        let summary = blocking(|| self.ledger.summary())?;
        let pending = summary.sides.iter().map(|s| s.pending + s.deletions).sum();
        let bytes = summary.sides.iter().map(|s| s.pending_bytes).sum();
        Ok(Drained { pending, bytes, blocked: summary.sides.iter().map(|s| s.blocked).sum() })
    }
}
