//! What only the other store could show while the one that knows every name was away, and what becomes of it when
//! that one answers again.

use std::time::Duration;

use super::rig::{ALICE, Rig};
use super::stores::kinds;
use crate::bridge::BridgeErrorKind;
use crate::clock::sleep;
use crate::fs::{Access, FileInfo, FsError, HandleId, Place, SetAttrs, Truncate};
use crate::ledger::RenameMode;
use crate::object::{Digest, Ino, Key, Side};
use crate::stage::Stage;
use crate::store::{Condition, ObjectMeta, Store};

/// Longer than any pause of the breaker and of a lane.
const LONG: Duration = Duration::from_secs(300);
const TRUE: &[u8] = b"what old has";
/// Of the same length.
const STALE: &[u8] = b"what NEW has";
const SHORT: &[u8] = b"stale";

async fn put(rig: &Rig, side: Side, key: &str, content: &'static [u8], mode: &str) {
    let user = [("mode".to_owned(), mode.to_owned()), ("blake3".to_owned(), Digest::of(content).to_hex())];
    put_with(rig, side, key, content, &ObjectMeta::of_user(user.into())).await;
}

/// As other tools put it, without a digest.
async fn put_bare(rig: &Rig, side: Side, key: &str, content: &'static [u8]) {
    put_with(rig, side, key, content, &ObjectMeta::default()).await;
}

async fn put_with(rig: &Rig, side: Side, key: &str, content: &'static [u8], meta: &ObjectMeta) {
    let key = Key::new(key).expect("a key");
    rig.stores[side].put(&key, content.into(), meta, &Condition::Always).await.expect("put");
}

fn held(rig: &Rig, side: Side, key: &str) -> Option<Vec<u8>> {
    let key = Key::new(key).expect("a key");
    rig.stores[side].snapshot().get(&key).map(|(body, _)| body.to_vec())
}

async fn lookup(rig: &Rig, name: &str) -> Option<FileInfo> {
    rig.fs.lookup(Ino::ROOT, name).await.expect("asked")
}

/// The store that knows every name goes away, and a program finds this on the other one.
async fn found(rig: &Rig, name: &str) -> FileInfo {
    rig.faults.old.down();
    lookup(rig, name).await.expect("shown")
}

/// It answers again, and is known to.
async fn back(rig: &Rig) {
    rig.faults.old.up();
    sleep(LONG).await;
}

async fn chmod(rig: &Rig, ino: Ino) -> Option<BridgeErrorKind> {
    let change = SetAttrs { mode: Some(0o600), ..SetAttrs::default() };
    rig.fs.setattr(ino, None, change).await.err().as_ref().and_then(FsError::bridge_kind)
}

async fn write(rig: &Rig, handle: HandleId) -> Option<BridgeErrorKind> {
    let written = rig.fs.write(handle, Place::At(0), b"W").await;
    written.err().as_ref().and_then(FsError::bridge_kind)
}

