//! The lane of one store.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Outcome, Task};
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, blocking};
use crate::clock::{Instant, sleep};
use crate::object::{NanoTime, Side};

/// The pauses between tries of one task double from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// A task that waits for another one looks again after this, or as soon as any task has ended.
const LATER: Duration = Duration::from_secs(1);

/// So many failures in a row, of different tasks, and the lane itself pauses: the store is sick in a way
/// that does not open its breaker (credentials, throttling).
const FAILURES_IN_A_ROW: u32 = 8;

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
    failures: u32,
    paused_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    tries: u32,
    /// It waits for another task: any end may free it.
    for_others: bool,
}

impl Lane {
    fn may_start(&self, task: &Task, now: Instant) -> bool {
        !self.running.contains(task) && self.resting.get(task).is_none_or(|rest| rest.until <= now)
    }

    /// When there is something to do without anything else happening. What has rested long enough was
    /// started, or waits for a place or its breaker: a time that is over would make the lane spin.
    fn next_at(&self, now: Instant) -> Option<Instant> {
        let rest = self.resting.values().map(|rest| rest.until).filter(|until| *until > now).min();
        match (rest, self.paused_until.filter(|until| *until > now)) {
            (Some(rest), Some(pause)) => Some(rest.max(pause)),
            (rest, pause) => rest.or(pause),
        }
    }

    /// Takes what the ledger says is to be done; what it does not name any more needs no rest either.
    fn refill(&mut self, due: Vec<Task>, now: Instant) {
        let Lane { running, resting, .. } = self;
        let named: HashSet<&Task> = due.iter().collect();
        resting.retain(|task, rest| rest.until > now || running.contains(task) || named.contains(task));
        self.ready = due.into_iter().filter(|task| self.may_start(task, now)).collect();
    }

    /// The store is back: everything is tried at once.
    fn refresh(&mut self) {
        self.resting.clear();
        self.failures = 0;
        self.paused_until = None;
    }

    fn ended_well(&mut self, task: &Task) {
        self.resting.remove(task);
        self.resting.retain(|_, rest| !rest.for_others);
        self.failures = 0;
        self.paused_until = None;
    }

    fn ended_later(&mut self, task: Task, now: Instant) {
        let rest = Rest { until: now + LATER, tries: 0, for_others: true };
        self.resting.insert(task, rest);
    }

