//! Copies inside the bucket, and metadata, which S3 and Google only change by a copy onto itself.

use bytes::Bytes;
use http::Method;
use tokio::runtime::Handle;

use super::flavor::Header;
use super::objects::Seen;
use super::{Bucket, Flavor};
use crate::object::{ETag, Key};
use crate::store::remote::request::{Request, Wire};
use crate::store::remote::{encode, xml};
use crate::store::{
    Condition, ErrorKind, ObjectInfo, ObjectMeta, PartReceipt, Store as _, StoreError, StoreResult,
};

/// The largest object that S3 copies in one request.
const COPY_BYTES_MAX: u64 = 5 << 30;
/// The part of a larger copy, unless more than 10,000 would be needed: small enough to be done in time.
const COPY_PART_BYTES: u64 = 512 << 20;
/// The most parts of one upload.
const PARTS_MAX: u64 = 10_000;

/// What the target of a copy gets beside the content.
enum Beside<'a> {
    /// What the server takes from the source: user metadata, HTTP headers and tags, not the storage class.
    Kept,
    /// This metadata, and these headers again; of the source only its tags.
    Replaced(&'a ObjectMeta, &'a [Header]),
}

impl Bucket {
    pub(super) async fn copy_object(
        &self,
        from: &Key,
        from_etag: &ETag,
        to: &Key,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        if !self.quirks().pinned_copy {
            // Not safe against a write in between, but all that this server allows.
            self.expect_state("copy", from, from_etag).await?;
        }
        if *condition != Condition::Always && !self.quirks().conditional_copy {
            if !self.capabilities().conditional_complete {
                let detail = "this server ignores conditions on the target of a copy";
                return Err(StoreError::new(ErrorKind::Unsupported, "copy", detail).on(to));
            }
            return self.copy_by_parts("copy", from, from_etag, to, condition).await;
        }
        let copied = self.copy_at_once("copy", from, from_etag, to, condition, Beside::Kept).await;
        match copied {
            Err(error) if self.is_too_large(from, &error).await => {
                self.copy_by_parts("copy", from, from_etag, to, condition).await
            }
            copied => copied,
        }
    }

    pub(super) async fn replace_meta(
        &self,
        key: &Key,
        if_match: &ETag,
        meta: &ObjectMeta,
    ) -> StoreResult<ETag> {
        let Seen { info, named_again } = self.expect_state("set_meta", key, if_match).await?;
        let meta = info.meta.replaced_by(meta);
        // Without a condition on the target a write that lands during the copy would be undone.
        let condition = match self.quirks().conditional_copy {
            true => Condition::Matches(if_match.clone()),
            false => Condition::Always,
        };
        if self.flavor == Flavor::Aws && info.size > COPY_BYTES_MAX {
            let seen = Seen { info: ObjectInfo { meta, ..info }, named_again };
            let condition = Condition::Matches(if_match.clone());
            return self.copy_parts_of("set_meta", key, &seen, key, &condition).await;
        }
        let beside = Beside::Replaced(&meta, &named_again);
        self.copy_at_once("set_meta", key, if_match, key, &condition, beside).await
    }

    async fn copy_at_once(
        &self,
        operation: &'static str,
        from: &Key,
        from_etag: &ETag,
        to: &Key,
        condition: &Condition,
        beside: Beside<'_>,
    ) -> StoreResult<ETag> {
        let mut request = self.on_object(operation, Method::PUT, to, &[])?.patient();
        request = request.headers(self.copy_source(from, from_etag));
        request = request.headers(self.flavor.write_condition(condition));
        if let Beside::Replaced(meta, named_again) = beside {
            request = request.headers([self.flavor.replace_metadata()]).headers(named_again.iter().cloned());
            for (name, value) in self.meta_headers(meta) {
                request = request.header(&name, &value);
            }
        }
        let answer = self.wire.send(request).await?;
        let generation = self.flavor.generation(&answer);
        let copied: xml::Tagged = answer.into_document().await?;
        match (self.flavor, generation) {
            (Flavor::Aws, _) => Ok(ETag::new(&copied.etag)),
            (Flavor::Google, Some(generation)) => Ok(generation),
            (Flavor::Google, None) => Ok(self.head_object(to).await?.etag),
        }
    }

