//! Room for an object under its key: what stands there, or in the way, and belongs to another name goes first.

use super::Outcome;
use super::refusal::block_reason;
use super::sync::Situation;
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, blocking};
use crate::ledger::{NewReceipt, Obstacle, Replica, ReplicaState};
use crate::object::{Key, LinkId, OWN_PREFIX, Receipt, Side};
use crate::store::{Condition, ErrorKind, StoreError};

/// How many moves may wait for each other before one is freed by bringing its content here.
const CHAIN_MAX: usize = 64;

impl Bridge {
    /// The object under our key may still be the only one of a node that was renamed away from there. It
    /// moves first; it steps aside if the moves wait for each other in a ring, or if it is not to move soon: its new
    /// key is refused, or its store is not written any more and waits for the other one.
    pub(super) async fn make_room(&self, side: Side, situation: &Situation) -> BridgeResult<Option<Outcome>> {
        let Some(occupant) = situation.occupants[side] else { return Ok(None) };
        if self.moves_away(side, situation.node.link, occupant)? {
            return Ok(Some(Outcome::Later("another object must move away first")));
        }
        self.send_away(side, occupant).await.map(Some)
    }

    /// Whether the occupant of a key that `mine` is to get leaves it without help.
    pub(super) fn moves_away(&self, side: Side, mine: LinkId, occupant: LinkId) -> BridgeResult<bool> {
        if self.situation(occupant)?.is_some_and(|other| !other.leaves(side)) {
            return Ok(false);
        }
        let mut next = occupant;
        for _ in 0..CHAIN_MAX {
            let Some(key) = blocking(|| self.ledger.key_of(next))? else { return Ok(false) };
            match blocking(|| self.ledger.occupant(side, &key))? {
                None => return Ok(true),
                Some(name) if name == next || name == mine || name == occupant => return Ok(false),
                Some(name) => next = name,
            }
        }
        Ok(false)
    }

    /// Whatever is wrong with an occupant is not wrong with what is to come in its place: that waits, and is
    /// never refused for it.
    async fn send_away(&self, side: Side, occupant: LinkId) -> BridgeResult<Outcome> {
        match self.step_aside(side, occupant).await {
            Err(error) if block_reason(&error).is_some() => {
                let detail = format!("what stands there cannot be moved: {error}");
                let waits = StoreError::new(ErrorKind::Unavailable, "copy", detail).settled();
                Err(BridgeError::from_store(side, waits))
            }
            outcome => outcome,
        }
    }

