//! Replacing exactly what we know is there, so that a late request never overtakes a newer one, and
//! nobody's bytes are overwritten unseen.

use bytes::Bytes;

use super::Outcome;
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, blocking};
use crate::clock::Instant;
use crate::ledger::Replica;
use crate::object::{ETag, Key, OpId, Side};
use crate::store::{
    Capabilities, Condition, ErrorKind, ObjectInfo, ObjectMeta, PartReceipt, Store, StoreError, StoreResult,
    UploadId,
};

/// How often one task looks again at a key that changes under its hands.
const LOOKS_MAX: u32 = 5;

/// So many refusals of a write that expects nothing, each with a look that found nothing, and the store is not
/// believed that something is there.
const PHANTOMS_MAX: u32 = 2;

/// What a store holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) etag: ETag,
    /// The metadata is the one that was to be written; not so when an earlier try of ours had succeeded
    /// with older attributes.
    pub(super) meta_is_current: bool,
}

/// A write of one key, to be tried under one condition after another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Write<'a> {
    /// The whole content in one request.
    Put(&'a Bytes, &'a ObjectMeta),
    /// The parts that were sent.
    Complete(&'a UploadId, &'a [PartReceipt], &'a ObjectMeta),
    /// What stands under another key.
    Copy(&'a Key, &'a ETag, &'a ObjectMeta),
}

impl Write<'_> {
    async fn run(self, store: &dyn Store, key: &Key, condition: &Condition) -> StoreResult<ETag> {
        match self {
            Write::Put(body, meta) => store.put(key, body.clone(), meta, condition).await,
            Write::Complete(upload, parts, meta) => {
                store.complete_upload(key, upload, parts, meta, condition).await
            }
            Write::Copy(from, etag, _) => store.copy(from, etag, key, condition).await,
        }
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Write::Put(_, meta) | Write::Complete(_, _, meta) | Write::Copy(_, _, meta) => meta,
        }
    }

    fn is_copy(&self) -> bool {
        self.copy_of().is_some()
    }

    /// What is copied.
    fn copy_of(&self) -> Option<(Key, ETag)> {
        match self {
            Write::Copy(from, etag, _) => Some(((*from).clone(), (*etag).clone())),
            Write::Put(..) | Write::Complete(..) => None,
        }
    }

    /// It was done before: this is there.
    fn placed_before(&self, info: ObjectInfo) -> Placed {
        Placed { meta_is_current: info.meta.user == self.meta().user, etag: info.etag }
    }

    /// The condition as far as the store obeys it.
    fn obeyable(&self, can: Capabilities, condition: Condition) -> Condition {
        let obeyed = match (self, &condition) {
            (_, Condition::Always) => true,
            (Write::Complete(..), _) => can.conditional_complete,
            (Write::Put(..) | Write::Copy(..), Condition::Absent) => can.put_if_absent,
            (Write::Put(..) | Write::Copy(..), Condition::Matches(_)) => can.put_if_match,
        };
        if obeyed { condition } else { Condition::Always }
    }
}

/// What stands under a key, seen from one upload.
pub(super) enum Standing {
    Nothing,
    /// This very upload, sent before; its answer was lost.
    Mine(ObjectInfo),
    /// Another upload of this bridge, which this one replaces.
    Ours(ETag),
    /// Somebody else's.
    Foreign(ObjectInfo),
}

impl Standing {
    /// What the write is to replace, if it is not its own result.
    fn replaced(&self) -> Option<&ETag> {
        match self {
            Standing::Nothing | Standing::Mine(_) => None,
            Standing::Ours(etag) => Some(etag),
            Standing::Foreign(info) => Some(&info.etag),
        }
    }
}

