//! One blob, one request; changing metadata is three if a header changes too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::Method;
use md5::{Digest as _, Md5};

use super::{Container, META_PREFIX, blob_header, state_condition, with_headers, with_meta, write_condition};
use crate::object::{ETag, Key};
use crate::store::remote::Checksums;
use crate::store::remote::answer::Answer;
use crate::store::remote::download::{self, Proof};
use crate::store::remote::request::Request;
use crate::store::{
    ByteRange, Condition, Download, ErrorKind, ObjectInfo, ObjectMeta, StoreError, StoreResult,
};

impl Container {
    pub(super) async fn head_blob(&self, key: &Key) -> StoreResult<ObjectInfo> {
        let answer = self.wire.send(self.on_blob("head", Method::HEAD, key, &[])?).await?;
        info(&answer, answer.content_length())
    }

    pub(super) async fn get_blob(
        &self,
        key: &Key,
        range: ByteRange,
        if_match: Option<&ETag>,
    ) -> StoreResult<Download> {
        let mut request = self.on_blob("get", Method::GET, key, &[])?;
        request = request.headers(if_match.map(state_condition));
        request = request.headers(download::range_header(range).map(|value| ("range", value)));
        let answer = match self.wire.send(request).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.absent_or(key, error).await),
        };
        let (size, body_bytes) = download::check_range(&answer, range)?;
        let info = info(&answer, Some(size))?;
        if if_match.is_some_and(|etag| *etag != info.etag) {
            return Err(
                answer.error(ErrorKind::PreconditionFailed, "the store sent another state than asked for")
            );
        }
        // A blob's Content-MD5 is whatever its writer claimed: it proves nothing.
        let body = download::body(answer, key, body_bytes, Proof::LengthOnly, self.wire.stall);
        Ok(Download { info, body })
    }

    /// A pinned read of a blob that is gone is refused as if there were another state: a second look tells.
    async fn absent_or(&self, key: &Key, error: StoreError) -> StoreError {
        if error.kind() != ErrorKind::PreconditionFailed {
            return error;
        }
        match self.head_blob(key).await {
            Err(gone) if gone.kind() == ErrorKind::NotFound => gone,
            Ok(_) | Err(_) => error,
        }
    }

    pub(super) async fn put_blob(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let request = self.on_blob("put", Method::PUT, key, &[])?.header("x-ms-blob-type", "BlockBlob");
        let request = with_meta(request, meta).headers(write_condition(condition));
        self.wire.send(self.with_checksum(request, body)).await?.etag()
    }

    /// Adds the bytes and their MD5, which Azure compares with what arrived.
    pub(super) fn with_checksum(&self, request: Request, body: Bytes) -> Request {
        let request = match self.checksums {
            Checksums::None => request,
            Checksums::Auto => request.header("content-md5", &BASE64.encode(Md5::digest(&body))),
        };
        request.body(body)
    }

    /// Puts a blob with a checksum of other bytes, to see whether the store looks at it.
    pub(in crate::store::remote) async fn put_spoilt(&self, key: &Key, body: Bytes) -> StoreResult<()> {
        let request = self.on_blob("probe", Method::PUT, key, &[])?.header("x-ms-blob-type", "BlockBlob");
        let request = self.with_checksum(request, Bytes::from_static(b"other bytes"));
        self.wire.send(request.body(body)).await.map(drop)
    }

    pub(super) async fn set_blob_meta(
        &self,
        key: &Key,
        if_match: &ETag,
        meta: &ObjectMeta,
    ) -> StoreResult<ETag> {
        let request = self.on_blob("set_meta", Method::PUT, key, &[("comp", "metadata")])?;
        let user_only = ObjectMeta::of_user(meta.user.clone());
        let request = with_meta(request, &user_only).headers([state_condition(if_match)]);
        let etag = self.wire.send(request).await?.etag()?;
        if meta.headers.is_empty() { Ok(etag) } else { self.set_headers(key, etag, meta).await }
    }

    /// Sets the HTTP headers that `meta` names, if the blob in the state `etag` has others. The request that
    /// does it removes what it does not name, the checksum of the content among it: all is named again.
    async fn set_headers(&self, key: &Key, etag: ETag, meta: &ObjectMeta) -> StoreResult<ETag> {
        let answer = self.wire.send(self.on_blob("head", Method::HEAD, key, &[])?).await?;
        let before = info(&answer, answer.content_length())?.meta;
        let mut wanted = before.replaced_by(meta).headers;
        wanted.retain(|header, _| blob_header(*header).is_some());
        if wanted == before.headers {
            return Ok(etag);
        }
        let request = self.on_blob("set_meta", Method::PUT, key, &[("comp", "properties")])?;
        let checksum = answer.header("content-md5").map(|sum| ("x-ms-blob-content-md5", sum.to_owned()));
        let request = with_headers(request, &wanted).headers(checksum).headers([state_condition(&etag)]);
        self.wire.send(request).await?.etag()
    }
}

fn info(answer: &Answer, size: Option<u64>) -> StoreResult<ObjectInfo> {
    let size = size.ok_or_else(|| answer.error(ErrorKind::Corrupt, "the answer does not say the size"))?;
    answer.object_info(size, answer.etag()?, META_PREFIX)
}
