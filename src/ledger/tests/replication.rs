//! Receipts, intents, slices, findings.

use super::*;
use crate::object::ContentDigest;

fn finding(name: &str) -> NewFinding {
    let (side, key) = (Some(Side::New), Some(key(name)));
    NewFinding { kind: FindingKind::Missing, side, key, detail: "gone".to_owned() }
}

#[test]
fn a_receipt_satisfies_only_the_state_that_it_is_of() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.write(node.ino);
    let late =
        run(fixture.receipt((node.ino, node.link), Side::Old, receipt_of(&node, "a"))).expect("recorded");
    assert_eq!(late, ReceiptOutcome::Behind);
    assert!(fixture.intent(node.link, Side::Old).expect("read").is_some());
    assert_eq!(fixture.confirm(node.ino, Side::Old), ReceiptOutcome::Satisfied);
    assert_eq!(fixture.intent(node.link, Side::Old).expect("read"), None);
    fixture.assert_clean();
}

#[test]
fn a_late_upload_to_an_old_name_does_not_take_the_place_of_a_better_one() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.mv("a", "b");
    fixture.confirm(node.ino, Side::Old);
    assert_eq!(fixture.confirm_at(node.ino, Side::Old, "a"), ReceiptOutcome::Satisfied);
    assert_eq!(fixture.replica_key(node.ino, Side::Old).as_deref(), Some("b"));
    assert!(fixture.grave(Side::Old, "a").is_some());
    fixture.assert_clean();
}

#[test]
fn a_digest_belongs_to_its_version() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    let content = ContentDigest::of(&vec![3; 3 << 20]);
    let receipt = NewReceipt { content: Some(content.clone()), ..receipt_of(&node, "a") };
    run(fixture.receipt((node.ino, node.link), Side::Old, receipt)).expect("recorded");
    assert_eq!(fixture.content(node.ino).expect("read"), Some((Version(1), content.clone())));
    let digest =
        |fixture: &Fixture| fixture.replicas(node.link).expect("read").old.expect("there").receipt.digest;
    assert_eq!(digest(&fixture), Some(content.digest));
    let newer = ContentDigest::of(b"new");
    run(fixture.content_seen(node.ino, Version(2), newer.clone())).expect("too early: ignored");
    assert_eq!(digest(&fixture), Some(content.digest));
    fixture.write(node.ino);
    run(fixture.content_seen(node.ino, Version(2), newer)).expect("seen");
    assert_eq!(digest(&fixture), None, "the replica is of another version");
}

#[test]
fn intents_are_done_oldest_first_wait_after_a_failure_and_keep_their_age() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.file("a"), fixture.file("b"));
    let due = |now| {
        let intents = fixture.due_intents(Side::Old, now, 10).expect("read");
        intents.iter().map(|intent| intent.link).collect::<Vec<_>>()
    };
    assert_eq!(due(NOW), [a.link, b.link]);
    run(fixture.intent_failed(a.link, Side::Old, "503", NOW + 10)).expect("noted");
    assert_eq!(due(NOW), [b.link]);
    assert_eq!(due(NOW + 10), [a.link, b.link]);
    run(fixture.intent_dropped(&fixture.intended(b.link, Side::Old))).expect("dropped");
    let commit = Commit { size: 1, mtime: NOW, ctime: NOW + 3 };
    run(fixture.commit(a.ino, commit)).expect("committed");
    let intent = fixture.intent(a.link, Side::Old).expect("read").expect("there");
    assert_eq!((intent.attempts, intent.due, intent.since, intent.error), (0, NOW, NOW, None));
}

#[test]
fn a_blocked_intent_waits_for_a_change() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    let intent = fixture.intended(node.link, Side::New);
    run(fixture.intent_blocked(&intent, BlockReason::Locked, finding("a"))).expect("blocked");
    assert_eq!(fixture.due_intents(Side::New, NOW, 9).expect("read"), []);
    assert_eq!(fixture.summary().expect("read").sides[1].blocked, 1);
    fixture.mv("a", "b");
    assert_eq!(fixture.intent(node.link, Side::New).expect("read").expect("there").blocked, None);
}

