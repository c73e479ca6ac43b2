//! Fault injection for tests, described as data: [`Rule`]s that say which calls go wrong and how, turned
//! on and off while the program runs. The same seed and the same calls give the same faults.

use std::future::Future;

use async_trait::async_trait;
use bytes::Bytes;

use super::limit::DeadlineExceeded;
use super::metered::Operation;
use super::{
    ByteRange, Capabilities, Condition, Download, ErrorKind, ListPage, ListRequest, ObjectInfo, ObjectMeta,
    PartReceipt, SharedStore, Store, StoreError, StoreResult, UploadId,
};
use crate::clock::sleep;
use crate::object::{ETag, Key};

mod body;
mod faults;
mod rule;
#[cfg(test)]
mod tests;

pub use faults::Faults;
pub use rule::{Fault, Rule};

use faults::Met;

/// A store that fails as its [`Faults`] say.
#[derive(Debug)]
pub struct Faulty {
    inner: SharedStore,
    faults: Faults,
}

impl Faulty {
    /// A store that behaves like `inner` until the handle is told otherwise.
    pub fn new(inner: SharedStore, seed: u64) -> (Faulty, Faults) {
        let faults = Faults::new(seed);
        (Faulty { inner, faults: faults.clone() }, faults)
    }

    /// A call that is not a mutation, or one of an upload: it cannot arrive late.
    async fn call<T>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        call: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        let met = self.faults.meet(operation, Rule::subject(key));
        self.suffer(operation, met, call).await
    }

    async fn suffer<T>(
        &self,
        operation: Operation,
        met: Option<Met>,
        call: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        let Some(Met { rule, fault }) = met else { return call.await };
        match fault {
            Fault::Fail(kind) => Err(StoreError::new(kind, operation.as_str(), "an injected fault")),
            Fault::FailAfter => {
                call.await?;
                let detail = "the answer was lost (an injected fault)";
                Err(StoreError::new(ErrorKind::Unavailable, operation.as_str(), detail))
            }
            Fault::Stall => {
                self.faults.until_gone(rule).await;
                call.await
            }
            Fault::Delay(duration) => {
                sleep(duration).await;
                call.await
            }
            Fault::Truncate { .. }
            | Fault::StallBody { .. }
            | Fault::FlipBit
            | Fault::WrongEtag
            | Fault::Late => call.await,
        }
    }

    /// A mutation: it owns all it needs, so that it can arrive after its caller has gone.
    async fn mutate<T: Send + 'static>(
        &self,
        operation: Operation,
        key: &Key,
        call: impl Future<Output = StoreResult<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let met = self.faults.meet(operation, Some(key.as_str()));
        if !matches!(met, Some(Met { fault: Fault::Late, .. })) {
            return self.suffer(operation, met, call).await;
        }
        self.faults.delay(Box::pin(async move { call.await.map(|_| ()) }));
        Err(DeadlineExceeded { after: std::time::Duration::ZERO }.error(operation.as_str()).on(key))
    }
}

/// The information, with a tag that nothing has if that is the fault.
fn mistag(mut info: ObjectInfo, met: Option<Met>) -> ObjectInfo {
    if matches!(met, Some(Met { fault: Fault::WrongEtag, .. })) {
        info.etag = ETag::new(&format!("wrong-{}", info.etag));
    }
    info
}

#[async_trait]
impl Store for Faulty {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn check_key(&self, key: &Key) -> StoreResult<()> {
        self.inner.check_key(key)
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo> {
        let met = self.faults.meet(Operation::Head, Some(key.as_str()));
        Ok(mistag(self.suffer(Operation::Head, met, self.inner.head(key)).await?, met))
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> StoreResult<Download> {
        let met = self.faults.meet(Operation::Get, Some(key.as_str()));
        let call = self.inner.get(key, range, if_match);
        let Download { info, body } = self.suffer(Operation::Get, met, call).await?;
        let body = match met {
            Some(met) => body::spoil(body, met, &self.faults).await,
            None => body,
        };
        Ok(Download { info: mistag(info, met), body })
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let (inner, target) = (SharedStore::clone(&self.inner), key.clone());
        let (meta, condition) = (meta.clone(), condition.clone());
        let call = async move { inner.put(&target, body, &meta, &condition).await };
        self.mutate(Operation::Put, key, call).await
    }

    async fn start_upload(&self, key: &Key, meta: &ObjectMeta) -> StoreResult<UploadId> {
        self.call(Operation::StartUpload, Some(key), self.inner.start_upload(key, meta)).await
    }

    async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        self.call(Operation::PutPart, Some(key), self.inner.put_part(key, upload, number, body)).await
    }

    async fn complete_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[PartReceipt],
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let (inner, target, upload) = (SharedStore::clone(&self.inner), key.clone(), upload.clone());
        let (parts, meta, condition) = (parts.to_vec(), meta.clone(), condition.clone());
        let call = async move { inner.complete_upload(&target, &upload, &parts, &meta, &condition).await };
        self.mutate(Operation::CompleteUpload, key, call).await
    }

    async fn abort_upload(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.call(Operation::AbortUpload, Some(key), self.inner.abort_upload(key, upload)).await
    }

    async fn copy(&self, from: &Key, from_etag: &ETag, to: &Key, condition: &Condition) -> StoreResult<ETag> {
        let (inner, from, etag) = (SharedStore::clone(&self.inner), from.clone(), from_etag.clone());
        let (target, condition) = (to.clone(), condition.clone());
        let call = async move { inner.copy(&from, &etag, &target, &condition).await };
        self.mutate(Operation::Copy, to, call).await
    }

    async fn set_meta(&self, key: &Key, if_match: &ETag, meta: &ObjectMeta) -> StoreResult<ETag> {
        let (inner, target) = (SharedStore::clone(&self.inner), key.clone());
        let (etag, meta) = (if_match.clone(), meta.clone());
        let call = async move { inner.set_meta(&target, &etag, &meta).await };
        self.mutate(Operation::SetMeta, key, call).await
    }

    async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()> {
        let (inner, target) = (SharedStore::clone(&self.inner), key.clone());
        let etag = if_match.cloned();
        let call = async move { inner.delete(&target, etag.as_ref()).await };
        self.mutate(Operation::Delete, key, call).await
    }

    async fn list(&self, request: &ListRequest) -> StoreResult<ListPage> {
        let met = self.faults.meet(Operation::List, Some(&request.prefix));
        self.suffer(Operation::List, met, self.inner.list(request)).await
    }

    async fn probe(&self) -> StoreResult<()> {
        self.call(Operation::Probe, None, self.inner.probe()).await
    }
}
