//! S3 and Google Cloud Storage: one XML API, two flavors.

mod copy;
mod flavor;
mod listing;
mod objects;
mod upload;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;

pub(super) use flavor::Flavor;

use super::encode::{self, PlusSign};
use super::request::{Request, Wire};
use super::{Checksums, keys};
use crate::clock::Instant;
use crate::object::{ETag, Key};
use crate::store::{
    ByteRange, Capabilities, Condition, Download, ListPage, ListRequest, ObjectInfo, ObjectMeta, PartReceipt,
    Store, StoreResult, UploadId,
};

/// What the probe found out about a server beyond its [`Capabilities`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Quirks {
    /// How it encodes names in listings.
    pub(super) plus: PlusSign,
    /// Whether a copy obeys a condition on its source.
    pub(super) pinned_copy: bool,
    /// Whether a copy obeys a condition on its destination.
    pub(super) conditional_copy: bool,
}

impl Quirks {
    /// What S3 and Google promise.
    pub(super) const PROMISED: Quirks =
        Quirks { plus: PlusSign::IsSpace, pinned_copy: true, conditional_copy: true };
    /// What is safe with a server that cannot be asked now: more requests, nothing believed.
    pub(super) const CAUTIOUS: Quirks =
        Quirks { plus: PlusSign::IsSpace, pinned_copy: false, conditional_copy: false };
}

/// A bucket, or what stands below a prefix in it.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) wire: Wire,
    pub(super) flavor: Flavor,
    /// Scheme, host and, with path-style requests, the bucket; no slash at the end.
    pub(super) base_url: String,
    /// The name of the bucket, for sources of copies.
    pub(super) bucket: String,
    /// What all our keys start with; empty or ends with a slash.
    pub(super) prefix: String,
    pub(super) checksums: Checksums,
    /// What was found out; a later probe replaces it.
    pub(super) learned: Mutex<(Capabilities, Quirks)>,
    /// When the bucket was last known to exist.
    pub(super) seen: Mutex<Option<Instant>>,
}

impl Bucket {
    /// What the protocol promises, before a probe has tried it.
    pub(super) const PROMISED: Capabilities = Capabilities {
        put_if_absent: true,
        put_if_match: true,
        conditional_complete: true,
        conditional_delete: true,
        conditional_get: true,
        metadata: true,
        checksums: true,
        part_bytes_min: 5 << 20,
        parts_max: 10_000,
        put_bytes_max: 5 << 30,
    };

    /// The request that costs least.
    pub(super) fn cheapest_request(&self) -> Request {
        self.on_bucket("probe", Method::GET, &[("list-type", "2"), ("max-keys", "1")])
    }

    /// The same bucket over the same connections, with nothing learnt.
    pub(super) fn untaught(&self) -> Bucket {
        Bucket {
            wire: self.wire.clone(),
            flavor: self.flavor,
            base_url: self.base_url.clone(),
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            checksums: self.checksums,
            learned: Mutex::new((Self::PROMISED, Quirks::PROMISED)),
            seen: Mutex::new(None),
        }
    }

    fn quirks(&self) -> Quirks {
        self.learned.lock().1
    }

    /// The key in the bucket.
    fn full_key(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The request of `operation` on an object, after a check of its key.
    fn on_object(
        &self,
        operation: &'static str,
        method: Method,
        key: &Key,
        query: &[(&str, &str)],
    ) -> StoreResult<Request> {
        self.check_key(key)?;
        let mut url = format!("{}/{}", self.base_url, encode::path(&self.full_key(key)));
        if !query.is_empty() {
            url = format!("{url}?{}", encode::query(query));
        }
        Ok(Request::new(operation, method, url).on(key))
    }

    /// The request of `operation` on the bucket.
    fn on_bucket(&self, operation: &'static str, method: Method, query: &[(&str, &str)]) -> Request {
        let query = encode::query(query);
        let mark = if query.is_empty() { "" } else { "?" };
        // Path style ends with the bucket, virtual-hosted style with the host: the slash suits both.
        Request::new(operation, method, format!("{}/{mark}{query}", self.base_url))
    }

    /// The headers of an object that is written.
    fn meta_headers(&self, meta: &ObjectMeta) -> Vec<(String, String)> {
        let prefix = self.flavor.meta_prefix();
        let user = meta.user.iter().map(|(name, value)| (format!("{prefix}{name}"), value.clone()));
        let headers = meta.headers.iter().filter(|(header, _)| self.flavor.keeps(**header));
        user.chain(headers.map(|(header, value)| (header.name().to_owned(), value.clone()))).collect()
    }
}

#[async_trait]
impl Store for Bucket {
    fn capabilities(&self) -> Capabilities {
        self.learned.lock().0
    }

    fn check_key(&self, key: &Key) -> StoreResult<()> {
        let rules = match self.flavor {
            Flavor::Aws => keys::s3,
            Flavor::Google => keys::google,
        };
        keys::check(key, &self.full_key(key), rules)
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo> {
        self.head_object(key).await
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> StoreResult<Download> {
        self.get_object(key, range, if_match).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        self.put_object(key, body, meta, condition).await
    }

    async fn start_upload(&self, key: &Key, meta: &ObjectMeta) -> StoreResult<UploadId> {
        self.initiate("start_upload", key, meta, &[]).await
    }

    async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        self.upload_part(key, upload, number, body).await
    }

    async fn complete_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[PartReceipt],
        _meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        self.complete("complete_upload", key, upload, parts, condition).await
    }

    async fn abort_upload(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.abort(key, upload).await
    }

    async fn copy(&self, from: &Key, from_etag: &ETag, to: &Key, condition: &Condition) -> StoreResult<ETag> {
        self.copy_object(from, from_etag, to, condition).await
    }

    async fn set_meta(&self, key: &Key, if_match: &ETag, meta: &ObjectMeta) -> StoreResult<ETag> {
        self.replace_meta(key, if_match, meta).await
    }

    async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()> {
        self.delete_object(key, if_match).await
    }

    async fn list(&self, request: &ListRequest) -> StoreResult<ListPage> {
        self.list_objects(request).await
    }

    async fn probe(&self) -> StoreResult<()> {
        self.look_at_bucket("probe").await
    }
}
