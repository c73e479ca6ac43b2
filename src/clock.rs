//! The only reader of time. Wall-clock time is asked of a [`Clock`], which a test sets as it likes;
//! waiting goes through tokio's timer, which a test can pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

pub use tokio::time::{Instant, Interval, interval, timeout, timeout_at};

use crate::object::NanoTime;

/// The wall clock of one bridge. It may jump in either direction: nothing is ordered by it.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The host's clock.
    System,
    /// A test's clock: whatever stands here, in nanoseconds since 1970.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// Now, in nanoseconds since 1970.
    pub fn now(&self) -> NanoTime {
        match self {
            Clock::System => system_now(),
            Clock::Manual(now) => now.load(Ordering::Relaxed),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this module is the one place that asks the host")]
fn system_now() -> NanoTime {
    let nanos = |d: Duration| NanoTime::try_from(d.as_nanos()).unwrap_or(NanoTime::MAX);
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => nanos(since),
        Err(before) => -nanos(before.duration()),
    }
}

/// Waits without holding a thread.
#[expect(clippy::disallowed_methods, reason = "this module is the one place that sleeps")]
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
