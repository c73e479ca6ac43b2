//! Content that was lost before any store had it.

use super::*;

fn damage(name: &str) -> NewFinding {
    NewFinding {
        kind: FindingKind::Damage,
        side: None,
        key: Some(key(name)),
        detail: format!("{name} is lost"),
    }
}

impl Fixture {
    fn lose(&self, path: &str) -> Node {
        let node = self.file(path);
        run(self.give_up(node.ino, damage(path))).expect("noted");
        node
    }

    /// The keys of the open findings.
    fn told(&self) -> Vec<String> {
        let findings = self.findings(false, 9).expect("read");
        let mut keys: Vec<String> = findings.into_iter().filter_map(|finding| finding.key).collect();
        keys.sort();
        keys
    }

    /// (given up, waiting on both sides, refused on both sides)
    fn counts(&self) -> (u64, u64, u64) {
        let summary = self.summary().expect("read");
        let sum = |of: fn(&SideSummary) -> u64| summary.sides.iter().map(of).sum();
        (summary.given_up, sum(|side| side.pending), sum(|side| side.blocked))
    }
}

#[test]
fn what_is_given_up_stays_so_whatever_is_changed_but_its_content() {
    let fixture = Fixture::new();
    fixture.make("dir", Kind::Directory);
    let node = fixture.lose("dir/a");
    fixture.mv("dir/a", "dir/b");
    fixture.mv("dir", "other");
    let attrs = AttrChange { mode: Some(0o600), ctime: NOW + 1, ..AttrChange::default() };
    run(fixture.set_attrs(node.ino, attrs)).expect("changed");
    let root = Ino::ROOT;
    run(fixture.link(node.ino, root, "further", NOW)).expect("linked");
    assert_eq!(fixture.due_intents(Side::Old, NanoTime::MAX, 9).expect("read"), []);
    assert_eq!(fixture.counts(), (1, 0, 0));
    assert_eq!(fixture.told(), ["other/b"]);
    fixture.rm("other/b").expect("removed");
    assert_eq!((fixture.counts(), fixture.told()), ((1, 0, 0), vec!["further".to_owned()]));
    fixture.write(node.ino);
    assert_eq!((fixture.counts(), fixture.told()), ((0, 2, 0), Vec::new()));
    fixture.assert_clean();
}

#[test]
fn what_is_given_up_is_over_when_its_last_name_is_removed_or_taken() {
    let fixture = Fixture::new();
    fixture.lose("a");
    fixture.lose("b");
    fixture.file("c");
    fixture.rm("a").expect("removed");
    assert_eq!((fixture.counts().0, fixture.told()), (1, vec!["b".to_owned()]));
    fixture.mv("c", "b");
    assert_eq!((fixture.counts(), fixture.told()), ((0, 2, 0), Vec::new()));
    fixture.assert_clean();
}

#[test]
fn of_two_that_change_places_neither_finding_is_lost() {
    let fixture = Fixture::new();
    fixture.lose("a");
    fixture.lose("b");
    fixture.try_mv("a", "b", RenameMode::Exchange).expect("exchanged");
    assert_eq!((fixture.counts().0, fixture.told().len()), (2, 2));
    fixture.assert_clean();
}

#[test]
fn what_arrives_after_all_is_sent_to_the_other_store_too() {
    let fixture = Fixture::new();
    let node = fixture.lose("a");
    assert_eq!(fixture.confirm(node.ino, Side::New), ReceiptOutcome::Satisfied);
    assert_eq!(fixture.counts(), (0, 1, 0));
    fixture.assert_clean();
}

#[test]
fn what_is_found_lost_later_is_told_only_if_nobody_was() {
    let fixture = Fixture::new();
    let node = fixture.lose("a");
    let later = NewFinding { detail: "later".to_owned(), ..damage("a") };
    run(fixture.give_up_silently(&node, later.clone())).expect("noted");
    let told = fixture.findings(false, 9).expect("read").remove(0);
    assert_eq!((&*told.detail, told.count), ("a is lost", 1));
    let other = fixture.file("b");
    run(fixture.give_up_silently(&other, NewFinding { key: Some(key("b")), ..later })).expect("noted");
    assert_eq!((fixture.counts().0, fixture.told().len()), (2, 2));
}

#[test]
fn a_version_is_unconfirmed_until_a_store_has_it_under_any_name() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    let is_unconfirmed = |version| fixture.is_unconfirmed(node.ino, version).expect("read");
    assert!(is_unconfirmed(node.version) && !is_unconfirmed(node.version.next()));
    let further = run(fixture.link(node.ino, Ino::ROOT, "further", NOW)).expect("linked");
    let receipt = receipt_of(&further, "further");
    run(fixture.receipt((node.ino, further.link), Side::New, receipt.clone())).expect("recorded");
    assert!(!is_unconfirmed(node.version));
    let finding = NewFinding { kind: FindingKind::Missing, side: Some(Side::New), ..damage("further") };
    run(fixture.mark_mismatched(further.link, Side::New, &receipt.receipt, finding)).expect("marked");
    assert!(!is_unconfirmed(node.version), "it was confirmed, whatever became of it");
    let newer = fixture.write(node.ino);
    assert!(is_unconfirmed(newer) && !is_unconfirmed(node.version));
    let scan = fixture.begin_scan();
    let found = fixture.list(Ino::ROOT, &["found"], Side::Old, &scan).remove(0);
    assert!(!fixture.is_unconfirmed(found.ino, found.version).expect("read"), "a store showed it");
}

#[test]
fn what_was_given_up_is_sent_under_every_name_when_it_is_written_anew_whatever_was_flipped_before() {
    let fixture = Fixture::off();
    fixture.make("dir", Kind::Directory);
    fixture.stage("dir", Stage::Off);
    let node = fixture.lose("a");
    let dir = fixture.at("dir").expect("there").ino;
    run(fixture.link(node.ino, dir, "further", NOW)).expect("linked");
    fixture.stage("", Stage::Complete);
    assert_eq!((fixture.counts(), fixture.told()), ((1, 0, 0), vec!["a".to_owned()]));
    fixture.write(node.ino);
    assert_eq!((fixture.counts(), fixture.told()), ((0, 2, 0), Vec::new()));
    fixture.assert_clean();
}
