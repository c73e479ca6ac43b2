//! Finds out what a store really does. Every imitation of S3 ignores some header without saying so, so each
//! promise is tried on a small object of our own, which is removed in every case.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::azure::Container;
use super::bucket::{Bucket, Quirks};
use super::encode::PlusSign;
use super::request::Wire;
use super::{Dialect, times};
use crate::clock::{Clock, Instant};
use crate::object::{ETag, Key, NanoTime};
use crate::store::{
    ByteRange, Capabilities, Condition, ErrorKind, ListRequest, ObjectMeta, Store, StoreError, StoreResult,
};

/// Where the probe's objects stand, below the store's prefix.
pub const PROBE_PREFIX: &str = ".bridgefs/probe/";

/// Objects of a probe that was killed are removed by a later one, when no probe can still need them.
const LEFT_BEHIND: NanoTime = 600 * 1_000_000_000;

/// A tag that no object has; a number, because Google's tags are numbers.
const NO_ETAG: &str = "1";

/// What a probe found.
#[derive(Debug, Clone)]
pub struct ProbeReport {
    /// What the store was seen to do.
    pub capabilities: Capabilities,
    /// The store's clock minus ours, in nanoseconds; exact to about a second. `None`: it did not say.
    pub clock_skew: Option<NanoTime>,
    /// How long the cheapest request took, over a connection that was open.
    pub latency: Duration,
}

/// Probes and remembers.
pub(super) async fn probe(known: &Dialect) -> StoreResult<ProbeReport> {
    let dialect = known.untaught();
    let shared = dialect.shared();
    let store = shared.as_ref();
    // The first request opens the connection and says what a person must mend; the second one is timed.
    store.probe().await?;
    let start = Instant::now();
    let date = dialect.server_date().await?;
    let latency = start.elapsed();
    // The date is cut off to whole seconds: half a second is what it lacks on average.
    let clock_skew = date.map(|date| date + 500_000_000 - Clock::System.now());
    if let Some(date) = date {
        remove_left_behind(store, date - LEFT_BEHIND).await?;
    }
    let trial = Trial::new(store)?;
    let found = trial.run(&dialect).await;
    trial.clean_up().await;
    let (capabilities, quirks) = found?;
    known.learn(capabilities, quirks);
    Ok(ProbeReport { capabilities, clock_skew, latency })
}

