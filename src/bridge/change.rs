//! A change that its caller may stop waiting for. It is told that nothing happened only if nothing will.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::bridge::{BridgeError, BridgeErrorKind, BridgeResult};

tokio::task_local! {
    static CHANGE: Arc<Change>;
}

/// How far a change is.
#[derive(Debug, Default)]
pub struct Change(Mutex<State>);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Stores are asked what must be known; nothing is changed.
    #[default]
    Prepared,
    /// It is in the ledger, or on its way there: no store is waited for any more.
    Begun,
    GivenUp,
}

impl Change {
    /// Nobody waits for it any more -> whether it has not begun, and now never will.
    pub fn give_up(&self) -> bool {
        self.settle(State::GivenUp)
    }

    /// Runs what makes this change: it begins with what the bridge writes into the ledger.
    pub async fn run<T>(self: Arc<Change>, work: impl Future<Output = T>) -> T {
        CHANGE.scope(self, work).await
    }

    /// Whether it is in this state now; the first state after the preparation stays.
    fn settle(&self, wanted: State) -> bool {
        let mut state = self.0.lock();
        if *state == State::Prepared {
            *state = wanted;
        }
        *state == wanted
    }
}

/// What comes next is the change itself. An error: who asked for it was told that it did not happen.
pub(super) fn begin() -> BridgeResult<()> {
    let begun = CHANGE.try_with(|change| change.settle(State::Begun)).unwrap_or(true);
    if begun {
        return Ok(());
    }
    Err(BridgeError::new(BridgeErrorKind::Unavailable, "it took too long to prepare and was given up"))
}
