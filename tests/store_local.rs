//! The stores that need no server, alone and under all decorators, against the contract of the trait; and what
//! only a folder can get wrong.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bridgefs::clock::Clock;
use bridgefs::object::{Attrs, ETag, Key, Kind};
use bridgefs::store::breaker::Breaker;
use bridgefs::store::faulty::Faulty;
use bridgefs::store::folder::{FolderStore, StoreId};
use bridgefs::store::limit::{Limited, Limits};
use bridgefs::store::memory::{MemoryStore, Sizes};
use bridgefs::store::metered::Metered;
use bridgefs::store::{
    ByteRange, Condition, ErrorKind, ListRequest, ObjectMeta, SharedStore, Store, StoreResult,
};
use futures::TryStreamExt;
use support::contract::{self, assert_kind};
use tempfile::TempDir;

/// A directory on a file system with extended attributes: the build's own, because `/tmp` may have none.
fn scratch() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn key(raw: &str) -> Key {
    Key::new(raw).expect("a key")
}

async fn put(store: &FolderStore, name: &str, body: &'static str) -> StoreResult<ETag> {
    store.put(&key(name), body.into(), &ObjectMeta::default(), &Condition::Always).await
}

async fn keys(store: &FolderStore) -> Vec<String> {
    let request = ListRequest { prefix: String::new(), one_level: false, max_entries: 1000, token: None };
    let page = store.list(&request).await.expect("a listing");
    page.objects.into_iter().map(|object| object.key.as_str().to_owned()).collect()
}

async fn folder() -> (TempDir, FolderStore) {
    let scratch = scratch();
    let store = FolderStore::create(scratch.path()).await.expect("a store");
    (scratch, store)
}