/// Removes what a probe that did not end left before `until`, by the store's clock.
async fn remove_left_behind(store: &dyn Store, until: NanoTime) -> StoreResult<()> {
    let request =
        ListRequest { prefix: PROBE_PREFIX.to_owned(), one_level: false, max_entries: 1000, token: None };
    for object in store.list(&request).await?.objects.iter().filter(|object| object.modified < until) {
        match store.delete(&object.key, None).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The objects of one probe.
struct Trial<'a> {
    store: &'a dyn Store,
    key: Key,
    /// Has a space and a plus, which servers encode differently in listings.
    odd_key: Key,
    /// Never created.
    spoilt_key: Key,
}

impl<'a> Trial<'a> {
    fn new(store: &'a dyn Store) -> StoreResult<Trial<'a>> {
        let stem = format!("{PROBE_PREFIX}{:016x}", rand::random::<u64>());
        let key = |suffix: &str| {
            let refuse = |error| StoreError::new(ErrorKind::Unsupported, "probe", "no key").caused_by(error);
            Key::new(format!("{stem}{suffix}")).map_err(refuse)
        };
        Ok(Trial { store, key: key("")?, odd_key: key(" +")?, spoilt_key: key("-spoilt")? })
    }

    async fn run(&self, dialect: &Dialect) -> StoreResult<(Capabilities, Option<Quirks>)> {
        let meta = ObjectMeta::of_user([("bridgefs_probe".into(), "a b".into())].into());
        let first = self.store.put(&self.key, bytes("1"), &meta, &Condition::Absent).await?;
        let metadata = self.store.head(&self.key).await?.meta.user == meta.user;
        let put_if_absent = refuses(self.put(&Condition::Absent).await.map(drop))?;
        let etag = if put_if_absent { first } else { self.store.head(&self.key).await?.etag };
        let (put_if_match, etag) = self.try_put_if_match(etag).await?;
        let wrong = Some(&ETag::new(NO_ETAG)).cloned();
        let conditional_get =
            refuses(self.store.get(&self.key, ByteRange::All, wrong.as_ref()).await.map(drop))?;
        let conditional_complete = self.try_complete().await?;
        let checksums = self.refuses_spoilt_bytes(dialect).await?;
        let quirks = match dialect {
            Dialect::Bucket(_) => Some(self.try_copies().await?),
            Dialect::Container(_) => None,
        };
        let etag = if conditional_complete { etag } else { self.store.head(&self.key).await?.etag };
        let conditional_delete = self.try_delete(wrong.as_ref(), &etag).await?;
        let promised = self.store.capabilities();
        let capabilities = Capabilities {
            put_if_absent,
            put_if_match,
            conditional_complete,
            conditional_delete,
            conditional_get,
            metadata,
            checksums,
            ..promised
        };
        Ok((capabilities, quirks))
    }

    async fn put(&self, condition: &Condition) -> StoreResult<ETag> {
        self.store.put(&self.key, bytes("2"), &ObjectMeta::default(), condition).await
    }

    /// A wrong tag must be refused and the right one must not.
    async fn try_put_if_match(&self, etag: ETag) -> StoreResult<(bool, ETag)> {
        if !refuses(self.put(&Condition::Matches(ETag::new(NO_ETAG))).await.map(drop))? {
            return Ok((false, self.store.head(&self.key).await?.etag));
        }
        match self.put(&Condition::Matches(etag.clone())).await {
            Ok(etag) => Ok((true, etag)),
            Err(error) if is_refusal(&error) => Ok((false, etag)),
            Err(error) => Err(error),
        }
    }

    /// Both conditions must be refused: there are servers that know only one.
    async fn try_complete(&self) -> StoreResult<bool> {
        let absent = self.completion_refuses(&Condition::Absent).await?;
        let matches = self.completion_refuses(&Condition::Matches(ETag::new(NO_ETAG))).await?;
        Ok(absent && matches)
    }

    async fn completion_refuses(&self, condition: &Condition) -> StoreResult<bool> {
        let (store, key, meta) = (self.store, &self.key, ObjectMeta::default());
        let upload = store.start_upload(key, &meta).await?;
        let part = store.put_part(key, &upload, 1, bytes("3")).await?;
        let completed = store.complete_upload(key, &upload, &[part], &meta, condition).await;
        let refused = refuses(completed.map(drop))?;
        if refused {
            store.abort_upload(key, &upload).await?;
        }
        Ok(refused)
    }

    /// A delete in another state must be refused and leave the object there; in its state it must work.
    async fn try_delete(&self, wrong: Option<&ETag>, right: &ETag) -> StoreResult<bool> {
        if !refuses(self.store.delete(&self.key, wrong).await)? {
            return Ok(false);
        }
        let deleted = self.store.delete(&self.key, Some(right)).await;
        match deleted {
            Ok(()) => Ok(true),
            Err(error) if is_refusal(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether bytes that do not fit their checksum are refused.
    async fn refuses_spoilt_bytes(&self, dialect: &Dialect) -> StoreResult<bool> {
        match dialect.put_spoilt(&self.spoilt_key, bytes("4")).await {
            Ok(()) => Ok(false),
            // A refusal of this kind is "send it again" in ordinary life; here it is the right answer.
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unsupported) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn try_copies(&self) -> StoreResult<Quirks> {
        let etag = self.store.head(&self.key).await?.etag;
        let copy = async |etag: &ETag, condition: &Condition| {
            self.store.copy(&self.key, etag, &self.odd_key, condition).await.map(drop)
        };
        copy(&etag, &Condition::Always).await?;
        let pinned_copy = refuses(copy(&ETag::new(NO_ETAG), &Condition::Always).await)?;
        let conditional_copy = refuses(copy(&etag, &Condition::Absent).await)?;
        let plus = self.meaning_of_plus().await?;
        Ok(Quirks { plus, pinned_copy, conditional_copy })
    }

    /// Before anything is learnt, a plus is read as a space: a server that means a plus shows two spaces.
    async fn meaning_of_plus(&self) -> StoreResult<PlusSign> {
        let prefix = self.odd_key.as_str().trim_end_matches('+').to_owned();
        let request = ListRequest { prefix, one_level: false, max_entries: 10, token: None };
        let page = self.store.list(&request).await?;
        if page.objects.iter().any(|object| object.key == self.odd_key) {
            return Ok(PlusSign::IsSpace);
        }
        Ok(PlusSign::IsPlus)
    }

    /// What cannot be removed now stays as a few bytes under a reserved prefix.
    async fn clean_up(&self) {
        for key in [&self.key, &self.odd_key, &self.spoilt_key] {
            match self.store.delete(key, None).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%error, "an object of the probe stays in the store"),
            }
        }
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Whether a call that had to be refused was.
fn refuses(result: StoreResult<()>) -> StoreResult<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::PreconditionFailed => Ok(true),
        // A server that says "not implemented" is honest and cannot do it.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &StoreError) -> bool {
    matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::Unsupported)
}

impl Dialect {
    /// What the store's clock says, asked with its cheapest request.
    async fn server_date(&self) -> StoreResult<Option<NanoTime>> {
        let (wire, request): (&Wire, _) = match self {
            Dialect::Bucket(bucket) => (&bucket.wire, bucket.cheapest_request()),
            Dialect::Container(container) => (&container.wire, container.cheapest_request()),
        };
        let answer = wire.send(request).await?;
        Ok(answer.header("date").and_then(times::http_date))
    }

    /// Sends bytes with a checksum of other bytes.
    async fn put_spoilt(&self, key: &Key, body: Bytes) -> StoreResult<()> {
        match self {
            Dialect::Bucket(bucket) => Bucket::put_spoilt(bucket, key, body).await,
            Dialect::Container(container) => Container::put_spoilt(container, key, body).await,
        }
    }

    /// The same store, believing what its protocol promises: what an earlier probe taught must not colour
    /// this one, and the store in use must not believe in the meantime.
    fn untaught(&self) -> Dialect {
        match self {
            Dialect::Bucket(bucket) => Dialect::Bucket(Arc::new(bucket.untaught())),
            Dialect::Container(container) => Dialect::Container(Arc::new(container.untaught())),
        }
    }

    /// Remembers. Quirks that were not tried are taken for bad.
    pub(super) fn learn(&self, capabilities: Capabilities, quirks: Option<Quirks>) {
        match self {
            Dialect::Bucket(bucket) => {
                *bucket.learned.lock() = (capabilities, quirks.unwrap_or(Quirks::CAUTIOUS));
            }
            Dialect::Container(container) => *container.learned.lock() = capabilities,
        }
    }
}