    /// Returns how long the task rests.
    fn ended_badly(&mut self, task: Task, now: Instant) -> Duration {
        let tries = self.resting.get(&task).map_or(0, |rest| rest.tries) + 1;
        let pause = pause_after(&task, tries);
        self.resting.insert(task, Rest { until: now + pause, tries, for_others: false });
        self.failures += 1;
        if self.failures >= FAILURES_IN_A_ROW {
            let step = (self.failures - FAILURES_IN_A_ROW).min(5);
            self.paused_until = Some(now + RETRY_FIRST * 2_u32.pow(step));
        }
        pause
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
            let next = lane.next_at(Instant::now());
            tokio::select! {
                // In this order, so that a test with a seed repeats; none of them is ready for ever.
                biased;
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
        let now = Instant::now();
        if lane.paused_until.is_some_and(|until| until > now) || self.handle(side).breaker.is_open() {
            return Ok(());
        }
        while lane.running.len() < self.replicator.uploads_max {
            let Some(task) = self.next_task(side, lane, now)? else { return Ok(()) };
            lane.running.insert(task.clone());
            let bridge = Arc::clone(self);
            tasks.spawn(async move {
                let result = match &task {
                    Task::Sync(ino) => bridge.sync_node(side, *ino).await,
                    Task::Remove(key) => bridge.remove(side, key).await,
                };
                (task, result)
            });
        }
        Ok(())
    }

    fn next_task(&self, side: Side, lane: &mut Lane, now: Instant) -> BridgeResult<Option<Task>> {
        if lane.ready.is_empty() {
            let limit = LOOK_AHEAD + lane.running.len() + lane.resting.len();
            // Times of the ledger are for people. A clock that jumps must not hold an intent back, so
            // every one that is there is due, and how long it rests is remembered here.
            let (intents, tombstones) = blocking(|| {
                let intents = self.ledger.due_intents(side, NanoTime::MAX, limit)?;
                Ok::<_, BridgeError>((intents, self.ledger.due_tombstones(side, NanoTime::MAX, limit)?))
            })?;
            let intents = intents.into_iter().map(|intent| Task::Sync(intent.ino));
            let removals = tombstones.into_iter().map(|tombstone| Task::Remove(tombstone.key));
            lane.refill(intents.chain(removals).collect(), now);
        }
        while let Some(task) = lane.ready.pop_front() {
            if lane.may_start(&task, now) {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    async fn task_ended(&self, side: Side, lane: &mut Lane, task: Task, result: BridgeResult<Outcome>) {
        lane.running.remove(&task);
        let now = Instant::now();
        match result {
            Ok(Outcome::Done) => lane.ended_well(&task),
            Ok(Outcome::Later(why)) => {
                tracing::debug!(%side, ?task, why, "later");
                lane.ended_later(task, now);
            }
            Ok(Outcome::NotBefore(until)) => {
                lane.resting.insert(task, Rest { until, tries: 0, for_others: false });
            }
            Err(error) if error.kind() == BridgeErrorKind::NotFound => lane.ended_well(&task),
            Err(error) => {
                let pause = lane.ended_badly(task.clone(), now);
                tracing::info!(%side, ?task, %error, ?pause, "not replicated yet");
                self.record_failure(side, &task, &error, pause).await;
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
            Task::Sync(ino) => self.ledger.intent_failed(*ino, side, &text, due).await,
            Task::Remove(key) => self.ledger.tombstone_failed(side, key, &text, due).await,
        };
        if let Err(error) = recorded {
            tracing::warn!(%side, %error, "a failure could not be recorded");
        }
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

    use super::{FAILURES_IN_A_ROW, Lane, RETRY_FIRST, RETRY_LAST, Task, pause_after};
    use crate::clock::Instant;
    use crate::object::Ino;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let task = Task::Sync(Ino(7));
        let pauses: Vec<Duration> = (1..40).map(|tries| pause_after(&task, tries)).collect();
        assert!(pauses[0] >= RETRY_FIRST && pauses[0] <= RETRY_FIRST * 3 / 2);
        assert!(pauses.iter().all(|pause| *pause <= RETRY_LAST * 3 / 2));
        assert!(pauses[6] > pauses[2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_that_is_over_does_not_make_the_lane_spin() {
        let now = Instant::now();
        let mut lane = Lane::default();
        lane.ended_badly(Task::Sync(Ino(1)), now);
        let later = now + RETRY_LAST;
        assert!(lane.next_at(now).is_some_and(|at| at > now));
        assert_eq!(lane.next_at(later), None, "it runs, or waits for something that wakes the lane");
        lane.refill(Vec::new(), later);
        assert!(lane.resting.is_empty(), "a task that is no longer wanted is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn one_poison_task_does_not_pause_the_lane_but_many_do() {
        let now = Instant::now();
        let mut lane = Lane::default();
        for _ in 0..100 {
            lane.ended_badly(Task::Sync(Ino(1)), now);
            lane.ended_well(&Task::Sync(Ino(2)));
        }
        assert!(lane.paused_until.is_none());
        assert!(!lane.may_start(&Task::Sync(Ino(1)), now));
        for ino in 10..10 + u64::from(FAILURES_IN_A_ROW) {
            lane.ended_badly(Task::Sync(Ino(ino)), now);
        }
        assert!(lane.paused_until.is_some());
        lane.refresh();
        assert!(lane.may_start(&Task::Sync(Ino(1)), now));
    }
}