#[test]
fn a_replica_that_turned_out_wrong_is_written_again_unless_it_was_meanwhile() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::New);
    let receipt = fixture.held(node.link, Side::New).receipt;
    let older = Receipt { etag: ETag::new("older"), ..receipt.clone() };
    run(fixture.mark_mismatched(node.link, Side::New, &older, finding("a"))).expect("ignored");
    assert_eq!(fixture.findings(true, 9).expect("read"), []);
    run(fixture.mark_mismatched(node.link, Side::New, &receipt, finding("a"))).expect("marked");
    let replica = fixture.replicas(node.link).expect("read").new.expect("there");
    assert_eq!(replica.state, ReplicaState::Mismatched);
    assert!(fixture.intent(node.link, Side::New).expect("read").is_some());
    assert_eq!(fixture.confirm(node.ino, Side::New), ReceiptOutcome::Satisfied);
    run(fixture.drop_replica(Side::New, &fixture.held(node.link, Side::New))).expect("dropped");
    assert!(fixture.grave(Side::New, "a").is_some());
    assert_eq!(fixture.replica_key(node.ino, Side::New), None);
    fixture.assert_clean();
}

#[test]
fn what_was_decided_about_an_intent_before_a_change_is_void() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    let before = fixture.intended(node.link, Side::Old);
    fixture.write(node.ino);
    run(fixture.intent_dropped(&before)).expect("ignored");
    run(fixture.intent_blocked(&before, BlockReason::Locked, finding("a"))).expect("ignored");
    assert_eq!(fixture.intended(node.link, Side::Old).blocked, None);
    assert_eq!(fixture.findings(true, 9).expect("read"), []);
    // Done, and asked for once more: the same row to look at, and another intent.
    fixture.confirm(node.ino, Side::Old);
    run(fixture.request(node.link, Side::Old, NOW)).expect("requested");
    run(fixture.intent_dropped(&before)).expect("ignored");
    run(fixture.intent_dropped(&fixture.intended(node.link, Side::Old))).expect("dropped");
    assert_eq!(fixture.intent(node.link, Side::Old).expect("read"), None);
}

#[test]
fn what_was_decided_about_an_object_before_it_changed_is_void() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::Old);
    let before = fixture.held(node.link, Side::Old);
    let assert_ignored = || {
        run(fixture.mark_mismatched(node.link, Side::Old, &before.receipt, finding("a"))).expect("ignored");
        run(fixture.drop_replica(Side::Old, &before)).expect("ignored");
        let found = run(fixture.replaced_outside(Side::Old, &before, found_object(), NOW));
        assert_eq!(found.expect("ignored"), None);
        assert_eq!(fixture.held(node.link, Side::Old).state, ReplicaState::Copied);
        assert_eq!(fixture.findings(true, 9).expect("read"), []);
        fixture.assert_clean();
    };
    fixture.mv("a", "b");
    // Elsewhere, with the tag that it had: that of the same bytes on many stores.
    fixture.confirm(node.ino, Side::Old);
    assert_eq!(fixture.held(node.link, Side::Old).receipt.etag, before.receipt.etag);
    assert_ignored();
    fixture.write(node.ino);
    fixture.confirm(node.ino, Side::Old);
    assert_ignored();
}

#[test]
fn a_receipt_of_an_older_version_does_not_take_the_place_of_a_newer_one() {
    let fixture = Fixture::new();
    let first = fixture.file("a");
    let late = receipt_of(&first, "b");
    fixture.write(first.ino);
    fixture.mv("a", "b");
    fixture.confirm_at(first.ino, Side::Old, "a");
    let outcome = run(fixture.receipt((first.ino, first.link), Side::Old, late)).expect("recorded");
    assert_eq!(outcome, ReceiptOutcome::Behind, "it must still move");
    let held = fixture.held(first.link, Side::Old).receipt;
    assert_eq!((held.key, held.version), (key("a"), Version(2)));
    assert!(fixture.grave(Side::Old, "b").is_some(), "what has arrived is replaced or goes");
    fixture.assert_clean();
}

