//! Extended attributes: kept, refused, brought to the stores, and gone with their node.

use super::*;
use crate::object::{CAPABILITY, Privileges, XattrMode};

fn new(name: &[u8], value: &[u8], mode: XattrMode) -> NewXattr {
    NewXattr { name: name.into(), value: value.into(), mode }
}

impl Fixture {
    fn set(&self, ino: Ino, name: &[u8], value: &[u8]) -> LedgerResult<()> {
        run(self.set_xattr(ino, new(name, value, XattrMode::Set), 9))
    }

    fn remove(&self, ino: Ino, name: &[u8]) -> LedgerResult<()> {
        run(self.remove_xattr(ino, name, 9))
    }

    fn value(&self, ino: Ino, name: &[u8]) -> Option<Vec<u8>> {
        self.xattr(ino, name).expect("read").map(<[u8]>::into_vec)
    }

    fn confirmed(&self, path: &str) -> Node {
        let node = self.file(path);
        for side in Side::BOTH {
            assert_eq!(self.confirm(node.ino, side), ReceiptOutcome::Satisfied);
        }
        node
    }

    fn wanted(&self, ino: Ino) -> bool {
        self.intent(LinkId::first(ino), Side::Old).expect("read").is_some()
    }
}

#[test]
fn attributes_of_a_stored_file_go_to_the_stores_and_change_its_ctime() {
    let fixture = Fixture::new();
    let ino = fixture.confirmed("f").ino;
    fixture.set(ino, b"user.a", b"\0\xff").expect("set");
    assert_eq!(fixture.value(ino, b"user.a").as_deref(), Some(b"\0\xff".as_slice()));
    let node = fixture.at("f").expect("there");
    assert_eq!((node.ctime, node.attr_version, node.attrs.mtime), (9, 1, NOW));
    assert!(fixture.wanted(ino));
    fixture.confirm(ino, Side::Old);
    fixture.set(ino, b"user.a", b"\0\xff").expect("the same again");
    assert!(!fixture.wanted(ino), "nothing has changed");
    fixture.remove(ino, b"user.a").expect("removed");
    assert!(fixture.wanted(ino));
    assert_eq!(fixture.at("f").expect("there").attr_version, 2);
    assert!(fixture.xattrs(ino).expect("read").is_empty());
}

#[test]
fn attributes_of_what_is_on_no_store_ask_for_nothing() {
    let fixture = Fixture::new();
    for node in [fixture.dir("d"), fixture.make("fresh", Kind::File)] {
        fixture.set(node.ino, b"user.a", b"1").expect("set");
        assert_eq!(fixture.value(node.ino, b"user.a").as_deref(), Some(b"1".as_slice()));
        assert!(!fixture.wanted(node.ino));
    }
    fixture.set(Ino::ROOT, b"trusted.x", b"1").expect("the root too");
    fixture.assert_clean();
}

#[test]
fn attributes_are_refused_with_the_reason() {
    let fixture = Fixture::new();
    let ino = fixture.file("f").ino;
    fixture.set(ino, b"user.a", b"1").expect("set");
    let set =
        |name: &[u8], value: &[u8], mode| kind_of(run(fixture.set_xattr(ino, new(name, value, mode), 9)));
    assert_eq!(set(b"user.a", b"2", XattrMode::Create), LedgerErrorKind::Exists);
    assert_eq!(set(b"user.b", b"2", XattrMode::Replace), LedgerErrorKind::NoAttribute);
    assert_eq!(set(b"user.b", &[0; 1100], XattrMode::Set), LedgerErrorKind::NoRoom);
    assert_eq!(kind_of(fixture.remove(ino, b"user.b")), LedgerErrorKind::NoAttribute);
    assert_eq!(kind_of(fixture.set(Ino(777), b"user.a", b"")), LedgerErrorKind::NotFound);
    assert_eq!(kind_of(fixture.remove(Ino(777), b"user.a")), LedgerErrorKind::NotFound);
    assert_eq!(kind_of(fixture.xattr(Ino(777), b"user.a")), LedgerErrorKind::NotFound);
    assert_eq!(fixture.value(ino, b"user.a").as_deref(), Some(b"1".as_slice()), "as it was");
}

