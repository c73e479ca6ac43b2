//! The tree: what POSIX says, and what the tables remember of it.

use super::*;

#[test]
fn create_says_why_it_refuses() {
    let fixture = Fixture::new();
    let file = fixture.make("a", Kind::File);
    assert_eq!((file.version, file.size, file.origin), (Version::UNCOMMITTED, 0, Origin::Mount));
    let new = || NewNode { kind: Kind::File, attrs: ATTRS, now: NOW, target: None };
    let create = |parent, name| kind_of(run(fixture.create(parent, name, new())));
    assert_eq!(create(Ino::ROOT, "a"), LedgerErrorKind::Exists);
    assert_eq!(create(Ino(77_777), "b"), LedgerErrorKind::NotFound);
    assert_eq!(create(file.ino, "b"), LedgerErrorKind::NotADirectory);
}

#[test]
fn a_change_in_a_directory_changes_its_times() {
    let fixture = Fixture::new();
    let dir = fixture.dir("d");
    assert!(dir.complete);
    let new = NewNode { kind: Kind::File, attrs: ATTRS, now: 5_000, target: None };
    run(fixture.create(dir.ino, "a", new)).expect("created");
    let dir = fixture.at("d").expect("there");
    assert_eq!((dir.attrs.mtime, dir.ctime), (5_000, 5_000));
}

#[test]
fn a_symlink_is_committed_when_it_is_made_and_a_file_when_it_is_committed() {
    let fixture = Fixture::new();
    let link = fixture.make("l", Kind::Symlink);
    assert_eq!((link.version, link.size), (Version::FIRST, 6));
    assert!(fixture.intent(link.link, Side::New).expect("read").is_some());
    let file = fixture.make("f", Kind::File);
    assert_eq!(fixture.uncommitted(Ino(0), 10).expect("read"), std::slice::from_ref(&file));
    assert_eq!(fixture.intent(file.link, Side::Old).expect("read"), None);
    assert_eq!(fixture.write(file.ino), Version(1));
    assert_eq!(fixture.write(file.ino), Version(2));
    assert_eq!(fixture.at("f").expect("there").size, 10);
    assert!(fixture.intent(file.link, Side::Old).expect("read").is_some());
    assert_eq!(fixture.uncommitted(Ino(0), 10).expect("read"), []);
}

#[test]
fn entries_come_by_position_and_go_on_behind_a_removed_one() {
    let fixture = Fixture::new();
    let names: Vec<Position> = ["c", "a", "b"].map(|name| fixture.file(name).position).into();
    let list = |after| {
        let nodes = fixture.children(Ino::ROOT, after, 2).expect("read");
        nodes.iter().map(|node| node.position).collect::<Vec<_>>()
    };
    assert_eq!(list(Position::START), names[..2]);
    fixture.rm("a").expect("removed");
    assert_eq!(list(names[1]), names[2..]);
    assert!(fixture.has_children(Ino::ROOT).expect("read"));
    for name in ["b", "c"] {
        fixture.rm(name).expect("removed");
    }
    assert!(!fixture.has_children(Ino::ROOT).expect("read"), "the root is not its own entry");
    assert_eq!(fixture.children(Ino::ROOT, Position::START, 10).expect("read"), []);
}

#[test]
fn a_name_keeps_its_position_whatever_it_is_given_to() {
    let fixture = Fixture::new();
    let files = ["a", "b", "c", "d"].map(|name| fixture.file(name));
    let listed = || {
        let nodes = fixture.children(Ino::ROOT, Position::START, 10).expect("read");
        nodes.iter().map(|node| format!("{}{}", node.name, node.ino)).collect::<Vec<_>>()
    };
    let [a, b, c, d] = files.each_ref().map(|node| node.ino);
    fixture.mv("a", "c");
    assert_eq!(listed(), [format!("b{b}"), format!("c{a}"), format!("d{d}")], "an older one replaces {c}");
    fixture.mv("d", "b");
    assert_eq!(listed(), [format!("b{d}"), format!("c{a}")], "a younger one");
    fixture.try_mv("b", "c", RenameMode::Exchange).expect("exchanged");
    assert_eq!(listed(), [format!("b{a}"), format!("c{d}")]);
    fixture.mv("b", "e");
    assert_eq!(listed(), [format!("e{a}"), format!("c{d}")], "what only moves takes its position along");
    assert_eq!(fixture.check().expect("read"), Vec::<String>::new());
}