    /// Ends a ring of moves: the object goes to a name of its own on the same store, from where it moves
    /// on. It is never given up for the local copy, which a loss of the host would take. After `Done` the next step
    /// looks again: it is still there if its name was removed or renamed meanwhile.
    async fn step_aside(&self, side: Side, occupant: LinkId) -> BridgeResult<Outcome> {
        let Some(situation) = self.situation(occupant)? else { return Ok(Outcome::Done) };
        let Some(replica) = situation.replica(side) else { return Ok(Outcome::Done) };
        if replica.state == ReplicaState::Mismatched {
            return self.bring_here(side, &situation, replica).await;
        }
        let aside = aside_of(occupant);
        let Some(_aside) = self.replicator.locks.try_lock(side, &[&aside]) else {
            return Ok(Outcome::Later("its object is being moved"));
        };
        // Noted first: a copy that arrives and is never confirmed is deleted again.
        self.ledger.bury_stray(side, &aside, None).await?;
        let receipt = &replica.receipt;
        let store = &self.handle(side).store;
        let etag = match store.copy(&receipt.key, &receipt.etag, &aside, &Condition::Always).await {
            Ok(etag) => etag,
            // A store that cannot copy has the content sent again.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return self.bring_here(side, &situation, replica).await;
            }
            Err(error) => {
                self.check_source(side, &situation, receipt).await?;
                return Err(self.failed_copy(side, (&receipt.key, &receipt.etag), &aside, error));
            }
        };
        let receipt = Receipt { key: aside, etag, ..receipt.clone() };
        let now = self.clock.now();
        let made_of = Some(replica.receipt.clone());
        let new = NewReceipt { receipt, attr_version: replica.attr_version, content: None, made_of, now };
        self.ledger.receipt((situation.node.ino, occupant), side, new).await?;
        // What was noted first may be on the disk, and nothing else would say whose the object is.
        self.ledger.sync().await?;
        self.replicator.wake_all();
        Ok(Outcome::Done)
    }

    /// What the store has of the occupant cannot be copied: its content is brought here, and sent again.
    async fn bring_here(
        &self,
        side: Side,
        situation: &Situation,
        replica: &Replica,
    ) -> BridgeResult<Outcome> {
        let occupant = &situation.node;
        let lease = match self.staged(occupant.ino)? {
            Some(lease) => Some(lease).filter(|lease| self.staging.is_at(lease, occupant.version)),
            None => match self.bring_back(occupant.ino).await {
                Err(error) if is_nowhere(&error) => return self.forsake(side, situation, replica).await,
                lease => lease?,
            },
        };
        let Some(lease) = lease else {
            return Ok(Outcome::Later("what stands there is being written"));
        };
        blocking(|| lease.sync()).map_err(|e| BridgeError::from_disk("sync a staged file", e))?;
        self.ledger.request(occupant.link, side, self.clock.now()).await?;
        // What stood here is remembered as deleted, so that the write which replaces it knows its tag.
        self.ledger.drop_replica(side, replica).await?;
        // Nobody could let go of it so far, and who has seen before that the store had it must not do so from now on.
        self.staging.renew(occupant.ino);
        drop(lease);
        self.replicator.wake_all();
        Ok(Outcome::Done)
    }

    /// The occupant's content is nowhere, so nothing of it stands there either, unless the store answered wrongly before.
    /// An outsider's object that stands there is for the write which replaces it to keep.
    async fn forsake(&self, side: Side, situation: &Situation, replica: &Replica) -> BridgeResult<Outcome> {
        if self.take_back(side, situation).await? {
            return Ok(Outcome::Done);
        }
        if !self.ledger.forsake_key(side, replica, aside_of(replica.name)).await? {
            return Ok(Outcome::Later("what stands there can neither be moved nor brought here"));
        }
        self.replicator.wake_all();
        Ok(Outcome::Done)
    }

    /// A folder cannot hold a file beside a directory of the same name. Where a name has become the one after
    /// having been the other, a refusal only means that the old object is still there: it goes first. If it
    /// is to move, it may be waiting for us, or be our own, so it is not waited for.
    pub(super) async fn clear_the_way(&self, side: Side, key: &Key) -> BridgeResult<Option<Outcome>> {
        let occupant = match blocking(|| self.ledger.obstacle(side, key))? {
            None => return Ok(None),
            Some(Obstacle::Deletion) => return Ok(Some(Outcome::Later("what was deleted there goes first"))),
            Some(Obstacle::Object(occupant)) => occupant,
        };
        let stands_at = blocking(|| self.ledger.replicas(occupant))?[side].clone().map(|r| r.receipt.key);
        if let Some(stands_at) = stands_at
            && let Some(_key) = self.replicator.locks.try_lock(side, &[&stands_at])
            && blocking(|| self.ledger.obstacle(side, key))? == Some(Obstacle::Object(occupant))
        {
            self.send_away(side, occupant).await?;
        }
        Ok(Some(Outcome::Later("what was renamed away from there goes first")))
    }
}

/// Where an object of this name stands while it is nowhere in the tree.
fn aside_of(name: LinkId) -> Key {
    Key::new(format!("{OWN_PREFIX}moving/{name}")).expect("short and plain")
}

/// Whether no store has the content, and not only the one that was asked.
fn is_nowhere(error: &BridgeError) -> bool {
    error.store_kind().is_none() && matches!(error.kind(), BridgeErrorKind::Stale | BridgeErrorKind::Lost)
}
