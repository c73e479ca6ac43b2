//! What a crash left is made whole before anything is served: after this every staged file belongs to a
//! node, is a committed version of it, and has the intents that bring it to the stores.

use crate::bridge::{Bridge, BridgeError, BridgeResult, ContentTimes, blocking};
use crate::cache::Lease;
use crate::ledger::Node;
use crate::object::{ContentDigest, Ino, NanoTime, Side, Version};

impl Bridge {
    pub(crate) async fn recover(&self) -> BridgeResult<()> {
        if self.has_unfinished_work()? {
            self.replicator.expect_late_requests();
        }
        *self.replicator.abandoned.lock() = self.abandoned_uploads()?;
        let staged = blocking(|| self.cache.staged_inos())
            .map_err(|e| BridgeError::from_disk("read the staging directory", e))?;
        let found = staged.len();
        for ino in staged {
            self.recover_staged(ino).await?;
        }
        let empty = self.recover_uncommitted().await?;
        if found + empty > 0 {
            tracing::info!(
                found,
                empty,
                "files that were being written when the last run ended are recovered"
            );
        }
        Ok(())
    }

    /// Whether the last run ended before its work: a request that it lost has its intent or its tombstone
    /// still in the ledger. Where there is none, no deletion needs to be looked at twice.
    fn has_unfinished_work(&self) -> BridgeResult<bool> {
        blocking(|| {
            for side in Side::BOTH {
                let intents = self.ledger.due_intents(side, NanoTime::MAX, 1)?;
                let tombstones = self.ledger.due_tombstones(side, NanoTime::MAX, 1)?;
                if !intents.is_empty() || !tombstones.is_empty() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// A staged file whose node is gone was deleted. One that is byte for byte what a store has confirmed
    /// is the committed version. Any other one is taken as it is, as the next version: it holds at least
    /// what was acknowledged, and what was written after that and not undone, as a local disk would.
    async fn recover_staged(&self, ino: Ino) -> BridgeResult<()> {
        let Some(node) = blocking(|| self.ledger.node(ino))? else {
            blocking(|| self.cache.discard(ino))
                .map_err(|e| BridgeError::from_disk("remove a staged file", e))?;
            return Ok(());
        };
        let Some(lease) = self.staged(ino)? else { return Ok(()) };
        match self.confirmed(&node, &lease).await? {
            Some(digest) => {
                self.staging.set(ino, node.version, lease.generation(), Some(digest));
                drop(lease);
                self.released(ino);
            }
            None => {
                self.commit(&lease, ContentTimes::of(&node)).await?;
            }
        }
        Ok(())
    }

    /// The digest of a staged file, if it is the committed version.
    async fn confirmed(&self, node: &Node, lease: &Lease) -> BridgeResult<Option<ContentDigest>> {
        let known = blocking(|| self.ledger.content(node.ino))?;
        let Some((_, known)) = known.filter(|(version, _)| *version == node.version) else {
            return Ok(None);
        };
        if known.size != lease.len() || node.size != lease.len() {
            return Ok(None);
        }
        let found = self.digest_of(lease, lease.generation()).await?;
        Ok((found == known).then_some(found))
    }

    /// Files that were created and whose first commit never came: they are there, and empty, as they
    /// would be on a local disk.
    async fn recover_uncommitted(&self) -> BridgeResult<usize> {
        let mut count = 0;
        let mut after = Ino(0);
        loop {
            let nodes = blocking(|| self.ledger.uncommitted(after, 1000))?;
            let Some(last) = nodes.last() else { return Ok(count) };
            after = last.ino;
            for node in &nodes {
                debug_assert_eq!(node.version, Version::UNCOMMITTED);
                let (lease, _is_new) = self.staged_or_empty(node.ino)?;
                self.commit(&lease, ContentTimes::of(node)).await?;
                count += 1;
            }
        }
    }
}