#[test]
fn another_tag_of_the_same_object_asks_for_its_attributes_once_more() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::New);
    let receipt = fixture.held(node.link, Side::New).receipt;
    run(fixture.retagged(node.link, Side::New, &receipt, ETag::new("again"))).expect("noted");
    assert_eq!(fixture.held(node.link, Side::New).receipt.etag, ETag::new("again"));
    assert!(fixture.intent(node.link, Side::New).expect("read").is_some());
    run(fixture.retagged(node.link, Side::New, &receipt, ETag::new("late"))).expect("ignored");
    assert_eq!(fixture.held(node.link, Side::New).receipt.etag, ETag::new("again"));
}

#[test]
fn what_someone_replaced_outside_is_a_new_version_for_the_other_side() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    for side in Side::BOTH {
        fixture.confirm(node.ino, side);
    }
    let held = fixture.held(node.link, Side::Old);
    let taken = run(fixture.replaced_outside(Side::Old, &held, found_object(), NOW)).expect("recorded");
    let node = taken.expect("nothing came in between");
    assert_eq!((node.version, node.size), (Version(2), 7));
    let replicas = fixture.replicas(node.link).expect("read");
    assert_eq!(replicas.old.expect("there").receipt.version, Version(2));
    assert_eq!(replicas.new.expect("there").receipt.version, Version(1));
    assert_eq!(fixture.intent(node.link, Side::Old).expect("read"), None);
    assert!(fixture.intent(node.link, Side::New).expect("read").is_some());
    fixture.assert_clean();
}

#[test]
fn a_side_that_is_written_from_now_on_gets_what_the_mount_wrote_and_its_deletions() {
    let fixture = Fixture::off();
    let scan = fixture.begin_scan();
    let listed = fixture.list(Ino::ROOT, &["listed"], Side::Old, &scan).remove(0);
    let (plain, other) = (fixture.make("plain", Kind::File), fixture.dir("other"));
    let inner = fixture.make("other/inner", Kind::File);
    for ino in [plain.ino, inner.ino] {
        fixture.write(ino);
    }
    fixture.file("gone");
    fixture.rm("gone").expect("removed");
    fixture.stage("other", Stage::Off);
    fixture.stage("", Stage::DualWrite);
    assert!(fixture.intent(plain.link, Side::New).expect("read").is_some());
    assert_eq!(fixture.intent(listed.link, Side::New).expect("read"), None, "history is the backfill's");
    assert_eq!(fixture.intent(inner.link, Side::New).expect("read"), None, "another slice");
    assert_eq!(fixture.intent(other.link, Side::New).expect("read"), None);
    assert_eq!(fixture.grave(Side::New, "gone").expect("there").state, TombstoneState::Pending);
    let what: Vec<String> = fixture.events(9).expect("read").into_iter().map(|event| event.what).collect();
    assert_eq!(what, ["/: dual-write", "/other: off"]);
    fixture.assert_clean();
}

#[test]
fn a_side_that_is_no_longer_written_keeps_only_what_must_be_cleaned_up() {
    let fixture = Fixture::new();
    fixture.stage("", Stage::Live);
    let (moved, waiting) = (fixture.file("a"), fixture.file("w"));
    fixture.confirm(moved.ino, Side::Old);
    fixture.mv("a", "b");
    fixture.stage("", Stage::Complete);
    assert_eq!(fixture.intent(waiting.link, Side::Old).expect("read"), None);
    assert!(fixture.intent(moved.link, Side::Old).expect("read").is_some());
    assert!(fixture.intent(waiting.link, Side::New).expect("read").is_some());
    assert_eq!(fixture.slices().expect("read")[0].stage, Stage::Complete);
}

/// A file that both sides have as `a`, and that is `b/a` now.
fn moved_to_where_old_is_not_written(fixture: &Fixture) -> Node {
    let (file, _dir) = (fixture.file("a"), fixture.dir("b"));
    for side in Side::BOTH {
        fixture.confirm(file.ino, side);
    }
    fixture.stage("b", Stage::Complete);
    fixture.mv("a", "b/a");
    file
}

