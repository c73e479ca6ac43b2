//! One node on one store: finds what is missing there and does the next step, until nothing is.

use super::Outcome;
use super::condition::Write;
use crate::bridge::{Bridge, BridgeError, BridgeResult, Routing, blocking, router};
use crate::ledger::{
    ATTRS_UNKNOWN, Intent, Leaving, NameState, NewReceipt, Node, ReceiptOutcome, Replica, ReplicaState,
};
use crate::object::{
    ContentDigest, Digest, ETag, Key, Kind, LinkId, OpId, PerSide, Receipt, Side, Version, XATTRS_ENTRY,
};
use crate::store::{ErrorKind, ObjectInfo, ObjectMeta};

/// Steps of one task: put or move, then metadata, with room for changes that come meanwhile.
const STEPS_MAX: u32 = 8;

/// Everything about a node that a step needs, from the ledger.
#[derive(Debug)]
pub(super) struct Situation {
    pub(super) node: Node,
    pub(super) key: Key,
    pub(super) routing: Routing,
    pub(super) replicas: PerSide<Option<Replica>>,
    intents: PerSide<Option<Intent>>,
    pub(super) occupants: PerSide<Option<LinkId>>,
}

/// The next step for a node on one store.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The store is as it should be, or the node needs nothing there.
    Nothing,
    /// The store lacks the content.
    Put,
    /// It has the content under the key before a rename.
    Move,
    /// It has the content with older attributes.
    SetMeta,
    /// The slice does not write this store any more, and the object stands under a name that is gone.
    Leave,
    /// It does not, and only this store had the content, and was found not to have it any more.
    Seek,
}

/// How an object came to be that a store confirmed.
pub(super) enum Made<'a> {
    /// All its bytes went there.
    Sent(ContentDigest),
    /// The store made it of this one: it knows the bytes.
    Of(&'a Replica),
    /// It was there, sent by us before.
    Found,
}

impl Situation {
    /// What the store is still to get, if it may yet take it.
    pub(super) fn intent(&self, side: Side) -> Option<&Intent> {
        self.intents[side].as_ref().filter(|intent| intent.blocked.is_none())
    }

    pub(super) fn replica(&self, side: Side) -> Option<&Replica> {
        self.replicas[side].as_ref()
    }

    /// The key under which the store has it, or is to get it.
    pub(super) fn stands_at(&self, side: Side) -> &Key {
        self.replica(side).map_or(&self.key, |replica| &replica.receipt.key)
    }

    /// Whether its object on this store leaves the key where it stands without help.
    pub(super) fn leaves(&self, side: Side) -> bool {
        self.intent(side).is_some() && self.step(side) != Step::Leave
    }

    /// Whether the store had this very version, has it no more, and no other store has it under this name.
    fn is_lost_with(&self, replica: &Replica) -> bool {
        let is_current = |r: &Option<Replica>| r.as_ref().is_some_and(|r| router::is_current(r, &self.node));
        replica.state == ReplicaState::Mismatched
            && replica.receipt.version == self.node.version
            && !self.replicas.iter().any(|(_, r)| is_current(r))
    }

    fn step(&self, side: Side) -> Step {
        let replica = self.replica(side);
        if self.node.kind == Kind::Directory || self.node.version == Version::UNCOMMITTED {
            return Step::Nothing;
        }
        if !self.routing.route.writes(side) {
            return match replica {
                Some(replica) if replica.receipt.key != self.key => Step::Leave,
                Some(replica) if self.is_lost_with(replica) => Step::Seek,
                Some(_) | None => Step::Nothing,
            };
        }
        match replica {
            Some(replica) if router::is_current(replica, &self.node) => {
                if replica.receipt.key != self.key {
                    Step::Move
                } else if replica.attr_version != self.node.attr_version {
                    Step::SetMeta
                } else {
                    Step::Nothing
                }
            }
            Some(_) | None => Step::Put,
        }
    }
}

impl Bridge {
    /// Brings what a store holds under one name up to date.
    pub(super) async fn sync_name(&self, side: Side, name: LinkId) -> BridgeResult<Outcome> {
        let Some(Node { ino, .. }) = blocking(|| self.ledger.named(name))? else { return Ok(Outcome::Done) };
        let before = blocking(|| self.ledger.intent(name, side))?;
        let outcome = self.sync_steps(side, name).await;
        let after = blocking(|| self.ledger.intent(name, side))?;
        // Only now that the upload has let go of the staged file can it become cache: also where it failed,
        // if the name was removed or the store left meanwhile, because then nobody tries again.
        if after.as_ref().is_none_or(|intent| intent.blocked.is_some()) {
            self.acks.wake(ino);
            self.released(ino);
        }
        match outcome {
            Ok(Outcome::Done) if is_undone(before.as_ref(), after.as_ref()) => {
                Ok(Outcome::Later("what it was asked for is still to be done"))
            }
            outcome => outcome,
        }
    }

