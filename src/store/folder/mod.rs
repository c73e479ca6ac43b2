//! A folder as a cloud: one plain file an object, under its own path, to be read with `cp` and compared with
//! `diff`. What is ours stands in `.bridgefs` inside it and is never listed.
//!
//! A put is atomic (temporary file, sync, rename, sync of the directory); metadata is in an extended attribute
//! of the file; conditions hold across processes by a lock on `.bridgefs/lock`. A folder that is missing, or
//! is another one than before, is unavailable: nothing in it is "not found".

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use nix::unistd::fsync;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{
    ByteRange, Capabilities, Condition, Download, ErrorKind, ListPage, ListRequest, ObjectInfo, ObjectMeta,
    PartReceipt, Store, StoreResult, UploadId,
};
use crate::object::{ETag, Key};

mod call;
mod list;
mod path;
mod read;
mod record;
mod root;
mod upload;
mod write;

use call::Call;
use record::{Record, describe};
use root::{OpenRoot, Root};
use write::{Done, TempFile, changed, find};

/// The identity of one folder store, in `.bridgefs/store`: tells it from an empty mount point, and from the
/// folder of another bridge under the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreId(pub String);

/// A folder as a store.
#[derive(Debug, Clone)]
pub struct FolderStore {
    root: Arc<Root>,
    /// One mutation of this process waits for the folder's lock, so that a lock that is held for ever costs
    /// one thread and not one for each call.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl FolderStore {
    /// Makes `path` a store if it is none (its parent must exist), removes what a crash left behind, and
    /// opens it. [`ErrorKind::Unsupported`] if its file system has no extended attributes.
    pub async fn create(path: &Path) -> StoreResult<FolderStore> {
        let store = FolderStore::existing(path, None);
        let root = Arc::clone(&store.root);
        let call = Call::plain("create");
        blocking(&call.clone(), move || root.create(&call)).await?;
        Ok(store)
    }

    /// The store in `path`, which need not be there now: until it is, every call is unavailable. With `id`,
    /// only that store; without, whichever is found first.
    pub fn existing(path: &Path, id: Option<StoreId>) -> FolderStore {
        FolderStore { root: Arc::new(Root::new(path, id)), turn: Arc::default() }
    }

    /// Removes what a process that is gone left behind: temporary files, and all uploads. Only for who has the
    /// folder alone, and before any upload begins.
    pub async fn sweep(&self) -> StoreResult<()> {
        let work = |call: &Call, root: &OpenRoot| {
            root.sweep().map_err(|error| call.io("removing temporary files", error))?;
            upload::remove_all(call, root)
        };
        self.look(Call::plain("sweep"), work).await
    }

    /// The identity, once the folder has been seen: to be remembered and given to [`FolderStore::existing`].
    pub fn id(&self) -> Option<StoreId> {
        self.root.id().cloned()
    }

    fn call(&self, operation: &'static str, key: &Key) -> StoreResult<Call> {
        let call = Call::on(operation, key);
        match path::refusal(key) {
            Some(why) => Err(call.fail(ErrorKind::Unsupported, why)),
            None => Ok(call),
        }
    }

    /// Work that changes no object.
    async fn look<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Call, &OpenRoot) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let root = Arc::clone(&self.root);
        blocking(&call.clone(), move || work(&call, &root.open(&call)?)).await
    }

    /// Work that changes objects: alone in the folder, and on the disk before it returns.
    async fn change<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Call, &OpenRoot) -> StoreResult<Done<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let work = move |call: &Call, root: &OpenRoot| {
            let lock = root.lock(call)?;
            let (answer, touched) = work(call, root)?;
            drop((lock, turn));
            sync(call, touched)?;
            Ok(answer)
        };
        self.look(call, work).await
    }
}

fn sync(call: &Call, directory: Option<OwnedFd>) -> StoreResult<()> {
    let synced = directory.map_or(Ok(()), fsync);
    synced.map_err(|error| call.io("syncing the directory", error))
}

/// Runs `work` where it may block: on a thread of the blocking pool if the runtime has several threads,
/// else right here, so that a test with one thread and a paused clock stays deterministic.
async fn blocking<T: Send + 'static>(
    call: &Call,
    work: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    if !matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        return work();
    }
    let lost = |error| call.fail(ErrorKind::Unavailable, "the thread ended early").caused_by(error);
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error: tokio::task::JoinError| Err(lost(error)))
}

/// What `file` is, if it is in the state `if_match`.
fn expect_state(call: &Call, file: &std::fs::File, if_match: Option<&ETag>) -> StoreResult<ObjectInfo> {
    let info = describe(call, file)?;
    match if_match {
        Some(wanted) if *wanted != info.etag => Err(changed(call, &info.etag)),
        _ => Ok(info),
    }
}

/// A temporary copy of exactly the state `etag` of `from`.
fn duplicate(call: &Call, root: &OpenRoot, from: &Key, etag: &ETag) -> StoreResult<TempFile> {
    let mut source = find(call, root, from)?.ok_or_else(|| call.not_found())?;
    let info = expect_state(call, &source, Some(etag))?;
    let temp = TempFile::write(call, root, Some(&Record::new(&info.meta)), |file| {
        // The time is part of the object, also where no metadata says it.
        let modified = source.metadata().and_then(|stat| stat.modified());
        let copied = io::copy(&mut source, file).and_then(|_| file.set_modified(modified?));
        copied.map_err(|error| call.io("copying the content", error))
    })?;
    expect_state(call, &source, Some(etag))?;
    Ok(temp)
}

