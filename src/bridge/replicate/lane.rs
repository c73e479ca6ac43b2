//! The lane of one store.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Outcome, Task};
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, blocking};
use crate::clock::{Instant, sleep};
use crate::ledger::{FindingKind, LedgerError, NewFinding};
use crate::object::{NanoTime, Side};
use crate::store::ErrorKind;

/// The pauses between tries of one task double from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// A task that waits for another one looks again after this, or as soon as any task has ended.
const LATER: Duration = Duration::from_secs(1);

/// So many failures in a row, of different tasks, and the lane itself pauses: the store is sick in a way
/// that does not open its breaker (credentials, throttling).
const FAILURES_IN_A_ROW: u32 = 8;

/// So many failures in a row of one task, which take some minutes, and a person is told; then after as many
/// again.
pub(super) const STUCK_TRIES: u32 = 10;

/// Tasks whose failures are remembered; beyond, all begin again with the first pause.
const REMEMBERED_MAX: usize = 10_000;

/// Tasks asked of the ledger at once.
const LOOK_AHEAD: usize = 64;

/// A task that ended, and how.
type Ended = (Task, BridgeResult<Outcome>);

/// What a lane remembers. All of it can be forgotten: the ledger has what must be done.
#[derive(Debug, Default)]
struct Lane {
    running: HashSet<Task>,
    ready: VecDeque<Task>,
    /// Tasks that failed or wait, and from when on they may be tried.
    resting: HashMap<Task, Rest>,
    /// How often each task has failed in a row.
    tries: HashMap<Task, u32>,
    failures: u32,
    paused_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    /// It waits for another task: any end may free it.
    for_others: bool,
}

impl Lane {
    fn may_start(&self, task: &Task) -> bool {
        !self.running.contains(task) && !self.resting.contains_key(task)
    }

    /// Forgets the rests that are over. What is left lies in the future, so that the lane never wakes
    /// again and again for a task that it cannot start, or that is no longer in the ledger.
    fn wake(&mut self, now: Instant) {
        let resting = self.resting.len();
        self.resting.retain(|_, rest| rest.until > now);
        if self.resting.len() < resting {
            self.ready.clear();
        }
        self.paused_until = self.paused_until.filter(|until| *until > now);
    }

    /// When there is something to do without anything else happening.
    fn next_at(&self) -> Option<Instant> {
        self.paused_until.or_else(|| self.resting.values().map(|rest| rest.until).min())
    }

    /// The store is back: everything is tried at once.
    fn refresh(&mut self) {
        self.resting.clear();
        self.tries.clear();
        self.failures = 0;
        self.paused_until = None;
    }

    fn ended_well(&mut self, task: &Task) {
        self.tries.remove(task);
        self.resting.retain(|_, rest| !rest.for_others);
        self.failures = 0;
        self.paused_until = None;
    }

    fn ended_later(&mut self, task: Task, now: Instant) {
        self.resting.insert(task, Rest { until: now + LATER, for_others: true });
    }

    /// Returns how long the task rests, and whether it has failed so often that a person must know.
    fn ended_badly(&mut self, task: Task, now: Instant) -> (Duration, bool) {
        if self.tries.len() >= REMEMBERED_MAX {
            self.tries.clear();
        }
        let tries = self.tries.entry(task.clone()).or_default();
        *tries += 1;
        let is_stuck = tries.is_multiple_of(STUCK_TRIES);
        let pause = pause_after(&task, *tries);
        self.resting.insert(task, Rest { until: now + pause, for_others: false });
        self.failures += 1;
        if self.failures >= FAILURES_IN_A_ROW {
            let step = (self.failures - FAILURES_IN_A_ROW).min(5);
            self.paused_until = Some(now + RETRY_FIRST * 2_u32.pow(step));
        }
        (pause, is_stuck)
    }
}

/// Doubling, with up to half of it added: tasks that failed together do not come back together. The
/// jitter is a function of the task, so that a test repeats.
fn pause_after(task: &Task, tries: u32) -> Duration {
    let pause = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(tries.min(16) - 1)).min(RETRY_LAST);
    let dice = crc32fast::hash(format!("{task:?}{tries}").as_bytes()) % 512;
    pause + pause * dice / 1024
}

