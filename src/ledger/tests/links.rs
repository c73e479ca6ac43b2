//! Further names of a node.

use rusqlite::Connection;

use super::*;

impl Fixture {
    fn link_as(&self, ino: Ino, path: &str) -> Node {
        let (parent, name) = self.place(path);
        run(self.link(ino, parent, &name, NOW)).expect("linked")
    }

    fn confirm_name(&self, path: &str, side: Side) -> ReceiptOutcome {
        let node = self.at(path).expect("there");
        run(self.receipt((node.ino, node.link), side, receipt_of(&node, path))).expect("recorded")
    }

    fn wanted_on(&self, path: &str) -> [bool; 2] {
        let link = self.at(path).expect("there").link;
        Side::BOTH.map(|side| self.intent(link, side).expect("read").is_some())
    }
}

#[test]
fn every_name_is_wanted_on_both_stores_and_confirmed_alone() {
    let fixture = Fixture::new();
    let file = fixture.file("a");
    fixture.confirm_name("a", Side::Old);
    fixture.confirm_name("a", Side::New);
    let further = fixture.link_as(file.ino, "b");
    assert_eq!((further.ino, further.links, further.version), (file.ino, 2, Version(1)));
    assert_ne!(further.link, file.link);
    assert_eq!((fixture.wanted_on("a"), fixture.wanted_on("b")), ([false; 2], [true; 2]));
    assert_eq!(fixture.confirm_name("b", Side::Old), ReceiptOutcome::Satisfied);
    assert_eq!(fixture.wanted_on("b"), [false, true]);
    fixture.write(file.ino);
    assert_eq!((fixture.wanted_on("a"), fixture.wanted_on("b")), ([true; 2], [true; 2]));
    fixture.assert_clean();
}

#[test]
fn a_node_keeps_its_number_when_the_name_that_carries_it_goes() {
    let fixture = Fixture::new();
    let file = fixture.file("a");
    for name in ["b", "c"] {
        fixture.link_as(file.ino, name);
    }
    fixture.confirm_name("a", Side::Old);
    let removed = fixture.rm("a").expect("removed");
    assert_eq!((removed.links_left, &*removed.node.name), (2, "a"));
    let left = fixture.node(file.ino).expect("read").expect("there");
    assert_eq!((left.links, fixture.names(file.ino).len()), (2, 2));
    for name in ["b", "c"] {
        assert_eq!(fixture.at(name).expect("there").ino, file.ino);
    }
    fixture.assert_clean();
}

#[test]
fn a_name_keeps_its_position_when_the_one_that_carries_the_number_goes() {
    let fixture = Fixture::new();
    let file = fixture.file("a");
    fixture.file("between");
    let further = fixture.link_as(file.ino, "b");
    fixture.rm("a").expect("removed");
    assert_eq!(fixture.at("b").expect("there").position, further.position);
    let behind = fixture.children(Ino::ROOT, file.position, 10).expect("read");
    let names: Vec<_> = behind.iter().map(|node| &*node.name).collect();
    assert_eq!(names, ["between", "b"], "who has read as far as `a` still comes to `b`");
}

#[test]
fn what_arrives_under_a_name_that_stays_is_kept_although_the_names_have_changed_numbers() {
    let fixture = Fixture::new();
    let file = fixture.file("a");
    fixture.link_as(file.ino, "b");
    for name in ["a", "b"] {
        fixture.confirm_name(name, Side::Old);
    }
    let change = AttrChange { mode: Some(0o600), ctime: NOW, ..AttrChange::default() };
    run(fixture.set_attrs(file.ino, change)).expect("changed");
    let sent = fixture.at("b").expect("there");
    // While the new mode is on its way to `b`, the name goes that has the node's number: `b` takes it over.
    fixture.rm("a").expect("removed");
    assert_ne!(fixture.at("b").expect("there").link, sent.link);
    let arrived = run(fixture.receipt((sent.ino, sent.link), Side::Old, receipt_of(&sent, "b")));
    assert_eq!(arrived.expect("recorded"), ReceiptOutcome::Satisfied);
    assert_eq!(fixture.replica_key(file.ino, Side::Old).as_deref(), Some("b"));
    assert_eq!(fixture.grave(Side::Old, "b"), None, "it is not to be deleted");
    fixture.assert_clean();
}