#[test]
fn attributes_of_a_committed_file_go_to_the_stores_and_access_times_do_not() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    for side in Side::BOTH {
        assert_eq!(fixture.confirm(node.ino, side), ReceiptOutcome::Satisfied);
    }
    let atime = AttrChange { atime: Some(9), ctime: 9, ..AttrChange::default() };
    let node = run(fixture.set_attrs(node.ino, atime)).expect("set");
    assert_eq!((node.atime, node.attr_version), (9, 0));
    assert_eq!(fixture.intent(node.link, Side::Old).expect("read"), None);
    let mode = AttrChange { mode: Some(0o600), ctime: 10, ..AttrChange::default() };
    let node = run(fixture.set_attrs(node.ino, mode)).expect("set");
    assert_eq!((node.attrs.mode, node.attr_version), (0o600, 1));
    assert!(fixture.intent(node.link, Side::Old).expect("read").is_some());
    assert_eq!(fixture.confirm(node.ino, Side::Old), ReceiptOutcome::Satisfied);
    let dir = run(fixture.set_attrs(fixture.dir("d").ino, mode)).expect("set");
    assert_eq!(fixture.intent(dir.link, Side::Old).expect("read"), None);
}

#[test]
fn rename_refuses_what_posix_refuses() {
    let fixture = Fixture::new();
    fixture.dir("d");
    fixture.dir("d/sub");
    fixture.dir("full");
    fixture.file("full/f");
    fixture.file("f");
    let table = [
        ("none", "x", RenameMode::Replace, LedgerErrorKind::NotFound),
        ("d", "d/sub/x", RenameMode::Replace, LedgerErrorKind::Loop),
        ("d", "d/sub", RenameMode::Exchange, LedgerErrorKind::Loop),
        ("d/sub", "d", RenameMode::Exchange, LedgerErrorKind::Loop),
        ("d", "full", RenameMode::Replace, LedgerErrorKind::NotEmpty),
        ("f", "d", RenameMode::Replace, LedgerErrorKind::IsADirectory),
        ("d", "f", RenameMode::Replace, LedgerErrorKind::NotADirectory),
        ("d", "f", RenameMode::NoReplace, LedgerErrorKind::Exists),
        ("d", "x", RenameMode::Exchange, LedgerErrorKind::NotFound),
    ];
    for (from, to, mode, kind) in table {
        assert_eq!(kind_of(fixture.try_mv(from, to, mode)), kind, "{from} {to} {mode:?}");
    }
    let same = fixture.mv("f", "f");
    assert_eq!((same.replaced, same.moved), (None, fixture.at("f").expect("there")));
    assert_eq!(kind_of(fixture.remove_dir("full")), LedgerErrorKind::NotEmpty);
    assert_eq!(kind_of(fixture.remove_dir("f")), LedgerErrorKind::NotADirectory);
    assert_eq!(kind_of(fixture.rm("d")), LedgerErrorKind::IsADirectory);
}

#[test]
fn a_renamed_file_stands_under_its_old_key_until_the_store_has_followed() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::Old);
    fixture.confirm(node.ino, Side::New);
    fixture.mv("a", "b");
    assert_eq!(fixture.replica_key(node.ino, Side::Old).as_deref(), Some("a"));
    assert_eq!(fixture.occupant(Side::Old, &key("a")).expect("read"), Some(node.link));
    assert!(fixture.hidden(Side::Old, "a"), "the old name must not come back");
    assert!(fixture.intent(node.link, Side::Old).expect("read").is_some());
    assert_eq!(fixture.confirm(node.ino, Side::Old), ReceiptOutcome::Satisfied);
    assert_eq!(fixture.replica_key(node.ino, Side::Old).as_deref(), Some("b"));
    let grave = fixture.grave(Side::Old, "a").expect("to be deleted");
    assert_eq!((grave.state, grave.etag), (TombstoneState::Pending, Some(etag_of(&node))));
    fixture.assert_clean();
}

#[test]
fn a_file_that_is_renamed_back_stands_where_it_stood() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::Old);
    fixture.mv("a", "b");
    fixture.mv("b", "a");
    assert_eq!(fixture.occupant(Side::Old, &key("a")).expect("read"), None);
    assert_eq!(fixture.replica_key(node.ino, Side::Old).as_deref(), Some("a"));
    assert_eq!(fixture.grave(Side::Old, "a"), None, "the only copy must not be deleted");
    fixture.assert_clean();
}

#[test]
fn a_renamed_directory_takes_everything_along_and_hides_its_old_place() {
    let fixture = Fixture::new();
    fixture.dir("d");
    fixture.dir("d/sub");
    let node = fixture.file("d/sub/f");
    fixture.confirm(node.ino, Side::Old);
    fixture.mv("d", "e");
    assert_eq!(fixture.key_of(node.link).expect("read"), Some(key("e/sub/f")));
    assert_eq!(fixture.replica_key(node.ino, Side::Old).as_deref(), Some("d/sub/f"));
    assert!(fixture.hidden(Side::Old, "d/"), "the directory itself is not shown either");
    assert!(fixture.hidden(Side::Old, "d/sub/f"));
    assert_eq!(fixture.confirm(node.ino, Side::Old), ReceiptOutcome::Satisfied);
    assert!(fixture.hidden(Side::Old, "d/"), "while a deletion waits below");
    fixture.deleted(Side::Old, "d/sub/f");
    assert!(!fixture.hidden(Side::Old, "d/sub/f"));
    assert!(!fixture.hidden(Side::Old, "d/"));
    fixture.assert_clean();
}

