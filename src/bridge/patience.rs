use std::time::Duration;

use crate::bridge::{Bridge, Routing};
use crate::clock::{Instant, sleep};
use crate::object::Side;
use crate::store::{ErrorKind, StoreError};

/// The pause before a store that gave no answer is asked again.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// How long one operation goes on asking a store that gives no answer. Where two stores are in use its
/// breaker ends it, so that a sick one costs one bounded delay; a store that stands alone is waited for
/// until the operation's deadline, because an error now is worse than a pause.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    bridge: &'a Bridge,
    side: Side,
    stands_alone: bool,
    deadline: Instant,
}

impl Bridge {
    pub(crate) fn patience(&self, side: Side, routing: &Routing) -> Patience<'_> {
        let deadline = Instant::now() + self.settings.op_deadline;
        Patience { bridge: self, side, stands_alone: !routing.route.both, deadline }
    }
}

impl Patience<'_> {
    /// Whether to ask again after this answer; waits before it says so.
    pub(crate) async fn asks_again(&self, answer: &StoreError) -> bool {
        let may_change = matches!(answer.kind(), ErrorKind::Unavailable | ErrorKind::Throttled);
        let refused = !self.stands_alone && self.bridge.handle(self.side).breaker.is_open();
        if !may_change || refused || Instant::now() >= self.deadline {
            return false;
        }
        sleep(PAUSE).await;
        true
    }
}
