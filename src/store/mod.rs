//! One object store. The [`Store`] trait has no default methods: a decorator that forgets one does not
//! compile. Real stores: [`remote`] (S3, Azure Blob, Google Cloud Storage), [`folder`], [`memory`].
//! Decorators, one concern each: [`limit`], [`metered`], [`breaker`], [`faulty`] (tests).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::object::{ETag, Key, NanoTime};

pub mod breaker;
mod error;
pub mod faulty;
pub mod folder;
mod header;
pub mod limit;
pub mod memory;
pub mod metered;
pub mod remote;

pub use error::{ErrorKind, StoreError};
pub use header::{HttpHeader, HttpHeaders};

/// A store as the rest of the program holds it.
pub type SharedStore = Arc<dyn Store>;

/// The answer of a store.
pub type StoreResult<T> = Result<T, StoreError>;

/// The body of a download, in order. It ends with an error if it is cut short.
pub type Body = BoxStream<'static, StoreResult<Bytes>>;

/// What a store can do, found out by [`remote`]'s probe at mount and remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// [`Condition::Absent`] on `put` is obeyed.
    pub put_if_absent: bool,
    /// [`Condition::Matches`] on `put` is obeyed.
    pub put_if_match: bool,
    /// Conditions on `complete_upload` are obeyed.
    pub conditional_complete: bool,
    /// `if_match` of `delete` is obeyed.
    pub conditional_delete: bool,
    /// `if_match` of `get` is obeyed.
    pub conditional_get: bool,
    /// User metadata survives.
    pub metadata: bool,
    /// The store checks a checksum that is sent with the bytes.
    pub checksums: bool,
    /// The smallest part but the last, in bytes.
    pub part_bytes_min: u64,
    /// The most parts of one upload.
    pub parts_max: u32,
    /// The largest object that `put` takes in one request, in bytes.
    pub put_bytes_max: u64,
}

/// When a write may replace what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Always,
    /// Only if nothing is there.
    Absent,
    /// Only if exactly this is there.
    Matches(ETag),
}

/// What goes with the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The HTTP headers; a content type that is not named is the store's default.
    pub headers: HttpHeaders,
    /// User metadata: names `[a-z][a-z0-9_]*`, values ASCII, 2 KB in all.
    pub user: BTreeMap<String, String>,
}

impl ObjectMeta {
    /// User metadata, and no header named.
    pub fn of_user(user: BTreeMap<String, String>) -> ObjectMeta {
        ObjectMeta { headers: HttpHeaders::new(), user }
    }

    /// What an object that has `self` has after [`Store::set_meta`]: a header that is not named stays, so that
    /// nobody loses one who does not know of it.
    #[must_use]
    pub fn replaced_by(&self, new: &ObjectMeta) -> ObjectMeta {
        let mut headers = self.headers.clone();
        headers.extend(new.headers.clone());
        ObjectMeta { headers, user: new.user.clone() }
    }
}

/// What a store says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Length in bytes.
    pub size: u64,
    /// The tag of this state.
    pub etag: ETag,
    /// When the store took it, by its clock; never used as a version.
    pub modified: NanoTime,
    /// What went with the bytes.
    pub meta: ObjectMeta,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The exact key, path or not.
    pub key: Key,
    /// Length in bytes.
    pub size: u64,
    /// The tag, where the listing says it.
    pub etag: Option<ETag>,
    /// When the store took it.
    pub modified: NanoTime,
}

/// One page of a listing. Order is the store's own; nothing may depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects. With a delimiter: those directly below the prefix.
    pub objects: Vec<ListedObject>,
    /// With a delimiter: the prefixes one level down, each with its slash.
    pub prefixes: Vec<String>,
    /// What stands among them but can be no object, in words a person can look for (a folder's links, devices and
    /// names that are not UTF-8).
    pub strangers: Vec<Stranger>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<ListToken>,
}

/// Something in a store that is no object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Where it stands; bytes that are not UTF-8 are escaped.
    pub place: String,
    /// What it is.
    pub what: &'static str,
}

/// Where a listing goes on: opaque, the store's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListToken(pub String);

/// What to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys that start with this; empty for all.
    pub prefix: String,
    /// Fold what stands deeper into `prefixes` (delimiter `/`).
    pub one_level: bool,
    /// At most so many entries on the page.
    pub max_entries: u32,
    /// Where to go on.
    pub token: Option<ListToken>,
}

/// A part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// All of it.
    All,
    /// `len` bytes from `start`. `len` is not 0 and the end lies within the object.
    Part {
        /// First byte.
        start: u64,
        /// Count of bytes.
        len: u64,
    },
}

/// An upload in parts that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadId(pub String);

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReceipt {
    /// From 1, without gaps at completion.
    pub number: u32,
    /// What the store calls it (S3: ETag; Azure: block id).
    pub tag: String,
}

/// A download that has begun: what it is, then its bytes.
pub struct Download {
    /// The object, whole (not the range).
    pub info: ObjectInfo,
    /// Exactly the bytes of the range that was asked for.
    pub body: Body,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("info", &self.info).finish_non_exhaustive()
    }
}

/// One object store.
///
/// Each call has a deadline of its own and does not retry a mutation: whoever calls knows whether a
/// repetition is safe. A mutation that fails with [`ErrorKind::Unavailable`] may have happened.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Whether the store can hold this key; [`ErrorKind::Unsupported`] says why not. No request.
    fn check_key(&self, key: &Key) -> StoreResult<()>;

    /// What is there. [`ErrorKind::NotFound`] is a positive answer.
    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo>;

    /// Bytes of the state `if_match`, or [`ErrorKind::PreconditionFailed`] if the object has another.
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> StoreResult<Download>;

    /// Replaces the object in one request.
    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag>;

    /// Begins an upload in parts; nothing is visible before it is completed.
    async fn start_upload(&self, key: &Key, meta: &ObjectMeta) -> StoreResult<UploadId>;

    /// Sends part `number` (from 1); sending it again replaces it.
    async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt>;

    /// Replaces the object by the parts, in order, with the metadata of the start.
    async fn complete_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[PartReceipt],
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag>;

    /// Gives the parts up.
    async fn abort_upload(&self, key: &Key, upload: &UploadId) -> StoreResult<()>;

    /// Copies an object inside the store, metadata included, from exactly the state `from_etag`.
    async fn copy(&self, from: &Key, from_etag: &ETag, to: &Key, condition: &Condition) -> StoreResult<ETag>;

    /// Replaces the user metadata of exactly the state `if_match`, and the headers that `meta` names; the others
    /// stay ([`ObjectMeta::replaced_by`]). The content is not sent again.
    async fn set_meta(&self, key: &Key, if_match: &ETag, meta: &ObjectMeta) -> StoreResult<ETag>;

    /// Removes the object, if `if_match` is given only in that state. An object that is not there is
    /// [`ErrorKind::NotFound`] where the store says so, success where it does not.
    async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()>;

    /// One page of keys.
    async fn list(&self, request: &ListRequest) -> StoreResult<ListPage>;

    /// The cheapest request that shows that the store answers and lets us in.
    async fn probe(&self) -> StoreResult<()>;
}
