//! What is under way when somebody else is faster.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::rig::Rig;
use crate::bridge::{AckPolicy, BridgeSettings, Coherence};
use crate::cache::Lease;
use crate::fs::{Access, Truncate};
use crate::object::{Ino, Key};
use crate::store::faulty::{Fault, Rule};
use crate::store::metered::Operation;
use crate::store::{Condition, ObjectMeta, Store};

/// A file that is nowhere but on the stores, both of which stall in the middle of its content.
async fn stalling(rig: &Rig, content: &[u8]) -> Ino {
    let ino = rig.file("f", content).await;
    rig.settle().await;
    rig.cache.forget(ino);
    stall_bodies(rig);
    ino
}

fn stall_bodies(rig: &Rig) {
    for faults in [&rig.faults.old, &rig.faults.new] {
        faults.push(Rule::always(Fault::StallBody { after_bytes: 1 }).on(&[Operation::Get]));
    }
}

/// Until a call waits at a rule.
async fn stalled(rig: &Rig) {
    while rig.faults.old.stalled() + rig.faults.new.stalled() == 0 {
        tokio::task::yield_now().await;
    }
}

fn let_go_on(rig: &Rig) {
    rig.faults.old.clear();
    rig.faults.new.clear();
}

/// Content on its way back to be sent, and held halfway.
async fn brought_back(rig: &Rig, ino: Ino) -> JoinHandle<Option<Lease>> {
    let bridge = Arc::clone(&rig.bridge);
    let task = tokio::spawn(async move { bridge.bring_back(ino).await.expect("brought back") });
    stalled(rig).await;
    task
}

/// Another program's content, through the mount, on both stores and no longer staged.
async fn write_anew(rig: &Rig, ino: Ino, content: &[u8]) {
    let handle = rig.opened(ino, Access::Write, Truncate::ToZero).await.handle;
    rig.write(handle, 0, content).await;
    rig.close(handle).await;
    rig.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_brought_back_to_be_sent_does_not_come_in_place_of_a_newer_one() {
    let rig = Rig::new().await;
    let ino = stalling(&rig, b"before").await;
    let task = brought_back(&rig, ino).await;
    write_anew(&rig, ino, b"newer").await;
    let_go_on(&rig);
    assert!(task.await.expect("no panic").is_none(), "it is not wanted any more");
    assert!(!rig.cache.is_staged(ino));
    assert_eq!(rig.content(ino).await, b"newer");
    let rig = rig.killed().await;
    assert_eq!(rig.content(ino).await, b"newer");
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"newer"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_brought_back_to_be_sent_does_not_come_in_place_of_an_outsiders() {
    let coherence = Coherence::Ttl(Duration::ZERO);
    let settings = BridgeSettings { ack: AckPolicy::Journal, coherence, ..BridgeSettings::default() };
    let rig = Rig::with(settings, 1 << 30).await;
    let ino = stalling(&rig, b"before").await;
    let task = brought_back(&rig, ino).await;
    let key = Key::new("f").expect("a key");
    let meta = ObjectMeta::default();
    rig.stores.old.put(&key, b"their own".as_slice().into(), &meta, &Condition::Always).await.expect("put");
    rig.tick();
    assert_eq!(rig.bridge.open(ino).await.expect("opened").size(), 9, "it is taken in");
    let_go_on(&rig);
    assert!(task.await.expect("no panic").is_none(), "it is not wanted any more");
    assert_eq!(rig.content(ino).await, b"their own");
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"their own"[..]));
}