impl Bridge {
    /// What we believe stands under `key`: our replica there, what was deleted there last, or nothing.
    pub(super) fn expected(
        &self,
        side: Side,
        key: &Key,
        replica: Option<&Replica>,
    ) -> BridgeResult<Condition> {
        let known = |etag: &ETag| !etag.as_str().is_empty();
        let ours = replica.filter(|r| r.receipt.key == *key).map(|r| r.receipt.etag.clone());
        let etag = match ours.filter(known) {
            Some(etag) => Some(etag),
            None => {
                let tombstone = blocking(|| self.ledger.tombstone(side, key))?;
                tombstone.and_then(|t| t.etag.or(t.last_etag)).filter(known)
            }
        };
        Ok(etag.map_or(Condition::Absent, Condition::Matches))
    }

    /// Runs `write` under a condition that it is told, until it succeeds or fails for another reason
    /// than the condition. After a failed condition the store is looked at: our own success, an older
    /// upload of ours, or somebody else's object, which is copied aside before it is replaced.
    ///
    /// Some servers (SeaweedFS) refuse a write that expects nothing where a directory of earlier keys is left
    /// below the name, though they say that no object is there. After the second look that found nothing, the
    /// write is sent once without a condition. Of this bridge nobody else writes the key meanwhile: the caller
    /// has its lock. An outsider's object could only be overwritten if it came between that look and the
    /// write, which follows at once; and it is one write for each try of the task, which come ever slower.
    pub(super) async fn replace(
        &self,
        side: Side,
        key: &Key,
        mine: &OpId,
        first: Condition,
        write: Write<'_>,
    ) -> BridgeResult<Placed> {
        let store = &self.handle(side).store;
        let mut condition = first;
        let mut only_looks = false;
        let mut phantoms = 0;
        for _ in 0..LOOKS_MAX {
            let asked = match only_looks || phantoms == PHANTOMS_MAX {
                true => Condition::Always,
                false => write.obeyable(store.capabilities(), condition),
            };
            let refused = match write.run(store.as_ref(), key, &asked).await {
                Ok(etag) => return Ok(Placed { etag, meta_is_current: true }),
                // Some servers check no condition on a copy. Refusing them would leave every renamed object
                // under its old name for ever: what stands there is looked at, then copied over.
                Err(e) if e.kind() == ErrorKind::Unsupported && !only_looks && write.is_copy() => {
                    only_looks = true;
                    e
                }
                Err(e) if e.kind() == ErrorKind::PreconditionFailed || e.kind() == ErrorKind::NotFound => e,
                Err(e) => {
                    let failed = self.failed(side, key, e, write.copy_of());
                    return self.arrived_after_all(side, key, mine, write).await.ok_or(failed);
                }
            };
            tracing::debug!(%side, %key, error = %refused, "something else stands there");
            let standing = self.standing(side, key, mine).await?;
            let was_asked = standing.replaced().is_some_and(|etag| asked == Condition::Matches(etag.clone()));
            if was_asked && refused.kind() != ErrorKind::Unsupported {
                // What was expected does stand there, so it is the source of a copy that does not.
                return Err(self.failed(side, key, refused, write.copy_of()));
            }
            condition = match standing {
                Standing::Nothing => {
                    phantoms += u32::from(asked == Condition::Absent || phantoms == PHANTOMS_MAX);
                    Condition::Absent
                }
                Standing::Mine(info) => return Ok(write.placed_before(info)),
                Standing::Ours(etag) => Condition::Matches(etag),
                Standing::Foreign(info) => {
                    if let Some(placed) = self.copied_before(side, (key, &info), write, mine).await? {
                        return Ok(placed);
                    }
                    let is_lost_copy = self.is_lost_copy(side, key, &info).await;
                    if !is_lost_copy.map_err(|e| BridgeError::from_store(side, e).on(key))? {
                        self.keep_aside(side, key, &info).await?;
                    }
                    Condition::Matches(info.etag)
                }
            };
        }
        let detail = match condition {
            Condition::Absent => {
                "the store says that no object is there and refuses a write that expects none; tried again later"
            }
            Condition::Always | Condition::Matches(_) => {
                "the object changes faster than it can be replaced; tried again later"
            }
        };
        Err(BridgeError::new(BridgeErrorKind::Unavailable, detail).on(key))
    }