impl Bridge {
    /// Runs the lane of one store, for ever.
    pub(super) async fn lane(self: Arc<Self>, side: Side) {
        let mut lane = Lane::default();
        let mut tasks: JoinSet<Ended> = JoinSet::new();
        let mut breaker = self.handle(side).breaker.watch();
        loop {
            if let Err(error) = self.start_tasks(side, &mut lane, &mut tasks) {
                tracing::error!(%side, %error, "the ledger cannot be read; replication waits");
                *self.ledger_error.lock() = Some(error.to_string());
                sleep(RETRY_LAST).await;
            }
            let next = lane.next_at();
            tokio::select! {
                Some(ended) = tasks.join_next() => match ended {
                    Ok((task, result)) => self.task_ended(side, &mut lane, task, result).await,
                    Err(error) => {
                        tracing::error!(%side, %error, "a replication task failed inside; it is tried again");
                        tasks.shutdown().await;
                        lane.running.clear();
                        lane.paused_until = Some(Instant::now() + RETRY_LAST);
                    }
                },
                () = self.replicator.bells.heard(side) => {
                    lane.ready.clear();
                    lane.resting.retain(|_, rest| !rest.for_others);
                }
                changed = breaker.changed() => {
                    if changed.is_ok() && !self.handle(side).breaker.is_open() {
                        lane.refresh();
                    }
                }
                () = until(next) => {}
            }
        }
    }

    fn start_tasks(
        self: &Arc<Self>,
        side: Side,
        lane: &mut Lane,
        tasks: &mut JoinSet<Ended>,
    ) -> BridgeResult<()> {
        lane.wake(Instant::now());
        if lane.paused_until.is_some() || self.handle(side).breaker.is_open() {
            return Ok(());
        }
        while lane.running.len() < self.replicator.uploads_max {
            let Some(task) = self.next_task(side, lane)? else { return Ok(()) };
            lane.running.insert(task.clone());
            let bridge = Arc::clone(self);
            tasks.spawn(async move {
                let result = match &task {
                    Task::Sync(name) => bridge.sync_name(side, *name).await,
                    Task::Remove(key) => bridge.remove(side, key).await,
                };
                (task, result)
            });
        }
        Ok(())
    }

