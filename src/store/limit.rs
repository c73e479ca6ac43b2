//! Bounds what one store can cost: requests in flight, the time of a call, the silence of a download.
//!
//! Whatever the store inside does, a call through [`Limited`] comes to an end.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metered::Operation;
use super::{
    Body, ByteRange, Capabilities, Condition, Download, ErrorKind, ListPage, ListRequest, ObjectInfo,
    ObjectMeta, PartReceipt, SharedStore, Store, StoreError, StoreResult, UploadId,
};
use crate::clock::{Instant, sleep, timeout};
use crate::object::{ETag, Key};

/// The slowest upload that is waited for: sixteen side by side, which is what a lane sends, on a line of 1 Mbit/s.
/// A store that is dead is found by a probe long before.
const SENT_BYTES_PER_SECOND_MIN: u64 = 8 << 10;

/// So many probes in a row without an answer say that a store is dead.
const SILENCES_MAX: u32 = 2;
/// The longest pause between two probes beside one call: they are requests that cost.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long so many bytes may be on their way to a store, beside the time that it takes to answer.
pub(super) fn time_to_send(sent_bytes: usize) -> Duration {
    Duration::from_secs(sent_bytes as u64 / SENT_BYTES_PER_SECOND_MIN)
}

/// The bounds of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests at the same time; a download counts until its body has been read or dropped.
    pub requests_in_flight: usize,
    /// How long a call may wait for its turn before it is refused as throttled.
    pub queue_wait: Duration,
    /// How long a call without content may take.
    pub call_deadline: Duration,
    /// How long a call may take that sends content (put, part), beside the time for its bytes.
    pub transfer_deadline: Duration,
    /// How long a call may take that lets the store move content (completion, copy, change of metadata). That may
    /// be terabytes, of which nothing is seen from here: each request of it is bounded by who sends it, and this
    /// is only so that what hangs for ever comes to an end.
    pub work_deadline: Duration,
    /// How long a download may be silent between two pieces.
    pub stall: Duration,
}

impl Default for Limits {
    /// 64 in flight; 10 s of queue; 3 s for an answer; 60 s and more for a transfer; a day for what the store
    /// does itself; 3 s of silence. A read that meets a dead store waits for one answer and one probe at most,
    /// which together stay under 5 s.
    fn default() -> Limits {
        Limits {
            requests_in_flight: 64,
            queue_wait: Duration::from_secs(10),
            call_deadline: Duration::from_secs(3),
            transfer_deadline: Duration::from_secs(60),
            work_deadline: Duration::from_secs(24 * 60 * 60),
            stall: Duration::from_secs(3),
        }
    }
}

impl Limits {
    fn deadline(&self, operation: Operation, sent_bytes: usize) -> Duration {
        match operation {
            Operation::Put | Operation::PutPart => self.transfer_deadline + time_to_send(sent_bytes),
            Operation::CompleteUpload | Operation::Copy | Operation::SetMeta => self.work_deadline,
            Operation::Head
            | Operation::Get
            | Operation::StartUpload
            | Operation::AbortUpload
            | Operation::Delete
            | Operation::List
            | Operation::Probe => self.call_deadline,
        }
    }
}

/// The cause of an [`ErrorKind::Unavailable`] that is a silence and not an answer. Waiting for a silent
/// store is what hurts, so the [breaker](super::breaker) opens at the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no answer within {} ms", .after.as_millis())]
pub struct DeadlineExceeded {
    /// How long was waited.
    pub after: Duration,
}

impl DeadlineExceeded {
    /// The failure of `operation` after that silence.
    pub fn error(self, operation: &'static str) -> StoreError {
        StoreError::new(ErrorKind::Unavailable, operation, self.to_string()).caused_by(self)
    }

    /// Whether `error` was caused by a silence, at whatever depth.
    pub fn is_cause_of(error: &StoreError) -> bool {
        let source = std::error::Error::source(error);
        std::iter::successors(source, |error| error.source())
            .any(<dyn std::error::Error>::is::<DeadlineExceeded>)
    }
}

/// A store whose calls are bounded.
pub struct Limited {
    inner: SharedStore,
    limits: Limits,
    turns: Arc<Semaphore>,
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("inner", &self.inner).field("limits", &self.limits).finish()
    }
}

impl Limited {
    /// Bounds the calls to `inner`.
    pub fn new(inner: SharedStore, limits: Limits) -> Limited {
        Limited { inner, limits, turns: Arc::new(Semaphore::new(limits.requests_in_flight.max(1))) }
    }

    async fn turn(&self, operation: Operation) -> StoreResult<OwnedSemaphorePermit> {
        match timeout(self.limits.queue_wait, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            // Our own limit says nothing about the store: this must not open its breaker.
            Err(elapsed) => {
                let detail = format!("{} requests are in flight already", self.limits.requests_in_flight);
                Err(StoreError::new(ErrorKind::Throttled, operation.as_str(), detail).caused_by(elapsed))
            }
        }
    }

