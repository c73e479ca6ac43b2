//! Deleted stays deleted, and nothing else is deleted with it.

use super::*;

#[test]
fn a_deletion_is_noted_where_it_is_written_and_hides_everywhere() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::Old);
    fixture.stage("", Stage::Off);
    let removed = fixture.rm("a").expect("removed");
    assert_eq!((removed.node, removed.links_left), (node.clone(), 0));
    let old = fixture.grave(Side::Old, "a").expect("noted");
    assert_eq!((old.state, old.etag), (TombstoneState::Pending, Some(etag_of(&node))));
    let new = fixture.grave(Side::New, "a").expect("noted");
    assert_eq!((new.state, new.etag), (TombstoneState::Deferred, None));
    assert_eq!(fixture.due_tombstones(Side::Old, NOW, 10).expect("read").len(), 1);
    assert_eq!(fixture.due_tombstones(Side::Old, NOW - 1, 10).expect("read"), []);
    assert_eq!(fixture.due_tombstones(Side::New, NOW, 10).expect("read"), []);
    fixture.assert_clean();
}

#[test]
fn a_file_that_never_left_the_host_needs_no_deletion() {
    let fixture = Fixture::new();
    fixture.make("a", Kind::File);
    fixture.rm("a").expect("removed");
    for side in Side::BOTH {
        assert_eq!(fixture.grave(side, "a"), None);
    }
}

#[test]
fn a_deletion_is_not_bound_to_a_tag_while_something_newer_may_be_on_its_way() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::Old);
    fixture.write(node.ino);
    fixture.rm("a").expect("removed");
    assert_eq!(fixture.grave(Side::Old, "a").expect("noted").etag, None);
}

#[test]
fn deleting_a_file_where_an_unmoved_one_stands_does_not_delete_that_ones_only_copy() {
    let fixture = Fixture::new();
    let moved = fixture.file("a");
    fixture.confirm(moved.ino, Side::Old);
    fixture.mv("a", "b");
    fixture.file("a");
    fixture.rm("a").expect("removed");
    assert_eq!(fixture.grave(Side::Old, "a"), None);
    assert!(fixture.hidden(Side::Old, "a"), "the replica hides it");
    assert!(fixture.grave(Side::New, "a").is_some());
    fixture.confirm(moved.ino, Side::Old);
    assert_eq!(fixture.grave(Side::Old, "a").expect("now it may go").etag, Some(etag_of(&moved)));
    fixture.assert_clean();
}

#[test]
fn a_renamed_file_that_is_deleted_is_deleted_under_both_names() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::Old);
    fixture.mv("a", "b");
    fixture.rm("b").expect("removed");
    assert_eq!(fixture.grave(Side::Old, "a").expect("the old name").etag, Some(etag_of(&node)));
    assert_eq!(fixture.grave(Side::Old, "b").expect("the new name").etag, None);
    fixture.assert_clean();
}

#[test]
fn an_upload_that_arrives_after_the_deletion_is_deleted_too() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.rm("a").expect("removed");
    fixture.deleted(Side::Old, "a");
    let late =
        run(fixture.receipt((node.ino, node.link), Side::Old, receipt_of(&node, "a"))).expect("recorded");
    assert_eq!(late, ReceiptOutcome::Gone);
    let grave = fixture.grave(Side::Old, "a").expect("noted again");
    assert_eq!((grave.state, grave.etag), (TombstoneState::Pending, Some(etag_of(&node))));
    fixture.assert_clean();
}