    async fn sync_steps(&self, side: Side, name: LinkId) -> BridgeResult<Outcome> {
        let mut refusals = 0;
        for _ in 0..STEPS_MAX {
            let Some((situation, step)) = self.next_step(side, name).await? else { return Ok(Outcome::Done) };
            if let Some(until) = self.rests_until(side, &situation, step == Step::SetMeta) {
                return Ok(Outcome::NotBefore(until));
            }
            match self.take_step(side, &situation, step).await {
                Ok(Outcome::Done) => {}
                Ok(later @ (Outcome::Later(_) | Outcome::AfterTwin | Outcome::NotBefore(_))) => {
                    return Ok(later);
                }
                Err(error) if error.store_kind() == Some(ErrorKind::Unsupported) => {
                    if let Some(later) = self.clear_the_way(side, &situation.key).await? {
                        return Ok(later);
                    }
                    // What stood in the way may have gone since the refusal: only the second one counts.
                    refusals += 1;
                    if refusals > 1 {
                        return self.refused(side, &situation, error).await;
                    }
                }
                Err(error) => return self.refused(side, &situation, error).await,
            }
        }
        Ok(Outcome::Later("it changes all the time"))
    }

    /// `None`: nothing is left to be done. Stages do not change meanwhile: an intent that is dropped because the
    /// store is not written must not be the one that a flip has just made.
    async fn next_step(&self, side: Side, name: LinkId) -> BridgeResult<Option<(Situation, Step)>> {
        let _route = self.flips.read().await;
        let Some(situation) = self.situation(name)? else { return Ok(None) };
        let Some(intent) = situation.intent(side) else { return Ok(None) };
        let step = situation.step(side);
        if step == Step::Nothing {
            self.ledger.intent_dropped(intent).await?;
            return Ok(None);
        }
        Ok(Some((situation, step)))
    }

    /// Whether the store is still to get content under this name, sent or, if it can, moved. Not "this version": of a
    /// file that is committed again and again some version must arrive, and a write shows in the source.
    pub(super) fn still_puts(&self, side: Side, begun: &Situation) -> BridgeResult<bool> {
        let now = self.situation(begun.node.link)?;
        let puts = |now: &Situation| matches!(now.step(side), Step::Put | Step::Move);
        Ok(now.is_some_and(|now| now.intent(side).is_some() && puts(&now)))
    }

    pub(super) fn situation(&self, name: LinkId) -> BridgeResult<Option<Situation>> {
        let Some(state) = blocking(|| self.ledger.name_state(name))? else { return Ok(None) };
        let NameState { node, key, replicas, intents, occupants } = state;
        let routing = self.routing(Some(&key));
        Ok(Some(Situation { node, key, routing, replicas, intents, occupants }))
    }

    /// What comes to stand under a key does so by a receipt, for which its lock is needed. So if nothing of others
    /// stands there at a moment at which the key is ours in the tree and locked, nothing will until this step ends,
    /// whatever is renamed meanwhile.
    async fn take_step(&self, side: Side, seen: &Situation, step: Step) -> BridgeResult<Outcome> {
        let Some(_keys) = self.replicator.locks.try_lock(side, &[&seen.key, seen.stands_at(side)]) else {
            return Ok(Outcome::Later("its key is being changed"));
        };
        // What was true before the keys were ours may have changed.
        let is_same = |now: &Situation| {
            now.step(side) == step && now.key == seen.key && now.stands_at(side) == seen.stands_at(side)
        };
        let Some(situation) = &self.situation(seen.node.link)?.filter(is_same) else {
            return Ok(Outcome::Done);
        };
        match step {
            Step::Nothing => Ok(Outcome::Done),
            Step::Leave => self.leave(side, situation).await,
            Step::Seek => self.seek(side, situation).await,
            Step::SetMeta => self.send_meta(side, situation).await,
            Step::Put | Step::Move => {
                if self.replicator.holds.contains(side, &situation.key) {
                    return Ok(Outcome::Later("an open file still reads what stands there"));
                }
                if let Some(outcome) = self.make_room(side, situation).await? {
                    return Ok(outcome);
                }
                if let Some(outcome) = self.may_be_copied(side, &situation.key).await? {
                    return Ok(outcome);
                }
                // What stood there may have moved away a moment ago.
                if let Some(tombstone) = blocking(|| self.ledger.tombstone(side, &situation.key))? {
                    self.ledger.sync_tombstone(&tombstone).await?;
                }
                if step == Step::Move {
                    self.move_object(side, situation).await
                } else {
                    self.put(side, situation).await
                }
            }
        }
    }