#[async_trait]
impl Store for FolderStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            put_if_absent: true,
            put_if_match: true,
            conditional_complete: true,
            conditional_delete: true,
            conditional_get: true,
            metadata: true,
            checksums: false,
            part_bytes_min: 1,
            parts_max: 100_000,
            put_bytes_max: 5 << 30,
        }
    }

    fn check_key(&self, key: &Key) -> StoreResult<()> {
        self.call("check_key", key).map(drop)
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo> {
        let (call, key) = (self.call("head", key)?, key.clone());
        let head = move |call: &Call, root: &OpenRoot| {
            describe(call, &find(call, root, &key)?.ok_or_else(|| call.not_found())?)
        };
        self.look(call, head).await
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> StoreResult<Download> {
        let (call, key, if_match) = (self.call("get", key)?, key.clone(), if_match.cloned());
        let open = move |call: &Call, root: &OpenRoot| {
            let file = find(call, root, &key)?.ok_or_else(|| call.not_found())?;
            let info = expect_state(call, &file, if_match.as_ref())?;
            let bounds = read::bounds(call, range, info.size)?;
            Ok((file, info, bounds))
        };
        let (file, info, bounds) = self.look(call.clone(), open).await?;
        let body = read::stream(call, file, info.etag.clone(), bounds);
        Ok(Download { info, body })
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let (call, key, record) = (self.call("put", key)?, key.clone(), Record::new(meta));
        let condition = condition.clone();
        let write = move |call: &Call, root: &OpenRoot| {
            TempFile::write(call, root, Some(&record), |file| {
                file.write_all(&body).map_err(|error| call.io("writing the content", error))
            })
        };
        let temp = self.look(call.clone(), write).await?;
        self.change(call, move |call, root| temp.publish(call, root, &key, &condition)).await
    }

    async fn start_upload(&self, key: &Key, _meta: &ObjectMeta) -> StoreResult<UploadId> {
        let (call, key) = (self.call("start_upload", key)?, key.clone());
        self.look(call, move |call, root| upload::start(call, root, &key)).await
    }

    async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        let (call, key, id) = (self.call("put_part", key)?, key.clone(), upload.clone());
        let keep =
            move |call: &Call, root: &OpenRoot| upload::put_part(call, root, (&key, &id), number, &body);
        self.look(call, keep).await
    }

    async fn complete_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[PartReceipt],
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let (call, record) = (self.call("complete_upload", key)?, Record::new(meta));
        let (target, id, parts) = (key.clone(), upload.clone(), parts.to_vec());
        let join = move |call: &Call, root: &OpenRoot| {
            TempFile::write(call, root, Some(&record), |file| {
                upload::assemble(call, root, (&target, &id), &parts, file)
            })
        };
        let temp = self.look(call.clone(), join).await?;
        let (key, id, condition) = (key.clone(), upload.clone(), condition.clone());
        let publish = move |call: &Call, root: &OpenRoot| {
            let done = temp.publish(call, root, &key, &condition)?;
            // The object is there: that its parts stay must not be told as a failure of it.
            if let Err(error) = upload::remove(call, root, &key, &id) {
                tracing::warn!(%error, "the parts of a completed upload stay");
            }
            Ok(done)
        };
        self.change(call, publish).await
    }

    async fn abort_upload(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        let (call, key, id) = (self.call("abort_upload", key)?, key.clone(), upload.clone());
        self.look(call, move |call, root| upload::remove(call, root, &key, &id)).await
    }

    async fn copy(&self, from: &Key, from_etag: &ETag, to: &Key, condition: &Condition) -> StoreResult<ETag> {
        self.check_key(from)?;
        let (call, from, etag) = (self.call("copy", to)?, from.clone(), from_etag.clone());
        let temp = self.look(call.clone(), move |call, root| duplicate(call, root, &from, &etag)).await?;
        let (to, condition) = (to.clone(), condition.clone());
        self.change(call, move |call, root| temp.publish(call, root, &to, &condition)).await
    }

    async fn set_meta(&self, key: &Key, if_match: &ETag, meta: &ObjectMeta) -> StoreResult<ETag> {
        let (call, key, etag) = (self.call("set_meta", key)?, key.clone(), if_match.clone());
        let meta = meta.clone();
        let set = move |call: &Call, root: &OpenRoot| {
            let file = find(call, root, &key)?.ok_or_else(|| call.not_found())?;
            let before = expect_state(call, &file, Some(&etag))?.meta;
            Record::new(&before.replaced_by(&meta)).apply(call, &file)?;
            file.sync_all().map_err(|error| call.io("syncing the metadata", error))?;
            Ok((describe(call, &file)?.etag, None))
        };
        self.change(call, set).await
    }

    async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()> {
        let (call, key, if_match) = (self.call("delete", key)?, key.clone(), if_match.cloned());
        self.change(call, move |call, root| write::remove(call, root, &key, if_match.as_ref())).await
    }

    async fn list(&self, request: &ListRequest) -> StoreResult<ListPage> {
        let request = request.clone();
        self.look(Call::plain("list"), move |call, root| list::list(call, root, &request)).await
    }

    async fn probe(&self) -> StoreResult<()> {
        self.look(Call::plain("probe"), |_, _| Ok(())).await
    }
}