#[test]
fn a_removed_directory_is_hidden_while_anything_below_it_waits() {
    let fixture = Fixture::new();
    fixture.dir("d");
    let node = fixture.file("d/f");
    fixture.confirm(node.ino, Side::Old);
    fixture.stage("", Stage::Off);
    fixture.rm("d/f").expect("removed");
    fixture.remove_dir("d").expect("removed");
    let scan = fixture.begin_scan();
    assert_eq!(fixture.list(Ino::ROOT, &["d/"], Side::Old, &scan), []);
    assert!(fixture.hidden(Side::Old, "d/other"), "everything below it is hidden");
    fixture.deleted(Side::Old, "d/f");
    let scan = fixture.begin_scan();
    assert_eq!(fixture.list(Ino::ROOT, &["d/"], Side::Old, &scan).len(), 1);
    assert!(fixture.hidden(Side::New, "d/"), "the other side has not confirmed");
    fixture.assert_clean();
}

#[test]
fn a_new_file_under_a_deleted_name_makes_the_deletion_void_when_it_arrives() {
    let fixture = Fixture::new();
    let old = fixture.file("a");
    fixture.confirm(old.ino, Side::Old);
    fixture.rm("a").expect("removed");
    let new = fixture.file("a");
    assert!(fixture.grave(Side::Old, "a").is_some());
    fixture.confirm(new.ino, Side::Old);
    assert_eq!(fixture.grave(Side::Old, "a"), None);
    fixture.assert_clean();
}

#[test]
fn what_is_deleted_because_it_was_moved_is_deleted_once_the_move_is_on_the_disk() {
    let fixture = Fixture::new();
    let (moved, removed) = (fixture.file("a"), fixture.file("r"));
    for node in [&moved, &removed] {
        fixture.confirm(node.ino, Side::Old);
    }
    fixture.rm("r").expect("removed");
    fixture.mv("a", "b");
    let syncs = || fixture.counters().syncs;
    let before = syncs();
    run(fixture.sync_tombstone(&fixture.grave(Side::Old, "r").expect("noted"))).expect("synced");
    assert_eq!(syncs(), before, "its commit was synced");
    fixture.confirm(moved.ino, Side::Old);
    let grave = fixture.grave(Side::Old, "a").expect("noted");
    for _ in 0..2 {
        run(fixture.sync_tombstone(&grave)).expect("synced");
        assert_eq!(syncs(), before + 1, "once");
    }
}

fn locked() -> NewFinding {
    let detail = "locked".to_owned();
    NewFinding { kind: FindingKind::Blocked, side: Some(Side::Old), key: Some(key("a")), detail }
}

#[test]
fn a_failed_deletion_waits_and_a_blocked_one_is_a_finding_and_stays_hidden() {
    let fixture = Fixture::new();
    fixture.file("a");
    fixture.rm("a").expect("removed");
    run(fixture.tombstone_failed(Side::Old, &key("a"), "503", NOW + 5)).expect("noted");
    let grave = fixture.grave(Side::Old, "a").expect("there");
    assert_eq!((grave.attempts, grave.due, grave.error.as_deref()), (1, NOW + 5, Some("503")));
    run(fixture.tombstone_blocked(&grave, locked())).expect("noted");
    assert_eq!(fixture.due_tombstones(Side::Old, NOW + 9, 9).expect("read"), []);
    assert!(fixture.hidden(Side::Old, "a"));
    assert_eq!(fixture.findings(false, 9).expect("read").len(), 1);
    fixture.assert_clean();
}

#[test]
fn what_was_decided_about_a_deletion_before_the_next_one_is_void() {
    let fixture = Fixture::new();
    let first = fixture.file("a");
    fixture.confirm(first.ino, Side::Old);
    fixture.rm("a").expect("removed");
    let before = fixture.grave(Side::Old, "a").expect("noted");
    let second = fixture.file("a");
    fixture.confirm(second.ino, Side::Old);
    fixture.rm("a").expect("removed");
    run(fixture.tombstone_done(&before)).expect("ignored");
    run(fixture.tombstone_blocked(&before, locked())).expect("ignored");
    let grave = fixture.grave(Side::Old, "a").expect("still to be deleted");
    assert_eq!((grave.state, grave.etag), (TombstoneState::Pending, Some(etag_of(&second))));
    assert_eq!(fixture.findings(true, 9).expect("read"), []);
}
