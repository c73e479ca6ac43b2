//! What is called lost, and is not: a store may have answered wrongly about it for a moment, or for an hour.

use std::sync::Arc;
use std::time::Duration;

use super::sync::Situation;
use crate::bridge::fetch::is_as_confirmed;
use crate::bridge::{Bridge, BridgeError, BridgeResult, Content};
use crate::clock::sleep;
use crate::ledger::ReplicaState;
use crate::object::{BLOCK_BYTES, ContentHasher, PerSide, Receipt, Side};
use crate::store::{ErrorKind, StoreError};

/// Stores that answer wrongly in a way that opens no breaker are not asked about what is lost more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

impl Bridge {
    /// Has what is called lost looked for: at the start, when a store is back, and from time to time.
    pub(super) async fn look_for_the_lost(self: Arc<Self>) {
        let PerSide { mut old, mut new } = PerSide::from_fn(|side| self.handle(side).breaker.watch());
        loop {
            match self.ledger.seek_lost().await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!(count, "what was called lost is looked for again");
                    self.replicator.wake_all();
                }
                Err(error) => tracing::warn!(%error, "what is called lost cannot be looked for now"),
            }
            tokio::select! {
                Ok(()) = old.changed() => {}
                Ok(()) = new.changed() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Whether the store has the content all the same that it was found not to have: under the tag that it confirmed, and
    /// it reads whole, as any reader would read it. Then it is taken back.
    pub(super) async fn take_back(&self, side: Side, situation: &Situation) -> BridgeResult<bool> {
        let node = &situation.node;
        let Some(replica) = situation.replica(side) else { return Ok(false) };
        let receipt = &replica.receipt;
        if replica.state != ReplicaState::Mismatched || receipt.version != node.version {
            return Ok(false);
        }
        let content = self.open_as_known(node.ino)?;
        if content.version() != node.version {
            return Ok(false);
        }
        let is_whole = self.reads_whole(side, receipt, &content).await;
        if !is_whole.map_err(|e| BridgeError::from_store(side, e).on(&receipt.key))? {
            return Ok(false);
        }
        tracing::info!(%side, key = %receipt.key, "the store was found not to have it, and has it");
        self.ledger.mark_mistaken(node.link, side, receipt).await?;
        self.replicator.wake_all();
        Ok(true)
    }

    /// An error says that nothing is known now.
    async fn reads_whole(
        &self,
        side: Side,
        receipt: &Receipt,
        content: &Content,
    ) -> Result<bool, StoreError> {
        let is_wrong = |error: &StoreError| match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::PreconditionFailed
            | ErrorKind::Unsupported
            | ErrorKind::Corrupt => true,
            ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Denied | ErrorKind::Locked => false,
        };
        match self.handle(side).store.head(&receipt.key).await {
            Ok(info) if is_as_confirmed(&info, receipt) => {}
            Ok(_) => return Ok(false),
            Err(error) if is_wrong(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut hasher = ContentHasher::default();
        for index in 0..content.size().div_ceil(BLOCK_BYTES) {
            match self.fetch_sure(side, receipt, content, index).await {
                Ok(bytes) => hasher.update(&bytes),
                Err(error) if is_wrong(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let found = hasher.finish().digest;
        Ok(content.digest.as_ref().is_none_or(|known| known.digest == found))
    }
}
