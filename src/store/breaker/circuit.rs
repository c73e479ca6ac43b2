use std::sync::Arc;

use metrics::gauge;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::clock::Instant;
use crate::metrics::STORE_BREAKER;
use crate::object::Key;
use crate::store::limit::DeadlineExceeded;
use crate::store::metered::Operation;
use crate::store::{ErrorKind, StoreError, StoreResult};

/// So many refusals in a row open the breaker; a single one is an accident.
const FAILURES_TO_OPEN: u32 = 3;

/// Where a breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open {
        /// Since when they are.
        since: Instant,
        /// When the store is asked again.
        next_probe: Instant,
    },
    /// Calls are refused, and the store is being asked.
    HalfOpen {
        /// Since when calls are refused.
        since: Instant,
    },
}

impl BreakerState {
    /// The word of the state, in `status` and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open { .. } => "open",
            BreakerState::HalfOpen { .. } => "half-open",
        }
    }

    const fn as_metric(self) -> f64 {
        match self {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen { .. } => 1.0,
            BreakerState::Open { .. } => 2.0,
        }
    }

    const fn since(self) -> Option<Instant> {
        match self {
            BreakerState::Closed => None,
            BreakerState::Open { since, .. } | BreakerState::HalfOpen { since } => Some(since),
        }
    }
}

/// The states and the steps between them; knows no store.
#[derive(Debug)]
pub(super) struct Circuit {
    name: Arc<str>,
    state: watch::Sender<BreakerState>,
    health: Mutex<Health>,
    /// Tells the prober that the breaker has opened.
    opened: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Health {
    failures_in_row: u32,
    last_error: Option<String>,
}

impl Circuit {
    pub(super) fn new(name: Arc<str>, opened: Arc<Notify>) -> Circuit {
        let state = watch::Sender::new(BreakerState::Closed);
        Circuit { name, state, health: Mutex::default(), opened }
    }

    pub(super) fn state(&self) -> BreakerState {
        *self.state.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<BreakerState> {
        self.state.subscribe()
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.health.lock().last_error.clone()
    }

    /// Lets a call pass or says why not.
    pub(super) fn admit(&self, operation: Operation, key: Option<&Key>) -> StoreResult<()> {
        let state = self.state();
        let Some(since) = state.since() else { return Ok(()) };
        let now = Instant::now();
        let next = match state {
            BreakerState::Open { next_probe, .. } => {
                format!("next probe in {:.1} s", next_probe.saturating_duration_since(now).as_secs_f64())
            }
            BreakerState::Closed | BreakerState::HalfOpen { .. } => "a probe is under way".to_owned(),
        };
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        let detail = format!("the breaker of {} is open for {seconds:.1} s now, {next}", self.name);
        let error = StoreError::new(ErrorKind::Unavailable, operation.as_str(), detail).settled();
        Err(match key {
            Some(key) => error.on(key),
            None => error,
        })
    }

    /// The store has answered a call.
    pub(super) fn answered(&self) {
        self.health.lock().failures_in_row = 0;
    }

    /// A call has failed.
    pub(super) fn failed(&self, error: &StoreError) {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::PreconditionFailed | ErrorKind::Denied | ErrorKind::Locked => {
                self.answered();
            }
            // May come from our own limits or checks: says nothing of the store.
            ErrorKind::Throttled | ErrorKind::Unsupported | ErrorKind::Corrupt => {}
            ErrorKind::Unavailable => self.unavailable(error),
        }
    }

    fn unavailable(&self, error: &StoreError) {
        let failures_in_row = {
            let mut health = self.health.lock();
            health.failures_in_row += 1;
            health.last_error = Some(error.to_string());
            health.failures_in_row
        };
        if failures_in_row >= FAILURES_TO_OPEN || DeadlineExceeded::is_cause_of(error) {
            self.trip(error);
        }
    }

    /// Keeps what a probe said.
    pub(super) fn record(&self, error: &StoreError) {
        self.health.lock().last_error = Some(error.to_string());
    }

    /// Closed to open.
    pub(super) fn trip(&self, error: &StoreError) {
        self.record(error);
        let now = Instant::now();
        let open = BreakerState::Open { since: now, next_probe: now };
        if self.step(|state| (state == BreakerState::Closed).then_some(open)) {
            warn!(store = &*self.name, %error, "the store does not answer: its breaker opens");
            self.opened.notify_one();
        }
    }

    /// Open or half open to open, with the next probe at that time.
    pub(super) fn wait_until(&self, next_probe: Instant) {
        self.step(|state| state.since().map(|since| BreakerState::Open { since, next_probe }));
    }

    /// Open to half open.
    pub(super) fn half_open(&self) {
        self.step(|state| state.since().map(|since| BreakerState::HalfOpen { since }));
    }

    /// Any state to closed.
    pub(super) fn close(&self) {
        self.answered();
        let closes = |state| (state != BreakerState::Closed).then_some(BreakerState::Closed);
        if self.step(closes) {
            info!(store = &*self.name, "the store answers again: its breaker closes");
        }
    }

    /// The one place where the state changes: to what `next` says of the present one, if anything.
    fn step(&self, next: impl FnOnce(BreakerState) -> Option<BreakerState>) -> bool {
        self.state.send_if_modified(|state| {
            let Some(next) = next(*state) else { return false };
            *state = next;
            gauge!(STORE_BREAKER.name, "store" => self.name.to_string()).set(next.as_metric());
            true
        })
    }
}