/// The stack as the daemon builds it, with the fault injector where a network would be.
fn stacked(inner: SharedStore) -> SharedStore {
    let (faulty, _faults) = Faulty::new(inner, 1);
    let metered = Metered::new("stacked", Arc::new(faulty));
    let limited = Limited::new(Arc::new(metered), Limits { requests_in_flight: 4, ..Limits::default() });
    Arc::new(Breaker::new("stacked", Arc::new(limited), 1))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_keeps_the_contract() {
    contract::check(Arc::new(MemoryStore::new("memory", Clock::System))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_with_small_parts_under_all_decorators_keeps_the_contract() {
    let sizes = Sizes { part_bytes_min: 1, put_bytes_max: 6 << 20 };
    contract::check(stacked(Arc::new(MemoryStore::new("m", Clock::System).with_sizes(sizes)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_keeps_the_contract_and_is_empty_afterwards_where_everything_was_deleted() {
    let (_scratch, store) = folder().await;
    contract::check(Arc::new(store.clone())).await;
    for name in keys(&store).await {
        store.delete(&key(&name), None).await.expect("delete");
    }
    let left: Vec<_> = fs::read_dir(_scratch.path()).expect("the folder").collect();
    assert_eq!(left.len(), 1, "only .bridgefs is left: {left:?}");
}

#[tokio::test]
async fn the_folder_keeps_the_contract_on_one_thread() {
    let (_scratch, store) = folder().await;
    contract::check(stacked(Arc::new(store))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_folder_have_one_winner() {
    let (scratch, first) = folder().await;
    let second = FolderStore::existing(scratch.path(), first.id());
    for round in 0..20 {
        let target = key(&format!("race/{round}"));
        let racer = |store: &FolderStore| {
            let (store, target) = (store.clone(), target.clone());
            async move { store.put(&target, "x".into(), &ObjectMeta::default(), &Condition::Absent).await }
        };
        let (one, two) = tokio::join!(tokio::spawn(racer(&first)), tokio::spawn(racer(&second)));
        let winners = [one, two].into_iter().filter(|run| run.as_ref().expect("no panic").is_ok()).count();
        assert_eq!(winners, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_beside_deletions_that_empty_the_directory_never_fail() {
    let (_scratch, store) = folder().await;
    let churn = |name: &'static str| {
        let store = store.clone();
        async move {
            for _ in 0..100 {
                put(&store, name, "x").await.expect("a put makes its directory again");
                store.delete(&key(name), None).await.expect("it was there");
            }
        }
    };
    let (one, two) = tokio::join!(tokio::spawn(churn("d/e/one")), tokio::spawn(churn("d/e/two")));
    one.and(two).expect("no panic");
}

#[tokio::test]
async fn objects_are_plain_files_with_mode_and_time() {
    let (scratch, store) = folder().await;
    let attrs = Attrs { mode: 0o4751, uid: 1, gid: 1, mtime: 1_700_000_000_123_456_789 };
    let meta = ObjectMeta::of_user(attrs.to_metadata(Kind::File));
    let first = store.put(&key("dir/a"), "plain".into(), &meta, &Condition::Always).await.expect("a put");
    let path = scratch.path().join("dir/a");
    assert_eq!(fs::read_to_string(&path).expect("a file"), "plain");
    let stat = fs::metadata(&path).expect("a file");
    assert_eq!(stat.permissions().mode() & 0o7777, 0o751, "never set-user-id");
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_700_000_000, 123_456_789));
    let read_only = Attrs { mode: 0o444, ..attrs };
    let meta = ObjectMeta::of_user(read_only.to_metadata(Kind::File));
    let second = store.set_meta(&key("dir/a"), &first, &meta).await.expect("set_meta");
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o444);
    assert_ne!(first, second, "other metadata is another state");
    store.set_meta(&key("dir/a"), &second, &meta).await.expect("a read-only file can be changed again");
}

#[tokio::test]
async fn a_file_of_another_program_has_its_own_time_and_its_copy_has_it_too() {
    let (scratch, store) = folder().await;
    fs::write(scratch.path().join("a"), "theirs").expect("a file");
    let file = fs::File::options().write(true).open(scratch.path().join("a")).expect("the file");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("a time");
    let info = store.head(&key("a")).await.expect("head");
    store.copy(&key("a"), &info.etag, &key("b"), &Condition::Absent).await.expect("a copy");
    let all = ListRequest { prefix: String::new(), one_level: false, max_entries: 10, token: None };
    let listed = store.list(&all).await.expect("a listing").objects;
    let times: Vec<_> = listed.iter().map(|object| object.modified).collect();
    assert_eq!(times, [1_000_000_000_000_000_000; 2]);
    assert_eq!(info.modified, times[0]);
    assert_eq!(fs::metadata(scratch.path().join("b")).expect("a file").mtime(), 1_000_000_000);
}

#[tokio::test]
async fn what_another_program_writes_is_an_object_with_another_tag() {
    let (scratch, store) = folder().await;
    let long_ago = ObjectMeta::of_user([("mtime".to_owned(), "1".to_owned())].into());
    let ours = store.put(&key("a"), "ours".into(), &long_ago, &Condition::Always).await.expect("a put");
    fs::write(scratch.path().join("a"), "them").expect("an edit in place");
    let theirs = store.head(&key("a")).await.expect("head").etag;
    assert_ne!(ours, theirs, "same length, same inode, and still another state");
    fs::write(scratch.path().join("b"), "new").expect("a new file");
    let meta = store.head(&key("b")).await.expect("head").meta;
    assert_eq!(meta, ObjectMeta::default());
    assert_kind(store.delete(&key("a"), Some(&ours)).await, &[ErrorKind::PreconditionFailed], "edited");
}

#[tokio::test]
async fn a_missing_or_another_folder_is_unavailable_and_never_not_found() {
    let (scratch, store) = folder().await;
    let path = scratch.path();
    put(&store, "a", "x").await.expect("a put");
    let away = path.with_extension("away");
    fs::rename(path, &away).expect("the folder goes");
    let unavailable = &[ErrorKind::Unavailable];
    assert_kind(store.head(&key("a")).await, unavailable, "no folder");
    assert_kind(store.probe().await, unavailable, "no folder");
    fs::create_dir(path).expect("an empty mount point");
    assert_kind(store.head(&key("a")).await, unavailable, "an empty mount point");
    assert_kind(put(&store, "b", "x").await, unavailable, "nothing is written into a mount point");
    assert_eq!(fs::read_dir(path).expect("it is there").count(), 0);
    let other = FolderStore::create(path).await.expect("another store under the same path");
    assert_ne!(other.id(), store.id());
    assert_kind(store.head(&key("a")).await, unavailable, "another store");
    let later = FolderStore::existing(path, Some(StoreId("0".to_owned())));
    assert_kind(later.head(&key("a")).await, unavailable, "remembered from the last run");
    fs::remove_dir_all(path).expect("it goes");
    fs::rename(&away, path).expect("the folder is back");
    store.head(&key("a")).await.expect("and so is the object");
}

#[tokio::test]
async fn no_key_leads_out_of_the_folder() {
    let (scratch, store) = folder().await;
    let outside = scratch.path().with_extension("outside");
    fs::create_dir(&outside).expect("a directory outside");
    fs::write(outside.join("secret"), "secret").expect("a file outside");
    symlink(&outside, scratch.path().join("link")).expect("a link out");
    symlink(outside.join("secret"), scratch.path().join("file-link")).expect("a link out");
    let long = format!("a/{}", "n".repeat(256));
    let illegal = [
        "../outside/x",
        "a/../../x",
        "/etc/passwd",
        "a//b",
        "a/",
        ".",
        "a\0b",
        ".bridgefs/store",
        long.as_str(),
    ];
    for raw in illegal {
        let unsupported = &[ErrorKind::Unsupported];
        assert_kind(store.check_key(&key(raw)), unsupported, raw);
        assert_kind(store.head(&key(raw)).await, unsupported, raw);
        assert_kind(put(&store, raw, "x").await.map(drop), unsupported, raw);
    }
    for raw in ["link/secret", "file-link"] {
        assert_kind(store.head(&key(raw)).await, &[ErrorKind::NotFound], "a link is no object");
        assert_kind(put(&store, raw, "x").await, &[ErrorKind::Unsupported], "a link is not written through");
        assert_kind(store.delete(&key(raw), None).await, &[ErrorKind::NotFound], "nor deleted through");
    }
    assert_eq!(keys(&store).await, Vec::<String>::new(), "nor listed");
    assert_eq!(fs::read_to_string(outside.join("secret")).expect("untouched"), "secret");
    fs::remove_dir_all(outside).expect("cleaned");
}

#[tokio::test]
async fn what_a_killed_process_left_is_swept_and_objects_stay() {
    let (scratch, store) = folder().await;
    put(&store, "a", "x").await.expect("a put");
    let upload = store.start_upload(&key("b"), &ObjectMeta::default()).await.expect("an upload");
    store.put_part(&key("b"), &upload, 1, "part".into()).await.expect("a part");
    let private = scratch.path().join(".bridgefs");
    fs::write(private.join("tmp/half"), "half").expect("what a crash leaves");
    fs::create_dir(private.join("uploads").join("0".repeat(32))).expect("killed before it noted its key");
    store.sweep().await.expect("swept");
    for folder in ["tmp", "uploads"] {
        assert_eq!(fs::read_dir(private.join(folder)).expect("listed").count(), 0, "{folder}");
    }
    assert_eq!(keys(&store).await, ["a"]);
    assert_kind(
        store.put_part(&key("b"), &upload, 2, "x".into()).await,
        &[ErrorKind::NotFound],
        "it is gone",
    );
}

#[tokio::test]
async fn what_can_be_no_object_is_told_of() {
    let (scratch, store) = folder().await;
    let path = scratch.path();
    put(&store, "a", "x").await.expect("a put");
    symlink("a", path.join("link")).expect("a link");
    fs::create_dir(path.join("links")).expect("a directory");
    symlink("../a", path.join("links/only")).expect("a link");
    fs::create_dir(path.join("empty")).expect("a directory");
    nix::unistd::mkfifo(&path.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    fs::write(path.join(OsStr::from_bytes(b"caf\xe9")), "latin-1").expect("a file");
    let request = ListRequest { prefix: String::new(), one_level: true, max_entries: 2, token: None };
    let (mut told, mut seen) = (Vec::new(), Vec::new());
    let mut next = Some(request);
    while let Some(request) = next {
        let page = store.list(&request).await.expect("a page");
        assert!(page.objects.len() + page.prefixes.len() + page.strangers.len() <= 2);
        told.extend(page.strangers.into_iter().map(|stranger| stranger.place));
        seen.extend(page.objects.into_iter().map(|object| object.key.as_str().to_owned()));
        seen.extend(page.prefixes);
        next = page.next.map(|token| ListRequest { token: Some(token), ..request });
    }
    assert_eq!(seen, ["a"]);
    assert_eq!(told, ["caf\\xe9", "link", "links/", "pipe"]);
}

#[tokio::test]
async fn a_file_whose_attribute_makes_no_sense_hides_none_of_its_neighbours() {
    let (scratch, store) = folder().await;
    for name in ["a", "b"] {
        put(&store, name, "x").await.expect("a put");
    }
    let mut set = Command::new("setfattr");
    set.args(["-n", "user.bridgefs.object", "-v", "0x01", "a"]).current_dir(scratch.path());
    assert!(set.status().expect("the package attr").success());
    assert_eq!(keys(&store).await, ["a", "b"]);
    assert_kind(store.head(&key("a")).await, &[ErrorKind::Corrupt], "who asks for it is told");
}

#[tokio::test]
async fn a_key_beside_keys_below_it_is_refused_with_the_reason() {
    let (_scratch, store) = folder().await;
    put(&store, "a/b", "x").await.expect("a put");
    put(&store, "c", "x").await.expect("a put");
    for raw in ["a", "c/d"] {
        let error = put(&store, raw, "y").await.expect_err("a folder cannot hold it");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("cannot hold a key and another one below it"), "{error}");
        assert_kind(store.head(&key(raw)).await, &[ErrorKind::NotFound], "it is not there");
    }
    store.delete(&key("a/b"), None).await.expect("delete");
    put(&store, "a", "y").await.expect("with nothing below it there is room");
}

fn leftovers(folder: &Path) -> usize {
    fs::read_dir(folder.join(".bridgefs/tmp")).expect("the directory of temporary files").count()
}

#[tokio::test]
async fn a_crash_before_the_rename_leaves_the_old_object_and_no_file() {
    let (scratch, store) = folder().await;
    put(&store, "a", "old").await.expect("a put");
    fs::write(scratch.path().join(".bridgefs/tmp/half"), "half of the new").expect("what a crash leaves");
    assert_eq!(keys(&store).await, ["a"]);
    let again = FolderStore::create(scratch.path()).await.expect("the next start");
    assert_eq!((leftovers(scratch.path()), again.id()), (0, store.id()));
    assert_eq!(fs::read_to_string(scratch.path().join("a")).expect("a file"), "old");
}

#[tokio::test]
async fn a_refused_put_leaves_no_file() {
    let (scratch, store) = folder().await;
    put(&store, "a", "x").await.expect("a put");
    let refused = store.put(&key("a"), "y".into(), &ObjectMeta::default(), &Condition::Absent).await;
    assert_kind(refused, &[ErrorKind::PreconditionFailed], "something is there");
    assert_eq!(leftovers(scratch.path()), 0);
}

#[tokio::test]
async fn a_download_that_another_program_writes_into_is_corrupt() {
    let (scratch, store) = folder().await;
    let body = contract::noise(1 << 20, 9);
    store.put(&key("a"), body, &ObjectMeta::default(), &Condition::Always).await.expect("a put");
    for other in ["short", &"y".repeat(1 << 20)] {
        let download = store.get(&key("a"), ByteRange::All, None).await.expect("it begins");
        fs::write(scratch.path().join("a"), other).expect("an edit in place");
        let error = download.body.try_collect::<Vec<_>>().await.expect_err("the pieces do not fit together");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let body = contract::noise(1 << 20, 9);
        store.put(&key("a"), body, &ObjectMeta::default(), &Condition::Always).await.expect("a put");
    }
}

#[tokio::test]
async fn a_download_goes_on_while_the_object_is_replaced() {
    let (_scratch, store) = folder().await;
    let body = contract::noise(1 << 20, 10);
    store.put(&key("a"), body.clone(), &ObjectMeta::default(), &Condition::Always).await.expect("a put");
    let download = store.get(&key("a"), ByteRange::All, None).await.expect("it begins");
    put(&store, "a", "new").await.expect("a put");
    let pieces: Vec<_> = download.body.try_collect().await.expect("the state that was opened");
    assert!(pieces.concat() == body);
}
