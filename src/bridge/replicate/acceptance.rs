//! Whether a store takes what it is sent. Its breaker only knows whether it answers: a store whose credentials were
//! revoked, whose disk is full or read-only, or that throttles us, answers all the time.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::Task;
use crate::clock::Instant;

/// So many failures in a row, with nothing taken in between, and the store refuses.
const FAILURES_MIN: u32 = 3;

/// Of so many different tasks: one object that a store will not have says nothing about the others.
const TASKS_MIN: usize = 2;

/// What one store did with what it was sent last.
#[derive(Debug, Default)]
pub(crate) struct Acceptance {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    progressed_at: Option<Instant>,
    failures: u32,
    failed: HashSet<Task>,
    refusal: Option<String>,
}

impl Acceptance {
    /// The store has taken something: an object, a part of one, a deletion.
    pub(super) fn accepted(&self) {
        let mut state = self.state.lock();
        *state = State { progressed_at: Some(Instant::now()), ..State::default() };
    }

    /// What the store is to get has come nearer without its doing: that says nothing about the store.
    pub(super) fn progressed(&self) {
        self.state.lock().progressed_at = Some(Instant::now());
    }

    /// A task failed. Answers whether the store is seen to refuse since just now.
    pub(super) fn failed(&self, task: &Task, error: impl FnOnce() -> String) -> bool {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failed.len() < TASKS_MIN {
            state.failed.insert(task.clone());
        }
        let refuses = state.failures >= FAILURES_MIN && state.failed.len() >= TASKS_MIN;
        let is_new = refuses && state.refusal.is_none();
        if refuses {
            state.refusal = Some(error());
        }
        is_new
    }

    /// Why the store refuses whatever it is sent, if it does.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.state.lock().refusal.clone()
    }

    /// Whether the store refuses whatever it is sent.
    pub(crate) fn refuses(&self) -> bool {
        self.state.lock().refusal.is_some()
    }

    /// When it took something last, or something came nearer to it.
    pub(crate) fn progressed_at(&self) -> Option<Instant> {
        self.state.lock().progressed_at
    }
}

#[cfg(test)]
mod tests {
    use super::{Acceptance, FAILURES_MIN, Task};
    use crate::object::LinkId;

    #[test]
    fn one_object_that_is_refused_says_nothing_about_the_store_but_two_do() {
        let acceptance = Acceptance::default();
        let fail = |ino| acceptance.failed(&Task::Sync(LinkId(ino)), || format!("no room for {ino}"));
        for _ in 0..10 * FAILURES_MIN {
            assert!(!fail(1));
        }
        assert!(!acceptance.refuses());
        assert!(fail(2), "it is told once");
        assert!(!fail(3));
        assert_eq!(acceptance.refusal().as_deref(), Some("no room for 3"));
        acceptance.progressed();
        assert!(acceptance.refuses(), "that a file is digested is no answer of the store");
        acceptance.accepted();
        assert!(!acceptance.refuses() && acceptance.progressed_at().is_some());
        assert!(!fail(1) && !fail(2), "it begins anew");
    }
}