    fn next_task(&self, side: Side, lane: &mut Lane) -> BridgeResult<Option<Task>> {
        if lane.ready.is_empty() {
            let limit = LOOK_AHEAD + lane.running.len() + lane.resting.len();
            // Times of the ledger are for people. A clock that jumps must not hold an intent back, so
            // every one that is there is due, and how long it rests is remembered here.
            let (intents, tombstones) = blocking(|| {
                let intents = self.ledger.due_intents(side, NanoTime::MAX, limit)?;
                Ok::<_, BridgeError>((intents, self.ledger.due_tombstones(side, NanoTime::MAX, limit)?))
            })?;
            // One of each in turn: a backlog of the one does not hold up the other.
            let mut intents = intents.into_iter().map(|intent| Task::Sync(intent.link));
            let mut removals = tombstones.into_iter().map(|tombstone| Task::Remove(tombstone.key));
            let turns = std::iter::repeat_with(|| [intents.next(), removals.next()]);
            let tasks = turns.take_while(|turn| turn.iter().any(Option::is_some)).flatten().flatten();
            lane.ready = tasks.filter(|task| lane.may_start(task)).collect();
        }
        while let Some(task) = lane.ready.pop_front() {
            if lane.may_start(&task) {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    async fn task_ended(&self, side: Side, lane: &mut Lane, task: Task, result: BridgeResult<Outcome>) {
        lane.running.remove(&task);
        let now = Instant::now();
        if let Task::Sync(name) = task {
            self.note_end(side, name, &result);
        }
        match result {
            Ok(Outcome::Done) => lane.ended_well(&task),
            Ok(Outcome::Later(why)) => {
                tracing::debug!(%side, ?task, why, "later");
                lane.ended_later(task, now);
            }
            Ok(Outcome::AfterTwin) => lane.ended_later(task, now),
            Ok(Outcome::NotBefore(until)) => {
                lane.resting.insert(task, Rest { until, for_others: false });
            }
            Err(error) if error.kind() == BridgeErrorKind::NotFound => lane.ended_well(&task),
            Err(error) => {
                let (pause, is_stuck) = lane.ended_badly(task.clone(), now);
                tracing::info!(%side, ?task, %error, ?pause, "not replicated yet");
                self.record_failure(side, &task, &error, pause).await;
                if let Task::Sync(name) = task
                    && is_stuck
                    && let Err(error) = self.report_stuck(side, name, &error).await
                {
                    tracing::warn!(%side, %error, "a finding could not be recorded");
                }
                self.tell_waiters(side, &task, &error);
            }
        }
        self.replicator.progress.notify_waiters();
    }

    /// Remembers in the ledger why a task failed, for `status`. If that cannot be written either, the
    /// task is still tried again.
    async fn record_failure(&self, side: Side, task: &Task, error: &BridgeError, pause: Duration) {
        let pause = NanoTime::try_from(pause.as_nanos()).unwrap_or(NanoTime::MAX);
        let due = self.clock.now().saturating_add(pause);
        let text = error.to_string();
        let recorded = match task {
            Task::Sync(name) => self.ledger.intent_failed(*name, side, &text, due).await,
            Task::Remove(key) => self.ledger.tombstone_failed(side, key, &text, due).await,
        };
        let denied = error.store_kind() == Some(ErrorKind::Denied);
        let recorded = match recorded {
            Ok(()) if denied => self.report_denied(side, &text).await,
            other => other,
        };
        if let Err(error) = recorded {
            tracing::warn!(%side, %error, "a failure could not be recorded");
        }
    }

    /// Who waits for an acknowledgement may have waited long enough for this store.
    fn tell_waiters(&self, side: Side, task: &Task, error: &BridgeError) {
        let is_stores = error.store_kind().is_some();
        if is_stores && self.replicator.acceptance(side).failed(task, || error.to_string()) {
            tracing::warn!(%side, %error, "the store refuses what it is sent; everything goes on with the other one");
            self.acks.wake_all();
        }
        if let Task::Sync(name) = task
            && let Ok(Some(node)) = blocking(|| self.ledger.named(*name))
        {
            self.acks.wake(node.ino);
        }
    }

    async fn report_denied(&self, side: Side, text: &str) -> Result<(), LedgerError> {
        let detail = format!(
            "the {side} store refuses us: {text}. What was written since is on the other store and in the local \
             journal, and goes there when it lets us in again: look at the credentials and permissions, of a folder at its \
             file system."
        );
        let finding = NewFinding { kind: FindingKind::Denied, side: Some(side), key: None, detail };
        self.ledger.find(finding).await
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep(at.saturating_duration_since(Instant::now())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FAILURES_IN_A_ROW, LATER, Lane, RETRY_FIRST, RETRY_LAST, STUCK_TRIES, Task, pause_after};
    use crate::clock::Instant;
    use crate::object::LinkId;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let task = Task::Sync(LinkId(7));
        let pauses: Vec<Duration> = (1..40).map(|tries| pause_after(&task, tries)).collect();
        assert!(pauses[0] >= RETRY_FIRST && pauses[0] <= RETRY_FIRST * 3 / 2);
        assert!(pauses.iter().all(|pause| *pause <= RETRY_LAST * 3 / 2));
        assert!(pauses[6] > pauses[2]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_poison_task_does_not_pause_the_lane_but_many_do() {
        let now = Instant::now();
        let mut lane = Lane::default();
        for _ in 0..100 {
            lane.ended_badly(Task::Sync(LinkId(1)), now);
            lane.ended_well(&Task::Sync(LinkId(2)));
        }
        assert!(lane.paused_until.is_none());
        assert!(!lane.may_start(&Task::Sync(LinkId(1))));
        for ino in 10..10 + u64::from(FAILURES_IN_A_ROW) {
            lane.ended_badly(Task::Sync(LinkId(ino)), now);
        }
        assert!(lane.paused_until.is_some());
        lane.refresh();
        assert!(lane.may_start(&Task::Sync(LinkId(1))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_for_ever_is_told_of_again_and_again_but_not_each_time() {
        let mut lane = Lane::default();
        let mut fail = || lane.ended_badly(Task::Sync(LinkId(1)), Instant::now()).1;
        let told: Vec<u32> = (1..=3 * STUCK_TRIES).filter(|_| fail()).collect();
        assert_eq!(told, [STUCK_TRIES, 2 * STUCK_TRIES, 3 * STUCK_TRIES]);
        lane.ended_well(&Task::Sync(LinkId(1)));
        assert!(!lane.ended_badly(Task::Sync(LinkId(1)), Instant::now()).1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_that_is_over_wakes_the_lane_only_once() {
        let now = Instant::now();
        let mut lane = Lane::default();
        lane.ended_later(Task::Sync(LinkId(1)), now);
        assert!(lane.next_at().is_some());
        lane.wake(now + LATER);
        assert!(lane.next_at().is_none());
        assert!(lane.may_start(&Task::Sync(LinkId(1))));
    }
}
