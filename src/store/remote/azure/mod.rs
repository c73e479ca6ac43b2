//! Azure Blob Storage: block blobs in one container.

mod blocks;
mod copy;
mod listing;
mod objects;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;

use super::request::{Request, Wire};
use super::{Checksums, encode, keys};
use crate::object::{ETag, Key};
use crate::store::{
    ByteRange, Capabilities, Condition, Download, HttpHeader, HttpHeaders, ListPage, ListRequest, ObjectInfo,
    ObjectMeta, PartReceipt, Store, StoreResult, UploadId,
};

/// What the names of user metadata start with.
const META_PREFIX: &str = "x-ms-meta-";

/// A container, or what stands below a prefix in it.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) wire: Wire,
    /// Scheme, host, with an emulator the account, and the container; no slash at the end.
    pub(super) base_url: String,
    /// What all our keys start with; empty or ends with a slash.
    pub(super) prefix: String,
    pub(super) checksums: Checksums,
    /// What was found out; a later probe replaces it.
    pub(super) learned: Mutex<Capabilities>,
}

impl Container {
    /// What the protocol promises, before a probe has tried it.
    pub(super) const PROMISED: Capabilities = Capabilities {
        put_if_absent: true,
        put_if_match: true,
        conditional_complete: true,
        conditional_delete: true,
        conditional_get: true,
        metadata: true,
        checksums: true,
        part_bytes_min: 1,
        parts_max: 50_000,
        put_bytes_max: 5000 << 20,
    };

    /// The request that costs least.
    pub(super) fn cheapest_request(&self) -> Request {
        self.on_container("probe", &[("restype", "container"), ("comp", "list"), ("maxresults", "1")])
    }

    /// The same container over the same connections, with nothing learnt.
    pub(super) fn untaught(&self) -> Container {
        Container {
            wire: self.wire.clone(),
            base_url: self.base_url.clone(),
            prefix: self.prefix.clone(),
            checksums: self.checksums,
            learned: Mutex::new(Self::PROMISED),
        }
    }

    fn full_key(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    fn blob_url(&self, key: &Key) -> String {
        format!("{}/{}", self.base_url, encode::path(&self.full_key(key)))
    }

    /// The request of `operation` on a blob, after a check of its key.
    fn on_blob(
        &self,
        operation: &'static str,
        method: Method,
        key: &Key,
        query: &[(&str, &str)],
    ) -> StoreResult<Request> {
        self.check_key(key)?;
        let mut url = self.blob_url(key);
        if !query.is_empty() {
            url = format!("{url}?{}", encode::query(query));
        }
        Ok(Request::new(operation, method, url).on(key))
    }

    /// The request of `operation` on the container.
    fn on_container(&self, operation: &'static str, query: &[(&str, &str)]) -> Request {
        Request::new(operation, Method::GET, format!("{}?{}", self.base_url, encode::query(query)))
    }
}

/// The header that makes a write conditional.
fn write_condition(condition: &Condition) -> Option<(&'static str, String)> {
    match condition {
        Condition::Always => None,
        Condition::Absent => Some(("if-none-match", "*".to_owned())),
        Condition::Matches(etag) => Some(("if-match", etag.quoted())),
    }
}

/// The header that makes a read, a delete or a change conditional.
fn state_condition(etag: &ETag) -> (&'static str, String) {
    ("if-match", etag.quoted())
}

/// Adds what goes with the bytes.
fn with_meta(request: Request, meta: &ObjectMeta) -> Request {
    let user = meta.user.iter();
    let request =
        user.fold(request, |request, (name, value)| request.header(&format!("{META_PREFIX}{name}"), value));
    with_headers(request, &meta.headers)
}

/// Adds the HTTP headers of the blob: a write names them in headers of their own.
fn with_headers(request: Request, headers: &HttpHeaders) -> Request {
    let named = headers.iter().filter_map(|(header, value)| Some((blob_header(*header)?, value.clone())));
    request.headers(named)
}

/// What a write calls a header of the blob; `None`: blobs do not have it.
fn blob_header(header: HttpHeader) -> Option<&'static str> {
    match header {
        HttpHeader::ContentType => Some("x-ms-blob-content-type"),
        HttpHeader::CacheControl => Some("x-ms-blob-cache-control"),
        HttpHeader::ContentDisposition => Some("x-ms-blob-content-disposition"),
        HttpHeader::ContentEncoding => Some("x-ms-blob-content-encoding"),
        HttpHeader::ContentLanguage => Some("x-ms-blob-content-language"),
        HttpHeader::Expires => None,
    }
}

#[async_trait]
impl Store for Container {
    fn capabilities(&self) -> Capabilities {
        *self.learned.lock()
    }

    fn check_key(&self, key: &Key) -> StoreResult<()> {
        keys::check(key, &self.full_key(key), keys::azure)
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo> {
        self.head_blob(key).await
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> StoreResult<Download> {
        self.get_blob(key, range, if_match).await
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        self.put_blob(key, body, meta, condition).await
    }

    async fn start_upload(&self, key: &Key, _meta: &ObjectMeta) -> StoreResult<UploadId> {
        self.check_key(key)?;
        Ok(blocks::new_upload())
    }

    async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        self.put_block(key, upload, number, body).await
    }

    async fn complete_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[PartReceipt],
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        self.put_block_list(key, upload, parts, meta, condition).await
    }

    async fn abort_upload(&self, key: &Key, _upload: &UploadId) -> StoreResult<()> {
        // Azure has no such request: blocks that no list names are removed after a week.
        self.check_key(key)
    }

    async fn copy(&self, from: &Key, from_etag: &ETag, to: &Key, condition: &Condition) -> StoreResult<ETag> {
        self.copy_blob(from, from_etag, to, condition).await
    }

    async fn set_meta(&self, key: &Key, if_match: &ETag, meta: &ObjectMeta) -> StoreResult<ETag> {
        self.set_blob_meta(key, if_match, meta).await
    }

    async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()> {
        let request = self.on_blob("delete", Method::DELETE, key, &[])?;
        self.wire.send(request.headers(if_match.map(state_condition))).await.map(drop)
    }

    async fn list(&self, request: &ListRequest) -> StoreResult<ListPage> {
        self.list_blobs("list", request).await
    }

    async fn probe(&self) -> StoreResult<()> {
        let one = ListRequest { prefix: String::new(), one_level: false, max_entries: 1, token: None };
        self.list_blobs("probe", &one).await.map(drop)
    }
}