#[test]
fn each_name_is_wanted_where_the_slice_that_it_is_in_by_then_writes() {
    let fixture = Fixture::new();
    let file = moved_to_where_old_is_not_written(&fixture);
    run(fixture.intent_dropped(&fixture.intended(file.link, Side::Old))).expect("dropped");
    fixture.write(file.ino);
    assert_eq!(fixture.intent(file.link, Side::Old).expect("read"), None);
    assert!(fixture.intent(file.link, Side::New).expect("read").is_some());
    run(fixture.link(file.ino, Ino::ROOT, "further", NOW)).expect("linked");
    let further = fixture.at("further").expect("there").link;
    for side in Side::BOTH {
        fixture.intended(further, side);
    }
    fixture.assert_clean();
}

#[test]
fn what_moved_to_where_a_side_is_not_written_is_deleted_there_once_the_other_one_has_it() {
    let fixture = Fixture::new();
    let file = moved_to_where_old_is_not_written(&fixture);
    let on_old = fixture.held(file.link, Side::Old);
    fixture.write(file.ino);
    let left = || run(fixture.leave(Side::Old, &on_old)).expect("read");
    assert_eq!(left(), Leaving::Waits, "it is the only one that is whole");
    assert_eq!(fixture.held(file.link, Side::Old), on_old);
    fixture.confirm(file.ino, Side::New);
    assert_eq!(left(), Leaving::Done);
    assert_eq!(fixture.replicas(file.link).expect("read").old, None);
    let grave = fixture.grave(Side::Old, "a").expect("noted");
    assert_eq!(grave.state, TombstoneState::Pending, "the slice of its old name still writes old");
    fixture.assert_clean();
}

#[test]
fn what_a_store_made_of_a_wrong_object_is_wrong_too() {
    let fixture = Fixture::new();
    let file = fixture.file("a");
    fixture.confirm(file.ino, Side::New);
    let before = fixture.held(file.link, Side::New).receipt;
    fixture.mv("a", "b");
    run(fixture.mark_mismatched(file.link, Side::New, &before, finding("a"))).expect("marked");
    let made_of = Some(before);
    let copy = NewReceipt { made_of, ..receipt_of(&fixture.at("b").expect("there"), "b") };
    let outcome = run(fixture.receipt((file.ino, file.link), Side::New, copy)).expect("recorded");
    assert_eq!(outcome, ReceiptOutcome::Behind);
    assert_eq!(fixture.held(file.link, Side::New).state, ReplicaState::Mismatched);
    fixture.intended(file.link, Side::New);
    fixture.confirm(file.ino, Side::New);
    assert_eq!(fixture.held(file.link, Side::New).state, ReplicaState::Copied, "sent from here");
    fixture.assert_clean();
}

fn blocked(path: &str) -> NewFinding {
    let detail = "too large".to_owned();
    NewFinding { kind: FindingKind::Blocked, side: Some(Side::New), key: Some(key(path)), detail }
}

#[test]
fn that_an_object_is_blocked_is_over_when_it_got_through_was_renamed_or_was_removed() {
    let fixture = Fixture::new();
    let block = |node: &Node, path: &str| {
        let intent = fixture.intended(node.link, Side::New);
        run(fixture.intent_blocked(&intent, BlockReason::Unsupported, blocked(path))).expect("noted");
    };
    let (got_through, renamed, removed) = (fixture.file("a"), fixture.file("b"), fixture.file("c"));
    for (node, path) in [(&got_through, "a"), (&renamed, "b"), (&removed, "c")] {
        block(node, path);
    }
    assert_eq!(fixture.findings(false, 9).expect("read").len(), 3);
    fixture.write(got_through.ino);
    assert_eq!(fixture.confirm(got_through.ino, Side::New), ReceiptOutcome::Satisfied);
    fixture.mv("b", "short");
    fixture.rm("c").expect("removed");
    assert_eq!(fixture.findings(false, 9).expect("read"), []);
    fixture.assert_clean();
}

#[test]
fn that_a_store_denies_us_is_over_when_it_takes_something() {
    let fixture = Fixture::new();
    let detail = "403".to_owned();
    let denied = NewFinding { kind: FindingKind::Denied, side: Some(Side::Old), key: None, detail };
    run(fixture.find(denied)).expect("noted");
    let file = fixture.file("a");
    fixture.confirm(file.ino, Side::New);
    assert_eq!(fixture.findings(false, 9).expect("read").len(), 1, "the other store says nothing of it");
    fixture.confirm(file.ino, Side::Old);
    assert_eq!(fixture.findings(false, 9).expect("read"), []);
    fixture.assert_clean();
}

