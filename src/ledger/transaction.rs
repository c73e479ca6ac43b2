//! One transaction for a batch of operations: each in its savepoint, one commit, then the answers.
//!
//! A commit is synced when one of its operations is durable; a lazy operation alone only reaches the
//! write-ahead log, where it survives the death of the process, and the next durable commit syncs it too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::checkpoint::Checkpointer;
use super::meta::InoReserve;
use super::scan::Scans;
use super::tombstones::Unsynced;
use super::writer::Job;
use super::{LedgerError, LedgerErrorKind, LedgerOptions, LedgerResult, Slice};
use crate::clock::Clock;
use crate::object::NanoTime;

/// When an operation's effect must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Before the answer.
    Durable,
    /// With the next durable commit.
    Lazy,
}

/// What an operation works with.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) inos: &'a mut InoReserve,
    pub(super) scans: &'a Scans,
    pub(super) unsynced_tombstones: &'a Unsynced,
    /// As they are in this transaction, if anybody has asked for them.
    pub(super) slices: &'a mut Option<Vec<Slice>>,
    /// The time of the transaction, for operations that are not told one.
    pub(super) now: NanoTime,
    /// Whether an earlier commit still waits for a sync.
    pub(super) unsynced: bool,
}

/// What the writer did since it started.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) syncs: AtomicU64,
    pub(super) transactions: AtomicU64,
    pub(super) operations: AtomicU64,
}

/// The writer's connection and what it remembers between transactions.
pub(super) struct Core {
    conn: Connection,
    inos: InoReserve,
    scans: Arc<Scans>,
    unsynced_tombstones: Arc<Unsynced>,
    slices: Option<Vec<Slice>>,
    counts: Arc<Counts>,
    checkpointer: Checkpointer,
    clock: Clock,
    /// `false` in tests that do not care about a power failure.
    sync: bool,
    /// What `PRAGMA synchronous` is set to now.
    setting: Option<Durability>,
    unsynced: bool,
    /// Why nothing is written any more: after a failed commit nobody knows what the disk holds.
    poisoned: Option<LedgerError>,
}

/// Whether a transaction changed anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrote {
    Nothing,
    Something,
}

impl Core {
    pub(super) fn new(
        conn: Connection,
        (scans, unsynced_tombstones): (Arc<Scans>, Arc<Unsynced>),
        counts: Arc<Counts>,
        checkpointer: Checkpointer,
        options: &LedgerOptions,
    ) -> LedgerResult<Core> {
        let inos = InoReserve::load(&conn)?;
        Ok(Core {
            conn,
            inos,
            scans,
            unsynced_tombstones,
            slices: None,
            counts,
            checkpointer,
            clock: options.clock.clone(),
            sync: options.sync,
            setting: None,
            unsynced: true,
            poisoned: None,
        })
    }

    /// Does a batch and answers it.
    pub(super) fn run(&mut self, mut batch: Vec<Box<dyn Job>>) {
        let outcome = match &self.poisoned {
            Some(why) => Err(refusal(why)),
            None => self.transact(&mut batch),
        };
        self.counts.operations.fetch_add(batch.len() as u64, Ordering::Relaxed);
        for job in batch {
            job.answer(outcome.clone());
        }
        self.checkpointer.after_commit(&self.conn);
    }

    fn transact(&mut self, batch: &mut [Box<dyn Job>]) -> LedgerResult<()> {
        let durable = batch.iter().any(|job| job.durability() == Durability::Durable);
        let durability = if durable { Durability::Durable } else { Durability::Lazy };
        self.set_durability(durability)?;
        let inos = self.inos;
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let outcome = self.run_each(batch).and_then(|wrote| self.commit().map(|()| wrote));
        match outcome {
            Ok(wrote) => {
                self.count(durability, wrote);
                self.keep_inos(inos, durability)
            }
            Err(error) => {
                self.inos = inos;
                self.slices = None;
                self.roll_back(&error);
                Err(error)
            }
        }
    }

