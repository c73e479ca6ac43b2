//! One object, one request.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::Method;
use md5::{Digest as _, Md5};

use super::{Bucket, Flavor};
use crate::clock::Instant;
use crate::object::{ETag, Key};
use crate::store::remote::Checksums;
use crate::store::remote::answer::Answer;
use crate::store::remote::download::{self, Proof};
use crate::store::remote::request::Request;
use crate::store::{
    ByteRange, Condition, Download, ErrorKind, ListRequest, ObjectInfo, ObjectMeta, StoreError, StoreResult,
};

/// How long a proof that the bucket exists is believed.
const SEEN_FOR: Duration = Duration::from_secs(30);

/// Without it Google unpacks objects that are stored compressed, and length, range and encoding are wrong.
const AS_STORED: (&str, &str) = ("accept-encoding", "gzip");

/// An object as a look at it showed it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) info: ObjectInfo,
    /// Headers of a copy of it: [`Flavor::named_again`].
    pub(super) named_again: Vec<(&'static str, String)>,
}

impl Bucket {
    pub(super) async fn head_object(&self, key: &Key) -> StoreResult<ObjectInfo> {
        Ok(self.look(key).await?.info)
    }

    /// The same, with what a copy of it has to name.
    pub(super) async fn look(&self, key: &Key) -> StoreResult<Seen> {
        let mut request = self.on_object("head", Method::HEAD, key, &[])?;
        if self.flavor == Flavor::Google {
            request = request.header(AS_STORED.0, AS_STORED.1);
        }
        match self.wire.send(request).await {
            Ok(answer) => {
                self.bucket_was_seen();
                let info = self.info(&answer, answer.content_length())?;
                let named_again = self.flavor.named_again(|name| answer.header(name));
                Ok(Seen { info, named_again })
            }
            Err(error) => Err(self.confirm_absence(error).await),
        }
    }

    /// A refused HEAD has no body, so "no such object" and "no such bucket" look the same; and taking
    /// a lost bucket for a lost object would make every file of a store look deleted.
    async fn confirm_absence(&self, error: StoreError) -> StoreError {
        let fresh = self.seen.lock().is_some_and(|seen| seen.elapsed() < SEEN_FOR);
        if error.kind() != ErrorKind::NotFound || fresh {
            return error;
        }
        match self.look_at_bucket("head").await {
            Ok(()) => error,
            Err(lost) => lost,
        }
    }

    /// Shows that the bucket exists and that we may look into it.
    pub(super) async fn look_at_bucket(&self, operation: &'static str) -> StoreResult<()> {
        let one = ListRequest { prefix: String::new(), one_level: false, max_entries: 1, token: None };
        self.list_page(operation, &one).await.map(drop)
    }

    pub(super) fn bucket_was_seen(&self) {
        *self.seen.lock() = Some(Instant::now());
    }

    fn info(&self, answer: &Answer, size: Option<u64>) -> StoreResult<ObjectInfo> {
        let size =
            size.ok_or_else(|| answer.error(ErrorKind::Corrupt, "the answer does not say the size"))?;
        let mut info = answer.object_info(size, self.flavor.etag(answer)?, self.flavor.meta_prefix())?;
        info.meta.headers.retain(|header, _| self.flavor.keeps(*header));
        Ok(info)
    }

