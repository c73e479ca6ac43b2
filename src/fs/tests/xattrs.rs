use super::rig::{ALICE, Rig};
use crate::bridge::BridgeErrorKind;
use crate::fs::{Access, Caller, FsError, FsResult, SetAttrs};
use crate::object::{Ino, Key, Kind, PerSide, Side, XATTRS_ENTRY, XattrMode, Xattrs};
use crate::store::faulty::{Fault, Rule};
use crate::store::metered::Operation;
use crate::store::{ErrorKind, ObjectMeta};

const SUPERUSER: Caller = Caller { uid: 0, gid: 0, umask: 0, pid: 1 };

impl Rig {
    pub(super) async fn set(&self, ino: Ino, name: &[u8], value: &[u8]) {
        self.fs.setxattr(ino, name, value, XattrMode::Set).await.expect("set");
    }

    pub(super) async fn get(&self, ino: Ino, name: &[u8]) -> FsResult<Vec<u8>> {
        self.fs.getxattr(ino, name).await.map(Vec::from)
    }

    async fn names(&self, ino: Ino, caller: Caller) -> String {
        let list = self.fs.listxattr(ino, caller).await.expect("listed");
        String::from_utf8(list).expect("these are ASCII").replace('\0', " ")
    }

    /// The metadata of an object, once both stores have all. They must agree.
    async fn metadata(&self, key: &str) -> ObjectMeta {
        self.drain().await;
        let key = Key::new(key).expect("a key");
        let held = PerSide::from_fn(|side| self.stores[side].snapshot()[&key].1.clone());
        assert_eq!(held[Side::Old], held[Side::New], "both stores hold the same");
        held.old
    }
}

fn kind_of<T: std::fmt::Debug>(answer: FsResult<T>) -> Option<BridgeErrorKind> {
    answer.expect_err("refused").bridge_kind()
}