    /// Nothing is to be sent: it is only said that the content is nowhere, if it is not on the local disk, under another
    /// name, or in the ledger either.
    async fn seek(&self, side: Side, situation: &Situation) -> BridgeResult<Outcome> {
        let node = &situation.node;
        let replicas = blocking(|| self.ledger.readable(node.ino))?;
        let is_there = replicas.iter().any(|(_, r)| r.as_ref().is_some_and(|r| router::is_current(r, node)));
        if !is_there && !node.kind.is_fixed() && self.staged(node.ino)?.is_none() {
            return Err(self.nowhere(node.ino, node.version)?);
        }
        if let Some(intent) = situation.intent(side) {
            self.ledger.intent_dropped(intent).await?;
        }
        Ok(Outcome::Done)
    }

    async fn move_object(&self, side: Side, situation: &Situation) -> BridgeResult<Outcome> {
        let Some(replica) = situation.replica(side) else { return Ok(Outcome::Done) };
        let receipt = &replica.receipt;
        let meta = self.meta_of(situation)?;
        let first = self.expected(side, &situation.key, None)?;
        let write = Write::Copy(&receipt.key, &receipt.etag, &meta);
        let copied = self.replace(side, &situation.key, &self.op_id(&situation.node), first, write).await;
        let placed = match copied {
            Ok(placed) => placed,
            Err(error) => {
                self.check_source(side, situation, receipt).await?;
                let is_in_the_way = blocking(|| self.ledger.obstacle(side, &situation.key))?.is_some();
                return match error.store_kind() {
                    // A store that cannot copy has the content sent again.
                    Some(ErrorKind::Unsupported) if !is_in_the_way => self.put(side, situation).await,
                    _ => Err(error),
                };
            }
        };
        let carried = if placed.meta_is_current { replica.attr_version } else { ATTRS_UNKNOWN };
        self.record_receipt(side, situation, placed.etag, carried, Made::Of(replica)).await
    }

