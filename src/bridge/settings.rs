use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::object::PerSide;
use crate::store::SharedStore;
use crate::store::breaker::Breaker;

/// What must be true before `close` and `fsync` return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckPolicy {
    /// The content is on the local disk and its intents are in the ledger.
    Journal,
    /// And the primary has it; the secondary's receipt counts while the primary's breaker is open.
    Primary,
    /// And both have it; while one breaker is open the other's receipt counts, and is counted as degraded.
    Both,
}

/// Who else may change the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coherence {
    /// Nobody: what the ledger knows holds until this mount changes it.
    Exclusive,
    /// Somebody: what a store said holds for so long, then it is asked again.
    Ttl(Duration),
}

/// What to do with an object that has no receipt while the store that should know cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnprovenReads {
    /// Serve the other store's object, and count it.
    Allow,
    /// An error.
    Deny,
}

/// What the operator chose.
#[derive(Debug, Clone)]
pub struct BridgeSettings {
    /// The ack policy of every slice that has none of its own.
    pub ack: AckPolicy,
    /// Ack policies by slice prefix (no leading or trailing slash).
    pub slice_acks: BTreeMap<String, AckPolicy>,
    /// Who else may change the buckets.
    pub coherence: Coherence,
    /// Reads without proof.
    pub unproven_reads: UnprovenReads,
    /// How long `close` and `fsync` wait for an acknowledgement.
    pub ack_deadline: Duration,
    /// How long any other operation waits for a store.
    pub op_deadline: Duration,
    /// How long a request whose answer was lost may still take effect on the server. Until then a deletion of its key
    /// is looked at again before it counts as done.
    pub late_request_max: Duration,
    /// Uploads under way at once, per store.
    pub uploads_max: usize,
    /// Memory for the bytes of all uploads, in bytes; half of it for those to each store.
    pub upload_memory: u64,
}

impl Default for BridgeSettings {
    fn default() -> BridgeSettings {
        BridgeSettings {
            ack: AckPolicy::Primary,
            slice_acks: BTreeMap::new(),
            coherence: Coherence::Exclusive,
            unproven_reads: UnprovenReads::Allow,
            ack_deadline: Duration::from_secs(60),
            op_deadline: Duration::from_secs(30),
            late_request_max: Duration::from_secs(60),
            uploads_max: 16,
            upload_memory: 128 << 20,
        }
    }
}

/// A store with its name and its circuit breaker.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    /// The operator's name for it.
    pub name: String,
    /// The whole stack of decorators.
    pub store: SharedStore,
    /// The breaker inside that stack.
    pub breaker: Arc<Breaker>,
}

/// What a bridge is made of.
#[derive(Debug)]
pub struct BridgeParts {
    /// What is known and promised.
    pub ledger: Arc<Ledger>,
    /// Local content.
    pub cache: Arc<Cache>,
    /// The two stores.
    pub stores: PerSide<StoreHandle>,
    /// The wall clock.
    pub clock: Clock,
    /// What the operator chose.
    pub settings: BridgeSettings,
}