fn one(name: &[u8], value: &[u8]) -> Xattrs {
    let mut xattrs = Xattrs::default();
    xattrs.set(name, value, XattrMode::Set, Kind::File).expect("fits");
    xattrs
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_reach_both_stores_as_metadata_and_leave_them_again_without_the_content() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    let before = rig.metadata("f").await;
    assert_eq!(before.user.get(XATTRS_ENTRY), None);
    for side in Side::BOTH {
        let puts = Rule::always(Fault::Fail(ErrorKind::Locked)).on(&[Operation::Put]);
        rig.faults[side].push(puts);
    }
    rig.set(ino, b"user.comment", b"\0any\xff").await;
    rig.set(ino, b"user.other", b"").await;
    let meta = rig.metadata("f").await;
    let stored = Xattrs::from_metadata(&meta.user).expect("ours");
    assert_eq!(stored.get(b"user.comment"), Some(b"\0any\xff".as_slice()));
    assert_eq!(stored.iter().count(), 2);
    for name in [b"user.comment".as_slice(), b"user.other"] {
        rig.fs.removexattr(ino, name).await.expect("removed");
    }
    assert_eq!(rig.metadata("f").await, before, "nothing is left of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_set_before_the_first_close_go_with_the_first_upload() {
    let rig = Rig::new().await;
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, ALICE).await.expect("made");
    rig.set(made.info.ino, b"user.a", b"1").await;
    rig.write(made.handle, 0, b"content").await;
    rig.close(made.handle).await;
    let meta = rig.metadata("f").await;
    assert_eq!(Xattrs::from_metadata(&meta.user), Ok(one(b"user.a", b"1")));
    let link = rig.fs.symlink(Ino::ROOT, "l", b"f", ALICE).await.expect("made").ino;
    rig.set(link, b"trusted.a", b"1").await;
    let meta = rig.metadata("l").await;
    assert_eq!(Xattrs::from_metadata(&meta.user), Ok(one(b"trusted.a", b"1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_of_a_directory_are_kept_and_need_no_store() {
    let rig = Rig::new().await;
    let dir = rig.fs.mkdir(Ino::ROOT, "d", 0o755, ALICE).await.expect("made").ino;
    let large = vec![7; 60_000];
    rig.set(dir, b"user.large", &large).await;
    assert_eq!(rig.get(dir, b"user.large").await.expect("there"), large);
    let full = rig.fs.setxattr(dir, b"user.more", &large, XattrMode::Set).await;
    assert_eq!(kind_of(full), Some(BridgeErrorKind::NoSpace));
    rig.drain().await;
    for side in Side::BOTH {
        assert!(rig.stores[side].snapshot().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_store_holds_beside_an_object_is_refused_and_changes_nothing() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    rig.set(ino, b"user.a", &[1; 900]).await;
    let refused = rig.fs.setxattr(ino, b"user.b", &[2; 200], XattrMode::Set).await;
    assert_eq!(kind_of(refused), Some(BridgeErrorKind::NoSpace));
    assert_eq!(rig.names(ino, ALICE).await, "user.a ");
    let meta = rig.metadata("f").await;
    assert_eq!(Xattrs::from_metadata(&meta.user), Ok(one(b"user.a", &[1; 900])));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_refused_as_the_kernels_file_systems_do() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    for name in ["system.posix_acl_access", "system.nfs4_acl", "no.namespace"] {
        let set = rig.fs.setxattr(ino, name.as_bytes(), b"x", XattrMode::Set).await;
        assert!(matches!(set, Err(FsError::NotKept(_))), "{name}: {set:?}");
        let got = rig.get(ino, name.as_bytes()).await;
        assert!(matches!(got, Err(FsError::NotKept(_))), "{name}: {got:?}");
    }
    assert!(matches!(rig.get(ino, b"user.").await, Err(FsError::Invalid(_))));
    let own = b"user.bridgefs.state";
    let set = rig.fs.setxattr(ino, own, b"x", XattrMode::Set).await;
    assert!(matches!(set, Err(FsError::NotKept(_))), "{set:?}");
    assert!(matches!(rig.fs.removexattr(ino, own).await, Err(FsError::NotKept(_))));
    assert_eq!(kind_of(rig.get(ino, own).await), Some(BridgeErrorKind::NoAttribute));
    assert_eq!(kind_of(rig.get(ino, b"user.none").await), Some(BridgeErrorKind::NoAttribute));
    assert_eq!(kind_of(rig.fs.removexattr(ino, b"user.none").await), Some(BridgeErrorKind::NoAttribute));
    assert_eq!(kind_of(rig.get(Ino(777), b"user.a").await), Some(BridgeErrorKind::NotFound));
    assert_eq!(kind_of(rig.fs.listxattr(Ino(777), ALICE).await), Some(BridgeErrorKind::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_names_are_listed_to_root_only() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    for name in ["user.a", "trusted.b", "security.c"] {
        rig.set(ino, name.as_bytes(), b"1").await;
    }
    assert_eq!(rig.names(ino, SUPERUSER).await, "security.c trusted.b user.a ");
    assert_eq!(rig.names(ino, ALICE).await, "security.c user.a ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_attributes_shows_in_ctime_and_not_in_mtime() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    let before = rig.fs.getattr(ino).await.expect("there");
    let now = rig.tick();
    rig.set(ino, b"user.a", b"1").await;
    let after = rig.fs.getattr(ino).await.expect("there");
    assert_eq!((after.mtime, after.ctime), (before.mtime, now));
    let now = rig.tick();
    rig.fs.removexattr(ino, b"user.a").await.expect("removed");
    assert_eq!(rig.fs.getattr(ino).await.expect("there").ctime, now);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_file_without_a_name_keeps_its_attributes_until_it_is_closed_and_forgotten() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    rig.set(ino, b"user.a", b"1").await;
    let handle = rig.open(ino, Access::Read).await;
    rig.fs.unlink(Ino::ROOT, "f").await.expect("removed");
    assert_eq!(rig.get(ino, b"user.a").await.expect("there"), b"1");
    rig.set(ino, b"user.b", b"2").await;
    rig.fs.removexattr(ino, b"user.a").await.expect("removed");
    assert_eq!(rig.names(ino, ALICE).await, "user.b ");
    let again = rig.fs.setxattr(ino, b"user.b", b"3", XattrMode::Create).await;
    assert_eq!(kind_of(again), Some(BridgeErrorKind::Exists));
    rig.close(handle).await;
    assert_eq!(rig.get(ino, b"user.b").await.expect("known to the kernel"), b"2");
    rig.fs.forget(ino);
    assert_eq!(kind_of(rig.get(ino, b"user.b").await), Some(BridgeErrorKind::NotFound));
    assert_eq!(rig.bridge.check().expect("checked"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_directory_without_a_name_keeps_its_attributes_too() {
    let rig = Rig::new().await;
    let dir = rig.fs.mkdir(Ino::ROOT, "d", 0o755, ALICE).await.expect("made").ino;
    rig.set(dir, b"user.a", b"1").await;
    let handle = rig.fs.opendir(dir).await.expect("opened");
    rig.fs.rmdir(Ino::ROOT, "d").await.expect("removed");
    assert_eq!(rig.get(dir, b"user.a").await.expect("there"), b"1");
    rig.fs.releasedir(handle).await.expect("closed");
    rig.fs.forget(dir);
    assert_eq!(kind_of(rig.get(dir, b"user.a").await), Some(BridgeErrorKind::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_an_object_carries_are_found_with_it_and_kept_when_it_is_changed() {
    let entry = one(b"user.a", b"1").to_entry().expect("not empty");
    let user = [("mode".to_owned(), "100600".to_owned()), (XATTRS_ENTRY.to_owned(), entry)].into();
    let meta = ObjectMeta::of_user(user);
    let rig = Rig::over("f", b"old", &meta).await;
    let ino = rig.fs.lookup(Ino::ROOT, "f").await.expect("known").expect("there").ino;
    assert_eq!(rig.names(ino, ALICE).await, "user.a ", "read before it is ever opened");
    let handle = rig.open(ino, Access::Write).await;
    rig.write(handle, 0, b"new").await;
    rig.close(handle).await;
    let stored = rig.metadata("f").await.user;
    assert_eq!(Xattrs::from_metadata(&stored), Ok(one(b"user.a", b"1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_another_program_is_ignored_and_the_file_is_there() {
    let user = [(XATTRS_ENTRY.to_owned(), "gibberish!".to_owned())].into();
    let rig = Rig::over("f", b"old", &ObjectMeta::of_user(user)).await;
    let ino = rig.fs.lookup(Ino::ROOT, "f").await.expect("known").expect("there").ino;
    assert_eq!(rig.names(ino, ALICE).await, "");
    assert_eq!(rig.content(ino).await, b"old");
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_cannot_be_read_now_are_an_error_and_not_absent() {
    let meta = ObjectMeta::of_user([].into());
    let rig = Rig::over("f", b"old", &meta).await;
    let ino = rig.fs.lookup(Ino::ROOT, "f").await.expect("known").expect("there").ino;
    rig.faults.old.push(Rule::always(Fault::Fail(ErrorKind::Unavailable)).on(&[Operation::Head]));
    assert_eq!(kind_of(rig.fs.listxattr(ino, ALICE).await), Some(BridgeErrorKind::Unavailable));
    assert_eq!(kind_of(rig.get(ino, b"user.a").await), Some(BridgeErrorKind::Unavailable));
    let set = rig.fs.setxattr(ino, b"user.a", b"1", XattrMode::Set).await;
    assert_eq!(kind_of(set), Some(BridgeErrorKind::Unavailable));
    // What is asked of every file that is seen is a guess like its mode, until it is opened.
    assert_eq!(kind_of(rig.get(ino, b"security.capability").await), Some(BridgeErrorKind::NoAttribute));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_moved_with_a_rename_has_the_attributes() {
    let rig = Rig::new().await;
    let ino = rig.file("f", b"content").await;
    rig.set(ino, b"user.a", b"1").await;
    rig.drain().await;
    let (from, to) = ((Ino::ROOT, "f"), (Ino::ROOT, "g"));
    rig.fs.rename(from, to, crate::ledger::RenameMode::Replace).await.expect("renamed");
    rig.set(ino, b"user.a", b"2").await;
    let change = SetAttrs { mode: Some(0o600), ..SetAttrs::default() };
    rig.fs.setattr(ino, None, change).await.expect("changed");
    let meta = rig.metadata("g").await.user;
    assert_eq!(Xattrs::from_metadata(&meta), Ok(one(b"user.a", b"2")));
    assert_eq!(meta["mode"], "100600");
}