    /// What a copy has made whose answer was lost: later, what was copied may have moved on, and nothing would tell any
    /// more whose the copy of an object from before the bridge is.
    async fn arrived_after_all(
        &self,
        side: Side,
        key: &Key,
        mine: &OpId,
        write: Write<'_>,
    ) -> Option<Placed> {
        if !write.is_copy() || self.replicator.doubtful_until(side, key).is_none() {
            return None;
        }
        match self.standing(side, key, mine).await {
            Ok(Standing::Mine(info)) => Some(write.placed_before(info)),
            Ok(Standing::Foreign(info)) => {
                self.copied_before(side, (key, &info), write, mine).await.ok().flatten()
            }
            Ok(Standing::Nothing | Standing::Ours(_)) | Err(_) => None,
        }
    }

    /// A failed mutation; if its answer was lost it may still happen.
    pub(super) fn failed_write(&self, side: Side, key: &Key, error: StoreError) -> BridgeError {
        self.failed(side, key, error, None)
    }

    /// The same of a copy.
    pub(super) fn failed_copy(
        &self,
        side: Side,
        from: (&Key, &ETag),
        to: &Key,
        error: StoreError,
    ) -> BridgeError {
        self.failed(side, to, error, Some((from.0.clone(), from.1.clone())))
    }

    fn failed(&self, side: Side, key: &Key, error: StoreError, copy_of: Option<(Key, ETag)>) -> BridgeError {
        if error.may_yet_happen() {
            self.replicator.doubt(side, key, copy_of);
        }
        BridgeError::from_store(side, error).on(key)
    }

    /// Nothing else could tell what a lost copy of this object has made, so before it goes that is noted: as something
    /// to be deleted, which a write that replaces it knows. `Some`: it may still be made.
    pub(super) async fn may_be_copied(&self, side: Side, key: &Key) -> BridgeResult<Option<Outcome>> {
        for (copy, until) in self.replicator.lost_copies_of(side, key) {
            if until > Instant::now() {
                return Ok(Some(Outcome::NotBefore(until)));
            }
            match self.lost_copy_made(side, &copy).await {
                Ok(Some(etag)) => self.ledger.bury_stray(side, &copy, Some(etag)).await?,
                Ok(None) => {}
                // Of another object, so it is no answer about this one.
                Err(e) if e.kind().is_unknown() => {
                    return Ok(Some(Outcome::Later("it is not known yet what a lost copy of it has made")));
                }
                Err(error) => {
                    tracing::warn!(%side, key = %copy, %error, "what a lost copy has made cannot be told");
                }
            }
            self.replicator.copy_looked_at(side, &copy, key);
        }
        Ok(None)
    }