#[test]
fn attributes_survive_a_restart_and_a_rename_and_go_with_their_node() {
    let mut fixture = Fixture::new();
    let (file, dir) = (fixture.file("f").ino, fixture.dir("d").ino);
    for ino in [file, dir] {
        fixture.set(ino, b"user.a", b"1").expect("set");
    }
    fixture.mv("f", "d/g");
    fixture.reopen();
    assert_eq!(fixture.value(file, b"user.a").as_deref(), Some(b"1".as_slice()));
    let removed = fixture.rm("d/g").expect("removed");
    assert_eq!(removed.xattrs.get(b"user.a"), Some(b"1".as_slice()));
    assert_eq!(fixture.remove_dir("d").expect("removed").xattrs, removed.xattrs);
    for ino in [file, dir] {
        assert!(fixture.xattrs(ino).expect("read").is_empty());
    }
    fixture.assert_clean();
}

#[test]
fn check_finds_an_attribute_of_a_node_that_is_not_there() {
    let fixture = Fixture::new();
    run(fixture.lazy(|tx| {
        tx.conn.execute("INSERT INTO xattrs (ino, name, value) VALUES (77, x'61', x'62')", [])?;
        Ok(())
    }))
    .expect("damaged");
    assert_eq!(fixture.check().expect("checked"), ["node 77 has an extended attribute and is not there"]);
}

#[test]
fn attributes_that_were_read_from_a_store_are_taken_over_but_not_over_newer_ones() {
    let fixture = Fixture::new();
    let scan = fixture.begin_scan();
    let listed = fixture.list(Ino::ROOT, &["f", "mine"], Side::Old, &scan);
    let mut xattrs = Xattrs::default();
    xattrs.set(b"user.a", b"theirs", XattrMode::Set, Kind::File).expect("fits");
    fixture.set(listed[1].ino, b"user.a", b"mine").expect("set");
    for name in ["f", "mine", "fresh"] {
        let what = FoundKind::Object(FoundObject { xattrs: xattrs.clone(), ..found_object() });
        let on = FoundOn { side: Side::Old, origin: Origin::Read, now: NOW };
        run(fixture.adopt(Ino::ROOT, vec![Found { name: name.into(), what }], on, scan.id()))
            .expect("adopted");
    }
    let value = |path| fixture.value(fixture.at(path).expect("there").ino, b"user.a").expect("there");
    assert_eq!([value("f"), value("mine"), value("fresh")], [&b"theirs"[..], b"mine", b"theirs"]);
    let outside = FoundObject { etag: ETag::new("other"), ..found_object() };
    let ino = fixture.at("f").expect("there").ino;
    let held = fixture.held(LinkId::first(ino), Side::Old);
    let taken = run(fixture.replaced_outside(Side::Old, &held, outside, NOW)).expect("recorded");
    assert!(taken.is_some());
    assert!(fixture.xattrs(ino).expect("read").is_empty(), "another object has its own");
    fixture.assert_clean();
}

#[test]
fn a_change_that_ends_privileges_takes_set_id_bits_and_the_capability() {
    let fixture = Fixture::new();
    let ino = fixture.confirmed("f").ino;
    let mode = AttrChange { mode: Some(0o6755), ctime: 5, ..AttrChange::default() };
    run(fixture.set_attrs(ino, mode)).expect("set");
    fixture.set(ino, CAPABILITY, b"cap").expect("set");
    fixture.set(ino, b"user.a", b"1").expect("set");
    let change = AttrChange { uid: Some(7), privileges: Privileges::Drop, ctime: 6, ..AttrChange::default() };
    let node = run(fixture.set_attrs(ino, change)).expect("set");
    assert_eq!((node.attrs.mode, node.attrs.uid), (0o755, 7));
    assert_eq!(fixture.value(ino, CAPABILITY), None);
    assert_eq!(fixture.value(ino, b"user.a").as_deref(), Some(b"1".as_slice()));
    // The capability alone is a change for the stores, too.
    fixture.set(ino, CAPABILITY, b"cap").expect("set");
    fixture.confirm(ino, Side::Old);
    assert!(!fixture.wanted(ino));
    let change = AttrChange { privileges: Privileges::Drop, ctime: 7, ..AttrChange::default() };
    run(fixture.set_attrs(ino, change)).expect("set");
    assert!(fixture.wanted(ino));
    let dir = fixture.dir("d").ino;
    run(fixture.set_attrs(dir, mode)).expect("set");
    let node = run(fixture.set_attrs(dir, change)).expect("set");
    assert_eq!(node.attrs.mode, 0o6755, "on a directory they mean something else");
}
