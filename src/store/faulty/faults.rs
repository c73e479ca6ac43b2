use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use super::{Fault, Rule};
use crate::store::metered::Operation;
use crate::store::{ErrorKind, StoreResult};

/// A mutation that has been answered with a silence and is still on its way.
pub(super) type LateCall = BoxFuture<'static, StoreResult<()>>;

/// The switchboard of a [`Faulty`](super::Faulty) store, shared with the test that turns it.
#[derive(Clone)]
pub struct Faults {
    board: Arc<Mutex<Board>>,
    /// Changes with each change of the rules: who is stalled looks again.
    changes: watch::Sender<u64>,
}

struct Board {
    down: bool,
    rules: Vec<Active>,
    late: VecDeque<LateCall>,
    stalled: usize,
    rng: SmallRng,
    last_id: u64,
}

struct Active {
    id: u64,
    rule: Rule,
    calls: u64,
}

/// A fault that a call has met.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    pub(super) rule: u64,
    pub(super) fault: Fault,
}

/// Counts one that waits, until it is dropped.
struct Stalled<'a>(&'a Faults);

impl Stalled<'_> {
    fn new(faults: &Faults) -> Stalled<'_> {
        faults.board.lock().stalled += 1;
        Stalled(faults)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.board.lock().stalled -= 1;
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let board = self.board.lock();
        let rules: Vec<&Rule> = board.rules.iter().map(|active| &active.rule).collect();
        f.debug_struct("Faults").field("down", &board.down).field("rules", &rules).finish_non_exhaustive()
    }
}

impl Faults {
    pub(super) fn new(seed: u64) -> Faults {
        let rng = SmallRng::seed_from_u64(seed);
        let (rules, late) = (Vec::new(), VecDeque::new());
        let board = Board { down: false, rules, late, stalled: 0, rng, last_id: 0 };
        Faults { board: Arc::new(Mutex::new(board)), changes: watch::Sender::new(0) }
    }

    /// From now on every call is refused at once, as by a host that has no server.
    pub fn down(&self) {
        self.change(|board| board.down = true);
    }

    /// The opposite of [`Faults::down`]; the rules stay.
    pub fn up(&self) {
        self.change(|board| board.down = false);
    }

    /// Adds a rule behind those that are there.
    pub fn push(&self, rule: Rule) {
        self.change(|board| {
            board.last_id += 1;
            board.rules.push(Active { id: board.last_id, rule, calls: 0 });
        });
    }

    /// Takes all rules away; stalled calls go on.
    pub fn clear(&self) {
        self.change(|board| board.rules.clear());
    }

    /// How many mutations are on their way.
    pub fn late_calls(&self) -> usize {
        self.board.lock().late.len()
    }

    /// Lets the mutations that are on their way arrive, in the order in which they were sent, under their
    /// own conditions; what each became.
    pub async fn release_late(&self) -> Vec<StoreResult<()>> {
        let mut results = Vec::new();
        loop {
            let next = self.board.lock().late.pop_front();
            let Some(call) = next else { return results };
            results.push(call.await);
        }
    }

    /// Loses the mutations that are on their way.
    pub fn drop_late(&self) {
        self.board.lock().late.clear();
    }

    pub(super) fn delay(&self, call: LateCall) {
        self.board.lock().late.push_back(call);
    }

    /// A number below `end`, from the seed.
    pub(super) fn pick(&self, end: usize) -> usize {
        self.board.lock().rng.random_range(0..end)
    }

    /// The first rule that strikes this call.
    pub(super) fn meet(&self, operation: Operation, subject: Option<&str>) -> Option<Met> {
        let mut board = self.board.lock();
        let Board { down, rules, rng, .. } = &mut *board;
        if *down {
            return Some(Met { rule: 0, fault: Fault::Fail(ErrorKind::Unavailable) });
        }
        let mut strikes = |active: &mut Active| {
            if !active.rule.is_about(operation, subject) {
                return false;
            }
            active.calls += 1;
            active.rule.window.contains(&(active.calls - 1)) && rng.random_bool(active.rule.probability)
        };
        let active = rules.iter_mut().find_map(|active| strikes(active).then_some(active))?;
        Some(Met { rule: active.id, fault: active.rule.fault })
    }

    /// How many calls and bodies wait for a rule to be taken away.
    pub fn stalled(&self) -> usize {
        self.board.lock().stalled
    }

    /// Waits until the rule is taken away.
    pub(super) async fn until_gone(&self, rule: u64) {
        let mut changes = self.changes.subscribe();
        let _stalled = Stalled::new(self);
        let is_there = || self.board.lock().rules.iter().any(|active| active.id == rule);
        while is_there() {
            changes.changed().await.expect("this handle holds the sender");
        }
    }

    fn change(&self, change: impl FnOnce(&mut Board)) {
        change(&mut self.board.lock());
        self.changes.send_modify(|count| *count += 1);
    }
}
