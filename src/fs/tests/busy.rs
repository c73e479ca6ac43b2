//! A file that stays open and is never quiet: a copy of it is sent.

use super::rig::{ALICE, Rig};
use crate::fs::{HandleId, SetAttrs};
use crate::object::{Attrs, Ino, Key, NanoTime, PerSide};

/// Long ago, and not a time that the rig's clock ever shows.
const SET: NanoTime = 7;

/// Makes a file, and leaves it open with changes that no commit has -> when the last one was made.
async fn busy(rig: &Rig) -> (Ino, HandleId, NanoTime) {
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    rig.write(made.handle, 0, b"synced").await;
    rig.fs.fsync(made.handle).await.expect("synced");
    let changed = rig.tick();
    rig.write(made.handle, 0, b"later!").await;
    (made.info.ino, made.handle, changed)
}

async fn set_mtime(rig: &Rig, ino: Ino) {
    rig.tick();
    let change = SetAttrs { mtime: Some(SET), ..SetAttrs::default() };
    assert_eq!(rig.fs.setattr(ino, None, change).await.expect("set").mtime, SET);
}

async fn mtime(rig: &Rig, ino: Ino) -> NanoTime {
    rig.fs.getattr(ino).await.expect("there").mtime
}

/// Waits until both stores have a copy -> the time that it has there.
async fn copied(rig: &Rig) -> NanoTime {
    rig.tick();
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"later!"[..]));
    let key = Key::new("f").expect("a key");
    let times = PerSide::from_fn(|side| {
        let (_, meta) = rig.stores[side].snapshot()[&key].clone();
        let unknown = Attrs { mode: 0, uid: 0, gid: 0, mtime: 0 };
        Attrs::from_metadata(&meta.user, unknown).0.mtime
    });
    assert_eq!(times.old, times.new, "both stores have the same");
    times.old
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_busy_file_has_the_time_of_its_last_change() {
    let rig = Rig::new().await;
    let (ino, handle, changed) = busy(&rig).await;
    assert_eq!(copied(&rig).await, changed);
    assert_eq!(mtime(&rig, ino).await, changed);
    rig.close(handle).await;
    assert_eq!(mtime(&rig, ino).await, changed);
    assert_eq!(copied(&rig).await, changed);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_was_set_survives_the_copy_of_a_busy_file_and_the_end_of_the_process() {
    for is_closed in [false, true] {
        let rig = Rig::new().await;
        let (ino, handle, _) = busy(&rig).await;
        set_mtime(&rig, ino).await;
        assert_eq!(copied(&rig).await, SET);
        assert_eq!(mtime(&rig, ino).await, SET);
        if is_closed {
            rig.close(handle).await;
        }
        let rig = rig.killed().await;
        assert_eq!(mtime(&rig, ino).await, SET, "closed: {is_closed}");
        assert_eq!(rig.content(ino).await, b"later!");
        assert_eq!(copied(&rig).await, SET);
    }
}
