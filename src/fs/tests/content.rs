use std::time::Duration;

use super::rig::{ALICE, Rig};
use crate::bridge::{AckPolicy, BridgeErrorKind, BridgeSettings};
use crate::fs::{Access, FsError, Place, SetAttrs, Truncate};
use crate::object::Ino;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_closed_is_on_both_stores_and_read_back() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"hello").await;
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"hello"[..]));
    assert_eq!(rig.content(ino).await, b"hello");
    assert_eq!(rig.fs.open_inodes(), 0, "nothing is kept of closed files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_never_written_is_an_empty_object() {
    let rig = Rig::new().await;
    let made = rig.fs.create(Ino::ROOT, "empty", 0o644, ALICE).await.expect("made");
    rig.fs.release(made.handle).await.expect("released without a flush");
    assert_eq!(rig.stored("empty").await.as_deref(), Some(&b""[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_write_shows_to_all_who_had_it_open() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"before").await;
    rig.drain().await;
    let (reader, writer) = (rig.open(ino, Access::Read).await, rig.open(ino, Access::Write).await);
    assert_eq!(rig.read(reader).await, b"before");
    rig.write(writer, 2, b"XX").await;
    assert_eq!(rig.read(reader).await, b"beXXre");
    assert_eq!(rig.fs.getattr(ino).await.expect("there").size, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_handle_for_writing_writes() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"x").await;
    let reader = rig.open(ino, Access::Read).await;
    let refused = rig.fs.write(reader, Place::At(0), b"y").await;
    assert!(matches!(refused, Err(FsError::BadHandle)));
    rig.close(reader).await;
    assert!(matches!(rig.fs.read(reader, 0, 1).await, Err(FsError::BadHandle)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_goes_to_the_end_wherever_that_is() {
    let rig = Rig::new().await;
    let ino = rig.file("log", b"").await;
    let (one, two) = (rig.open(ino, Access::Write).await, rig.open(ino, Access::Write).await);
    for _ in 0..3 {
        rig.fs.write(one, Place::End, b"1").await.expect("appended");
        rig.fs.write(two, Place::End, b"2").await.expect("appended");
    }
    assert_eq!(rig.content(ino).await, b"121212");
}

#[tokio::test(flavor = "multi_thread")]
async fn truncation_keeps_what_is_before_and_lengthens_with_zeros() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"0123456789").await;
    rig.drain().await;
    let size = |size| SetAttrs { size: Some(size), ..SetAttrs::default() };
    assert_eq!(rig.fs.setattr(ino, None, size(4)).await.expect("cut").size, 4);
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"0123"[..]), "committed without a close");
    rig.fs.setattr(ino, None, size(6)).await.expect("lengthened");
    assert_eq!(rig.content(ino).await, b"0123\0\0");
    let handle = rig.opened(ino, Access::Write, Truncate::ToZero).await.handle;
    assert_eq!(rig.fs.getattr(ino).await.expect("there").size, 0);
    rig.close(handle).await;
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b""[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_set_after_the_last_write_survives_the_close_and_one_before_it_does_not() {
    let rig = Rig::new().await;
    let mtime = |mtime| SetAttrs { mtime: Some(mtime), ..SetAttrs::default() };
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    let ino = made.info.ino;
    rig.write(made.handle, 0, b"x").await;
    rig.fs.setattr(ino, Some(made.handle), mtime(5)).await.expect("set");
    rig.tick();
    rig.close(made.handle).await;
    assert_eq!(rig.fs.getattr(ino).await.expect("there").mtime, 5);
    let handle = rig.open(ino, Access::Write).await;
    rig.fs.setattr(ino, Some(handle), mtime(6)).await.expect("set");
    let written = rig.tick();
    rig.write(handle, 0, b"y").await;
    assert_eq!(rig.fs.getattr(ino).await.expect("there").mtime, written);
    rig.tick();
    rig.close(handle).await;
    assert_eq!(rig.fs.getattr(ino).await.expect("there").mtime, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernels_pages_are_kept_for_the_content_that_was_open_last() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"one").await;
    assert_eq!(
        rig.pages_at_open(ino, Access::Read).await,
        "drop",
        "they would hide the first read since the write"
    );
    rig.tick();
    rig.content(ino).await;
    assert_eq!(rig.pages_at_open(ino, Access::Read).await, "keep", "it was written through this mount");
    rig.fs.remember(ino, crate::object::Version(99));
    assert_eq!(rig.pages_at_open(ino, Access::Read).await, "drop", "another version was seen last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_no_store_acknowledges_fails_and_the_content_arrives_later() {
    let ack_deadline = Duration::from_millis(50);
    let settings = BridgeSettings { ack: AckPolicy::Primary, ack_deadline, ..BridgeSettings::default() };
    let rig = Rig::with(settings, 1 << 30).await;
    rig.fs.lookup(Ino::ROOT, "warm").await.expect("the root is known");
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 0, b"x").await;
    rig.faults.old.down();
    rig.faults.new.down();
    let (first, second) = tokio::join!(rig.fs.flush(made.handle), rig.fs.flush(made.handle));
    for told in [first, second] {
        let error = told.expect_err("every closer is told");
        assert_eq!(error.bridge_kind(), Some(BridgeErrorKind::Unavailable));
    }
    rig.fs.release(made.handle).await.expect("released");
    assert_eq!(rig.content(made.info.ino).await, b"x");
    rig.faults.old.up();
    rig.faults.new.up();
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"x"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_staging_area_is_an_answer_and_harms_nothing() {
    let op_deadline = Duration::from_millis(20);
    let settings = BridgeSettings { ack: AckPolicy::Journal, op_deadline, ..BridgeSettings::default() };
    let rig = Rig::with(settings, 64 << 10).await;
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 0, b"small").await;
    let refused = rig.fs.write(made.handle, Place::End, &vec![1; 1 << 20]).await;
    assert_eq!(refused.expect_err("too much").bridge_kind(), Some(BridgeErrorKind::NoSpace));
    rig.write(made.handle, 5, b"er").await;
    rig.close(made.handle).await;
    assert_eq!(rig.content(made.info.ino).await, b"smaller");
}
