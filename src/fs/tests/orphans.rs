use std::sync::Arc;

use super::rig::{ALICE, Rig};
use crate::bridge::BridgeErrorKind;
use crate::fs::{Access, Truncate};
use crate::ledger::RenameMode;
use crate::object::Ino;

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
    let gone = rig.fs.getattr(ino).await.expect_err("gone");
    assert_eq!(gone.bridge_kind(), Some(BridgeErrorKind::NotFound));
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
