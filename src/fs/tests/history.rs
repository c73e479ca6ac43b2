//! What was in the old store before the bridge: moved, changed and linked like everything else.

use std::sync::Arc;
use std::time::Duration;

use super::rig::Rig;
use super::stores::{history, kinds};
use crate::fs::{Access, SetAttrs, Truncate};
use crate::ledger::{FindingKind, RenameMode};
use crate::object::{Digest, Ino, Key, PerSide, Position, Side, XattrMode};
use crate::stage::Stage;
use crate::store::faulty::{Fault, Rule};
use crate::store::metered::Operation;
use crate::store::{Condition, ErrorKind, HttpHeader, HttpHeaders, ObjectMeta, Store};

const BEFORE: &[u8] = b"from before";

/// The answer of the next copy on the old store is lost.
fn lose_a_copy(rig: &Rig) {
    rig.faults.old.push(Rule::always(Fault::FailAfter).on(&[Operation::Copy]).within(0..1));
}

async fn rename(rig: &Rig, from: &str, to: &str) {
    let (from, to) = ((Ino::ROOT, from), (Ino::ROOT, to));
    rig.fs.rename(from, to, RenameMode::Replace).await.expect("renamed");
}

async fn chmod(rig: &Rig, ino: Ino) {
    let change = SetAttrs { mode: Some(0o600), ..SetAttrs::default() };
    rig.fs.setattr(ino, None, change).await.expect("changed");
}

fn keys(rig: &Rig) -> Vec<String> {
    rig.stores.old.snapshot().into_keys().map(|key| key.to_string()).collect()
}

/// What both stores have beside the bytes under a key; they must agree.
async fn metadata(rig: &Rig, key: &str) -> ObjectMeta {
    assert_eq!(rig.stored(key).await.as_deref(), Some(BEFORE));
    let key = Key::new(key).expect("a key");
    let held = PerSide::from_fn(|side| rig.stores[side].snapshot()[&key].1.clone());
    assert_eq!(held.old, held.new, "the metadata of `{key}`");
    held.old
}

fn assert_says_what_it_is(meta: &ObjectMeta) {
    let names: Vec<&str> = meta.user.keys().map(String::as_str).collect();
    assert_eq!(names, ["blake3", "bridgefs_op", "gid", "mode", "mtime", "uid"]);
    assert_eq!(meta.user["blake3"], Digest::of(BEFORE).to_hex());
}

/// An object of a web site, packed, with an entry of its owner's.
async fn of_a_web_site() -> (Rig, Ino) {
    let user = [("author".to_owned(), "jim".to_owned()), ("x-custom".to_owned(), "1".to_owned())].into();
    let rig = Rig::over("f", BEFORE, &ObjectMeta { headers: web_headers(), user }).await;
    let ino = rig.fs.lookup(Ino::ROOT, "f").await.expect("asked").expect("there").ino;
    (rig, ino)
}

fn web_headers() -> HttpHeaders {
    HttpHeader::ALL.map(|header| (header, format!("the {}", header.name()))).into()
}

