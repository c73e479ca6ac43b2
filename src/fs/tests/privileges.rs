//! Who changes a file ends its set-ID bits and its capability, as on the kernel's own file systems.

use super::rig::{ALICE, Rig};
use crate::fs::{Access, Caller, FsError, SetAttrs};
use crate::object::{CAPABILITY, Ino};

/// Not of the group of a file that Alice made.
const STRANGER: Caller = Caller { uid: 2000, gid: 2000, umask: 0, pid: u32::MAX };

impl Rig {
    async fn privileged(&self, name: &str, mode: u32) -> Ino {
        let ino = self.file(name, b"content").await;
        self.chmod(ino, mode).await;
        self.set(ino, CAPABILITY, b"cap").await;
        ino
    }

    async fn chmod(&self, ino: Ino, mode: u32) {
        self.change(ino, SetAttrs { mode: Some(mode), ..SetAttrs::default() }).await;
    }

    async fn change(&self, ino: Ino, change: SetAttrs) {
        self.fs.setattr(ino, None, change).await.expect("changed");
    }

    /// Mode, and whether the capability is there.
    async fn has(&self, ino: Ino) -> (u32, bool) {
        (self.fs.getattr(ino).await.expect("there").mode, self.get(ino, CAPABILITY).await.is_ok())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_ends_them_and_later_writes_need_not_ask() {
    let rig = Rig::new().await;
    let ino = rig.privileged("f", 0o6755).await;
    let handle = rig.open(ino, Access::Write).await;
    assert!(!rig.fs.writes_end_nothing(handle));
    rig.fs.end_privileges_of(handle, ALICE).await.expect("ended");
    assert_eq!(rig.has(ino).await, (0o755, false));
    rig.fs.end_privileges_of(handle, ALICE).await.expect("nothing to end");
    assert!(rig.fs.writes_end_nothing(handle));
    for change in 0..2 {
        match change {
            0 => rig.chmod(ino, 0o4755).await,
            _ => rig.set(ino, CAPABILITY, b"cap").await,
        }
        assert!(!rig.fs.writes_end_nothing(handle), "it may have some again");
        rig.fs.end_privileges_of(handle, ALICE).await.expect("ended");
        assert_eq!(rig.has(ino).await, (0o755, false));
        rig.fs.end_privileges_of(handle, ALICE).await.expect("nothing to end");
        assert!(rig.fs.writes_end_nothing(handle));
    }
    rig.close(handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_just_made_is_known_to_have_none() {
    let rig = Rig::new().await;
    let plain = rig.fs.create(Ino::ROOT, "plain", 0o644, ALICE).await.expect("made").handle;
    assert!(rig.fs.writes_end_nothing(plain));
    let setuid = rig.fs.create(Ino::ROOT, "setuid", 0o4755, ALICE).await.expect("made");
    assert!(!rig.fs.writes_end_nothing(setuid.handle));
    rig.fs.end_privileges_of(setuid.handle, ALICE).await.expect("ended");
    assert_eq!(rig.has(setuid.info.ino).await, (0o755, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_group_id_bit_of_what_the_group_cannot_execute_stays_for_its_members() {
    let rig = Rig::new().await;
    for (caller, left) in [(ALICE, 0o2745), (STRANGER, 0o745)] {
        let ino = rig.privileged(&format!("f{}", caller.uid), 0o6745).await;
        rig.fs.end_privileges(ino, caller).await.expect("ended");
        assert_eq!(rig.has(ino).await, (left, false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_owner_or_length_ends_them_in_one_step() {
    let rig = Rig::new().await;
    let ends_privileges = Some(ALICE);
    let changes = [
        SetAttrs { gid: Some(7), ends_privileges, ..SetAttrs::default() },
        SetAttrs { size: Some(3), ends_privileges, ..SetAttrs::default() },
        SetAttrs { ends_privileges, ..SetAttrs::default() },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let ino = rig.privileged(&format!("f{number}"), 0o6755).await;
        let now = rig.tick();
        rig.change(ino, change).await;
        assert_eq!(rig.has(ino).await, (0o755, false), "{change:?}");
        assert_eq!(rig.fs.getattr(ino).await.expect("there").ctime, now);
    }
    let stranger = SetAttrs { ends_privileges: Some(STRANGER), ..SetAttrs::default() };
    let ino = rig.privileged("f9", 0o6755).await;
    let refused = rig.fs.setattr(ino, None, stranger).await;
    assert!(matches!(refused, Err(FsError::NotOwner)), "{refused:?}");
    let handle = rig.open(ino, Access::Write).await;
    rig.change(ino, stranger).await;
    assert_eq!(rig.has(ino).await, (0o755, false), "it looks like the kernel's, before a write");
    rig.close(handle).await;
    let kept = rig.privileged("kept", 0o6755).await;
    rig.change(kept, SetAttrs { size: Some(3), ..SetAttrs::default() }).await;
    assert_eq!(rig.has(kept).await, (0o6755, true), "root may keep them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_its_bits() {
    let rig = Rig::new().await;
    let dir = rig.fs.mkdir(Ino::ROOT, "d", 0o755, ALICE).await.expect("made").ino;
    rig.chmod(dir, 0o6755).await;
    rig.change(dir, SetAttrs { uid: Some(7), ends_privileges: Some(ALICE), ..SetAttrs::default() }).await;
    assert_eq!(rig.has(dir).await.0, 0o6755);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_file_without_a_name_loses_them_too() {
    let rig = Rig::new().await;
    let ino = rig.privileged("f", 0o6755).await;
    let handle = rig.open(ino, Access::Write).await;
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    assert_eq!(rig.has(ino).await, (0o6755, true));
    rig.fs.end_privileges_of(handle, ALICE).await.expect("ended");
    assert_eq!(rig.has(ino).await, (0o755, false));
    rig.close(handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_owner_to_nobody_else_is_a_change_all_the_same() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    let before = rig.fs.getattr(ino).await.expect("there");
    let now = rig.tick();
    rig.change(ino, SetAttrs { ends_privileges: Some(ALICE), ..SetAttrs::default() }).await;
    let after = rig.fs.getattr(ino).await.expect("there");
    assert_eq!(after, crate::fs::FileInfo { ctime: now, ..before });
}
