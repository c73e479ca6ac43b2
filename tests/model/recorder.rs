//! A memory store that takes time and remembers, per key, which version it was given when (P4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bridgefs::clock::{Clock, sleep};
use bridgefs::object::{ETag, Key, Side};
use bridgefs::store::memory::{MemoryStore, Sizes};
use bridgefs::store::{
    ByteRange, Capabilities, Condition, Download, ListPage, ListRequest, ObjectInfo, ObjectMeta, PartReceipt,
    Store, StoreResult, UploadId,
};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// The largest object of one `put`: small, so that most multi-part code runs on small contents.
const PUT_BYTES_MAX: u64 = 2000;

/// The longest way of a request, or of its answer.
const WAY_MS_MAX: u64 = 12;

/// The store under a case.
#[derive(Debug)]
pub struct Recorder {
    /// What is really there.
    pub raw: MemoryStore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: SmallRng,
    /// Per key, the last version of each inode that was applied since the key was last empty.
    applied: BTreeMap<Key, BTreeMap<String, u64>>,
    wrong: Vec<String>,
}

impl Recorder {
    /// An empty store. The old one has tags like those of S3, the new one like those of Azure.
    pub fn new(side: Side, clock: Clock, seed: u64) -> Arc<Recorder> {
        let sizes = Sizes { part_bytes_min: 1, put_bytes_max: PUT_BYTES_MAX };
        let rng = SmallRng::seed_from_u64(seed);
        let state = State { rng, applied: BTreeMap::new(), wrong: Vec::new() };
        let raw = MemoryStore::new(side.as_str(), clock).with_sizes(sizes);
        let raw = if side == Side::Old { raw.with_tags_of_content() } else { raw };
        Arc::new(Recorder { raw, state: Mutex::new(state) })
    }

    /// What went backwards so far.
    pub fn wrong(&self) -> Vec<String> {
        self.state.lock().wrong.clone()
    }

    /// The content and metadata of every object.
    pub fn objects(&self) -> BTreeMap<Key, (Bytes, ObjectMeta)> {
        self.raw.snapshot()
    }

    async fn way(&self) {
        let ms = self.state.lock().rng.random_range(0..=WAY_MS_MAX);
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
    }

    /// Runs a call with a way before and after it: a caller that is dropped in between does not know.
    async fn call<T>(&self, call: impl Future<Output = T> + Send) -> T {
        self.way().await;
        let answer = call.await;
        self.way().await;
        answer
    }

    fn applied(&self, key: &Key, meta: &ObjectMeta) {
        let Some(op) = meta.user.get("bridgefs_op") else { return };
        let mut words = op.split('.').skip(1);
        let (Some(ino), Some(version)) = (words.next(), words.next()) else { return };
        let version: u64 = version.parse().expect("a version is a number");
        let mut state = self.state.lock();
        let last = state.applied.entry(key.clone()).or_default().insert(ino.to_owned(), version);
        if last.is_some_and(|last| last > version) {
            let last = last.unwrap_or_default();
            state.wrong.push(format!("`{key}`: version {version} of {ino} came after {last}"));
        }
    }

    async fn writing(
        &self,
        key: &Key,
        meta: &ObjectMeta,
        call: impl Future<Output = StoreResult<ETag>> + Send,
    ) -> StoreResult<ETag> {
        let noted = async {
            let answer = call.await;
            if answer.is_ok() {
                self.applied(key, meta);
            }
            answer
        };
        self.call(noted).await
    }
}

#[async_trait]
impl Store for Recorder {
    fn capabilities(&self) -> Capabilities {
        self.raw.capabilities()
    }

    fn check_key(&self, key: &Key) -> StoreResult<()> {
        self.raw.check_key(key)
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo> {
        self.call(self.raw.head(key)).await
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> StoreResult<Download> {
        self.call(self.raw.get(key, range, if_match)).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        self.writing(key, meta, self.raw.put(key, body, meta, condition)).await
    }

    async fn start_upload(&self, key: &Key, meta: &ObjectMeta) -> StoreResult<UploadId> {
        self.call(self.raw.start_upload(key, meta)).await
    }

    async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        self.call(self.raw.put_part(key, upload, number, body)).await
    }

    async fn complete_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[PartReceipt],
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        self.writing(key, meta, self.raw.complete_upload(key, upload, parts, meta, condition)).await
    }

    async fn abort_upload(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.call(self.raw.abort_upload(key, upload)).await
    }

    async fn copy(&self, from: &Key, from_etag: &ETag, to: &Key, condition: &Condition) -> StoreResult<ETag> {
        let copying = async {
            let etag = self.raw.copy(from, from_etag, to, condition).await?;
            let info = self.raw.head(to).await?;
            self.applied(to, &info.meta);
            Ok(etag)
        };
        self.call(copying).await
    }

    async fn set_meta(&self, key: &Key, if_match: &ETag, meta: &ObjectMeta) -> StoreResult<ETag> {
        self.writing(key, meta, self.raw.set_meta(key, if_match, meta)).await
    }

    async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()> {
        let deleting = async {
            let answer = self.raw.delete(key, if_match).await;
            if answer.is_ok() {
                self.state.lock().applied.remove(key);
            }
            answer
        };
        self.call(deleting).await
    }

    async fn list(&self, request: &ListRequest) -> StoreResult<ListPage> {
        self.call(self.raw.list(request)).await
    }

    async fn probe(&self) -> StoreResult<()> {
        self.call(self.raw.probe()).await
    }
}
