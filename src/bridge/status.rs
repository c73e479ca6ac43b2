//! What an operator sees.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::bridge::staging::StatFs;
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, blocking, router};
use crate::ledger::{Finding, Intent, Node, Replica, ReplicaState, SideSummary, Slice};
use crate::object::{Key, NanoTime, Side};
use crate::stage::Stage;

/// The state of the whole bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeStatus {
    /// The slices and their stages.
    pub slices: Vec<Slice>,
    /// The stores, old first.
    pub stores: Vec<StoreStatus>,
    /// Regular files and symlinks known.
    pub files: u64,
    /// Directories known.
    pub directories: u64,
    /// Bytes of the known files.
    pub bytes: u64,
    /// Files whose content was lost on this host before any store had it.
    #[serde(default)]
    pub given_up: u64,
    /// Open findings.
    pub findings: u64,
    /// Bytes of cached blocks.
    pub cache_bytes: u64,
    /// Bytes of content that is not on every store yet.
    pub staged_bytes: u64,
    /// Files with such content.
    pub staged_files: u64,
    /// Acks given with less than the policy asks, because a store was sick.
    pub degraded_acks: u64,
    /// Reads of objects without a receipt, while the store that should know could not be asked.
    pub unproven_reads: u64,
    /// Reads that the preferred store could not serve and the other one did.
    pub fallback_reads: u64,
    /// Why the ledger could not be used, if so: nothing is replicated then.
    pub ledger_error: Option<String>,
}

/// The state of one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// The operator's name for it.
    pub name: String,
    /// `old` or `new`.
    pub side: String,
    /// The state of its breaker: `closed`, `open`, `half-open`.
    pub breaker: String,
    /// Its last failure that concerned the breaker.
    pub last_error: Option<String>,
    /// Why it refuses whatever it is sent, if it does.
    pub refusal: Option<String>,
    /// Counts from the ledger.
    pub counts: SideSummary,
}

/// What each store holds of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// Its path below the mount.
    pub path: String,
    /// The slice it belongs to.
    pub slice: String,
    /// That slice's stage.
    pub stage: Stage,
    /// The committed version.
    pub version: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Content that is not on every store yet is kept here.
    pub staged: bool,
    /// The stores, old first.
    pub replicas: Vec<ReplicaStatus>,
}

/// What one store holds of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// The operator's name of the store.
    pub store: String,
    /// `absent`, `pending`, `copied`, `verified`, `mismatched` or `blocked(reason)`.
    pub state: String,
    /// The version it holds.
    pub version: Option<u64>,
    /// The key that stands under, if it is not the path (a rename that is not finished).
    pub key: Option<String>,
    /// The store's tag.
    pub etag: Option<String>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// BLAKE3 of the content, if known.
    pub blake3: Option<String>,
    /// Seconds since the receipt.
    pub age_seconds: Option<u64>,
    /// Why the last try to bring it up to date failed.
    pub last_error: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

/// A stage that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageChange {
    /// The slice.
    pub prefix: String,
    /// Before.
    pub from: Stage,
    /// After.
    pub to: Stage,
}

impl Bridge {
    /// The state of the whole bridge, from one look at the ledger.
    pub fn status(&self) -> BridgeResult<BridgeStatus> {
        let (summary, slices) =
            blocking(|| Ok::<_, BridgeError>((self.ledger.summary()?, self.ledger.slices()?)))?;
        let cache = self.cache.stats();
        let stores = Side::BOTH.into_iter().zip(summary.sides).map(|(side, counts)| {
            let handle = self.handle(side);
            StoreStatus {
                name: handle.name.clone(),
                side: side.to_string(),
                breaker: handle.breaker.state().as_str().to_owned(),
                last_error: handle.breaker.last_error(),
                refusal: self.replicator.acceptance(side).refusal(),
                counts,
            }
        });
        Ok(BridgeStatus {
            slices,
            stores: stores.collect(),
            files: summary.files,
            directories: summary.directories,
            bytes: summary.bytes,
            given_up: summary.given_up,
            findings: summary.findings,
            cache_bytes: cache.bytes,
            staged_bytes: cache.staged_bytes,
            staged_files: cache.staged_files,
            degraded_acks: self.counts.degraded_acks.load(Ordering::Relaxed),
            unproven_reads: self.counts.unproven_reads.load(Ordering::Relaxed),
            fallback_reads: self.counts.fallback_reads.load(Ordering::Relaxed),
            ledger_error: self.ledger_error.lock().clone(),
        })
    }