    /// Runs `call` when it is its turn; the permit goes to who has more to do with it.
    async fn bound<T>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        sent_bytes: usize,
        call: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<(T, OwnedSemaphorePermit)> {
        let permit = self.turn(operation).await?;
        Ok((self.in_time(operation, key, sent_bytes, call).await?, permit))
    }

    async fn in_time<T>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        sent_bytes: usize,
        call: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        let after = self.limits.deadline(operation, sent_bytes);
        let is_long = after > self.limits.call_deadline;
        let silence = tokio::select! {
            answered = timeout(after, call) => match answered {
                Ok(answer) => return answer,
                Err(_elapsed) => DeadlineExceeded { after },
            },
            silence = self.dead(), if is_long => silence,
        };
        let error = silence.error(operation.as_str());
        Err(match key {
            Some(key) => error.on(key),
            None => error,
        })
    }

    /// Returns when the store does not even answer a probe: what may take long on a slow line, or with much to do
    /// for the store, is not waited for then. One probe may be late because the line is full of what is sent.
    async fn dead(&self) -> DeadlineExceeded {
        let begun = Instant::now();
        let (mut pause, mut silences) = (self.limits.call_deadline, 0);
        while silences < SILENCES_MAX {
            sleep(pause).await;
            pause = (2 * pause).min(PROBE_PAUSE_MAX);
            match timeout(self.limits.call_deadline, self.inner.probe()).await {
                Err(_elapsed) => silences += 1,
                Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => silences += 1,
                Ok(Ok(()) | Err(_)) => silences = 0,
            }
            if silences > 0 {
                pause = self.limits.call_deadline;
            }
        }
        DeadlineExceeded { after: begun.elapsed() }
    }

    /// Runs `call` when it is its turn and gives the permit back with the answer.
    async fn once<T>(
        &self,
        operation: Operation,
        key: &Key,
        call: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        self.once_sent(operation, key, 0, call).await
    }

    /// The same for a call that sends so many bytes.
    async fn once_sent<T>(
        &self,
        operation: Operation,
        key: &Key,
        sent_bytes: usize,
        call: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        let (answer, _permit) = self.bound(operation, Some(key), sent_bytes, call).await?;
        Ok(answer)
    }
}

/// The body with its permit, ended by an error when it is silent for too long. Time that the reader takes
/// between two pieces is not the store's and does not count.
fn watched(body: Body, permit: OwnedSemaphorePermit, stall: Duration) -> Body {
    let step = move |state: Option<(Body, OwnedSemaphorePermit)>| async move {
        let (mut body, permit) = state?;
        match timeout(stall, body.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some((body, permit)))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_elapsed) => Some((Err(DeadlineExceeded { after: stall }.error("get")), None)),
        }
    };
    stream::unfold(Some((body, permit)), step).boxed()
}

#[async_trait]
impl Store for Limited {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn check_key(&self, key: &Key) -> StoreResult<()> {
        self.inner.check_key(key)
    }

    async fn head(&self, key: &Key) -> StoreResult<ObjectInfo> {
        self.once(Operation::Head, key, self.inner.head(key)).await
    }

    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> StoreResult<Download> {
        let call = self.inner.get(key, range, if_match);
        let (Download { info, body }, permit) = self.bound(Operation::Get, Some(key), 0, call).await?;
        Ok(Download { info, body: watched(body, permit, self.limits.stall) })
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let sent_bytes = body.len();
        self.once_sent(Operation::Put, key, sent_bytes, self.inner.put(key, body, meta, condition)).await
    }

    async fn start_upload(&self, key: &Key, meta: &ObjectMeta) -> StoreResult<UploadId> {
        self.once(Operation::StartUpload, key, self.inner.start_upload(key, meta)).await
    }