    pub(super) async fn get_object(
        &self,
        key: &Key,
        range: ByteRange,
        if_match: Option<&ETag>,
    ) -> StoreResult<Download> {
        let mut request = self.on_object("get", Method::GET, key, &[])?;
        request = request.headers(if_match.map(|etag| self.flavor.state_condition(etag)));
        request = request.headers(download::range_header(range).map(|value| ("range", value)));
        if self.flavor == Flavor::Google {
            request = request.header(AS_STORED.0, AS_STORED.1);
        }
        if self.vouches(range) {
            request = request.header("x-amz-checksum-mode", "ENABLED");
        }
        let answer = match self.wire.send(request).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.absent_or(key, error).await),
        };
        self.bucket_was_seen();
        let (size, body_bytes) = download::check_range(&answer, range)?;
        let info = self.info(&answer, Some(size))?;
        if if_match.is_some_and(|etag| *etag != info.etag) {
            return Err(
                answer.error(ErrorKind::PreconditionFailed, "the store sent another state than asked for")
            );
        }
        let proof = if self.vouches(range) { full_checksum(&answer) } else { Proof::LengthOnly };
        Ok(Download { info, body: download::body(answer, key, body_bytes, proof, self.wire.stall) })
    }

    /// Google may refuse a pinned read of an object that is gone as if there were another state: a second
    /// look tells.
    async fn absent_or(&self, key: &Key, error: StoreError) -> StoreError {
        if self.flavor != Flavor::Google || error.kind() != ErrorKind::PreconditionFailed {
            return error;
        }
        match self.head_object(key).await {
            Err(gone) if gone.kind() == ErrorKind::NotFound => gone,
            Ok(_) | Err(_) => error,
        }
    }

    /// Whether the store may know a checksum of exactly these bytes.
    fn vouches(&self, range: ByteRange) -> bool {
        let all = range == ByteRange::All;
        all && self.flavor == Flavor::Aws && self.checksums == Checksums::Auto
    }

    pub(super) async fn put_object(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let mut request = self.on_object("put", Method::PUT, key, &[])?;
        request = request.headers(self.flavor.write_condition(condition));
        for (name, value) in self.meta_headers(meta) {
            request = request.header(&name, &value);
        }
        let sent = self.wire.send(self.with_checksum(request, body)).await;
        let answer = sent.map_err(|error| match condition {
            Condition::Matches(_) => missing_is_no_match("put", key, error),
            Condition::Always | Condition::Absent => error,
        })?;
        self.bucket_was_seen();
        self.flavor.etag(&answer)
    }

    /// Whole objects carry a CRC-32 on S3: the store keeps it and returns it with every read, and of the
    /// checksums that S3 knows it is the one whose code (SIMD, IEEE polynomial) is here already.
    fn with_checksum(&self, request: Request, body: Bytes) -> Request {
        let request = match (self.checksums, self.flavor) {
            (Checksums::None, _) => request,
            (Checksums::Auto, Flavor::Aws) => {
                let sum = crc32fast::hash(&body).to_be_bytes();
                request.header("x-amz-checksum-crc32", &BASE64.encode(sum))
            }
            (Checksums::Auto, Flavor::Google) => with_md5(request, &body),
        };
        request.body(body)
    }

    /// Puts an object with a checksum of other bytes, to see whether the store looks at it.
    pub(in crate::store::remote) async fn put_spoilt(&self, key: &Key, body: Bytes) -> StoreResult<()> {
        let request = self.on_object("probe", Method::PUT, key, &[])?;
        let request = self.with_checksum(request, Bytes::from_static(b"other bytes"));
        self.wire.send(request.body(body)).await.map(drop)
    }

    pub(super) async fn delete_object(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()> {
        let request = self.on_object("delete", Method::DELETE, key, &[])?;
        let condition = if_match.map(|etag| self.flavor.state_condition(etag));
        self.wire.send(request.headers(condition)).await.map(drop)
    }
}

/// A write on condition of a state that is gone is answered with "not found" by S3; to whoever writes it is
/// a condition that does not hold.
pub(super) fn missing_is_no_match(operation: &'static str, key: &Key, error: StoreError) -> StoreError {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let detail = "what it was to replace, or the upload, is not there";
    StoreError::new(ErrorKind::PreconditionFailed, operation, detail).on(key).caused_by(error)
}

/// Adds a `Content-MD5`, which every store checks without being asked.
pub(super) fn with_md5(request: Request, body: &[u8]) -> Request {
    request.header("content-md5", &BASE64.encode(Md5::digest(body)))
}

/// The checksum that the store promises for the whole object, unless it is one over checksums of parts.
fn full_checksum(answer: &Answer) -> Proof {
    let composite = answer.header("x-amz-checksum-type").is_some_and(|kind| kind == "COMPOSITE");
    let raw = answer.header("x-amz-checksum-crc32").filter(|_| !composite);
    let bytes = raw.and_then(|raw| BASE64.decode(raw).ok()).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    bytes.map_or(Proof::LengthOnly, |bytes| Proof::Crc32(u32::from_be_bytes(bytes)))
}