    /// The object that a lost copy has made under `key`, if it is there.
    async fn lost_copy_made(&self, side: Side, key: &Key) -> StoreResult<Option<ETag>> {
        match self.handle(side).store.head(key).await {
            Ok(info) => Ok(self.is_lost_copy(side, key, &info).await?.then_some(info.etag)),
            Err(e) if e.kind() == ErrorKind::NotFound || e.kind() == ErrorKind::Unsupported => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether what stands under `key` was made by a copy of ours whose answer was lost, and which nobody asks for any
    /// more.
    pub(super) async fn is_lost_copy(&self, side: Side, key: &Key, info: &ObjectInfo) -> StoreResult<bool> {
        let Some((from, etag)) = self.replicator.lost_copy(side, key) else { return Ok(false) };
        let copied = self.source_of(side, (&from, &etag), (key, info), None).await?;
        Ok(copied.is_some())
    }

    pub(super) async fn standing(&self, side: Side, key: &Key, mine: &OpId) -> BridgeResult<Standing> {
        let info = match self.handle(side).store.head(key).await {
            Ok(info) => info,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Standing::Nothing),
            Err(e) => return Err(BridgeError::from_store(side, e).on(key)),
        };
        let ours = self.is_our_upload(side, key, &info).await;
        if !ours.map_err(|e| BridgeError::from_store(side, e).on(key))? {
            return Ok(Standing::Foreign(info));
        }
        let op = info.meta.user.get("bridgefs_op").map(|raw| OpId::from_metadata(raw));
        Ok(if op.as_ref() == Some(mine) { Standing::Mine(info) } else { Standing::Ours(info.etag) })
    }

    /// What stands there, if it is what this copy makes, because an earlier try of it succeeded and its answer
    /// was lost. The copy of an object from before the bridge carries no id of an upload, so nothing less than
    /// all of it tells: length, metadata, and the bytes, read back. Its source may have got entries of ours
    /// since, but has lost none. If somebody else put the very same there, nothing of theirs is lost by
    /// keeping it.
    async fn copied_before(
        &self,
        side: Side,
        (key, info): (&Key, &ObjectInfo),
        write: Write<'_>,
        mine: &OpId,
    ) -> BridgeResult<Option<Placed>> {
        let Write::Copy(from, etag, _) = write else { return Ok(None) };
        let source = self.source_of(side, (from, etag), (key, info), Some(mine)).await;
        let source = source.map_err(|e| BridgeError::from_store(side, e).on(key))?;
        Ok(source.map(|kept| Placed { etag: info.etag.clone(), meta_is_current: info.meta == kept }))
    }

    /// The metadata of what stands under `from`, if it is what was to be copied, and `info` is a copy of it.
    async fn source_of(
        &self,
        side: Side,
        (from, etag): (&Key, &ETag),
        (key, info): (&Key, &ObjectInfo),
        mine: Option<&OpId>,
    ) -> StoreResult<Option<ObjectMeta>> {
        let source = match self.handle(side).store.head(from).await {
            Ok(source) => source,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let (copied, kept) = (&info.meta, &source.meta);
        let op = kept.user.get("bridgefs_op").map(String::as_str);
        // Who asks for nothing more only wants to know whose the bytes are.
        let is_source = mine.is_none_or(|mine| source.etag == *etag || op == Some(mine.as_str()));
        let is_kept = copied.headers == kept.headers
            && copied.user.iter().all(|(name, value)| kept.user.get(name) == Some(value));
        if !is_source || !is_kept || source.size != info.size {
            return Ok(None);
        }
        let wanted = match mine.and_then(|mine| self.known_digest(mine)) {
            Some(known) => known,
            None => self.digest_object(side, from, &source).await?,
        };
        let is_copy = self.digest_object(side, key, info).await? == wanted;
        Ok(is_copy.then_some(source.meta))
    }

    /// Copies an object that came from elsewhere to a name beside it. What was acknowledged through the
    /// mount then takes its place; nobody's bytes are lost.
    async fn keep_aside(&self, side: Side, key: &Key, info: &ObjectInfo) -> BridgeResult<()> {
        let tag = crc32fast::hash(info.etag.as_str().as_bytes());
        let aside = Key::new(format!("{key}.bridgefs-kept-{tag:08x}")).expect("longer than a key");
        let store = &self.handle(side).store;
        let copied = match store.copy(key, &info.etag, &aside, &Condition::Absent).await {
            // The name says whose content it is, so overwriting changes nothing.
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                store.copy(key, &info.etag, &aside, &Condition::Always).await
            }
            other => other,
        };
        match copied {
            Ok(_) => {}
            // Kept by an earlier try, or changed again: then the next look sees it.
            Err(e) if e.kind() == ErrorKind::PreconditionFailed => {}
            Err(e) => return Err(BridgeError::from_store(side, e).on(key)),
        }
        let done = format!("It was kept as `{aside}`; the version written through the mount took its place.");
        self.report_bypass(side, key, info, &done).await
    }
}
