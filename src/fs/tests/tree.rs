use std::sync::Arc;

use super::rig::{ALICE, Rig};
use crate::bridge::BridgeErrorKind;
use crate::fs::{Fs, FsOptions, FsResult, SetAttrs};
use crate::ledger::RenameMode;
use crate::object::{Ino, Kind};

fn kind_of<T: std::fmt::Debug>(result: FsResult<T>) -> Option<BridgeErrorKind> {
    result.expect_err("it is refused").bridge_kind()
}

/// The names of a directory, read a few at a time.
async fn names(rig: &Rig, dir: Ino, limit: usize) -> Vec<String> {
    let handle = rig.fs.opendir(dir).await.expect("opened");
    let (mut names, mut position) = (Vec::new(), 0);
    loop {
        let entries = rig.fs.readdir(handle, position, limit).await.expect("read");
        let Some(last) = entries.last() else { break };
        position = last.next;
        names.extend(entries.iter().map(|entry| entry.name.to_string()));
    }
    rig.fs.releasedir(handle).await.expect("closed");
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_taken_once_and_removed_once() {
    let rig = Rig::new().await;
    rig.file("f", b"").await;
    assert_eq!(kind_of(rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await), Some(BridgeErrorKind::Exists));
    assert_eq!(kind_of(rig.fs.mkdir(Ino::ROOT, "f", 0o755, ALICE).await), Some(BridgeErrorKind::Exists));
    assert_eq!(kind_of(rig.fs.rmdir(Ino::ROOT, "f").await), Some(BridgeErrorKind::NotADirectory));
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    assert_eq!(kind_of(rig.fs.unlink(Ino::ROOT, "f").await), Some(BridgeErrorKind::NotFound));
    let dir = rig.fs.mkdir(Ino::ROOT, "d", 0o755, ALICE).await.expect("made");
    assert_eq!((dir.kind, dir.uid, dir.gid, dir.nlink), (Kind::Directory, 1000, 100, 2));
    assert_eq!(kind_of(rig.fs.unlink(Ino::ROOT, "d").await), Some(BridgeErrorKind::IsADirectory));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_modes_of_rename() {
    let rig = Rig::new().await;
    let (a, b) = (rig.file("a", b"a").await, rig.file("b", b"b").await);
    let at = |name: &'static str| (Ino::ROOT, name);
    let ino = async |name: &str| rig.fs.lookup(Ino::ROOT, name).await.expect("known").map(|info| info.ino);
    let refused = rig.fs.rename(at("a"), at("b"), RenameMode::NoReplace).await;
    assert_eq!(kind_of(refused), Some(BridgeErrorKind::Exists));
    rig.fs.rename(at("a"), at("b"), RenameMode::Exchange).await.expect("exchanged");
    assert_eq!((ino("a").await, ino("b").await), (Some(b), Some(a)));
    rig.fs.rename(at("b"), at("a"), RenameMode::Replace).await.expect("replaced");
    assert_eq!((ino("a").await, ino("b").await), (Some(a), None));
    let refused = rig.fs.rename(at("a"), at("b"), RenameMode::Exchange).await;
    assert_eq!(kind_of(refused), Some(BridgeErrorKind::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_read_in_any_portions_while_it_changes() {
    let rig = Rig::new().await;
    for i in 0..25 {
        rig.file(&format!("f{i}"), b"").await;
    }
    for limit in [1, 7, 1000] {
        let read = names(&rig, Ino::ROOT, limit).await;
        assert_eq!(&read[..2], [".", ".."]);
        assert_eq!(read.len(), 27, "by {limit}");
    }
    let handle = rig.fs.opendir(Ino::ROOT).await.expect("opened");
    let first = rig.fs.readdir(handle, 2, 10).await.expect("read");
    for gone in 5..15 {
        rig.fs.unlink(Ino::ROOT, &format!("f{gone}")).await.expect("removed");
    }
    let rest = rig.fs.readdir(handle, first[9].next, 100).await.expect("read");
    let rest: Vec<_> = rest.iter().map(|entry| entry.name.to_string()).collect();
    let expected: Vec<_> = (15..25).map(|i| format!("f{i}")).collect();
    assert_eq!(rest, expected, "none twice, none left out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_shows_the_length_of_a_file_that_is_being_written() {
    let rig = Rig::new().await;
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 0, b"12345").await;
    let handle = rig.fs.opendir(Ino::ROOT).await.expect("opened");
    let entries = rig.fs.readdir(handle, 2, 10).await.expect("read");
    assert_eq!(entries[0].info.size, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_directory_that_is_open_is_empty() {
    let rig = Rig::new().await;
    let dir = rig.fs.mkdir(Ino::ROOT, "d", 0o755, ALICE).await.expect("made");
    let handle = rig.fs.opendir(dir.ino).await.expect("opened");
    rig.fs.rmdir(Ino::ROOT, "d").await.expect("removed");
    assert_eq!(rig.fs.getattr(dir.ino).await.expect("open").nlink, 0);
    assert_eq!(rig.fs.readdir(handle, 2, 10).await.expect("read"), []);
    rig.fs.releasedir(handle).await.expect("closed");
    rig.fs.forget(dir.ino);
    assert_eq!(kind_of(rig.fs.getattr(dir.ino).await), Some(BridgeErrorKind::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_attributes_are_kept() {
    let rig = Rig::new().await;
    let link = rig.fs.symlink(Ino::ROOT, "link", b"../\xff", ALICE).await.expect("made");
    assert_eq!(&*rig.fs.readlink(link.ino).await.expect("read"), b"../\xff");
    let ino = rig.file("f", b"x").await;
    let now = rig.tick();
    let change = SetAttrs { mode: Some(0o640), uid: Some(7), atime: Some(3), ..SetAttrs::default() };
    let info = rig.fs.setattr(ino, None, change).await.expect("set");
    assert_eq!((info.mode, info.uid, info.gid, info.atime, info.ctime), (0o640, 7, 100, 3, now));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_too_long_for_the_stores_is_refused() {
    let rig = Rig::new().await;
    let mut dir = Ino::ROOT;
    for _ in 0..4 {
        dir = rig.fs.mkdir(dir, &"d".repeat(249), 0o755, ALICE).await.expect("made").ino;
    }
    rig.fs.create(dir, &"f".repeat(24), 0o644, ALICE).await.expect("1024 bytes");
    let longer = rig.fs.create(dir, &"f".repeat(25), 0o644, ALICE).await;
    assert_eq!(kind_of(longer), Some(BridgeErrorKind::NameTooLong));
}

/// A program that makes a file for each that it sees must come to an end.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_where_the_directory_ended_when_it_began() {
    let rig = Rig::new().await;
    let dir = rig.fs.mkdir(Ino::ROOT, "d", 0o755, ALICE).await.expect("made").ino;
    for name in ["a", "b", "c"] {
        rig.fs.create(dir, name, 0o644, ALICE).await.expect("made");
    }
    let stream = rig.fs.opendir(dir).await.expect("opened");
    for (begun, names) in [("at the opening", 3), ("again, as rewinddir does", 6)] {
        let (mut next, mut seen) = (0, 0);
        while let Some(entry) = rig.fs.readdir(stream, next, 1).await.expect("read").pop() {
            next = entry.next;
            if entry.info.kind == Kind::File {
                seen += 1;
                rig.fs.create(dir, &format!("{}-{names}", entry.name), 0o644, ALICE).await.expect("made");
            }
        }
        assert_eq!(seen, names, "{begun}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_survive_a_power_failure_at_once_where_the_mount_is_told_to_sync_them() {
    let rig = Rig::new().await;
    let syncs = || rig.ledger.counters().syncs;
    let options = FsOptions { sync_names: true, ..FsOptions::default() };
    let careful = Fs::new(Arc::clone(&rig.bridge), options);
    rig.fs.mkdir(Ino::ROOT, "first", 0o755, ALICE).await.expect("made");
    for (fs, cost, name) in [(&rig.fs, 0, "lazy"), (&careful, 1, "synced")] {
        let before = syncs();
        fs.mkdir(Ino::ROOT, name, 0o755, ALICE).await.expect("made");
        assert_eq!(syncs() - before, cost, "{name}");
    }
}
