use super::rig::{ALICE, Rig};
use super::stores::history;
use crate::fs::{Access, Pages, SetAttrs, Truncate};
use crate::ledger::RenameMode;
use crate::object::{Ino, NanoTime, XattrMode};

const DAY: NanoTime = 24 * 60 * 60 * 1_000_000_000;

async fn times(rig: &Rig, ino: Ino) -> (NanoTime, NanoTime, NanoTime) {
    let info = rig.fs.getattr(ino).await.expect("there");
    (info.atime, info.mtime, info.ctime)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_noted_once_after_each_change_and_once_a_day() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    let (_, mtime, ctime) = times(&rig, ino).await;
    let handle = rig.open(ino, Access::ReadWrite).await;
    let first = rig.tick();
    rig.read(handle).await;
    assert_eq!(times(&rig, ino).await, (first, mtime, ctime), "only the access is new");
    rig.tick();
    rig.read(handle).await;
    assert_eq!(times(&rig, ino).await.0, first, "nothing changed since");
    let written = rig.tick();
    rig.write(handle, 0, b"C").await;
    rig.read(handle).await;
    assert_eq!(times(&rig, ino).await.0, written, "the first since the write");
    rig.tick();
    rig.fs.setattr(ino, None, SetAttrs { mode: Some(0o600), ..SetAttrs::default() }).await.expect("set");
    let later = rig.tick();
    rig.read(handle).await;
    assert_eq!(times(&rig, ino).await.0, later, "the first since the change of mode");
    rig.close(handle).await;
    rig.tick();
    rig.content(ino).await;
    let (atime, ..) = times(&rig, ino).await;
    rig.skip(DAY - 10_000_000_000);
    rig.content(ino).await;
    assert_eq!(times(&rig, ino).await.0, atime, "within a day");
    rig.skip(10_000_000_000);
    let next_day = rig.tick();
    rig.content(ino).await;
    assert_eq!(times(&rig, ino).await.0, next_day);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_of_access_that_was_set_stays_until_the_next_read_that_counts() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    let set = |atime| SetAttrs { atime: Some(atime), ..SetAttrs::default() };
    let later = rig.tick() + DAY;
    rig.fs.setattr(ino, None, set(later)).await.expect("set");
    rig.tick();
    rig.content(ino).await;
    assert_eq!(times(&rig, ino).await.0, later, "it lies after all changes");
    rig.fs.setattr(ino, None, set(3)).await.expect("set");
    let read = rig.tick();
    rig.content(ino).await;
    assert_eq!(times(&rig, ino).await.0, read);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_noted_without_a_name_and_not_at_all_where_that_was_asked() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    let before = times(&rig, ino).await;
    let handle = rig.open(ino, Access::Read).await;
    rig.tick();
    rig.fs.read_unseen(handle, 0, 100).await.expect("read");
    assert_eq!(times(&rig, ino).await, before);
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    let read = rig.tick();
    rig.read(handle).await;
    assert_eq!(times(&rig, ino).await.0, read);
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_a_directory_and_following_a_link_are_noted() {
    let rig = Rig::new().await;
    let dir = rig.fs.mkdir(Ino::ROOT, "d", 0o755, ALICE).await.expect("made").ino;
    let link = rig.fs.symlink(Ino::ROOT, "l", b"d", ALICE).await.expect("made").ino;
    let read = rig.tick();
    let handle = rig.fs.opendir(dir).await.expect("opened");
    rig.fs.readdir(handle, 0, 10).await.expect("read");
    rig.fs.readlink(link).await.expect("read");
    assert_eq!((times(&rig, dir).await.0, times(&rig, link).await.0), (read, read));
    rig.tick();
    rig.fs.readdir(handle, 0, 10).await.expect("read");
    rig.fs.readlink(link).await.expect("read");
    assert_eq!((times(&rig, dir).await.0, times(&rig, link).await.0), (read, read));
}

#[tokio::test(flavor = "multi_thread")]
async fn noted_reads_are_sent_to_no_store() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    rig.drain().await;
    let before = rig.stores.old.snapshot();
    rig.tick();
    rig.content(ino).await;
    let changed = times(&rig, ino).await;
    assert!(changed.0 > changed.2, "it was noted");
    rig.drain().await;
    let node = rig.bridge.node(ino).await.expect("known").expect("there");
    assert_eq!(node.attr_version, 0, "no store is behind");
    assert!(rig.stores.old.snapshot() == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_opens_to_read_makes_the_kernel_drop_pages_for_an_access() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    for (access, what) in [(Access::Write, "keep"), (Access::ReadWrite, "drop"), (Access::Read, "drop")] {
        assert_eq!(rig.pages_at_open(ino, access).await, what, "{access:?}");
    }
}

/// The kernel may have put what is being written into a page, and not sent it yet: dropped, it would be read again as it
/// was before.
#[tokio::test(flavor = "multi_thread")]
async fn no_page_is_dropped_while_others_have_the_file_open_and_the_open_is_noted_instead() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    let writer = rig.open(ino, Access::Write).await;
    let opened = rig.opened(ino, Access::Read, Truncate::Keep).await;
    assert!(matches!(opened.pages, Pages::KeepAndNote));
    let now = rig.tick();
    rig.fs.note_open(opened.handle).await;
    assert_eq!(times(&rig, ino).await.0, now);
    rig.close(opened.handle).await;
    rig.tick();
    rig.write(writer, 0, b"C").await;
    rig.close(writer).await;
    let opened = rig.opened(ino, Access::Read, Truncate::Keep).await;
    assert!(matches!(opened.pages, Pages::Drop(_)));
    let writer = rig.fs.open(ino, Access::Write, Truncate::Keep);
    tokio::pin!(writer);
    assert!(futures::poll!(writer.as_mut()).is_pending(), "nobody begins to write until they are gone");
    drop(opened.pages);
    let writer = writer.await.expect("opened");
    rig.close(writer.handle).await;
    rig.close(opened.handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_not_open_before_has_no_pages_to_drop() {
    let (rig, ino) = history("found", b"content").await;
    assert_eq!(rig.pages_at_open(ino, Access::Read).await, "keep");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_names_or_attributes_alone_makes_an_open_handle_s_next_read_count() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    let handle = rig.open(ino, Access::Read).await;
    rig.tick();
    rig.read(handle).await;
    for change in ["setxattr", "removexattr", "link", "unlink", "rename", "exchange", "chmod"] {
        rig.tick();
        rig.read(handle).await;
        let (before, ..) = times(&rig, ino).await;
        rig.tick();
        let (fs, top) = (&rig.fs, Ino::ROOT);
        match change {
            "setxattr" => fs.setxattr(ino, b"user.a", b"1", XattrMode::Set).await.expect("set"),
            "removexattr" => fs.removexattr(ino, b"user.a").await.expect("removed"),
            "link" => drop(fs.link(ino, top, "second").await.expect("linked")),
            "unlink" => fs.unlink(top, "second").await.expect("removed"),
            "rename" => fs.rename((top, "f"), (top, "g"), RenameMode::Replace).await.expect("renamed"),
            "exchange" => {
                rig.file("other", b"").await;
                fs.rename((top, "other"), (top, "g"), RenameMode::Exchange).await.expect("exchanged");
            }
            _ => drop(
                fs.setattr(ino, None, SetAttrs { mode: Some(0o600), ..SetAttrs::default() })
                    .await
                    .expect("set"),
            ),
        }
        assert!(times(&rig, ino).await.2 > before, "{change} changes the time");
        let now = rig.tick();
        rig.read(handle).await;
        assert_eq!(times(&rig, ino).await.0, now, "{change}");
    }
    rig.fs.unlink(Ino::ROOT, "other").await.expect("the last name");
    rig.read(handle).await;
    rig.tick();
    rig.fs.setxattr(ino, b"user.a", b"1", XattrMode::Set).await.expect("set");
    let now = rig.tick();
    rig.read(handle).await;
    assert_eq!(times(&rig, ino).await.0, now, "without a name");
    rig.close(handle).await;
}