    /// What each store holds of one file, by its path below the mount.
    pub async fn file_status(&self, path: &str) -> BridgeResult<FileStatus> {
        let node = self.walk(path).await?;
        let key = blocking(|| self.ledger.key_of(node.link))?;
        let routing = self.routing(key.as_ref());
        let stage = self.router.slice(&routing.prefix).map_or(Stage::Off, |slice| slice.stage);
        let replicas = blocking(|| {
            let replicas = self.ledger.replicas(node.link)?;
            Side::BOTH
                .into_iter()
                .map(|side| {
                    let intent = self.ledger.intent(node.link, side)?;
                    Ok(self.replica_status(side, &node, key.as_ref(), replicas[side].as_ref(), intent))
                })
                .collect::<BridgeResult<Vec<_>>>()
        })?;
        Ok(FileStatus {
            path: key.map_or_else(String::new, |key| key.to_string()),
            slice: routing.prefix,
            stage,
            version: node.version.0,
            size: node.size,
            staged: blocking(|| self.cache.is_staged(node.ino)),
            replicas,
        })
    }

    /// Findings, newest first.
    pub fn findings(&self, include_closed: bool, limit: usize) -> BridgeResult<Vec<Finding>> {
        Ok(blocking(|| self.ledger.findings(include_closed, limit))?)
    }

    /// What is wrong inside: the ledger's own check, and staged files that belong to no node.
    pub fn check(&self) -> BridgeResult<Vec<String>> {
        blocking(|| {
            let mut wrong = self.ledger.check()?;
            let staged = self
                .cache
                .staged_inos()
                .map_err(|e| BridgeError::from_disk("read the staging directory", e))?;
            for ino in staged {
                if self.ledger.node(ino)?.is_none() {
                    wrong.push(format!("staged file {ino} belongs to no node"));
                }
            }
            Ok(wrong)
        })
    }

    /// Sizes for `df`, without a store.
    pub fn statfs(&self) -> BridgeResult<StatFs> {
        let space = blocking(|| self.cache.disk_space())
            .map_err(|e| BridgeError::from_disk("ask for free space", e))?;
        Ok(StatFs {
            bytes_total: space.bytes_total,
            bytes_free: space.bytes_free,
            files_total: space.files_total,
            files_free: space.files_free,
        })
    }

    async fn walk(&self, path: &str) -> BridgeResult<Node> {
        let missing = || BridgeError::new(BridgeErrorKind::NotFound, format!("`{path}` is not there"));
        let mut node = self.node(crate::object::Ino::ROOT).await?.ok_or_else(missing)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            node = self.lookup(node.ino, name).await?.ok_or_else(missing)?;
        }
        Ok(node)
    }

    fn replica_status(
        &self,
        side: Side,
        node: &Node,
        key: Option<&Key>,
        replica: Option<&Replica>,
        intent: Option<Intent>,
    ) -> ReplicaStatus {
        let receipt = replica.map(|r| &r.receipt);
        let age = |at: NanoTime| u64::try_from((self.clock.now() - at) / 1_000_000_000).unwrap_or(0);
        ReplicaStatus {
            store: self.handle(side).name.clone(),
            state: state_word(node, replica, intent.as_ref()),
            version: receipt.map(|r| r.version.0),
            key: receipt.map(|r| &r.key).filter(|at| Some(*at) != key).map(ToString::to_string),
            etag: receipt.map(|r| r.etag.to_string()),
            size: receipt.map(|r| r.size),
            blake3: receipt.and_then(|r| r.digest).map(crate::object::Digest::to_hex),
            age_seconds: replica.map(|r| age(r.received_at)),
            attempts: intent.as_ref().map_or(0, |i| i.attempts),
            last_error: intent.and_then(|i| i.error),
        }
    }
}

/// The state's word as in the design's section 3.
fn state_word(node: &Node, replica: Option<&Replica>, intent: Option<&Intent>) -> String {
    if let Some(reason) = intent.and_then(|i| i.blocked) {
        return format!("blocked({})", reason.as_str());
    }
    match replica {
        Some(replica) if replica.state == ReplicaState::Mismatched => "mismatched".to_owned(),
        Some(replica) if router::is_current(replica, node) => match replica.state {
            ReplicaState::Verified(_) => "verified".to_owned(),
            ReplicaState::Copied | ReplicaState::Mismatched => "copied".to_owned(),
        },
        Some(_) | None if intent.is_some() => "pending".to_owned(),
        Some(_) => "stale".to_owned(),
        None => "absent".to_owned(),
    }
}