    /// A number that was given is not given again after a power failure either: the cache may have files of it that
    /// survived, and would take them for another node's.
    fn keep_inos(&mut self, before: InoReserve, durability: Durability) -> LedgerResult<()> {
        if durability == Durability::Durable || !self.inos.took_more_than(&before) {
            return Ok(());
        }
        self.set_durability(Durability::Durable)?;
        match self.inos.note(&self.conn) {
            Ok(()) => self.count(Durability::Durable, Wrote::Something),
            // What was to be done is done; it is synced with the next commit for which there is room.
            Err(error) if error.kind() == LedgerErrorKind::Full => {}
            Err(error) => {
                self.poisoned = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    fn run_each(&mut self, batch: &mut [Box<dyn Job>]) -> LedgerResult<Wrote> {
        let now = self.clock.now();
        let mut wrote = Wrote::Nothing;
        for job in batch {
            let inos = self.inos;
            let changes = self.conn.total_changes();
            self.conn.prepare_cached("SAVEPOINT operation")?.execute([])?;
            let mut tx = Tx {
                conn: &self.conn,
                inos: &mut self.inos,
                scans: &self.scans,
                unsynced_tombstones: &self.unsynced_tombstones,
                slices: &mut self.slices,
                now,
                unsynced: self.unsynced,
            };
            if let Err(error) = job.run(&mut tx) {
                if self.conn.is_autocommit() {
                    // SQLite itself rolled the whole transaction back, with the operations before this one.
                    return Err(error);
                }
                self.inos = inos;
                self.slices = None;
                self.conn.prepare_cached("ROLLBACK TO operation")?.execute([])?;
            } else if self.conn.total_changes() != changes {
                wrote = Wrote::Something;
            }
            self.conn.prepare_cached("RELEASE operation")?.execute([])?;
        }
        Ok(wrote)
    }

    fn commit(&mut self) -> LedgerResult<()> {
        let committed = self.conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        committed.map(|_| ()).map_err(|error| {
            let error = LedgerError::from(error);
            if error.kind() != LedgerErrorKind::Full {
                self.poisoned = Some(error.clone());
            }
            error
        })
    }

    fn roll_back(&mut self, why: &LedgerError) {
        if self.conn.is_autocommit() {
            return;
        }
        if let Err(error) = self.conn.execute_batch("ROLLBACK") {
            tracing::error!(%error, %why, "the ledger could not roll back; it refuses writes until it is reopened");
            self.poisoned = Some(error.into());
        }
    }

    /// `PRAGMA synchronous` works only outside a transaction.
    fn set_durability(&mut self, durability: Durability) -> LedgerResult<()> {
        if self.setting == Some(durability) {
            return Ok(());
        }
        let pragma = match (self.sync, durability) {
            (true, Durability::Durable) => "PRAGMA synchronous = FULL",
            (true, Durability::Lazy) => "PRAGMA synchronous = NORMAL",
            (false, _) => "PRAGMA synchronous = OFF",
        };
        self.conn.execute_batch(pragma)?;
        self.setting = Some(durability);
        Ok(())
    }

    /// A commit that changed nothing writes nothing to the log, and so syncs nothing either.
    fn count(&mut self, durability: Durability, wrote: Wrote) {
        self.counts.transactions.fetch_add(1, Ordering::Relaxed);
        match (durability, wrote) {
            (_, Wrote::Nothing) => {}
            (Durability::Lazy, Wrote::Something) => self.unsynced = true,
            (Durability::Durable, Wrote::Something) => {
                self.unsynced = false;
                self.unsynced_tombstones.synced();
                self.counts.syncs.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn refusal(why: &LedgerError) -> LedgerError {
    let detail = format!("the ledger refuses writes since a commit failed ({why}); restart the bridge");
    LedgerError::caused(LedgerErrorKind::Io, detail, why.clone())
}
