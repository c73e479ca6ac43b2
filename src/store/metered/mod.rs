//! Counts and times every request to one store, and gives each a tracing span.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use metrics::{counter, gauge, histogram};
use tracing::{Instrument, debug_span};

use super::{
    ByteRange, Capabilities, Condition, Download, ListPage, ListRequest, ObjectInfo, ObjectMeta, PartReceipt,
    SharedStore, Store, StoreResult, UploadId,
};
use crate::clock::Instant;
use crate::metrics::{STORE_BYTES_IN, STORE_BYTES_OUT, STORE_IN_FLIGHT, STORE_REQUESTS, STORE_SECONDS};
use crate::object::{ETag, Key};

mod counts;
mod operation;

pub use counts::RequestCounts;
pub use operation::Operation;

/// A store whose requests are counted, timed and traced under its name.
#[derive(Debug)]
pub struct Metered {
    name: Arc<str>,
    inner: SharedStore,
    counts: Arc<RequestCounts>,
}

impl Metered {
    /// Counts the requests that reach `inner` under the label `name`.
    pub fn new(name: impl Into<Arc<str>>, inner: SharedStore) -> Metered {
        Metered { name: name.into(), inner, counts: Arc::default() }
    }

    /// The counters, which live on when the store is shared as a trait object.
    pub fn counts(&self) -> Arc<RequestCounts> {
        Arc::clone(&self.counts)
    }

    async fn measure<T>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        call: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        self.counts.count(operation);
        let request = Request::start(Arc::clone(&self.name), operation);
        let key = key.map_or("", Key::as_str);
        let span = debug_span!("store_request", store = &*self.name, operation = operation.as_str(), key);
        let answer = call.instrument(span).await;
        request.answered(answer.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok"));
        answer
    }

    fn sent(&self, body: &Bytes) {
        let store = self.name.to_string();
        counter!(STORE_BYTES_OUT.name, "store" => store).increment(body.len() as u64);
    }
}

/// A request that was sent. A caller that gives up drops it, and it is counted as `cancelled`: else the
/// requests that hurt most, those that somebody stopped waiting for, would be the ones not seen.
struct Request {
    store: Arc<str>,
    operation: Operation,
    started: Instant,
    result: &'static str,
}

impl Request {
    fn start(store: Arc<str>, operation: Operation) -> Request {
        gauge!(STORE_IN_FLIGHT.name, "store" => store.to_string()).increment(1.0);
        Request { store, operation, started: Instant::now(), result: "cancelled" }
    }

    fn answered(mut self, result: &'static str) {
        self.result = result;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let (store, operation) = (self.store.to_string(), self.operation.as_str());
        gauge!(STORE_IN_FLIGHT.name, "store" => store.clone()).decrement(1.0);
        histogram!(STORE_SECONDS.name, "store" => store.clone(), "operation" => operation)
            .record(self.started.elapsed().as_secs_f64());
        counter!(STORE_REQUESTS.name, "store" => store, "operation" => operation, "result" => self.result)
            .increment(1);
    }
}

#[async_trait]
impl Store for Metered {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn check_key(&self, key: &Key) -> StoreResult<()> {
        self.inner.check_key(key)
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo> {
        self.measure(Operation::Head, Some(key), self.inner.head(key)).await
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> StoreResult<Download> {
        let call = self.inner.get(key, range, if_match);
        let Download { info, body } = self.measure(Operation::Get, Some(key), call).await?;
        let received = counter!(STORE_BYTES_IN.name, "store" => self.name.to_string());
        let counted = body.inspect(move |piece| {
            received.increment(piece.as_ref().map_or(0, |bytes| bytes.len() as u64));
        });
        Ok(Download { info, body: counted.boxed() })
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        self.sent(&body);
        self.measure(Operation::Put, Some(key), self.inner.put(key, body, meta, condition)).await
    }

    async fn start_upload(&self, key: &Key, meta: &ObjectMeta) -> StoreResult<UploadId> {
        self.measure(Operation::StartUpload, Some(key), self.inner.start_upload(key, meta)).await
    }

    async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        self.sent(&body);
        self.measure(Operation::PutPart, Some(key), self.inner.put_part(key, upload, number, body)).await
    }

