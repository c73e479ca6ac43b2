use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::{Fault, Faults, Faulty, Rule};
use crate::clock::Clock;
use crate::object::{ETag, Key};
use crate::store::memory::MemoryStore;
use crate::store::metered::Operation;
use crate::store::{ByteRange, Condition, ErrorKind, ObjectMeta, Store, StoreResult};

fn faulty(seed: u64) -> (Faulty, Faults, Arc<MemoryStore>) {
    let memory = Arc::new(MemoryStore::new("m", Clock::System));
    let (faulty, faults) = Faulty::new(Arc::<MemoryStore>::clone(&memory), seed);
    (faulty, faults, memory)
}

fn key(raw: &str) -> Key {
    Key::new(raw).expect("a key")
}

async fn put(store: &Faulty, name: &str, body: &'static str) -> StoreResult<ETag> {
    store.put(&key(name), body.into(), &ObjectMeta::default(), &Condition::Always).await
}

async fn read(store: &Faulty, name: &str) -> StoreResult<Bytes> {
    let pieces: Vec<Bytes> = store.get(&key(name), ByteRange::All, None).await?.body.try_collect().await?;
    Ok(pieces.concat().into())
}

#[tokio::test]
async fn a_store_that_is_down_fails_everything_and_nothing_once_it_is_up() {
    let (store, faults, memory) = faulty(1);
    faults.down();
    assert_eq!(put(&store, "a", "x").await.expect_err("down").kind(), ErrorKind::Unavailable);
    store.probe().await.expect_err("down");
    assert!(memory.snapshot().is_empty(), "a refused put does not happen");
    faults.up();
    put(&store, "a", "x").await.expect("up");
}

#[tokio::test]
async fn a_lost_answer_leaves_the_mutation_done() {
    let (store, faults, memory) = faulty(1);
    faults.push(Rule::always(Fault::FailAfter).on(&[Operation::Put]).within(0..1));
    put(&store, "a", "x").await.expect_err("the answer is lost");
    assert_eq!(memory.snapshot()[&key("a")].0, "x");
    put(&store, "a", "y").await.expect("only the first was in the window");
}

#[tokio::test]
async fn a_rule_is_about_its_operations_and_its_keys() {
    let (store, faults, _) = faulty(1);
    faults.push(Rule::always(Fault::Fail(ErrorKind::Denied)).on(&[Operation::Put]).below("secret/"));
    assert_eq!(put(&store, "secret/a", "x").await.expect_err("denied").kind(), ErrorKind::Denied);
    put(&store, "open/a", "x").await.expect("another key");
    let absent = store.head(&key("secret/a")).await.expect_err("another operation");
    assert_eq!(absent.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_stalled_call_goes_on_when_the_rule_is_gone() {
    let (store, faults, _) = faulty(1);
    faults.push(Rule::always(Fault::Stall));
    let store = Arc::new(store);
    let stalled = tokio::spawn({
        let store = Arc::clone(&store);
        async move { put(&store, "a", "x").await }
    });
    tokio::task::yield_now().await;
    assert!(!stalled.is_finished());
    faults.clear();
    stalled.await.expect("no panic").expect("the put goes on");
}

#[tokio::test]
async fn a_late_put_arrives_when_it_is_released_and_overwrites_what_came_before() {
    let (store, faults, memory) = faulty(1);
    faults.push(Rule::always(Fault::Late).on(&Operation::MUTATIONS).within(0..1));
    put(&store, "a", "old").await.expect_err("silence");
    put(&store, "a", "new").await.expect("the second is in time");
    assert_eq!((faults.late_calls(), memory.snapshot()[&key("a")].0.clone()), (1, "new".into()));
    let results = faults.release_late().await;
    assert!(matches!(results[..], [Ok(())]));
    assert_eq!(memory.snapshot()[&key("a")].0, "old");
}

#[tokio::test]
async fn a_late_conditional_put_is_refused_if_its_state_has_gone() {
    let (store, faults, memory) = faulty(1);
    faults.push(Rule::always(Fault::Late).on(&[Operation::Put]).within(0..1));
    let meta = ObjectMeta::default();
    store.put(&key("a"), "old".into(), &meta, &Condition::Absent).await.expect_err("silence");
    put(&store, "a", "new").await.expect("in time");
    let results = faults.release_late().await;
    assert_eq!(results[0].as_ref().expect_err("refused").kind(), ErrorKind::PreconditionFailed);
    assert_eq!(memory.snapshot()[&key("a")].0, "new");
}

#[tokio::test]
async fn bodies_are_cut_flipped_and_mistagged() {
    let (store, faults, _) = faulty(7);
    let etag = put(&store, "a", "content").await.expect("a put");
    faults.push(Rule::always(Fault::Truncate { after_bytes: 3 }));
    let body = store.get(&key("a"), ByteRange::All, None).await.expect("it begins").body;
    let pieces: Vec<StoreResult<Bytes>> = body.collect().await;
    assert!(matches!(&pieces[..], [Ok(head), Err(_)] if head == "con"), "{pieces:?}");
    faults.clear();
    faults.push(Rule::always(Fault::FlipBit));
    let flipped = read(&store, "a").await.expect("it looks right");
    let differing: u32 = flipped.iter().zip(b"content").map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!((flipped.len(), differing), (7, 1));
    faults.clear();
    faults.push(Rule::always(Fault::WrongEtag));
    assert_ne!(store.head(&key("a")).await.expect("head").etag, etag);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults() {
    let mut runs = Vec::new();
    for seed in [5, 5, 6] {
        let (store, faults, _) = faulty(seed);
        faults.push(Rule::always(Fault::Fail(ErrorKind::Unavailable)).sometimes(0.5));
        let mut failed = Vec::new();
        for _ in 0..64 {
            failed.push(store.probe().await.is_err());
        }
        runs.push(failed);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}