#[tokio::test(start_paused = true)]
async fn what_both_have_alike_is_an_ordinary_file_once_the_store_that_knows_the_names_answers() {
    for stage in [Stage::Off, Stage::DualWrite, Stage::Live] {
        let rig = Rig::new().await;
        rig.bridge.set_stage("", stage, 100, "test", "test").await.expect("a stage");
        for name in ["f", "written", "emptied", "linked"] {
            put(&rig, Side::Old, name, TRUE, "100640").await;
            put(&rig, Side::New, name, TRUE, "100604").await;
            found(&rig, name).await;
        }
        let written = lookup(&rig, "written").await.expect("shown").ino;
        let open = rig.open(written, Access::ReadWrite).await;
        assert_eq!(rig.read(open).await, TRUE);
        back(&rig).await;
        let f = lookup(&rig, "f").await.expect("there");
        assert!(!f.is_unproven);
        assert_eq!(f.mode & 0o777, 0o640, "the attributes are those of the store that was away");
        assert_eq!(rig.fs.listxattr(f.ino, ALICE).await.expect("asked"), b"");
        assert_eq!(chmod(&rig, f.ino).await, None, "{stage}");
        assert_eq!(write(&rig, open).await, None, "{stage}");
        rig.close(open).await;
        let emptied = lookup(&rig, "emptied").await.expect("there").ino;
        let handle = rig.opened(emptied, Access::Write, Truncate::ToZero).await.handle;
        rig.close(handle).await;
        let linked = lookup(&rig, "linked").await.expect("there").ino;
        rig.fs.link(linked, Ino::ROOT, "further").await.expect("linked");
        rig.drain().await;
        let content: [(&str, &[u8]); 5] = [
            ("f", TRUE),
            ("written", b"What old has"),
            ("emptied", b""),
            ("linked", TRUE),
            ("further", TRUE),
        ];
        for (name, content) in content {
            assert_eq!(held(&rig, Side::Old, name).as_deref(), Some(content), "{stage} {name}");
        }
        assert_eq!(kinds(&rig), []);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_store_that_knows_the_names_has_otherwise_is_what_the_file_is() {
    for (shown, restarted) in [(STALE, false), (SHORT, false), (STALE, true)] {
        let rig = Rig::new().await;
        put_bare(&rig, Side::Old, "f", TRUE).await;
        put_bare(&rig, Side::New, "f", shown).await;
        let ino = found(&rig, "f").await.ino;
        assert_eq!(rig.content(ino).await, shown);
        let rig = if restarted { rig.killed().await } else { rig };
        back(&rig).await;
        let now = lookup(&rig, "f").await.expect("there");
        assert_eq!(now.size, TRUE.len() as u64);
        assert_eq!(rig.content(now.ino).await, TRUE);
        rig.drain().await;
        assert_eq!(held(&rig, Side::New, "f").as_deref(), Some(shown), "nobody's bytes are overwritten");
        assert_eq!(kinds(&rig), []);
        assert_eq!(chmod(&rig, now.ino).await, None);
        let handle = rig.open(now.ino, Access::ReadWrite).await;
        assert_eq!(write(&rig, handle).await, None);
        rig.close(handle).await;
        assert_eq!(rig.stored("f").await.as_deref(), Some(&b"What old has"[..]));
        let on_new = rig.stores.new.snapshot().into_iter();
        let kept: Vec<_> = on_new.filter(|(key, _)| key.as_str().contains("-kept-")).collect();
        assert_eq!((kept.len(), &kept[0].1.0[..]), (1, shown), "what is written over is kept aside");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_the_other_content_open_reads_it_to_the_end_and_writes_it_to_no_store() {
    for on_old in [Some(TRUE), None] {
        let rig = Rig::new().await;
        if let Some(content) = on_old {
            put_bare(&rig, Side::Old, "f", content).await;
        }
        put_bare(&rig, Side::New, "f", STALE).await;
        let ino = found(&rig, "f").await.ino;
        let open = rig.open(ino, Access::ReadWrite).await;
        assert_eq!(rig.read(open).await, STALE);
        back(&rig).await;
        assert_eq!(lookup(&rig, "f").await.is_some(), on_old.is_some());
        rig.cache.forget(ino);
        assert_eq!(rig.read(open).await, STALE, "one content, never a mixed one");
        assert_eq!(rig.fs.getattr(ino).await.expect("still open").size, STALE.len() as u64);
        assert_eq!(write(&rig, open).await, Some(BridgeErrorKind::Stale));
        rig.close(open).await;
        rig.drain().await;
        assert_eq!(held(&rig, Side::Old, "f").as_deref(), on_old);
        assert_eq!(held(&rig, Side::New, "f").as_deref(), Some(STALE));
        assert_eq!(rig.cache.stats().staged_files, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_store_that_knows_the_names_does_not_have_is_not_there_and_stays_where_it_is() {
    for look in ["a lookup", "an open", "a listing", "a change"] {
        let rig = Rig::new().await;
        put_bare(&rig, Side::Old, "other", TRUE).await;
        put_bare(&rig, Side::New, "f", STALE).await;
        let ino = found(&rig, "f").await.ino;
        back(&rig).await;
        match look {
            "a lookup" => {}
            "an open" => {
                let opened = rig.fs.open(ino, Access::Read, Truncate::Keep).await;
                assert_eq!(opened.expect_err("gone").bridge_kind(), Some(BridgeErrorKind::NotFound));
            }
            "a listing" => {
                let dir = rig.fs.opendir(Ino::ROOT).await.expect("opened");
                let entries = rig.fs.readdir(dir, 2, 10).await.expect("listed");
                let names: Vec<_> = entries.iter().map(|entry| &*entry.name).collect();
                assert_eq!(names, ["other"]);
            }
            _ => assert_eq!(chmod(&rig, ino).await, Some(BridgeErrorKind::NotFound)),
        }
        assert!(lookup(&rig, "f").await.is_none(), "{look}");
        rig.drain().await;
        assert_eq!(held(&rig, Side::New, "f").as_deref(), Some(STALE), "nothing is deleted");
        rig.file("f", b"made anew").await;
        assert_eq!(rig.stored("f").await.as_deref(), Some(&b"made anew"[..]), "{look}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_what_the_store_that_knows_the_names_says_it_is() {
    let rig = Rig::new().await;
    put_bare(&rig, Side::Old, "both/x", TRUE).await;
    put_bare(&rig, Side::Old, "file", TRUE).await;
    put_bare(&rig, Side::Old, "dir/x", TRUE).await;
    put_bare(&rig, Side::New, "dir", STALE).await;
    for key in ["both/f", "file/f", "gone/f", "kept/f"] {
        put_bare(&rig, Side::New, key, STALE).await;
    }
    for name in ["both", "file", "gone", "kept", "dir"] {
        found(&rig, name).await;
    }
    let kept = lookup(&rig, "kept").await.expect("shown").ino;
    back(&rig).await;
    rig.fs.mkdir(kept, "made", 0o755, ALICE).await.expect("made");
    let is_dir = async |name| lookup(&rig, name).await.map(|info| info.kind.is_directory());
    assert_eq!(is_dir("both").await, Some(true));
    assert_eq!(is_dir("file").await, Some(false));
    assert_eq!(is_dir("dir").await, Some(true));
    assert_eq!(is_dir("gone").await, None);
    assert_eq!(is_dir("kept").await, Some(true), "the mount made something in it");
    let file = lookup(&rig, "file").await.expect("there").ino;
    assert_eq!(rig.content(file).await, TRUE);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_that_knows_the_names_is_away_the_other_one_is_read_and_nothing_changed() {
    let rig = Rig::new().await;
    put_bare(&rig, Side::New, "f", STALE).await;
    let ino = found(&rig, "f").await.ino;
    for _ in 0..3 {
        let shown = lookup(&rig, "f").await.expect("shown");
        assert_eq!(shown.ino, ino);
        assert!(shown.is_unproven, "the kernel asks each time");
        assert_eq!(rig.content(ino).await, STALE);
        assert_eq!(chmod(&rig, ino).await, Some(BridgeErrorKind::Unavailable));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_unproven_is_not_renamed_so_that_nothing_goes_with_its_name_unseen() {
    for stage in [Stage::Off, Stage::DualWrite] {
        let rig = Rig::new().await;
        rig.bridge.set_stage("", stage, 100, "test", "test").await.expect("a stage");
        put_bare(&rig, Side::Old, "from/f", TRUE).await;
        put_bare(&rig, Side::New, "from/f", STALE).await;
        let dir = rig.fs.mkdir(Ino::ROOT, "d", 0o755, ALICE).await.expect("made").ino;
        let from = lookup(&rig, "from").await.expect("there").ino;
        rig.faults.old.down();
        rig.fs.lookup(from, "f").await.expect("asked").expect("shown");
        let rename = || rig.fs.rename((from, "f"), (dir, "g"), RenameMode::Replace);
        let refused = rename().await.expect_err("it may be something else");
        assert_eq!(refused.bridge_kind(), Some(BridgeErrorKind::Unavailable), "{stage}");
        back(&rig).await;
        assert_eq!(held(&rig, Side::Old, "from/f").as_deref(), Some(TRUE), "{stage}");
        rename().await.expect("renamed");
        rig.drain().await;
        let there = rig.fs.lookup(dir, "g").await.expect("asked").expect("there").ino;
        assert_eq!(rig.content(there).await, TRUE, "{stage}");
        let on_old = |key| held(&rig, Side::Old, key);
        assert_eq!((on_old("from/f"), on_old("d/g").as_deref()), (None, Some(TRUE)), "{stage}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_it_open_when_it_is_removed_reads_it_to_the_end() {
    let rig = Rig::new().await;
    put_bare(&rig, Side::New, "f", STALE).await;
    let ino = found(&rig, "f").await.ino;
    let open = rig.open(ino, Access::Read).await;
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    back(&rig).await;
    rig.drain().await;
    assert_eq!(rig.read(open).await, STALE);
    rig.close(open).await;
    assert!(lookup(&rig, "f").await.is_none());
    assert_eq!(held(&rig, Side::New, "f"), None, "whoever removes a name removes what it shows");
}

#[tokio::test(start_paused = true)]
async fn what_the_other_store_lost_meanwhile_is_not_asked_of_it_again() {
    let rig = Rig::new().await;
    put_bare(&rig, Side::Old, "f", TRUE).await;
    put_bare(&rig, Side::New, "f", STALE).await;
    let ino = found(&rig, "f").await.ino;
    assert!(rig.stores.new.bypass_delete(&Key::new("f").expect("a key")));
    let open = rig.open(ino, Access::Read).await;
    let read = rig.fs.read(open, 0, 100).await.expect_err("nowhere");
    assert_eq!(read.bridge_kind(), Some(BridgeErrorKind::Stale));
    rig.close(open).await;
    back(&rig).await;
    assert_eq!(rig.content(ino).await, TRUE);
    let left = rig.bridge.left().expect("read");
    assert_eq!((left.pending, left.blocked), (0, 0));
}
