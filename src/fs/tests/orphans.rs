use std::sync::Arc;
use std::time::Duration;

use super::rig::{ALICE, Rig};
use super::stores::history;
use crate::bridge::BridgeErrorKind;
use crate::clock::Instant;
use crate::fs::{Access, SetAttrs, Truncate};
use crate::ledger::RenameMode;
use crate::object::Ino;
use crate::store::ErrorKind;
use crate::store::faulty::{Fault, Rule};
use crate::store::metered::Operation;

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_is_read_until_its_last_close_and_then_leaves_nothing() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    rig.drain().await;
    let handle = rig.open(ino, Access::Read).await;
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    assert_eq!(rig.fs.lookup(Ino::ROOT, "f").await.expect("known"), None);
    assert_eq!(rig.read(handle).await, b"content");
    assert_eq!(rig.fs.getattr(ino).await.expect("open").nlink, 0);
    rig.close(handle).await;
    assert_eq!(rig.stored("f").await, None);
    assert_eq!(rig.cache.staged_inos().expect("listed"), []);
    is_gone_once_forgotten(&rig, ino).await;
}

/// The kernel may still know it, by a descriptor that opens nothing.
async fn is_gone_once_forgotten(rig: &Rig, ino: Ino) {
    let info = rig.fs.getattr(ino).await.expect("still known");
    assert_eq!(info.nlink, 0);
    let open = rig.fs.open(ino, Access::Read, Truncate::Keep).await.expect_err("there is no content");
    assert_eq!(open.bridge_kind(), Some(BridgeErrorKind::NotFound));
    rig.fs.forget(ino);
    let gone = rig.fs.getattr(ino).await.expect_err("gone");
    assert_eq!(gone.bridge_kind(), Some(BridgeErrorKind::NotFound));
    assert_eq!(rig.fs.open_inodes(), 0, "nothing is kept of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_had_open_has_attributes_until_the_kernel_forgets_it() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    let change = SetAttrs { mode: Some(0o600), mtime: Some(5), ..SetAttrs::default() };
    let info = rig.fs.setattr(ino, None, change).await.expect("changed");
    assert_eq!((info.mode, info.mtime, info.size, info.nlink), (0o600, 5, 7, 0));
    let cut = SetAttrs { size: Some(0), ..SetAttrs::default() };
    let refused = rig.fs.setattr(ino, None, cut).await.expect_err("there is no content");
    assert_eq!(refused.bridge_kind(), Some(BridgeErrorKind::NotFound));
    is_gone_once_forgotten(&rig, ino).await;
    assert_eq!(rig.cache.staged_inos().expect("listed"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_close_leaves_the_attributes_that_were_seen_last() {
    let rig = Rig::new().await;
    let made = rig.fs.create(Ino::ROOT, "tmp", 0o600, ALICE).await.expect("made");
    rig.fs.unlink(Ino::ROOT, "tmp").await.expect("removed");
    rig.tick();
    rig.write(made.handle, 0, b"later").await;
    let open = rig.fs.getattr(made.info.ino).await.expect("open");
    rig.close(made.handle).await;
    let closed = rig.fs.getattr(made.info.ino).await.expect("known");
    assert_eq!((closed.size, closed.mtime, closed.ctime), (5, open.mtime, open.ctime));
    is_gone_once_forgotten(&rig, made.info.ino).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_directory_that_somebody_is_in_has_attributes_and_takes_no_entries() {
    let rig = Rig::new().await;
    let ino = rig.fs.mkdir(Ino::ROOT, "d", 0o755, ALICE).await.expect("made").ino;
    rig.fs.rmdir(Ino::ROOT, "d").await.expect("removed");
    assert_eq!(rig.fs.getattr(ino).await.expect("known").nlink, 0);
    let refused = rig.fs.create(ino, "f", 0o644, ALICE).await.expect_err("it is removed");
    assert_eq!(refused.bridge_kind(), Some(BridgeErrorKind::NotFound));
    let dir = rig.fs.opendir(ino).await.expect("opened");
    assert_eq!(rig.fs.readdir(dir, 2, 10).await.expect("listed"), []);
    rig.fs.forget(ino);
    assert_eq!(rig.fs.getattr(ino).await.expect("open").nlink, 0);
    rig.fs.releasedir(dir).await.expect("closed");
    assert!(rig.fs.getattr(ino).await.is_err());
    assert_eq!(rig.fs.open_inodes(), 0, "nothing is kept of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_file_that_never_had_a_version_works_without_its_name() {
    let rig = Rig::new().await;
    let made = rig.fs.create(Ino::ROOT, "tmp", 0o600, ALICE).await.expect("made");
    rig.write(made.handle, 0, b"secret").await;
    rig.fs.unlink(Ino::ROOT, "tmp").await.expect("removed");
    rig.write(made.handle, 6, b"s").await;
    rig.fs.fsync(made.handle).await.expect("nothing is owed");
    assert_eq!(rig.read(made.handle).await, b"secrets");
    assert_eq!(rig.fs.getattr(made.info.ino).await.expect("open").size, 7);
    rig.close(made.handle).await;
    assert_eq!(rig.stored("tmp").await, None);
    assert_eq!(rig.cache.staged_inos().expect("listed"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_read_by_who_has_it_open_and_the_name_has_the_new_one() {
    let rig = Rig::new().await;
    let (old, new) = (rig.file("f", b"old").await, rig.file("f.tmp", b"new").await);
    rig.drain().await;
    let handle = rig.open(old, Access::Read).await;
    let (from, to) = ((Ino::ROOT, "f.tmp"), (Ino::ROOT, "f"));
    rig.fs.rename(from, to, RenameMode::Replace).await.expect("renamed");
    assert_eq!(rig.read(handle).await, b"old");
    let found = rig.fs.lookup(Ino::ROOT, "f").await.expect("known").expect("there");
    assert_eq!(found.ino, new);
    rig.close(handle).await;
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"new"[..]));
    assert_eq!(rig.stored("f.tmp").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_races_with_the_removal_has_the_content_or_is_told() {
    let rig = Rig::new().await;
    for round in 0..20 {
        let name = format!("f{round}");
        let ino = rig.file(&name, b"content").await;
        let (fs, racer) = (Arc::clone(&rig.fs), Arc::clone(&rig.fs));
        let open = tokio::spawn(async move { fs.open(ino, Access::Read, Truncate::Keep).await });
        let removed = tokio::spawn(async move { racer.unlink(Ino::ROOT, &name).await });
        removed.await.expect("ran").expect("removed");
        match open.await.expect("ran") {
            Ok(opened) => {
                assert_eq!(rig.read(opened.handle).await, b"content");
                rig.close(opened.handle).await;
            }
            Err(error) => assert_eq!(error.bridge_kind(), Some(BridgeErrorKind::NotFound)),
        }
    }
}

/// A program may have found a name, and open what it meant a moment ago: on a local disk one of both is there.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_about_to_open_a_file_that_is_replaced_gets_it() {
    let rig = Rig::new().await;
    for (name, is_on_the_stores) in [("f", false), ("g", true)] {
        let ino = rig.file(name, b"the first").await;
        if is_on_the_stores {
            rig.settle().await;
        }
        rig.file("new", b"the second").await;
        rig.fs.rename((Ino::ROOT, "new"), (Ino::ROOT, name), RenameMode::Replace).await.expect("renamed");
        assert_eq!(rig.content(ino).await, b"the first", "opened and closed");
        let again = rig.fs.open(ino, Access::Read, Truncate::Keep).await.expect_err("there is no content");
        assert_eq!(again.bridge_kind(), Some(BridgeErrorKind::Stale), "the kernel looks up the name again");
        assert_eq!(rig.stored(name).await.as_deref(), Some(&b"the second"[..]));
        rig.fs.forget(ino);
        rig.settle().await;
        assert_eq!(rig.cache.staged_inos().expect("listed"), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_content_of_a_replaced_file_goes_when_the_kernel_forgets_it() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"the first").await;
    rig.settle().await;
    rig.file("new", b"the second").await;
    rig.fs.rename((Ino::ROOT, "new"), (Ino::ROOT, "f"), RenameMode::Replace).await.expect("renamed");
    rig.fs.forget(ino);
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"the second"[..]));
    while rig.fs.open_inodes() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(rig.fs.open(ino, Access::Read, Truncate::Keep).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn times_of_a_removed_file_are_set_while_its_content_is_still_brought_here() {
    let (rig, ino) = history("f", b"from before").await;
    let handle = rig.open(ino, Access::Write).await;
    rig.faults.old.push(Rule::always(Fault::StallBody { after_bytes: 1 }).on(&[Operation::Get]));
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    while rig.faults.old.stalled() == 0 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    let change = SetAttrs { mtime: Some(5), ..SetAttrs::default() };
    let info = rig.fs.setattr(ino, Some(handle), change).await.expect("changed");
    assert_eq!((info.mtime, begun.elapsed()), (5, Duration::ZERO));
    rig.faults.old.clear();
    assert_eq!(rig.read(handle).await, b"from before");
    assert_eq!(rig.fs.getattr(ino).await.expect("open").mtime, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_gone_also_when_its_staged_file_cannot_be_removed() {
    let rig = Rig::new().await;
    for faults in [&rig.faults.old, &rig.faults.new] {
        faults.push(Rule::always(Fault::Fail(ErrorKind::Denied)).on(&[Operation::Put]));
    }
    let ino = rig.file("f", b"not sent yet").await;
    let staged = rig.dir.path().join(format!("cache/staged/{:x}", ino.0));
    std::fs::remove_file(&staged).expect("there it was");
    std::fs::create_dir(&staged).expect("in its place");
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    assert_eq!(rig.fs.lookup(Ino::ROOT, "f").await.expect("known"), None);
}
