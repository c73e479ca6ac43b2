//! One deletion on one store.

use super::Outcome;
use crate::bridge::{Bridge, BridgeError, BridgeResult, blocking};
use crate::ledger::{BlockReason, FindingKind, NewFinding, Tombstone, TombstoneState};
use crate::object::{ETag, Key, Side};
use crate::store::{ErrorKind, StoreError};

/// What stands under a key that was deleted through the mount.
enum Remains {
    Nothing,
    /// The object that was deleted, or an upload of ours that came late.
    Object(ETag),
    /// Put there by somebody else after the deletion.
    Foreign,
}

impl Bridge {
    /// Deletes what stands under `key`, unless a node needs or replaces it.
    pub(super) async fn remove(&self, side: Side, key: &Key) -> BridgeResult<Outcome> {
        let Some(_key) = self.replicator.locks.try_lock(side, &[key]) else {
            return Ok(Outcome::Later("its key is being changed"));
        };
        let tombstone = blocking(|| self.ledger.tombstone(side, key))?;
        let Some(tombstone) = tombstone.filter(|t| t.state == TombstoneState::Pending) else {
            return Ok(Outcome::Done);
        };
        if let Some(why) = self.still_needed(side, key)? {
            return Ok(Outcome::Later(why));
        }
        if self.is_live(side, key)? {
            self.ledger.tombstone_done(&tombstone).await?;
            return Ok(Outcome::Done);
        }
        if let Some(outcome) = self.may_be_copied(side, key).await? {
            return Ok(outcome);
        }
        self.ledger.sync_tombstone(&tombstone).await?;
        match self.delete_object(side, key, tombstone.etag.as_ref()).await {
            Ok(()) => self.replicator.acceptance(side).accepted(),
            Err(error) if error.kind() == ErrorKind::Locked => {
                return self.cannot_delete(&tombstone, &error).await;
            }
            Err(error) => return Err(self.failed_write(side, key, error)),
        }
        if let Some(until) = self.replicator.doubtful_until(side, key) {
            // An upload whose answer was lost may still come: then it is deleted too.
            return Ok(Outcome::NotBefore(until));
        }
        self.replicator.copy_found(side, key);
        self.ledger.tombstone_done(&tombstone).await?;
        Ok(Outcome::Done)
    }

    /// Why the object must stay for now.
    fn still_needed(&self, side: Side, key: &Key) -> BridgeResult<Option<&'static str>> {
        if self.replicator.holds.contains(side, key) {
            return Ok(Some("an open file still reads it"));
        }
        blocking(|| {
            if self.ledger.occupant(side, key)?.is_some() {
                return Ok(Some("it must move first"));
            }
            let Some(node) = self.ledger.resolve(key)? else { return Ok(None) };
            let intent = self.ledger.intent(node.link, side)?;
            Ok(match intent.map(|intent| intent.blocked) {
                Some(None) => Some("a new file will replace it"),
                // It may be what is looked for.
                Some(Some(BlockReason::SourceLost)) => Some("the file that has its name is nowhere else"),
                Some(Some(_)) | None => None,
            })
        })
    }

    /// Whether a node has its replica under exactly this key: then the deletion was overtaken.
    fn is_live(&self, side: Side, key: &Key) -> BridgeResult<bool> {
        blocking(|| {
            let Some(node) = self.ledger.resolve(key)? else { return Ok(false) };
            let replicas = self.ledger.replicas(node.link)?;
            Ok(replicas[side].as_ref().is_some_and(|r| r.receipt.key == *key))
        })
    }

    async fn delete_object(&self, side: Side, key: &Key, known: Option<&ETag>) -> Result<(), StoreError> {
        let store = &self.handle(side).store;
        let conditional = store.capabilities().conditional_delete;
        if let Some(etag) = known.filter(|_| conditional) {
            match store.delete(key, Some(etag)).await {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                Err(e) if e.kind() == ErrorKind::PreconditionFailed => {}
                other => return other,
            }
        }
        let etag = match self.remains(side, key, known).await? {
            Remains::Nothing => return Ok(()),
            Remains::Object(etag) => etag,
            Remains::Foreign => return Ok(()),
        };
        match store.delete(key, conditional.then_some(&etag)).await {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) if e.kind() == ErrorKind::PreconditionFailed => {
                let detail = "it changed while it was deleted; tried again";
                Err(StoreError::new(ErrorKind::Unavailable, "delete", detail).on(key).caused_by(e))
            }
            other => other,
        }
    }

    /// Looks at what is there. An object that differs from the one that was deleted and is not ours came
    /// from somebody else: it is left alone, and reported.
    async fn remains(&self, side: Side, key: &Key, known: Option<&ETag>) -> Result<Remains, StoreError> {
        let store = &self.handle(side).store;
        if store.check_key(key).is_err() {
            return Ok(Remains::Nothing);
        }
        let info = match store.head(key).await {
            Ok(info) => info,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Remains::Nothing),
            Err(e) => return Err(e),
        };
        if known.is_none_or(|etag| *etag == info.etag)
            || self.is_our_upload(side, key, &info).await?
            || self.is_lost_copy(side, key, &info).await?
        {
            return Ok(Remains::Object(info.etag));
        }
        let done =
            "Its name was deleted through the mount before; the object was left alone and is not shown.";
        if let Err(error) = self.report_bypass(side, key, &info, done).await {
            tracing::warn!(%side, %key, %error, "a finding could not be recorded");
        }
        Ok(Remains::Foreign)
    }

    async fn cannot_delete(&self, tombstone: &Tombstone, error: &StoreError) -> BridgeResult<Outcome> {
        let Tombstone { side, key, .. } = tombstone;
        let detail = format!(
            "the {side} store will not delete this object: {error}. Its name is gone from the mount and stays \
             gone; the object stays in the store. Release the lock there and delete it by hand."
        );
        let finding =
            NewFinding { kind: FindingKind::Blocked, side: Some(*side), key: Some(key.clone()), detail };
        self.ledger.tombstone_blocked(tombstone, finding).await.map_err(BridgeError::from)?;
        Ok(Outcome::Done)
    }
}