#[test]
fn findings_are_counted_closed_and_opened_again() {
    let fixture = Fixture::new();
    for _ in 0..3 {
        run(fixture.find(finding("a"))).expect("noted");
    }
    let found = fixture.findings(false, 9).expect("read");
    assert_eq!((found.len(), found[0].count, found[0].key.as_deref()), (1, 3, Some("a")));
    run(fixture.lazy(|tx| findings::close(tx.conn, FindingKind::Missing, Side::New, Some("a"))))
        .expect("closed");
    assert_eq!(fixture.findings(false, 9).expect("read"), []);
    assert_eq!(fixture.findings(true, 9).expect("read").len(), 1);
    run(fixture.find(finding("a"))).expect("noted");
    assert_eq!(fixture.findings(false, 9).expect("read")[0].count, 4);
    fixture.assert_clean();
}

#[test]
fn too_many_findings_are_only_counted() {
    let fixture = Fixture::new();
    run(fixture.find(finding("a"))).expect("noted");
    run(fixture.lazy(|tx| meta::set(tx.conn, meta::OPEN_FINDINGS, &findings::OPEN_FINDINGS_MAX.to_string())))
        .expect("as if there were many");
    for name in ["b", "c", "a"] {
        run(fixture.find(finding(name))).expect("noted");
    }
    let found = fixture.findings(false, 9).expect("read");
    assert_eq!(found.len(), 2);
    let overflow = found.iter().find(|finding| finding.key.is_none()).expect("the overflow");
    assert_eq!(overflow.count, 2);
}

#[test]
fn the_summary_counts() {
    let fixture = Fixture::new();
    fixture.dir("d");
    let (a, _) = (fixture.file("a"), fixture.file("b"));
    fixture.confirm(a.ino, Side::Old);
    fixture.rm("b").expect("removed");
    let summary = fixture.summary().expect("read");
    assert_eq!((summary.files, summary.directories, summary.bytes), (1, 2, 10));
    let [old, new] = summary.sides;
    assert_eq!((old.current, old.pending, old.deletions), (1, 0, 1));
    assert_eq!((new.current, new.pending, new.pending_bytes, new.deletions), (0, 1, 10, 1));
    assert_eq!(new.oldest_pending, Some(NOW));
    run(fixture.commit(a.ino, Commit { size: 1, mtime: 0, ctime: 0 })).expect("committed");
    assert_eq!(fixture.summary().expect("read").sides[0].current, 0);
}

#[test]
fn an_upload_that_did_not_end_is_known_to_the_next_run() {
    let mut fixture = Fixture::new();
    let upload = |id: &str| OpenUpload { side: Side::New, key: key("large"), id: id.to_owned() };
    for id in ["one", "two"] {
        run(fixture.upload_begun(upload(id))).expect("noted");
    }
    run(fixture.upload_ended(Side::New, "one")).expect("noted");
    run(fixture.upload_ended(Side::Old, "two")).expect("the other store's");
    fixture.reopen();
    assert_eq!(fixture.open_uploads().expect("read"), [upload("two")]);
}

#[test]
fn what_a_store_made_of_a_right_object_is_right_though_a_wrong_one_has_its_tag() {
    let fixture = Fixture::new();
    let file = fixture.file("a");
    let b = run(fixture.link(file.ino, Ino::ROOT, "b", NOW)).expect("linked");
    for (node, at) in [(&file, "a"), (&b, "b")] {
        run(fixture.receipt((file.ino, node.link), Side::New, receipt_of(node, at))).expect("recorded");
    }
    let (wrong, right) =
        (fixture.held(file.link, Side::New).receipt, fixture.held(b.link, Side::New).receipt);
    assert_eq!(wrong.etag, right.etag, "as in S3, where it follows from the content");
    run(fixture.mark_mismatched(file.link, Side::New, &wrong, finding("a"))).expect("marked");
    let c = run(fixture.link(file.ino, Ino::ROOT, "c", NOW)).expect("linked");
    for (node, at) in [(&fixture.at("a").expect("there"), "a"), (&c, "c")] {
        let copy = NewReceipt { made_of: Some(right.clone()), ..receipt_of(node, at) };
        let outcome = run(fixture.receipt((file.ino, node.link), Side::New, copy)).expect("recorded");
        assert_eq!(outcome, ReceiptOutcome::Satisfied, "{at}");
    }
    fixture.assert_clean();
}