    async fn complete_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[PartReceipt],
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let call = self.inner.complete_upload(key, upload, parts, meta, condition);
        self.measure(Operation::CompleteUpload, Some(key), call).await
    }

    async fn abort_upload(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.measure(Operation::AbortUpload, Some(key), self.inner.abort_upload(key, upload)).await
    }

    async fn copy(&self, from: &Key, from_etag: &ETag, to: &Key, condition: &Condition) -> StoreResult<ETag> {
        let call = self.inner.copy(from, from_etag, to, condition);
        self.measure(Operation::Copy, Some(to), call).await
    }

    async fn set_meta(&self, key: &Key, if_match: &ETag, meta: &ObjectMeta) -> StoreResult<ETag> {
        self.measure(Operation::SetMeta, Some(key), self.inner.set_meta(key, if_match, meta)).await
    }

    async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()> {
        self.measure(Operation::Delete, Some(key), self.inner.delete(key, if_match)).await
    }

    async fn list(&self, request: &ListRequest) -> StoreResult<ListPage> {
        self.measure(Operation::List, None, self.inner.list(request)).await
    }

    async fn probe(&self) -> StoreResult<()> {
        self.measure(Operation::Probe, None, self.inner.probe()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt;

    use super::{Metered, Operation};
    use crate::clock::Clock;
    use crate::object::Key;
    use crate::store::memory::MemoryStore;
    use crate::store::{ByteRange, Condition, ObjectMeta, Store};

    #[tokio::test]
    async fn each_request_counts_once_whatever_its_result_and_probes_cost_nothing() {
        let metered = Metered::new("m", Arc::new(MemoryStore::new("m", Clock::System)));
        let (counts, key) = (metered.counts(), Key::new("a").expect("a key"));
        metered.head(&key).await.expect_err("nothing is there");
        metered.put(&key, "x".into(), &ObjectMeta::default(), &Condition::Always).await.expect("a put");
        metered.head(&key).await.expect("it is there");
        metered.probe().await.expect("up");
        assert_eq!(
            [counts.of(Operation::Head), counts.of(Operation::Put), counts.of(Operation::Get)],
            [2, 1, 0]
        );
        assert_eq!((counts.of(Operation::Probe), counts.total()), (1, 3));
        counts.reset();
        assert_eq!(counts.total(), 0);
    }

    #[test]
    fn a_scrape_says_requests_by_result_bytes_and_nothing_left_in_flight() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let metered = Metered::new("aws", Arc::new(MemoryStore::new("m", Clock::System)));
                let key = Key::new("a").expect("a key");
                metered.head(&key).await.expect_err("nothing is there");
                let (meta, always) = (ObjectMeta::default(), Condition::Always);
                metered.put(&key, "four".into(), &meta, &always).await.expect("a put");
                let body = metered.get(&key, ByteRange::All, None).await.expect("a get").body;
                assert_eq!(body.count().await, 1);
            });
        });
        let scrape = recorder.handle().render();
        for line in [
            r#"bridgefs_store_requests_total{store="aws",operation="head",result="not-found"} 1"#,
            r#"bridgefs_store_requests_total{store="aws",operation="put",result="ok"} 1"#,
            r#"bridgefs_store_sent_bytes_total{store="aws"} 4"#,
            r#"bridgefs_store_received_bytes_total{store="aws"} 4"#,
            r#"bridgefs_store_requests_in_flight{store="aws"} 0"#,
        ] {
            assert!(scrape.lines().any(|found| found == line), "{line}\n{scrape}");
        }
    }
}