#[test]
fn the_tombstone_of_a_replaced_file_tells_its_replacement_what_it_replaces() {
    let fixture = Fixture::new();
    let (tmp, target) = (fixture.file("tmp"), fixture.file("target"));
    for side in Side::BOTH {
        fixture.confirm(target.ino, side);
    }
    fixture.stage("", Stage::Off);
    let renamed = fixture.try_mv("tmp", "target", RenameMode::Replace).expect("renamed");
    let replaced = renamed.replaced.expect("it was there");
    assert_eq!(replaced.node.ino, target.ino);
    assert_eq!(renamed.moved.ino, tmp.ino);
    let overwritten = fixture.grave(Side::Old, "target").expect("until its replacement has arrived");
    assert_eq!(overwritten.etag, Some(etag_of(&target)));
    let kept = fixture.grave(Side::New, "target").expect("hidden");
    assert_eq!(kept.state, TombstoneState::Deferred);
    fixture.confirm(tmp.ino, Side::Old);
    assert_eq!(fixture.grave(Side::Old, "target"), None);
    fixture.assert_clean();
}

#[test]
fn what_stood_there_last_is_known_whatever_took_its_name_and_never_arrived() {
    let fixture = Fixture::new();
    let history = fixture.file("a");
    fixture.confirm(history.ino, Side::Old);
    fixture.mv("a", "b");
    fixture.confirm(history.ino, Side::Old);
    fixture.file("a");
    fixture.mv("b", "a");
    let grave = fixture.grave(Side::Old, "a").expect("the object of before is still there");
    assert_eq!((grave.etag, grave.last_etag), (None, Some(etag_of(&history))));
    fixture.assert_clean();
}

#[test]
fn the_overwritten_object_does_not_come_back_when_the_new_file_moves_on_before_its_upload() {
    let fixture = Fixture::new();
    let target = fixture.file("target");
    fixture.confirm(target.ino, Side::Old);
    fixture.file("tmp");
    fixture.mv("tmp", "target");
    fixture.mv("target", "elsewhere");
    assert!(fixture.hidden(Side::Old, "target"), "its object still stands there");
    fixture.assert_clean();
}

#[test]
fn a_file_without_content_that_replaces_another_buries_it() {
    let fixture = Fixture::new();
    let target = fixture.file("target");
    fixture.confirm(target.ino, Side::Old);
    let open = fixture.make("tmp", Kind::File);
    fixture.mv("tmp", "target");
    assert_eq!(fixture.intent(open.link, Side::Old).expect("read"), None);
    assert!(fixture.grave(Side::Old, "target").is_some(), "a crash now must not bring it back");
    fixture.write(open.ino);
    fixture.confirm(open.ino, Side::Old);
    assert_eq!(fixture.grave(Side::Old, "target"), None);
    fixture.assert_clean();
}

#[test]
fn exchanged_files_wait_for_each_other_and_end_up_under_their_own_keys() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.file("a"), fixture.file("b"));
    for node in [&a, &b] {
        fixture.confirm(node.ino, Side::Old);
    }
    let renamed = fixture.try_mv("a", "b", RenameMode::Exchange).expect("exchanged");
    assert_eq!((renamed.moved.ino, &*renamed.moved.name), (a.ino, "b"));
    assert_eq!(renamed.exchanged.expect("the other").ino, b.ino);
    assert_eq!(fixture.occupant(Side::Old, &key("b")).expect("read"), Some(b.link));
    assert_eq!(fixture.confirm(a.ino, Side::Old), ReceiptOutcome::Satisfied);
    assert_eq!(fixture.replica_key(b.ino, Side::Old), None, "its object was overwritten");
    assert!(fixture.intent(b.link, Side::Old).expect("read").is_some());
    assert_eq!(fixture.confirm(b.ino, Side::Old), ReceiptOutcome::Satisfied);
    assert_eq!(fixture.grave(Side::Old, "a"), None);
    assert_eq!(fixture.grave(Side::Old, "b"), None);
    fixture.assert_clean();
}

#[test]
fn a_copy_that_was_overtaken_by_a_commit_is_not_committed_over_it() {
    let fixture = Fixture::new();
    let file = fixture.file("a");
    let commit = |size| Commit { size, mtime: NOW, ctime: NOW };
    let next =
        run(fixture.commit_after(file.ino, file.version, move |_| Some(commit(20)))).expect("committed");
    assert_eq!(next, Some(file.version.next()));
    assert_eq!(
        run(fixture.commit_after(file.ino, file.version, move |_| Some(commit(30)))).expect("asked"),
        None
    );
    assert_eq!(fixture.at("a").expect("there").size, 20);
}