#[test]
fn the_only_copy_on_a_store_is_left_to_a_name_that_stays() {
    let fixture = Fixture::new();
    let file = fixture.file("a");
    let further = fixture.link_as(file.ino, "b");
    fixture.confirm_name("b", Side::Old);
    fixture.rm("b").expect("removed");
    assert_eq!(fixture.replica_key(file.ino, Side::Old).as_deref(), Some("b"), "it moves from there");
    assert_eq!(fixture.grave(Side::Old, "b"), None, "and is not deleted before");
    assert!(fixture.hidden(Side::Old, "b"));
    // A change of the attributes of what stood at `b` was on its way, and its answer comes only now.
    let mut late = receipt_of(&further, "b");
    late.receipt.etag = ETag::new("retagged");
    let outcome = run(fixture.receipt((file.ino, further.link), Side::Old, late)).expect("recorded");
    assert_ne!(outcome, ReceiptOutcome::Gone);
    let replica = fixture.replicas(file.link).expect("read").old.expect("still known");
    assert_eq!((replica.receipt.key, replica.receipt.etag), (key("b"), ETag::new("retagged")));
    assert_eq!(fixture.grave(Side::Old, "b"), None);
    fixture.confirm_name("a", Side::Old);
    assert!(fixture.grave(Side::Old, "b").is_some(), "now the old place is empty");
    fixture.assert_clean();
}

#[test]
fn a_name_is_taken_once_and_a_directory_has_one() {
    let fixture = Fixture::new();
    let (file, dir) = (fixture.file("a"), fixture.dir("d"));
    let refused = |ino, name| run(fixture.link(ino, Ino::ROOT, name, NOW)).expect_err("refused").kind();
    assert_eq!(refused(file.ino, "d"), LedgerErrorKind::Exists);
    assert_eq!(refused(dir.ino, "e"), LedgerErrorKind::IsADirectory);
    assert_eq!(refused(Ino(4711), "e"), LedgerErrorKind::NotFound);
    fixture.assert_clean();
}

#[test]
fn a_change_writes_one_row_whatever_the_number_of_names() {
    let fixture = Fixture::new();
    let file = fixture.file("a");
    for n in 0..50 {
        fixture.link_as(file.ino, &format!("n{n}"));
    }
    let spy = Connection::open(fixture.dir.path().join("ledger.db")).expect("opens");
    spy.execute_batch(
        "CREATE TABLE changed (ino);
         CREATE TRIGGER t AFTER UPDATE ON nodes WHEN new.kind <> 1 BEGIN INSERT INTO changed VALUES (new.ino); END;",
    )
    .expect("watches");
    fixture.write(file.ino);
    fixture.link_as(file.ino, "last");
    let rows: i64 = spy.query_row("SELECT count(*) FROM changed", [], |row| row.get(0)).expect("counted");
    assert_eq!(rows, 2);
    let last = fixture.at("last").expect("there");
    let early = fixture.at("n7").expect("there");
    assert_eq!((early.version, early.links, early.size), (last.version, 52, last.size));
    fixture.assert_clean();
}

#[test]
fn a_node_is_awaited_until_its_last_name_has_arrived() {
    let fixture = Fixture::new();
    let file = fixture.file("a");
    fixture.link_as(file.ino, "b");
    for (name, side) in [("a", Side::Old), ("a", Side::New), ("b", Side::Old), ("b", Side::New)] {
        assert!(fixture.is_awaited(file.ino).expect("read"), "before {name} is on {side:?}");
        fixture.confirm_name(name, side);
    }
    assert!(!fixture.is_awaited(file.ino).expect("read"));
}

#[test]
fn a_directory_that_is_gone_hides_nothing_when_its_last_object_comes_home_to_another_name() {
    let fixture = Fixture::new();
    let file = fixture.file("x");
    fixture.dir("d");
    fixture.link_as(file.ino, "d/a");
    fixture.confirm_name("d/a", Side::Old);
    fixture.mv("d", "e");
    fixture.dir("d");
    fixture.mv("x", "d/a");
    assert!(fixture.hidden(Side::Old, "d/other"));
    fixture.rm("e/a").expect("removed");
    assert_eq!(fixture.replica_key(file.ino, Side::Old).as_deref(), Some("d/a"));
    assert!(!fixture.hidden(Side::Old, "d/other"), "nothing of the directory that is gone is left there");
    fixture.assert_clean();
}
