use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use futures::poll;
use tokio::sync::watch;

use super::{block_of, content, new_cache};
use crate::cache::CachedVersion;
use crate::object::{BLOCK_BYTES, Ino, Version};

/// Fetches and counts, but only after the gate was opened.
async fn fetch_when_open(
    version: &CachedVersion,
    bytes: Bytes,
    mut gate: watch::Receiver<bool>,
    calls: &AtomicUsize,
) -> Bytes {
    let fetch = || async {
        calls.fetch_add(1, Ordering::SeqCst);
        gate.wait_for(|open| *open).await.expect("the gate is kept");
        Ok::<_, Infallible>(bytes)
    };
    version.fetch(0, fetch).await.expect("infallible")
}

#[tokio::test]
async fn fifty_callers_at_once_fetch_once() {
    let (_dir, cache) = new_cache();
    let bytes = content(1, BLOCK_BYTES);
    let version = cache.version(Ino(5), Version::FIRST, BLOCK_BYTES).unwrap();
    let (open, gate) = watch::channel(false);
    let calls = AtomicUsize::new(0);
    let callers = (0..50).map(|_| fetch_when_open(&version, bytes.clone(), gate.clone(), &calls));
    let (got, ()) = tokio::join!(join_all(callers), async {
        open.send(true).expect("somebody waits");
    });
    assert!(got.iter().all(|got| *got == bytes));
    assert_eq!(calls.into_inner(), 1);
    assert_eq!(cache.stats().misses, 1);
    assert!(version.is_complete());
}

#[tokio::test]
async fn a_fetched_block_is_read_without_another_fetch() {
    let (_dir, cache) = new_cache();
    let bytes = content(1, 2 * BLOCK_BYTES);
    let version = cache.version(Ino(5), Version::FIRST, 2 * BLOCK_BYTES).unwrap();
    let first = block_of(&bytes, 0);
    version.fetch(0, || async { Ok::<_, Infallible>(first.clone()) }).await.unwrap();
    assert_eq!(version.read(5, 10).unwrap(), Some(first.slice(5..15)));
    let again = version.fetch(0, || async { Err::<Bytes, _>("fetched twice") }).await;
    assert_eq!(again, Ok(first));
}

#[tokio::test]
async fn after_a_failure_the_next_caller_tries_itself() {
    let (_dir, cache) = new_cache();
    let bytes = content(1, 100);
    let version = cache.version(Ino(5), Version::FIRST, 100).unwrap();
    let failing = || async {
        tokio::task::yield_now().await;
        Err("no luck")
    };
    let (a, b, c) = tokio::join!(
        version.fetch(0, failing),
        version.fetch(0, failing),
        version.fetch(0, || async { Ok::<_, &str>(bytes.clone()) })
    );
    assert_eq!((a, b, c), (Err("no luck"), Err("no luck"), Ok(bytes)));
}

#[tokio::test]
async fn a_cancelled_fetch_leaves_nobody_waiting() {
    let (_dir, cache) = new_cache();
    let bytes = content(1, 100);
    let version = cache.version(Ino(5), Version::FIRST, 100).unwrap();
    let mut stuck = Box::pin(version.fetch(0, pending::<Result<Bytes, Infallible>>));
    assert!(poll!(&mut stuck).is_pending());
    let mut waiting = Box::pin(version.fetch(0, || async { Ok::<_, Infallible>(bytes.clone()) }));
    assert!(poll!(&mut waiting).is_pending());
    let mut gone = Box::pin(version.fetch(0, || async { Ok::<_, Infallible>(Bytes::new()) }));
    assert!(poll!(&mut gone).is_pending());
    drop(gone);
    drop(stuck);
    assert_eq!(waiting.await, Ok(bytes));
}

#[tokio::test]
async fn bytes_of_a_wrong_length_reach_nobody_else() {
    let (_dir, cache) = new_cache();
    let bytes = content(1, 100);
    let version = cache.version(Ino(5), Version::FIRST, 100).unwrap();
    let (cut, whole) = tokio::join!(
        version.fetch(0, || async {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(bytes.slice(..9))
        }),
        version.fetch(0, || async { Ok::<_, Infallible>(bytes.clone()) })
    );
    assert_eq!((cut, whole), (Ok(bytes.slice(..9)), Ok(bytes)));
}
