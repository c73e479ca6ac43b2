//! The circuit breaker of one store: a sick store costs one bounded delay and then nothing, until a probe
//! in the background finds it well again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, watch};

use super::limit::DeadlineExceeded;
use super::metered::Operation;
use super::{
    Body, ByteRange, Capabilities, Condition, Download, ErrorKind, ListPage, ListRequest, ObjectInfo,
    ObjectMeta, PartReceipt, SharedStore, Store, StoreError, StoreResult, UploadId,
};
use crate::clock::{Instant, sleep, timeout};
use crate::object::{ETag, Key};

mod circuit;
#[cfg(test)]
mod tests;

pub use circuit::BreakerState;

use circuit::Circuit;

/// The wait before the first probe of an open breaker; doubles with each failed one.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// The longest wait between two probes: a store that is back is used again within this time.
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// How long a probe may take.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// A store behind a circuit breaker.
///
/// ```text
///            a silence, or 3 failures in a row,
///            or a failed probe after suspect()
///   closed ------------------------------------> open <--------+
///     ^                                            | backoff    | probe fails
///     |               probe succeeds               v            |
///     +---------------------------------------- half open ------+
/// ```
///
/// Failures are [`ErrorKind::Unavailable`]; every other answer shows that the store is there. While it is
/// not closed every call but `probe` fails at once. It leaves `open` only while [`Breaker::run_probe`] runs
/// or when somebody else's `probe` succeeds: an answer to a call from before it opened proves nothing of
/// now, and a store that answers every second call would otherwise cost a delay each time.
#[derive(Debug)]
pub struct Breaker {
    inner: SharedStore,
    circuit: Arc<Circuit>,
    suspected: AtomicBool,
    wake: Arc<Notify>,
    rng: Mutex<SmallRng>,
}

impl Breaker {
    /// A closed breaker before `inner`, which messages call `name`. `seed` is for the jitter of the probes.
    pub fn new(name: impl Into<Arc<str>>, inner: SharedStore, seed: u64) -> Breaker {
        let wake = Arc::new(Notify::new());
        let circuit = Arc::new(Circuit::new(name.into(), Arc::clone(&wake)));
        let rng = Mutex::new(SmallRng::seed_from_u64(seed));
        Breaker { inner, circuit, suspected: AtomicBool::new(false), wake, rng }
    }

    /// Whether calls are refused now.
    pub fn is_open(&self) -> bool {
        self.state() != BreakerState::Closed
    }

    /// The state now.
    pub fn state(&self) -> BreakerState {
        self.circuit.state()
    }

    /// Tells each change of the state, so that who waits for an answer of the store learns at once that
    /// none will come.
    pub fn watch(&self) -> watch::Receiver<BreakerState> {
        self.circuit.watch()
    }

    /// What the store said, or did not say, when it last failed.
    pub fn last_error(&self) -> Option<String> {
        self.circuit.last_error()
    }

    /// Asks for a probe right now, because an answer takes longer than it should; if it fails, the breaker
    /// opens. Callers may do so as often as they like: one probe runs at a time.
    pub fn suspect(&self) {
        self.suspected.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Probes the store whenever that is called for. Never ends: spawn it beside the store and abort it
    /// with the store's other tasks.
    pub async fn run_probe(self: Arc<Self>) {
        loop {
            self.wake.notified().await;
            let suspected = self.suspected.swap(false, Ordering::Relaxed);
            if suspected && !self.is_open() {
                self.examine().await;
            }
            if self.is_open() {
                self.recover().await;
            }
        }
    }

    async fn examine(&self) {
        if let Err(error) = self.ask().await
            && is_shut(&error)
        {
            self.circuit.trip(&error);
        }
    }

    /// Probes with growing pauses until the breaker is closed.
    async fn recover(&self) {
        let mut backoff = BACKOFF_MIN;
        while self.is_open() {
            let wait = backoff.mul_f64(self.rng.lock().random_range(0.5..=1.0));
            self.circuit.wait_until(Instant::now() + wait);
            sleep(wait).await;
            self.circuit.half_open();
            match self.ask().await {
                Err(error) if is_shut(&error) => self.circuit.record(&error),
                Ok(()) | Err(_) => self.circuit.close(),
            }
            backoff = BACKOFF_MAX.min(backoff * 2);
        }
    }

    async fn ask(&self) -> StoreResult<()> {
        let silence = DeadlineExceeded { after: PROBE_DEADLINE };
        let asked = timeout(PROBE_DEADLINE, self.inner.probe()).await;
        asked.unwrap_or_else(|_elapsed| Err(silence.error(Operation::Probe.as_str())))
    }

    async fn guard<T>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        call: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        self.circuit.admit(operation, key)?;
        let answer = call.await;
        match &answer {
            Ok(_) => self.circuit.answered(),
            Err(error) => self.circuit.failed(error),
        }
        answer
    }
}