    /// What is there, if it is the state `etag`.
    async fn expect_state(&self, operation: &'static str, key: &Key, etag: &ETag) -> StoreResult<Seen> {
        let seen = self.look(key).await?;
        if seen.info.etag != *etag {
            let detail = "the object has another state";
            return Err(StoreError::new(ErrorKind::PreconditionFailed, operation, detail).on(key));
        }
        Ok(seen)
    }

    fn copy_source(&self, from: &Key, etag: &ETag) -> [Header; 2] {
        let source = format!("/{}/{}", self.bucket, encode::path(&self.full_key(from)));
        self.flavor.copy_source(source, etag)
    }

    /// S3 says `InvalidRequest` for a source that is too large, and for other things too.
    async fn is_too_large(&self, from: &Key, error: &StoreError) -> bool {
        self.flavor == Flavor::Aws
            && error.kind() == ErrorKind::Unsupported
            && self.head_object(from).await.is_ok_and(|info| info.size > COPY_BYTES_MAX)
    }

    /// Copies by an upload whose parts the server takes from the source. It needs no condition on a copy,
    /// only one on a completion, which more servers obey.
    async fn copy_by_parts(
        &self,
        operation: &'static str,
        from: &Key,
        from_etag: &ETag,
        to: &Key,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let seen = self.expect_state(operation, from, from_etag).await?;
        if seen.info.size == 0 {
            return self.put_object(to, Bytes::new(), &seen.info.meta, condition).await;
        }
        self.copy_parts_of(operation, from, &seen, to, condition).await
    }

    /// The same, with what `seen` has beside the content. Tags stay behind: they are no headers.
    async fn copy_parts_of(
        &self,
        operation: &'static str,
        from: &Key,
        seen: &Seen,
        to: &Key,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let Seen { info, named_again } = seen;
        let upload = self.initiate(operation, to, &info.meta, named_again).await?;
        let unfinished =
            Unfinished { wire: self.wire.clone(), abort: Some(self.abort_request(to, &upload)?) };
        let mut parts = Vec::new();
        let part_bytes = COPY_PART_BYTES.max(info.size.div_ceil(PARTS_MAX));
        let mut start = 0;
        while start < info.size {
            let end = info.size.min(start + part_bytes);
            let number = u32::try_from(parts.len() + 1).expect("10,000 parts at most");
            let query = [("partNumber", &*number.to_string()), ("uploadId", &*upload.0)];
            let request = self.on_object(operation, Method::PUT, to, &query)?.patient();
            let request = request
                .headers(self.copy_source(from, &info.etag))
                .header("x-amz-copy-source-range", &format!("bytes={start}-{}", end - 1));
            let copied: xml::Tagged = self.wire.send(request).await?.into_document().await?;
            parts.push(PartReceipt { number, tag: ETag::new(&copied.etag).as_str().to_owned() });
            start = end;
        }
        let etag = self.complete(operation, to, &upload, &parts, condition).await?;
        unfinished.finish();
        Ok(etag)
    }
}

/// The upload of a copy, whose parts cost money until they are removed. Dropped, because the copy failed or
/// nobody waits for it any more, it is aborted. If that fails too, it is left to the bucket's lifecycle rule.
struct Unfinished {
    wire: Wire,
    abort: Option<Request>,
}

impl Unfinished {
    fn finish(mut self) {
        self.abort = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let (Some(abort), Ok(runtime)) = (self.abort.take(), Handle::try_current()) else { return };
        let wire = self.wire.clone();
        runtime.spawn(async move {
            if let Err(error) = wire.send(abort).await {
                tracing::warn!(%error, "the parts of a failed copy stay in the bucket");
            }
        });
    }
}
