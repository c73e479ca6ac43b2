use std::sync::atomic::{AtomicU64, Ordering};

use super::Operation;

/// How many requests a store was sent, by operation: the cost budgets of the tests are asserted on it.
#[derive(Debug, Default)]
pub struct RequestCounts([AtomicU64; Operation::ALL.len()]);

impl RequestCounts {
    /// Requests of one operation since the start.
    pub fn of(&self, operation: Operation) -> u64 {
        self.0[operation as usize].load(Ordering::Relaxed)
    }

    /// Requests of all operations but the breaker's probes since the start.
    pub fn total(&self) -> u64 {
        let paid = Operation::ALL.into_iter().filter(|operation| *operation != Operation::Probe);
        paid.map(|operation| self.of(operation)).sum()
    }

    /// Starts again from 0.
    pub fn reset(&self) {
        self.0.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    pub(super) fn count(&self, operation: Operation) {
        self.0[operation as usize].fetch_add(1, Ordering::Relaxed);
    }
}
