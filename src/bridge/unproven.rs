//! Names that only one store could show while the one that knows them all could not be asked: served, if that is
//! allowed, and held against what that one says as soon as it answers.

use futures::{StreamExt, TryStreamExt, stream};

use crate::bridge::discover::Sight;
use crate::bridge::{
    Bridge, BridgeError, BridgeErrorKind, BridgeResult, Counts, Routing, UnprovenReads, blocking,
};
use crate::ledger::{FoundOn, Node, Origin};
use crate::object::{Ino, Key, Kind, Position, Side};
use crate::store::StoreError;

/// Names that are asked for at once.
const PROOFS_MAX: usize = 8;

impl Bridge {
    /// The authority cannot be asked. If history is proven to be on both, the other store is as good; if
    /// not, it may show an object (unproven, if allowed), but its "absent" means nothing.
    pub(super) async fn sight_elsewhere(
        &self,
        routing: &Routing,
        name: &str,
        key: &Key,
        error: StoreError,
    ) -> BridgeResult<(Side, Origin, Sight)> {
        let other = routing.authority.other();
        let unknown = BridgeError::from_store(routing.authority, error).on(key);
        let allowed = self.settings.unproven_reads == UnprovenReads::Allow;
        if !routing.history_on_both && !allowed {
            return Err(unknown);
        }
        match self.sight(other, name, key).await {
            Ok(sight) if routing.history_on_both => Ok((other, Origin::Read, sight)),
            Ok(Sight::Present(found)) => {
                Counts::bump(&self.counts.unproven_reads);
                Ok((other, Origin::Unproven, Sight::Present(found)))
            }
            Ok(Sight::Absent) | Err(_) => Err(unknown),
        }
    }

    /// Asks the store that knows every name for an unproven one -> whether something else is known now. What it has is
    /// what the name is; while it cannot be asked everything stays as it is. No store is changed because of it.
    pub(crate) async fn prove(&self, node: &Node) -> BridgeResult<bool> {
        let key = self.child_key(node.parent, &node.name)?;
        let side = self.routing(Some(&key)).authority;
        let scan = self.ledger.begin_scan();
        let now = match self.sight(side, &node.name, &key).await {
            Ok(Sight::Present(found)) => {
                let on = FoundOn { side, origin: Origin::Read, now: self.clock.now() };
                self.ledger.adopt(node.parent, vec![found], on, scan.id()).await?.into_iter().next()
            }
            Ok(Sight::Absent) => self.ledger.disown(node.link).await?,
            Err(_) => return Ok(false),
        };
        if now.as_ref().is_none_or(|now| (now.ino, now.version) != (node.ino, node.version)) {
            // A version that a power failure takes back would be given again, to another content.
            self.ledger.sync().await?;
            tracing::warn!(%key, "what was read of this name while the {side} store was away is not what that store has");
        }
        Ok(now.as_ref() != Some(node))
    }

    /// Refuses what is unproven and no directory: another object may stand under its name, and would go with it, unseen.
    pub(super) fn require_proven_name(node: &Node) -> BridgeResult<()> {
        if node.origin != Origin::Unproven || node.kind == Kind::Directory {
            return Ok(());
        }
        let detail = format!("the store that knows what `{}` is cannot be asked", node.name);
        Err(BridgeError::new(BridgeErrorKind::Unavailable, detail))
    }

    /// What is known to stand in a directory, as `list` tells it; what is unproven is asked for first.
    pub(super) async fn children(&self, dir: Ino, after: Position, limit: usize) -> BridgeResult<Vec<Node>> {
        loop {
            let nodes = blocking(|| self.ledger.children(dir, after, limit))?;
            let unproven: Vec<Node> =
                nodes.iter().filter(|node| node.origin == Origin::Unproven).cloned().collect();
            let proofs = unproven.into_iter().map(|node| async move { self.prove(&node).await });
            let news: Vec<bool> = stream::iter(proofs).buffer_unordered(PROOFS_MAX).try_collect().await?;
            if !news.contains(&true) {
                return Ok(nodes);
            }
        }
    }
}