/// Whether a probe's error says that the store is of no use now: gone, or it does not let us in (expired
/// credentials refuse everything, so waiting for single answers would cost each caller its deadline).
fn is_shut(error: &StoreError) -> bool {
    is_outage(error) || error.kind() == ErrorKind::Denied
}

/// Whether the error says that the store is not there.
fn is_outage(error: &StoreError) -> bool {
    error.kind() == ErrorKind::Unavailable
}

/// The body; how it ends tells the circuit how the store is.
fn observed(body: Body, circuit: Arc<Circuit>) -> Body {
    let step = |state: Option<(Body, Arc<Circuit>)>| async move {
        let (mut body, circuit) = state?;
        match body.next().await {
            Some(Ok(piece)) => Some((Ok(piece), Some((body, circuit)))),
            Some(Err(error)) => {
                circuit.failed(&error);
                Some((Err(error), None))
            }
            None => {
                circuit.answered();
                None
            }
        }
    };
    stream::unfold(Some((body, circuit)), step).boxed()
}

#[async_trait]
impl Store for Breaker {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn check_key(&self, key: &Key) -> StoreResult<()> {
        self.inner.check_key(key)
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo> {
        self.guard(Operation::Head, Some(key), self.inner.head(key)).await
    }

    /// Success is only known when the body has come to its end: else a store that begins every download
    /// and finishes none would never look sick.
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> StoreResult<Download> {
        self.circuit.admit(Operation::Get, Some(key))?;
        let answer = self.inner.get(key, range, if_match).await;
        let Download { info, body } = answer.inspect_err(|error| self.circuit.failed(error))?;
        Ok(Download { info, body: observed(body, Arc::clone(&self.circuit)) })
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        self.guard(Operation::Put, Some(key), self.inner.put(key, body, meta, condition)).await
    }

    async fn start_upload(&self, key: &Key, meta: &ObjectMeta) -> StoreResult<UploadId> {
        self.guard(Operation::StartUpload, Some(key), self.inner.start_upload(key, meta)).await
    }

    async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        self.guard(Operation::PutPart, Some(key), self.inner.put_part(key, upload, number, body)).await
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
        self.guard(Operation::CompleteUpload, Some(key), call).await
    }

    async fn abort_upload(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.guard(Operation::AbortUpload, Some(key), self.inner.abort_upload(key, upload)).await
    }

    async fn copy(&self, from: &Key, from_etag: &ETag, to: &Key, condition: &Condition) -> StoreResult<ETag> {
        self.guard(Operation::Copy, Some(to), self.inner.copy(from, from_etag, to, condition)).await
    }

    async fn set_meta(&self, key: &Key, if_match: &ETag, meta: &ObjectMeta) -> StoreResult<ETag> {
        self.guard(Operation::SetMeta, Some(key), self.inner.set_meta(key, if_match, meta)).await
    }

    async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()> {
        self.guard(Operation::Delete, Some(key), self.inner.delete(key, if_match)).await
    }

    async fn list(&self, request: &ListRequest) -> StoreResult<ListPage> {
        self.guard(Operation::List, None, self.inner.list(request)).await
    }

    /// Passes in every state; a success closes the breaker.
    async fn probe(&self) -> StoreResult<()> {
        let answer = self.inner.probe().await;
        match &answer {
            Err(error) if is_outage(error) => self.circuit.failed(error),
            Err(error) if is_shut(error) => {}
            Ok(()) | Err(_) => self.circuit.close(),
        }
        answer
    }
}
