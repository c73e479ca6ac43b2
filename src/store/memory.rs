//! The reference implementation of [`Store`], in memory: every condition is obeyed, every state has a tag
//! of its own, nothing waits. Tests look into it and change it like an outside client.

use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;

use super::{
    Body, ByteRange, Capabilities, Condition, Download, ErrorKind, ListPage, ListRequest, ListToken,
    ListedObject, ObjectInfo, ObjectMeta, PartReceipt, Store, StoreError, StoreResult, UploadId,
};
use crate::clock::Clock;
use crate::object::{Digest, ETag, Key, NanoTime};

/// A body comes in pieces of so many bytes, so that nobody relies on getting it in one.
const PIECE_BYTES: usize = 256 << 10;
/// The longest key, in bytes: that of the clouds.
const KEY_BYTES_MAX: usize = 1024;

/// An object store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    name: String,
    clock: Clock,
    sizes: Sizes,
    tags: Tags,
    state: Mutex<State>,
}

/// What a [`MemoryStore`] makes its tags of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tags {
    OfState,
    OfContent,
}

/// The size limits that a [`MemoryStore`] has and enforces; small ones make a test's uploads cheap.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The smallest part but the last, in bytes.
    pub part_bytes_min: u64,
    /// The largest object of one `put`, in bytes.
    pub put_bytes_max: u64,
}

impl Default for Sizes {
    /// Those of S3.
    fn default() -> Sizes {
        Sizes { part_bytes_min: 5 << 20, put_bytes_max: 5 << 30 }
    }
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Key, Object>,
    uploads: BTreeMap<String, Upload>,
    /// Counts tags, uploads and parts: never goes back, so no tag comes twice.
    counter: u64,
}

#[derive(Debug, Clone)]
struct Object {
    body: Bytes,
    info: ObjectInfo,
}

#[derive(Debug)]
struct Upload {
    key: Key,
    parts: BTreeMap<u32, (String, Bytes)>,
}

impl MemoryStore {
    /// An empty store. Its tags start with `name`, so that a tag that is given to the wrong store of a
    /// pair never matches by chance.
    pub fn new(name: impl Into<String>, clock: Clock) -> MemoryStore {
        MemoryStore {
            name: name.into(),
            clock,
            sizes: Sizes::default(),
            tags: Tags::OfState,
            state: Mutex::default(),
        }
    }

    /// The same with other size limits.
    #[must_use]
    pub fn with_sizes(mut self, sizes: Sizes) -> MemoryStore {
        self.sizes = sizes;
        self
    }

    /// The same with tags that follow from the content, as those of S3 do: the same bytes have the same tag, whatever
    /// their metadata and wherever they are.
    #[must_use]
    pub fn with_tags_of_content(mut self) -> MemoryStore {
        self.tags = Tags::OfContent;
        self
    }

    /// Everything that is there, content and metadata.
    pub fn snapshot(&self) -> BTreeMap<Key, (Bytes, ObjectMeta)> {
        let state = self.state.lock();
        let pair =
            |(key, object): (&Key, &Object)| (key.clone(), (object.body.clone(), object.info.meta.clone()));
        state.objects.iter().map(pair).collect()
    }

    /// The count of uploads that have begun and are neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.state.lock().uploads.len()
    }

    /// Puts an object past the trait, as another client of the bucket does.
    pub fn bypass_put(&self, key: &Key, body: impl Into<Bytes>, meta: ObjectMeta) -> ETag {
        self.install(&mut self.state.lock(), key, body.into(), meta)
    }

    /// Deletes an object past the trait; whether it was there.
    pub fn bypass_delete(&self, key: &Key) -> bool {
        self.state.lock().objects.remove(key).is_some()
    }

    /// Changes stored bytes under an unchanged tag, as a failing disk of the provider does; whether the
    /// object was there.
    pub fn bypass_corrupt(&self, key: &Key, body: impl Into<Bytes>) -> bool {
        let mut state = self.state.lock();
        let Some(object) = state.objects.get_mut(key) else { return false };
        object.body = body.into();
        true
    }

    fn install(&self, state: &mut State, key: &Key, body: Bytes, meta: ObjectMeta) -> ETag {
        state.counter += 1;
        let etag = match self.tags {
            Tags::OfState => ETag::new(&format!("{}-{}", self.name, state.counter)),
            Tags::OfContent => ETag::new(&format!("{}-{}", self.name, Digest::of(&body).to_hex())),
        };
        let info = ObjectInfo { size: body.len() as u64, etag: etag.clone(), modified: self.now(), meta };
        state.objects.insert(key.clone(), Object { body, info });
        etag
    }

    fn now(&self) -> NanoTime {
        self.clock.now()
    }
}

impl State {
    fn find(&self, operation: &'static str, key: &Key) -> StoreResult<&Object> {
        let missing = || StoreError::new(ErrorKind::NotFound, operation, "no such object").on(key);
        self.objects.get(key).ok_or_else(missing)
    }