    async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        let sent_bytes = body.len();
        let call = self.inner.put_part(key, upload, number, body);
        self.once_sent(Operation::PutPart, key, sent_bytes, call).await
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
        self.once(Operation::CompleteUpload, key, call).await
    }

    async fn abort_upload(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.once(Operation::AbortUpload, key, self.inner.abort_upload(key, upload)).await
    }

    async fn copy(&self, from: &Key, from_etag: &ETag, to: &Key, condition: &Condition) -> StoreResult<ETag> {
        self.once(Operation::Copy, to, self.inner.copy(from, from_etag, to, condition)).await
    }

    async fn set_meta(&self, key: &Key, if_match: &ETag, meta: &ObjectMeta) -> StoreResult<ETag> {
        self.once(Operation::SetMeta, key, self.inner.set_meta(key, if_match, meta)).await
    }

    async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> StoreResult<()> {
        self.once(Operation::Delete, key, self.inner.delete(key, if_match)).await
    }

    async fn list(&self, request: &ListRequest) -> StoreResult<ListPage> {
        let (page, _permit) = self.bound(Operation::List, None, 0, self.inner.list(request)).await?;
        Ok(page)
    }

    /// Waits for nobody: a queue of stalled downloads must not hide that the store is back.
    async fn probe(&self) -> StoreResult<()> {
        self.in_time(Operation::Probe, None, 0, self.inner.probe()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use futures::StreamExt;

    use super::{DeadlineExceeded, Limited, Limits};
    use crate::clock::{Clock, Instant};
    use crate::object::Key;
    use crate::store::faulty::{Fault, Faults, Faulty, Rule};
    use crate::store::memory::MemoryStore;
    use crate::store::metered::Operation;
    use crate::store::{ByteRange, Condition, ErrorKind, ObjectMeta, Store};

    async fn limited(requests_in_flight: usize) -> (Limited, Faults, Key) {
        let (faulty, faults) = Faulty::new(Arc::new(MemoryStore::new("m", Clock::System)), 1);
        let store = Limited::new(Arc::new(faulty), Limits { requests_in_flight, ..Limits::default() });
        let key = Key::new("a").expect("a key");
        store.put(&key, "content".into(), &ObjectMeta::default(), &Condition::Always).await.expect("a put");
        (store, faults, key)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_is_unavailable_after_the_deadline_and_says_why() {
        let (store, faults, key) = limited(4).await;
        faults.push(Rule::always(Fault::Stall));
        let error = store.head(&key).await.expect_err("silence is no answer");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(DeadlineExceeded::is_cause_of(&error), "{error}");
        faults.clear();
        store.head(&key).await.expect("the permit of the failed call is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_does_not_keep_an_upload_for_ever() {
        let Limits { call_deadline, transfer_deadline, .. } = Limits::default();
        let silent = || Rule::always(Fault::Stall).on(&[Operation::Put]);
        let on_probes = |fault| Rule::always(fault).on(&[Operation::Probe]);
        let gone = Fault::Fail(ErrorKind::Unavailable);
        for (probes, after) in [
            (Some(on_probes(Fault::Stall)), 4 * call_deadline),
            (Some(on_probes(gone)), 2 * call_deadline),
            (Some(on_probes(gone).within(0..1)), transfer_deadline),
            (None, transfer_deadline),
        ] {
            let (store, faults, key) = limited(4).await;
            faults.push(silent());
            probes.into_iter().for_each(|rule| faults.push(rule));
            let before = Instant::now();
            let put = store.put(&key, "content".into(), &ObjectMeta::default(), &Condition::Always).await;
            assert!(DeadlineExceeded::is_cause_of(&put.expect_err("silence is no answer")));
            assert_eq!(before.elapsed(), after);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_is_no_silence() {
        let (store, faults, key) = limited(4).await;
        let meta = ObjectMeta::default();
        let body = Bytes::from(vec![0; 8 << 20]);
        let upload = store.start_upload(&key, &meta).await.expect("begun");
        let late = Rule::always(Fault::Delay(Duration::from_secs(600)));
        faults.push(late.on(&[Operation::Put, Operation::PutPart]));
        store.put(&key, body.clone(), &meta, &Condition::Always).await.expect("it arrives");
        store.put_part(&key, &upload, 1, body).await.expect("it arrives");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_moves_itself_takes_as_long_as_it_takes() {
        let (store, faults, key) = limited(4).await;
        let (other, meta) = (Key::new("b").expect("a key"), ObjectMeta::default());
        let etag = store.head(&key).await.expect("there").etag;
        let upload = store.start_upload(&other, &meta).await.expect("begun");
        let part = store.put_part(&other, &upload, 1, "x".into()).await.expect("sent");
        let late = Rule::always(Fault::Delay(Duration::from_secs(6 * 3600)));
        faults.push(late.on(&[Operation::Copy, Operation::SetMeta, Operation::CompleteUpload]));
        store.copy(&key, &etag, &other, &Condition::Always).await.expect("copied");
        store.set_meta(&key, &etag, &meta).await.expect("changed");
        store.complete_upload(&other, &upload, &[part], &meta, &Condition::Always).await.expect("assembled");
    }

    #[tokio::test(start_paused = true)]
    async fn a_download_that_falls_silent_ends_with_an_error() {
        let (store, faults, key) = limited(4).await;
        faults.push(Rule::always(Fault::StallBody { after_bytes: 3 }));
        let mut body = store.get(&key, ByteRange::All, None).await.expect("it begins").body;
        assert_eq!(body.next().await.expect("a piece").expect("some bytes"), "con");
        let error = body.next().await.expect("an end").expect_err("that is no content");
        assert!(DeadlineExceeded::is_cause_of(&error), "{error}");
        assert!(body.next().await.is_none(), "after the error there is nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unread_download_holds_its_place_and_a_full_queue_is_not_the_stores_fault() {
        let (store, _faults, key) = limited(1).await;
        let download = store.get(&key, ByteRange::All, None).await.expect("it begins");
        let error = store.head(&key).await.expect_err("no place");
        assert_eq!(error.kind(), ErrorKind::Throttled);
        tokio::time::timeout(Duration::from_secs(1), store.probe()).await.expect("no queue").expect("up");
        drop(download);
        store.head(&key).await.expect("the place is free");
    }
}