impl Fixture {
    fn chmod(&self, ino: Ino, mode: u32) {
        let change = AttrChange { mode: Some(mode), ctime: NOW, ..AttrChange::default() };
        run(self.set_attrs(ino, change)).expect("changed");
    }

    fn is_wanted(&self, link: LinkId, side: Side) -> bool {
        self.intent(link, side).expect("read").is_some()
    }
}

#[test]
fn attributes_of_history_that_changed_while_a_store_was_not_written_reach_it() {
    let fixture = Fixture::new();
    let scan = fixture.begin_scan();
    let found = fixture.list(Ino::ROOT, &["f", "only here", "untouched"], Side::Old, &scan);
    let [f, only_here, untouched] = [&found[0], &found[1], &found[2]];
    fixture.chmod(f.ino, 0o600);
    for side in Side::BOTH {
        fixture.confirm(f.ino, side);
    }
    fixture.stage("", Stage::Off);
    fixture.chmod(f.ino, 0o640);
    fixture.chmod(only_here.ino, 0o640);
    fixture.confirm(f.ino, Side::Old);
    assert!(!fixture.is_wanted(f.link, Side::New));
    fixture.stage("", Stage::DualWrite);
    assert!(fixture.is_wanted(f.link, Side::New), "it has older attributes");
    assert!(!fixture.is_wanted(only_here.link, Side::New), "its content is for the backfill");
    fixture.confirm(f.ino, Side::New);
    fixture.chmod(f.ino, 0o644);
    fixture.stage("", Stage::Off);
    fixture.stage("", Stage::DualWrite);
    assert!(fixture.is_wanted(f.link, Side::New), "what was on its way is wanted again");
    assert!(!Side::BOTH.iter().any(|side| fixture.is_wanted(untouched.link, *side)));
    fixture.assert_clean();
}

#[test]
fn history_that_was_renamed_on_a_store_that_is_left_before_it_has_moved_is_asked_of_the_other_one() {
    let fixture = Fixture::off();
    let scan = fixture.begin_scan();
    let node = fixture.list(Ino::ROOT, &["f"], Side::Old, &scan).remove(0);
    fixture.mv("f", "g");
    fixture.stage("", Stage::Complete);
    let leave = || run(fixture.leave(Side::Old, &fixture.held(node.link, Side::Old))).expect("asked");
    assert_eq!([leave(), leave()], [Leaving::Asked, Leaving::Waits]);
    assert!(fixture.is_wanted(node.link, Side::New));
    fixture.confirm(node.ino, Side::New);
    assert_eq!(leave(), Leaving::Done);
    assert!(fixture.grave(Side::Old, "f").is_some());
    fixture.assert_clean();
}

#[test]
fn what_is_lost_claims_no_path() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::Old);
    fixture.mv("a", "b");
    let before = fixture.held(node.link, Side::Old);
    run(fixture.mark_mismatched(node.link, Side::Old, &before.receipt, finding("a"))).expect("noted");
    let nowhere = key(".bridgefs/moving/1");
    assert!(run(fixture.forsake_key(Side::Old, &before, nowhere.clone())).expect("noted"));
    assert_eq!(fixture.occupant(Side::Old, &key("a")).expect("read"), None, "it is free");
    let held = fixture.held(node.link, Side::Old);
    assert_eq!(held.receipt.key, nowhere);
    // What else stands at its path is deleted when it is left.
    fixture.mv("b", "c");
    assert_eq!(fixture.held(node.link, Side::Old).receipt.key, nowhere);
    assert!(!run(fixture.forsake_key(Side::Old, &before, nowhere)).expect("ignored"), "it is so already");
    fixture.assert_clean();
}