    /// The object in exactly the state `if_match`.
    fn find_as(&self, operation: &'static str, key: &Key, if_match: Option<&ETag>) -> StoreResult<&Object> {
        let object = self.find(operation, key)?;
        match if_match {
            Some(etag) if *etag != object.info.etag => Err(changed(operation, key, &object.info.etag)),
            _ => Ok(object),
        }
    }

    fn check(&self, operation: &'static str, key: &Key, condition: &Condition) -> StoreResult<()> {
        match (condition, self.objects.get(key)) {
            (Condition::Always, _) | (Condition::Absent, None) => Ok(()),
            (Condition::Matches(etag), Some(there)) if *etag == there.info.etag => Ok(()),
            (Condition::Absent | Condition::Matches(_), Some(there)) => {
                Err(changed(operation, key, &there.info.etag))
            }
            (Condition::Matches(_), None) => {
                let detail = "nothing is there, and the condition names a state";
                Err(StoreError::new(ErrorKind::PreconditionFailed, operation, detail).on(key))
            }
        }
    }

    fn upload(&mut self, operation: &'static str, key: &Key, id: &UploadId) -> StoreResult<&mut Upload> {
        let missing = || StoreError::new(ErrorKind::NotFound, operation, "no such upload").on(key);
        self.uploads.get_mut(&id.0).filter(|upload| upload.key == *key).ok_or_else(missing)
    }
}

fn changed(operation: &'static str, key: &Key, there: &ETag) -> StoreError {
    let detail = format!("the object has the tag {there}");
    StoreError::new(ErrorKind::PreconditionFailed, operation, detail).on(key)
}

/// The bytes of `range`; a range that leaves the object means that the caller's size is out of date.
fn slice(key: &Key, body: &Bytes, range: ByteRange) -> StoreResult<Bytes> {
    let ByteRange::Part { start, len } = range else { return Ok(body.clone()) };
    let bounds = || {
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        (start < end && end <= body.len()).then_some(start..end)
    };
    let outside = || {
        let detail = format!("{len} bytes from {start} are not within the {} of the object", body.len());
        StoreError::new(ErrorKind::PreconditionFailed, "get", detail).on(key)
    };
    Ok(body.slice(bounds().ok_or_else(outside)?))
}

fn in_pieces(mut body: Bytes) -> Body {
    let mut pieces = Vec::new();
    while !body.is_empty() {
        pieces.push(Ok(body.split_to(body.len().min(PIECE_BYTES))));
    }
    stream::iter(pieces).boxed()
}

/// The parts in order, if they are those that the receipts name.
fn assemble(key: &Key, upload: &Upload, parts: &[PartReceipt], part_min: u64) -> StoreResult<Bytes> {
    let failed = |kind, detail| Err(StoreError::new(kind, "complete_upload", detail).on(key));
    let mut whole = BytesMut::new();
    for (receipt, number) in parts.iter().zip(1..) {
        match upload.parts.get(&receipt.number) {
            Some((tag, body)) if *tag == receipt.tag && receipt.number == number => {
                let is_last = parts.len() == number as usize;
                if !is_last && (body.len() as u64) < part_min {
                    return failed(ErrorKind::Unsupported, format!("part {number} is too small"));
                }
                whole.extend_from_slice(body);
            }
            _ => return failed(ErrorKind::PreconditionFailed, format!("part {number} is not that part")),
        }
    }
    Ok(whole.freeze())
}

/// Whether a walk in byte order goes past `key` when the last page ended with `token`.
fn is_after(key: &str, token: Option<&str>, one_level: bool) -> bool {
    let folded = |token: &str| one_level && token.ends_with('/') && key.starts_with(token);
    token.is_none_or(|token| key > token && !folded(token))
}

impl State {
    fn list(&self, request: &ListRequest) -> ListPage {
        let token = request.token.as_ref().map(|token| token.0.as_str());
        let mut page = ListPage::default();
        let mut last: Option<String> = None;
        let prefix = request.prefix.as_str();
        let start = token.map_or(prefix, |token| token.max(prefix));
        let from = Key::new(start).map_or(Bound::Unbounded, Bound::Included);
        for (key, object) in self.objects.range((from, Bound::Unbounded)) {
            let name = key.as_str();
            let Some(rest) = name.strip_prefix(prefix) else { break };
            let seen = last.as_deref().or(token);
            if !is_after(name, seen, request.one_level) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() >= request.max_entries.max(1) as usize {
                page.next = last.map(ListToken);
                break;
            }
            match rest.split_once('/').filter(|_| request.one_level) {
                Some((directory, _)) => {
                    let folded = format!("{prefix}{directory}/");
                    page.prefixes.push(folded.clone());
                    last = Some(folded);
                }
                None => {
                    page.objects.push(listed(key, &object.info));
                    last = Some(name.to_owned());
                }
            }
        }
        page
    }
}

fn listed(key: &Key, info: &ObjectInfo) -> ListedObject {
    ListedObject { key: key.clone(), size: info.size, etag: Some(info.etag.clone()), modified: info.modified }
}

