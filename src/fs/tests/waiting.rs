//! Who waits for a store, for how long, and what is left when it does not answer.

use std::time::Duration;

use super::rig::{ALICE, Rig};
use crate::bridge::{AckPolicy, BridgeSettings};
use crate::clock::{sleep, timeout};
use crate::fs::{Access, Truncate};
use crate::ledger::RenameMode;
use crate::object::{Ino, Key, Side};
use crate::store::faulty::{Fault, Rule};
use crate::store::metered::Operation;
use crate::store::{ErrorKind, ObjectMeta, Store};

const BEFORE: &[u8] = b"from before";
/// Longer than anything is tried or waited for.
const LONG: Duration = Duration::from_secs(300);

async fn known(rig: &Rig, name: &str) -> Ino {
    rig.fs.lookup(Ino::ROOT, name).await.expect("asked").expect("there").ino
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_as_failed_does_not_happen_later() {
    let rig = Rig::over("tree/below/f", BEFORE, &ObjectMeta::default()).await;
    let tree = known(&rig, "tree").await;
    let (from, to) = ((Ino::ROOT, "tree"), (Ino::ROOT, "moved"));
    rig.faults.old.push(Rule::always(Fault::Stall));
    rig.fs.rename(from, to, RenameMode::Replace).await.expect_err("what is below is not known");
    rig.fs.mkdir(tree, "new", 0o755, ALICE).await.expect_err("whether it is there is not known");
    rig.faults.old.clear();
    sleep(LONG).await;
    assert_eq!(rig.fs.lookup(Ino::ROOT, "moved").await.expect("asked"), None);
    assert_eq!(rig.fs.lookup(tree, "new").await.expect("asked"), None);
    rig.fs.rename(from, to, RenameMode::Replace).await.expect("renamed");
    assert_eq!(rig.stored("moved/below/f").await.as_deref(), Some(BEFORE));
}

#[tokio::test(start_paused = true)]
async fn a_removed_file_that_is_open_does_not_keep_its_name_from_the_stores_for_long() {
    let rig = Rig::over("f", BEFORE, &ObjectMeta::default()).await;
    let ino = known(&rig, "f").await;
    let reader = rig.open(ino, Access::Read).await;
    rig.faults.old.push(Rule::always(Fault::Fail(ErrorKind::Unavailable)).on(&[Operation::Get]));
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    rig.file("f", b"new").await;
    let arrived = |side: Side| {
        let objects = rig.stores[side].snapshot();
        objects.get(&Key::new("f").expect("a key")).is_some_and(|(body, _)| &body[..] == b"new")
    };
    timeout(LONG, async {
        while !arrived(Side::New) {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("nothing is read there");
    sleep(Duration::from_secs(60)).await;
    assert!(!arrived(Side::Old), "it is the only one that has what is read");
    rig.faults.old.clear();
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"new"[..]));
    assert_eq!(rig.read(reader).await, BEFORE);
    rig.close(reader).await;
}

/// An object with an owner, of which only its name is known yet.
async fn listed() -> (Rig, Ino) {
    let attrs = [("mode", "100600"), ("uid", "1000"), ("gid", "7")];
    let user = attrs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let rig = Rig::over("f", BEFORE, &ObjectMeta::of_user(user)).await;
    let ino = known(&rig, "f").await;
    assert_eq!(rig.fs.getattr(ino).await.expect("known").uid, 0, "a guess");
    (rig, ino)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_file_that_is_emptied_keeps_its_owner() {
    let (rig, ino) = listed().await;
    let opened = rig.opened(ino, Access::Write, Truncate::ToZero).await;
    rig.close(opened.handle).await;
    rig.drain().await;
    let info = rig.fs.getattr(ino).await.expect("known");
    assert_eq!((info.mode & 0o7777, info.uid, info.gid, info.size), (0o600, 1000, 7, 0));
    let meta = rig.stores.new.head(&Key::new("f").expect("a key")).await.expect("there").meta;
    assert_eq!((meta.user["mode"].as_str(), meta.user["uid"].as_str()), ("100600", "1000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_open_of_a_listed_file_says_that_its_attributes_were_guesses() {
    let (rig, ino) = listed().await;
    let opened = [
        rig.opened(ino, Access::Read, Truncate::Keep).await,
        rig.opened(ino, Access::Read, Truncate::Keep).await,
    ];
    assert_eq!(opened.map(|opened| opened.has_new_attrs), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_with_large_files_does_not_hold_up_the_other() {
    let settings =
        BridgeSettings { ack: AckPolicy::Journal, upload_memory: 8 << 20, ..BridgeSettings::default() };
    let rig = Rig::with(settings, 1 << 30).await;
    rig.faults.new.push(Rule::always(Fault::Stall).on(&[Operation::PutPart]));
    let made = rig.fs.create(Ino::ROOT, "large", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 30 << 20, b"the end of four parts").await;
    rig.close(made.handle).await;
    let all = async {
        while rig.faults.new.stalled() == 0 {
            sleep(Duration::from_millis(100)).await;
        }
        rig.file("small", b"content").await;
        while rig.stores.old.snapshot().len() < 2 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONG, all).await.expect("the old store has both");
    rig.faults.new.clear();
    rig.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_uploads_does_not_hold_up_a_removal() {
    const BACKLOG: usize = 200;
    let settings = BridgeSettings { ack: AckPolicy::Journal, uploads_max: 1, ..BridgeSettings::default() };
    let rig = Rig::with(settings, 1 << 30).await;
    rig.file("removed", b"content").await;
    rig.drain().await;
    rig.faults.old.push(Rule::always(Fault::Delay(Duration::from_secs(1))).on(&[Operation::Put]));
    for number in 0..BACKLOG {
        rig.file(&format!("f{number}"), b"content").await;
    }
    // All of them have been quiet for long enough.
    sleep(Duration::from_secs(10)).await;
    let before = rig.stores.old.snapshot().len();
    rig.fs.unlink(Ino::ROOT, "removed").await.expect("removed");
    let key = Key::new("removed").expect("a key");
    let gone = async {
        while rig.stores.old.snapshot().contains_key(&key) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONG, gone).await.expect("it comes to that");
    let sent = rig.stores.old.snapshot().len() + 1 - before;
    assert!(sent < BACKLOG / 10, "{sent} of {BACKLOG} were sent before");
}