fn held(rig: &Rig, side: Side, key: &str) -> ObjectMeta {
    rig.stores[side].snapshot()[&Key::new(key).expect("a key")].1.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn http_headers_and_entries_of_others_survive_every_change_that_sends_no_content() {
    for change in ["mode", "name", "link", "attribute", "time", "name, then mode", "mode, then link"] {
        let (rig, ino) = of_a_web_site().await;
        for step in change.split(", then ") {
            match step {
                "mode" => chmod(&rig, ino).await,
                "name" => rename(&rig, "f", "g").await,
                "link" => drop(rig.fs.link(ino, Ino::ROOT, "g").await.expect("linked")),
                "time" => {
                    let change = SetAttrs { mtime: Some(7), ..SetAttrs::default() };
                    rig.fs.setattr(ino, None, change).await.expect("changed");
                }
                _ => rig.fs.setxattr(ino, b"user.a", b"b", XattrMode::Set).await.expect("set"),
            }
        }
        rig.drain().await;
        for side in Side::BOTH {
            for (key, (_, meta)) in rig.stores[side].snapshot() {
                let place = format!("{change}: `{key}` on {side}");
                assert_eq!(meta.headers, web_headers(), "{place}");
                assert_eq!(meta.user["author"], "jim", "{place}");
                // Not every store can hold this one.
                assert_eq!(meta.user.contains_key("x-custom"), side == Side::Old, "{place}");
            }
        }
        let on_new = rig.stores.new.snapshot().len();
        assert_eq!(on_new, 1 + usize::from(change == "mode, then link"), "{change}");
        assert_eq!(kinds(&rig), [], "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_through_the_mount_has_no_http_headers_of_what_stood_there() {
    for truncate in [Truncate::Keep, Truncate::ToZero] {
        let (rig, ino) = of_a_web_site().await;
        let handle = rig.opened(ino, Access::Write, truncate).await.handle;
        rig.write(handle, 4, b"now").await;
        rig.close(handle).await;
        rig.drain().await;
        for side in Side::BOTH {
            let meta = held(&rig, side, "f");
            assert_eq!(meta.headers, HttpHeaders::new(), "{truncate:?} on {side}");
            assert!(!meta.user.contains_key("author"), "{truncate:?} on {side}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_asked_delays_what_it_alone_knows_and_does_not_lose_it() {
    let (rig, ino) = of_a_web_site().await;
    assert_eq!(rig.content(ino).await, BEFORE);
    let refuse = Rule::always(Fault::Fail(crate::store::ErrorKind::Unavailable));
    rig.faults.old.push(refuse.on(&[Operation::Head]).within(0..3));
    chmod(&rig, ino).await;
    rig.drain().await;
    assert_eq!(held(&rig, Side::New, "f").headers, web_headers());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_move_of_what_was_there_before_the_bridge_accuses_nobody() {
    let (rig, _) = history("f", BEFORE).await;
    lose_a_copy(&rig);
    rename(&rig, "f", "g").await;
    assert_says_what_it_is(&metadata(&rig, "g").await);
    assert_eq!((keys(&rig), kinds(&rig)), (vec!["g".to_owned()], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_further_name_of_what_was_there_before_the_bridge_accuses_nobody() {
    let (rig, ino) = history("f", BEFORE).await;
    lose_a_copy(&rig);
    rig.fs.link(ino, Ino::ROOT, "g").await.expect("linked");
    assert_says_what_it_is(&metadata(&rig, "g").await);
    assert_eq!((keys(&rig), kinds(&rig)), (vec!["f".to_owned(), "g".to_owned()], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_copy_of_what_was_there_before_the_bridge_is_ours_whatever_becomes_of_its_name() {
    for next in ["removed", "replaced", "renamed"] {
        let (rig, _) = history("f", BEFORE).await;
        // Neither its answer nor the look for what it did.
        lose_a_copy(&rig);
        let refuse = Rule::always(Fault::Fail(crate::store::ErrorKind::Unavailable));
        rig.faults.old.push(refuse.on(&[Operation::Head]).below("g").within(0..1));
        rename(&rig, "f", "g").await;
        while !keys(&rig).contains(&"g".to_owned()) {
            tokio::task::yield_now().await;
        }
        match next {
            "removed" => rig.fs.unlink(Ino::ROOT, "g").await.expect("removed"),
            "replaced" => {
                rig.file("t", b"newer").await;
                rename(&rig, "t", "g").await;
            }
            _ => {
                rename(&rig, "g", "h").await;
                rig.file("g", b"newer").await;
                rig.file("f", b"newest").await;
            }
        }
        rig.drain().await;
        let left: &[&str] = match next {
            "removed" => &[],
            "replaced" => &["g"],
            _ => &["f", "g", "h"],
        };
        assert_eq!(
            (keys(&rig), kinds(&rig)),
            (left.iter().map(|key| (*key).to_owned()).collect(), vec![]),
            "{next}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_history_is_moved_onto_is_nobodys_bypass_although_a_change_of_its_mode_was_not_confirmed() {
    let (from, to) = (Key::new("d/f").expect("a key"), Key::new("d/g").expect("a key"));
    let rig = Rig::over(from.as_str(), BEFORE, &ObjectMeta::default()).await;
    let replaced = b"replaced".as_slice().into();
    rig.stores.old.put(&to, replaced, &ObjectMeta::default(), &Condition::Always).await.expect("put");
    let lookup = async |dir, name: &str| rig.fs.lookup(dir, name).await.expect("asked").expect("there").ino;
    let dir = lookup(Ino::ROOT, "d").await;
    let ino = lookup(dir, "f").await;
    rig.faults.old.push(Rule::always(Fault::FailAfter).on(&[Operation::SetMeta]).within(0..1));
    chmod(&rig, ino).await;
    while !held(&rig, Side::Old, "d/f").user.contains_key("bridgefs_op") {
        tokio::task::yield_now().await;
    }
    // So that nobody looks what became of it before the rename.
    let refuse = Rule::always(Fault::Fail(crate::store::ErrorKind::Unavailable));
    rig.faults.old.push(refuse.on(&[Operation::Head]).below("d/f").within(0..2));
    rig.fs.rename((dir, "f"), (dir, "g"), RenameMode::Replace).await.expect("renamed");
    assert_says_what_it_is(&metadata(&rig, "d/g").await);
    assert_eq!((keys(&rig), kinds(&rig)), (vec!["d/g".to_owned()], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_outsider_put_where_history_moves_to_is_kept_however_much_it_looks_like_the_copy() {
    let (rig, _) = history("f", BEFORE).await;
    assert!(rig.fs.lookup(Ino::ROOT, "g").await.expect("the directory is known").is_none());
    rig.stores.old.bypass_put(&Key::new("g").expect("a key"), &b"FROM BEFORE"[..], ObjectMeta::default());
    rename(&rig, "f", "g").await;
    assert_eq!(rig.stored("g").await.as_deref(), Some(BEFORE));
    let objects = rig.stores.old.snapshot();
    let kept: Vec<_> = objects.iter().filter(|(key, _)| key.as_str().contains("-kept-")).collect();
    assert_eq!((kept.len(), &kept[0].1.0[..]), (1, &b"FROM BEFORE"[..]), "nobody's bytes are lost");
    assert_eq!(kinds(&rig), [FindingKind::Bypass]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stores_say_the_same_of_what_was_there_before_the_bridge_once_it_is_on_both() {
    for change in ["mode", "name", "name, then mode", "mode, then name"] {
        let (rig, ino) = history("f", BEFORE).await;
        for step in change.split(", then ") {
            match step {
                "mode" => chmod(&rig, ino).await,
                _ => rename(&rig, "f", "g").await,
            }
        }
        let name = if change.contains("name") { "g" } else { "f" };
        assert_says_what_it_is(&metadata(&rig, name).await);
        assert_eq!(kinds(&rig), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_found_while_somebody_else_lists_its_directory_for_the_first_time() {
    let rig = Rig::over("d/0/f", BEFORE, &ObjectMeta::default()).await;
    let names: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    for name in &names {
        let key = Key::new(format!("d/{name}/f")).expect("a key");
        let meta = ObjectMeta::default();
        rig.stores.old.put(&key, BEFORE.into(), &meta, &Condition::Always).await.expect("put");
    }
    let top = rig.bridge.lookup(Ino::ROOT, "d").await.expect("asked").expect("there").ino;
    for name in &names {
        let dir = rig.bridge.lookup(top, name).await.expect("asked").expect("there").ino;
        let bridge = Arc::clone(&rig.bridge);
        let listed = tokio::spawn(async move { bridge.list(dir, Position::START, 10).await });
        let found = [(); 4].map(|()| {
            let bridge = Arc::clone(&rig.bridge);
            tokio::spawn(async move { bridge.lookup(dir, "f").await })
        });
        for found in found {
            assert!(found.await.expect("no panic").expect("asked").is_some(), "{name}");
        }
        assert_eq!(listed.await.expect("no panic").expect("listed").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_the_bridge_is_not_rewritten_while_one_store_has_it() {
    let (rig, ino) = history("f", BEFORE).await;
    rig.bridge.set_stage("", crate::stage::Stage::Off, 100, "test", "test").await.expect("a stage");
    assert_eq!(rig.content(ino).await, BEFORE);
    rename(&rig, "f", "g").await;
    rig.drain().await;
    let objects = rig.stores.old.snapshot();
    assert_eq!(objects[&Key::new("g").expect("a key")].1, ObjectMeta::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_file_is_kept_until_each_of_its_names_is_on_the_stores() {
    let rig = Rig::new().await;
    let refuse = Rule::always(Fault::Fail(crate::store::ErrorKind::Unavailable));
    for faults in [&rig.faults.old, &rig.faults.new] {
        faults.push(refuse.clone().on(&[Operation::Put, Operation::Copy]).below("g"));
    }
    let made = rig.fs.create(Ino::ROOT, "f", 0o644, super::rig::ALICE).await.expect("made");
    let ino = made.info.ino;
    rig.fs.link(ino, Ino::ROOT, "g").await.expect("linked");
    rig.write(made.handle, 0, b"two names").await;
    rig.close(made.handle).await;
    while rig.bridge.left().expect("read").pending > 2 {
        tokio::task::yield_now().await;
    }
    // Only the further name waits, once for each store.
    rig.bridge.released(ino);
    assert!(rig.bridge.staged(ino).expect("read").is_some(), "its content may be wanted for the other name");
    rig.faults.old.clear();
    rig.faults.new.clear();
    assert_eq!(rig.stored("g").await.as_deref(), Some(&b"two names"[..]));
    rig.settle().await;
    let handle = rig.open(ino, Access::Read).await;
    assert_eq!(rig.read(handle).await, b"two names");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_a_store_refuses_for_ever_is_a_finding_until_it_is_taken() {
    let rig = Rig::new().await;
    let refuse = Rule::always(Fault::Fail(crate::store::ErrorKind::PreconditionFailed));
    rig.faults.old.push(refuse.on(&[Operation::Put]).below("f"));
    rig.file("f", b"content").await;
    let left = rig.bridge.drain(Duration::from_secs(600)).await.expect("read");
    assert_eq!(left.pending, 1, "it is tried for ever");
    let findings = rig.bridge.findings(false, 10).expect("read");
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].kind, findings[0].key.as_deref()), (FindingKind::Blocked, Some("f")));
    assert!(findings[0].detail.contains("no object is there"), "{}", findings[0].detail);
    rig.faults.old.clear();
    assert_eq!(rig.stored("f").await.as_deref(), Some(&b"content"[..]));
    assert_eq!(kinds(&rig), []);
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_a_store_has_not_followed_when_it_is_left_reaches_the_other_one() {
    let rig = Rig::over("f", BEFORE, &ObjectMeta::default()).await;
    rig.bridge.set_stage("", Stage::Off, 100, "test", "test").await.expect("a stage");
    rig.faults.old.push(Rule::always(Fault::Fail(ErrorKind::Unavailable)).on(&[Operation::Copy]));
    rename(&rig, "f", "g").await;
    rig.bridge.set_stage("", Stage::Complete, 100, "test", "test").await.expect("a stage");
    rig.faults.old.clear();
    rig.drain().await;
    let held = rig.stores.new.snapshot().into_iter().map(|(key, (body, _))| (key.to_string(), body.to_vec()));
    assert_eq!(held.collect::<Vec<_>>(), [("g".to_owned(), BEFORE.to_vec())]);
}

/// What the new store holds under a key.
fn on_new(rig: &Rig, key: &str) -> Option<Vec<u8>> {
    let objects = rig.stores.new.snapshot();
    objects.into_iter().find(|(k, _)| k.as_str() == key).map(|(_, (body, _))| body.to_vec())
}

/// History on the old store, which somebody has copied to the new one before the bridge, an older state of it.
async fn copied_before(name: &str) -> (Rig, Ino) {
    let (rig, ino) = history(name, b"from before").await;
    let key = Key::new(name).expect("a key");
    rig.stores.new.bypass_put(&key, &b"a copy"[..], ObjectMeta::default());
    (rig, ino)
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_is_left_and_set_again_deletes_nothing_that_nobody_deleted() {
    let (rig, ino) = history("e", b"from before").await;
    rig.stores.new.bypass_put(&Key::new("f").expect("a key"), &b"theirs"[..], ObjectMeta::default());
    rig.faults.new.push(Rule::always(Fault::Fail(ErrorKind::Denied)).on(&[Operation::Put]));
    rename(&rig, "e", "f").await;
    rig.bridge.set_stage("", Stage::Off, 100, "test", "test").await.expect("a stage");
    rig.drain().await;
    rig.faults.new.clear();
    rig.bridge.set_stage("", Stage::DualWrite, 100, "test", "test").await.expect("a stage");
    rig.drain().await;
    assert!(on_new(&rig, "f").is_some());
    assert_eq!(rig.content(ino).await, b"from before");
}

#[tokio::test(start_paused = true)]
async fn what_was_copied_before_the_bridge_does_not_bring_an_old_name_back() {
    let (rig, ino) = copied_before("f").await;
    rig.fs.rename((Ino::ROOT, "f"), (Ino::ROOT, "g"), RenameMode::Replace).await.expect("renamed");
    assert_eq!(rig.stored("f").await, None);
    assert_eq!(rig.stored("g").await.as_deref(), Some(&b"from before"[..]));
    assert_eq!(rig.content(ino).await, b"from before");
}
