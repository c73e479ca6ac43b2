//! Two stores as one: where a name is looked up, which store a read goes to, how a change reaches both.
//!
//! | file | what |
//! |---|---|
//! | [`router`] | slices and stages to routes; which replicas may serve a read |
//! | `names` | create, remove, rename, attributes: one ledger transaction each |
//! | `discover` | names that the ledger does not know: lookup and listing, three-valued |
//! | `unproven` | what only one store could show, until the one that knows the names answers |
//! | `content` | open, read: blocks through the cache, from the store that has the version |
//! | `fetch` | one block from one of the stores: order, checks, fallback |
//! | `access` | reads that are noted |
//! | `staging` | content on its way in and out: stage, commit |
//! | `damage` | content that could not be kept whole |
//! | `ack` | what `close` and `fsync` wait for |
//! | `replicate` | brings each store to what the ledger says, for ever |
//! | `recover` | what a crash left is made whole before anything is served |
//! | `status` | what an operator sees |
//! | `xattrs` | extended attributes |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::cache::Cache;
use crate::clock::Clock;
use crate::ledger::{Event, Ledger, Slice};
use crate::object::{Key, PerSide, Side};
use crate::stage::Stage;

mod access;
mod ack;
mod blocking;
mod change;
mod content;
mod damage;
mod discover;
mod error;
mod fetch;
mod names;
mod patience;
mod recover;
mod replicate;
mod router;
mod settings;
mod staging;
mod status;
mod unproven;
mod xattrs;

pub use change::Change;
pub use content::Content;
pub use error::{BridgeError, BridgeErrorKind, BridgeResult};
pub use names::{FreeName, RenameDone, Unlinked};
pub use replicate::{BridgeTasks, Drained, Hold};
pub use router::{Router, Routing};
pub use settings::{AckPolicy, BridgeParts, BridgeSettings, Coherence, StoreHandle, UnprovenReads};
pub use staging::{AtLimit, ContentTimes, StatFs};
pub use status::{BridgeStatus, FileStatus, ReplicaStatus, StageChange, StoreStatus};

use blocking::blocking;

/// One directory over two stores.
#[derive(Debug)]
pub struct Bridge {
    ledger: Arc<Ledger>,
    cache: Arc<Cache>,
    stores: PerSide<StoreHandle>,
    clock: Clock,
    settings: BridgeSettings,
    router: Router,
    /// Held shared from a choice by the router to what the ledger makes of it, exclusively by a change of stage, in
    /// which the ledger is ahead of the router for a moment. What a change of the tree goes to, the ledger knows.
    flips: tokio::sync::RwLock<()>,
    discovery: discover::Discovery,
    staging: staging::StagingTable,
    acks: ack::AckBoard,
    replicator: replicate::Replicator,
    counts: Counts,
    ledger_error: Mutex<Option<String>>,
}

/// What happened since the start that an operator should know about.
#[derive(Debug, Default)]
struct Counts {
    /// Reads of objects without a receipt, served by the store that is not preferred.
    unproven_reads: AtomicU64,
    /// Blocks that the preferred store could not give and the other one did.
    fallback_reads: AtomicU64,
    /// Acks given with less than the policy asks, because a breaker was open.
    degraded_acks: AtomicU64,
}

impl Counts {
    fn bump(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bridge {
    /// Opens the bridge: what a crash left in the staging area is recovered before this returns.
    pub async fn start(parts: BridgeParts) -> BridgeResult<Arc<Bridge>> {
        let BridgeParts { ledger, cache, stores, clock, settings } = parts;
        let slices = blocking(|| ledger.slices())?;
        let bridge = Arc::new(Bridge {
            router: Router::new(slices),
            flips: tokio::sync::RwLock::default(),
            discovery: discover::Discovery::default(),
            staging: staging::StagingTable::default(),
            acks: ack::AckBoard::default(),
            replicator: replicate::Replicator::new(&settings),
            counts: Counts::default(),
            ledger_error: Mutex::default(),
            ledger,
            cache,
            stores,
            clock,
            settings,
        });
        bridge.recover().await?;
        Ok(bridge)
    }

    /// Changes the stage of the slice with exactly this prefix (empty: the default slice), at once and
    /// for every operation that starts after this returns. Operations under way end as they began.
    pub async fn set_stage(
        &self,
        prefix: &str,
        stage: Stage,
        read_percent: u8,
        who: &str,
        why: &str,
    ) -> BridgeResult<StageChange> {
        let _alone = self.flips.write().await;
        let known = self.router.slice(prefix);
        let from = known.as_ref().map_or(Stage::Off, |slice| slice.stage);
        let now = self.clock.now();
        let backfill_complete = known.is_some_and(|slice| slice.backfill_complete);
        let slice = Slice { prefix: prefix.to_owned(), stage, read_percent, since: now, backfill_complete };
        let event = Event {
            at: now,
            who: who.to_owned(),
            what: format!("stage of /{prefix}: {from} to {stage}, {read_percent} % of reads"),
            why: why.to_owned(),
        };
        self.ledger.set_slice(slice, event).await?;
        self.router.replace(blocking(|| self.ledger.slices())?);
        self.replicator.wake_all();
        self.acks.wake_all();
        self.settle_all()?;
        Ok(StageChange { prefix: prefix.to_owned(), from, to: stage })
    }

    fn routing(&self, key: Option<&Key>) -> Routing {
        self.router.routing(key)
    }

    fn handle(&self, side: Side) -> &StoreHandle {
        &self.stores[side]
    }
}