    /// A copy that fails because its source is gone would fail for ever: the replica is marked, and the
    /// next step is a put. If it only has another tag, by a change of attributes of ours whose answer was lost, the
    /// next copy asks for that one.
    pub(super) async fn check_source(
        &self,
        side: Side,
        situation: &Situation,
        receipt: &Receipt,
    ) -> BridgeResult<()> {
        match self.handle(side).store.head(&receipt.key).await {
            Ok(info) if info.etag == receipt.etag => Ok(()),
            Ok(info) if self.is_retagged_object(side, &situation.node, receipt, &info).await? => {
                Ok(self.ledger.retagged(situation.node.link, side, receipt, info.etag).await?)
            }
            Ok(_) => self.report_missing(situation.node.link, side, receipt).await,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.report_missing(situation.node.link, side, receipt).await
            }
            Err(_) => Ok(()),
        }
    }

    async fn send_meta(&self, side: Side, situation: &Situation) -> BridgeResult<Outcome> {
        let Some(replica) = situation.replica(side) else { return Ok(Outcome::Done) };
        let store = &self.handle(side).store;
        if !store.capabilities().metadata {
            let (etag, now) = (replica.receipt.etag.clone(), situation.node.attr_version);
            return self.record_receipt(side, situation, etag, now, Made::Of(replica)).await;
        }
        let (key, etag) = (&situation.key, &replica.receipt.etag);
        let info = match store.head(key).await {
            Ok(info) if info.etag == *etag => info,
            Ok(info) => {
                match self.is_retagged_object(side, &situation.node, &replica.receipt, &info).await? {
                    true => info,
                    false => return self.lost_replica(side, situation, replica).await,
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return self.lost_replica(side, situation, replica).await;
            }
            Err(e) => return Err(BridgeError::from_store(side, e).on(key)),
        };
        let mut meta = info.meta.clone();
        // Merged, because others may have put entries of their own there; but what was removed must go.
        meta.user.remove(XATTRS_ENTRY);
        meta.user.extend(self.meta_of(situation)?.user);
        if let Some(digest) = self.digest_now(situation, replica) {
            // Of an object from before the bridge; one that another program wrote there is for the audit.
            meta.user.entry("blake3".to_owned()).or_insert_with(|| digest.to_hex());
        }
        let etag = if meta.user == info.meta.user {
            info.etag
        } else {
            // After a power failure the ledger must not know older ones, and nothing of this.
            self.ledger.sync().await?;
            store.set_meta(key, &info.etag, &meta).await.map_err(|e| self.failed_write(side, key, e))?
        };
        self.record_receipt(side, situation, etag, situation.node.attr_version, Made::Of(replica)).await
    }

    /// The digest of a node's content, if it is known by now: from a receipt, or from an upload under way.
    fn digest_now(&self, situation: &Situation, replica: &Replica) -> Option<Digest> {
        let node = &situation.node;
        let staged = || {
            let committed =
                self.staging.get(node.ino).filter(|committed| committed.version == node.version)?;
            committed.digest.get().map(|known| known.digest)
        };
        replica.receipt.digest.or_else(staged)
    }

    /// Whether the object that was confirmed is there with another tag, because the answer of an earlier try was lost.
    async fn is_retagged_object(
        &self,
        side: Side,
        node: &Node,
        receipt: &Receipt,
        info: &ObjectInfo,
    ) -> BridgeResult<bool> {
        let op = info.meta.user.get("bridgefs_op").map(String::as_str);
        if op != Some(OpId::new(self.ledger.bridge_id(), node.ino, receipt.version).as_str()) {
            return Ok(false);
        }
        let same = self.is_our_upload(side, &receipt.key, info).await;
        same.map_err(|e| BridgeError::from_store(side, e).on(&receipt.key))
    }

    async fn lost_replica(
        &self,
        side: Side,
        situation: &Situation,
        replica: &Replica,
    ) -> BridgeResult<Outcome> {
        self.report_missing(situation.node.link, side, &replica.receipt).await?;
        Ok(Outcome::Done)
    }

    /// The store is no longer written. Its object under the old name goes, once the content is where it
    /// belongs.
    async fn leave(&self, side: Side, situation: &Situation) -> BridgeResult<Outcome> {
        let Some(replica) = situation.replica(side) else { return Ok(Outcome::Done) };
        let leaving = self.ledger.leave(side, replica).await?;
        if leaving != Leaving::Waits {
            // The other store is to get it, or its old name is in a slice that still writes this one: it is deleted there.
            self.replicator.wake_all();
        }
        let waits = Outcome::Later("the other store does not have it yet");
        Ok(if leaving == Leaving::Done { Outcome::Done } else { waits })
    }

    /// Writes a store's confirmation into the ledger and tells those who wait for it.
    pub(super) async fn record_receipt(
        &self,
        side: Side,
        situation: &Situation,
        etag: ETag,
        attr_version: u64,
        made: Made<'_>,
    ) -> BridgeResult<Outcome> {
        let node = &situation.node;
        let (content, made_of) = match made {
            Made::Sent(content) => (Some(content), None),
            Made::Of(replica) => (None, Some(replica.receipt.clone())),
            Made::Found => (None, None),
        };
        let digest = content.as_ref().map(|c| c.digest);
        // A first digest is wanted beside every other object of this content too, if need be on the other store.
        let has_no_digest = |other: &Replica| other.receipt.digest.is_none();
        let is_news = digest.is_some()
            && (node.links > 1 || situation.replica(side.other()).is_some_and(has_no_digest));
        let receipt =
            Receipt { key: situation.key.clone(), version: node.version, etag, size: node.size, digest };
        let receipt = NewReceipt { receipt, attr_version, content, made_of, now: self.clock.now() };
        self.replicator.acceptance(side).accepted();
        let outcome = self.ledger.receipt((node.ino, node.link), side, receipt).await?;
        self.replicator.copy_found(side, &situation.key);
        match outcome {
            ReceiptOutcome::Satisfied | ReceiptOutcome::Behind => self.acks.wake(node.ino),
            ReceiptOutcome::Gone => self.replicator.wake_all(),
        }
        if is_news {
            self.replicator.wake_all();
        }
        Ok(Outcome::Done)
    }

    /// The id of the upload of a node's current version.
    pub(crate) fn op_id(&self, node: &Node) -> OpId {
        OpId::new(self.ledger.bridge_id(), node.ino, node.version)
    }

    /// What is written beside the content, apart from its digest. The extended attributes are read after
    /// the node: they are those of its attribute version, or newer.
    pub(super) fn meta_of(&self, situation: &Situation) -> BridgeResult<ObjectMeta> {
        let node = &situation.node;
        let xattrs = blocking(|| self.ledger.xattrs(node.ino))?;
        let mut user = node.attrs.to_metadata(node.kind);
        user.insert("bridgefs_op".to_owned(), self.op_id(node).as_str().to_owned());
        user.extend(xattrs.to_entry().map(|entry| (XATTRS_ENTRY.to_owned(), entry)));
        Ok(ObjectMeta::of_user(user))
    }
}

/// Whether a task that says it is done has left what it was asked for as it was: at once it would do so again.
pub(super) fn is_undone(before: Option<&Intent>, after: Option<&Intent>) -> bool {
    let is_open = |intent: &&Intent| intent.blocked.is_none();
    after.filter(is_open).zip(before).is_some_and(|(after, before)| after.stamp == before.stamp)
}