#[async_trait]
impl Store for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            put_if_absent: true,
            put_if_match: true,
            conditional_complete: true,
            conditional_delete: true,
            conditional_get: true,
            metadata: true,
            checksums: true,
            part_bytes_min: self.sizes.part_bytes_min,
            parts_max: 10_000,
            put_bytes_max: self.sizes.put_bytes_max,
        }
    }

    fn check_key(&self, key: &Key) -> StoreResult<()> {
        let count = key.as_str().len();
        if count <= KEY_BYTES_MAX {
            return Ok(());
        }
        let why = format!("{count} bytes, the limit is {KEY_BYTES_MAX}");
        Err(StoreError::new(ErrorKind::Unsupported, "check_key", why).on(key))
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo> {
        Ok(self.state.lock().find("head", key)?.info.clone())
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> StoreResult<Download> {
        let object = self.state.lock().find_as("get", key, if_match)?.clone();
        let body = in_pieces(slice(key, &object.body, range)?);
        Ok(Download { info: object.info, body })
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        if body.len() as u64 > self.sizes.put_bytes_max {
            return Err(StoreError::new(ErrorKind::Unsupported, "put", "too large for one request").on(key));
        }
        let mut state = self.state.lock();
        state.check("put", key, condition)?;
        Ok(self.install(&mut state, key, body, meta.clone()))
    }

    async fn start_upload(&self, key: &Key, _meta: &ObjectMeta) -> StoreResult<UploadId> {
        let mut state = self.state.lock();
        state.counter += 1;
        let id = format!("upload-{}", state.counter);
        state.uploads.insert(id.clone(), Upload { key: key.clone(), parts: BTreeMap::new() });
        Ok(UploadId(id))
    }

    async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        let mut state = self.state.lock();
        state.counter += 1;
        let tag = format!("part-{}", state.counter);
        state.upload("put_part", key, upload)?.parts.insert(number, (tag.clone(), body));
        Ok(PartReceipt { number, tag })
    }

    async fn complete_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[PartReceipt],
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let mut state = self.state.lock();
        let begun = state.upload("complete_upload", key, upload)?;
        let body = assemble(key, begun, parts, self.sizes.part_bytes_min)?;
        state.check("complete_upload", key, condition)?;
        state.uploads.remove(&upload.0);
        Ok(self.install(&mut state, key, body, meta.clone()))
    }

    async fn abort_upload(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        let mut state = self.state.lock();
        state.upload("abort_upload", key, upload)?;
        state.uploads.remove(&upload.0);
        Ok(())
    }

    async fn copy(&self, from: &Key, from_etag: &ETag, to: &Key, condition: &Condition) -> StoreResult<ETag> {
        let mut state = self.state.lock();
        let source = state.find_as("copy", from, Some(from_etag))?.clone();
        state.check("copy", to, condition)?;
        Ok(self.install(&mut state, to, source.body, source.info.meta))
    }

    async fn set_meta(&self, key: &Key, if_match: &ETag, meta: &ObjectMeta) -> StoreResult<ETag> {
        let mut state = self.state.lock();
        let Object { body, info } = state.find_as("set_meta", key, Some(if_match))?.clone();
        Ok(self.install(&mut state, key, body, info.meta.replaced_by(meta)))
    }

    async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()> {
        let mut state = self.state.lock();
        state.find_as("delete", key, if_match)?;
        state.objects.remove(key);
        Ok(())
    }

    async fn list(&self, request: &ListRequest) -> StoreResult<ListPage> {
        Ok(self.state.lock().list(request))
    }

    async fn probe(&self) -> StoreResult<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;
    use crate::clock::Clock;
    use crate::object::Key;
    use crate::store::{Condition, ObjectMeta, Store};

    #[tokio::test]
    async fn an_outside_client_makes_states_that_the_trait_sees() {
        let (store, key) = (MemoryStore::new("m", Clock::System), Key::new("a").expect("a key"));
        let (meta, always) = (ObjectMeta::default(), Condition::Always);
        let ours = store.put(&key, "ours".into(), &meta, &always).await.expect("a put");
        let theirs = store.bypass_put(&key, "theirs", ObjectMeta::default());
        assert_eq!(store.head(&key).await.expect("head").etag, theirs);
        assert_ne!(ours, theirs);
        assert!(store.bypass_corrupt(&key, "thEirs"));
        assert_eq!(store.head(&key).await.expect("head").etag, theirs, "rot does not change the tag");
        assert_eq!(store.snapshot()[&key].0, "thEirs");
        assert!(store.bypass_delete(&key) && !store.bypass_delete(&key));
    }

    #[tokio::test]
    async fn a_tag_never_comes_again_and_never_fits_the_other_store() {
        let (meta, key) = (ObjectMeta::default(), Key::new("a").expect("a key"));
        let mut tags = Vec::new();
        for name in ["old", "new"] {
            let store = MemoryStore::new(name, Clock::System);
            for _ in 0..3 {
                tags.push(store.put(&key, "same".into(), &meta, &Condition::Absent).await.expect("a put"));
                store.delete(&key, None).await.expect("a deletion");
            }
        }
        let distinct: std::collections::HashSet<_> = tags.iter().collect();
        assert_eq!(distinct.len(), tags.len());
    }
}
