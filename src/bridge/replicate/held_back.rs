//! What does not even come to be sent, because each look at it finds that something else must happen first. It may
//! wait for ever while its store takes everything else, so who waits for it must not go by that.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::Outcome;
use crate::bridge::{Bridge, BridgeResult, blocking};
use crate::clock::Instant;
use crate::ledger::Intent;
use crate::object::{LinkId, NanoTime, Side};

/// So many are remembered; beyond, all begin anew.
const REMEMBERED_MAX: usize = 10_000;

/// Since when names are held back from a store.
#[derive(Debug, Default)]
pub(crate) struct HeldBack {
    names: Mutex<HashMap<(LinkId, Side), Held>>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    since: Instant,
    /// By this a later intent of the same name is known for another one; a newer change does not make one.
    behind_since: NanoTime,
}

impl HeldBack {
    fn note(&self, intent: &Intent) {
        let mut names = self.names.lock();
        if names.len() >= REMEMBERED_MAX {
            names.clear();
        }
        let held = Held { since: Instant::now(), behind_since: intent.since };
        let known = names.entry((intent.link, intent.side)).or_insert(held);
        if known.behind_since != intent.since {
            *known = held;
        }
    }

    /// It is being sent, or there is another reason why it is not there.
    pub(super) fn let_go(&self, name: LinkId, side: Side) {
        self.names.lock().remove(&(name, side));
    }

    /// Since when what this intent asks for is held back, if it is.
    pub(crate) fn since(&self, intent: &Intent) -> Option<Instant> {
        let held = self.names.lock().get(&(intent.link, intent.side)).copied();
        held.filter(|held| held.behind_since == intent.since).map(|held| held.since)
    }
}

impl Bridge {
    /// Remembers how a task for a name ended.
    pub(super) fn note_end(&self, side: Side, name: LinkId, result: &BridgeResult<Outcome>) {
        let held_back = &self.replicator.held_back;
        match result {
            Ok(Outcome::Later(_)) => {
                if let Ok(Some(intent)) = blocking(|| self.ledger.intent(name, side)) {
                    held_back.note(&intent);
                }
            }
            Ok(Outcome::NotBefore(_)) => {}
            Ok(Outcome::Done | Outcome::AfterTwin) | Err(_) => held_back.let_go(name, side),
        }
    }
}
