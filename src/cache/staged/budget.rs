//! How much is staged, and the queue of those who want to stage more.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cache::disk;
use crate::cache::error::NoSpace;
use crate::clock::{self, Instant};

/// The bytes of disk that all staged files, fills and snapshots take.
#[derive(Debug)]
pub(in crate::cache) struct Budget {
    used: AtomicU64,
    limit: u64,
    freed: Notify,
    /// Since when somebody waits and nothing was given back.
    stuck_since: Mutex<Option<Instant>>,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Arc<Budget> {
        Arc::new(Budget {
            used: AtomicU64::new(0),
            limit,
            freed: Notify::new(),
            stuck_since: Mutex::new(None),
        })
    }

    pub(in crate::cache) fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }

    pub(super) fn fits(&self, wanted: u64) -> bool {
        self.used().saturating_add(wanted) <= self.limit
    }

    /// Waits until `wanted` more fits. Nothing is held for the caller: those who are let in together may
    /// exceed the limit together, by what each of them asked for.
    pub(in crate::cache) async fn wait_for(&self, wanted: u64, deadline: Duration) -> Result<(), NoSpace> {
        let refused = || NoSpace { staged: self.used(), wanted, limit: self.limit };
        if wanted > self.limit {
            return Err(refused());
        }
        let fits = async {
            loop {
                let freed = self.freed.notified();
                if self.fits(wanted) {
                    return;
                }
                freed.await;
            }
        };
        match clock::timeout(deadline, fits).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => Err(refused()),
        }
    }

    /// Waits until `wanted` more fits, or until nothing has been given back for so long as `patience`. All who
    /// wait share that time: else thousands of pages, sent some at a time, would take thousands of times as long.
    pub(in crate::cache) async fn wait_patiently_for(&self, wanted: u64, patience: Duration) {
        loop {
            let freed = self.freed.notified();
            if self.fits(wanted) || wanted > self.limit {
                return;
            }
            let since = *self.stuck_since.lock().get_or_insert_with(Instant::now);
            if clock::timeout_at(since + patience, freed).await.is_err() {
                return;
            }
        }
    }

    /// Returns when something was given back, at the latest after `longest`.
    pub(in crate::cache) async fn freed(&self, longest: Duration) {
        // Which of the two it was the caller sees when he tries again.
        let _ = clock::timeout(longest, self.freed.notified()).await;
    }
}

/// The share of one file in the [`Budget`]; given back by Drop.
#[derive(Debug)]
pub(in crate::cache) struct Charge {
    budget: Arc<Budget>,
    bytes: Mutex<u64>,
}

impl Charge {
    pub(super) fn new(budget: &Arc<Budget>, bytes: u64) -> Charge {
        budget.used.fetch_add(bytes, Ordering::SeqCst);
        Charge { budget: Arc::clone(budget), bytes: Mutex::new(bytes) }
    }

    /// The share, as it was last counted.
    pub(super) fn bytes(&self) -> u64 {
        *self.bytes.lock()
    }

    /// Asks the file what it takes now -> by how much it grew.
    pub(super) fn update(&self, file: &File) -> io::Result<u64> {
        // The lock spans the question: of two writers the later answer must be the one that stays.
        let mut bytes = self.bytes.lock();
        let now = disk::allocated(&file.metadata()?);
        let before = std::mem::replace(&mut *bytes, now);
        if now >= before {
            self.budget.used.fetch_add(now - before, Ordering::SeqCst);
        } else {
            self.give_back(before - now);
        }
        Ok(now.saturating_sub(before))
    }

    fn give_back(&self, bytes: u64) {
        self.budget.used.fetch_sub(bytes, Ordering::SeqCst);
        if bytes > 0 {
            *self.budget.stuck_since.lock() = None;
        }
        self.budget.freed.notify_waiters();
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.give_back(bytes);
    }
}
