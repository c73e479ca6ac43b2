//! What a listing may bring in, and what an old page of it must not bring back.

use super::*;

#[test]
fn found_names_become_nodes_with_a_replica_and_are_found_again_unchanged() {
    let fixture = Fixture::new();
    let scan = fixture.begin_scan();
    let nodes = fixture.list(Ino::ROOT, &["f", "d/"], Side::New, &scan);
    assert_eq!(nodes.iter().map(|node| node.kind).collect::<Vec<_>>(), [Kind::File, Kind::Directory]);
    assert_eq!((nodes[0].version, nodes[0].size, nodes[0].origin), (Version::FIRST, 7, Origin::Listed));
    let replicas = fixture.replicas(nodes[0].link).expect("read");
    assert_eq!(replicas.old, None);
    assert_eq!(replicas.new.expect("found there").receipt.etag, ETag::new("found"));
    assert_eq!(fixture.list(Ino::ROOT, &["d/", "f"], Side::Old, &scan), [nodes[1].clone(), nodes[0].clone()]);
    assert_eq!(fixture.replicas(nodes[0].link).expect("read").old, None, "a replica is not invented");
    assert_eq!(fixture.intent(nodes[0].link, Side::Old).expect("read"), None);
    fixture.assert_clean();
}

#[test]
fn attributes_that_were_read_replace_those_that_were_guessed_but_not_those_of_the_mount() {
    let fixture = Fixture::new();
    let mine = fixture.file("mine");
    let scan = fixture.begin_scan();
    let listed = fixture.list(Ino::ROOT, &["f"], Side::Old, &scan).remove(0);
    let attrs = Attrs { mode: 0o600, ..ATTRS };
    let read = |name: &str| {
        let what = FoundKind::Object(FoundObject { attrs, ..found_object() });
        let on = FoundOn { side: Side::Old, origin: Origin::Read, now: NOW };
        run(fixture.adopt(Ino::ROOT, vec![Found { name: name.into(), what }], on, scan.id()))
            .expect("adopted")
    };
    assert_eq!(read("f")[0], Node { attrs, origin: Origin::Read, ..listed });
    assert_eq!(read("mine")[0], mine);
}

#[test]
fn a_deletion_that_is_confirmed_while_a_scan_runs_stays_for_that_scan() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::Old);
    let scan = fixture.begin_scan();
    fixture.rm("a").expect("removed");
    for side in Side::BOTH {
        fixture.deleted(side, "a");
    }
    assert!(!fixture.hidden(Side::Old, "a"));
    assert_eq!(
        fixture.list(Ino::ROOT, &["a"], Side::Old, &scan),
        [],
        "its pages are older than the deletion"
    );
    let later = fixture.begin_scan();
    assert_eq!(fixture.list(Ino::ROOT, &["a"], Side::Old, &later).len(), 1, "someone made it again");
}

#[test]
fn names_that_were_renamed_away_and_directories_that_went_stay_away_for_a_scan_that_runs() {
    let fixture = Fixture::new();
    fixture.dir("d");
    fixture.make("d/tmp", Kind::File);
    let scan = fixture.begin_scan();
    fixture.mv("d/tmp", "kept");
    fixture.remove_dir("d").expect("removed");
    assert_eq!(fixture.list(Ino::ROOT, &["d/"], Side::Old, &scan), []);
    let again = fixture.dir("d");
    assert_eq!(fixture.list(again.ino, &["tmp", "other"], Side::Old, &scan), []);
    assert_eq!(
        fixture.list(Ino::ROOT, &["kept"], Side::Old, &scan).len(),
        1,
        "a node that is there is answered"
    );
}

#[test]
fn a_scan_of_a_directory_that_moved_meanwhile_adds_nothing_and_completes_nothing() {
    let fixture = Fixture::new();
    let scan = fixture.begin_scan();
    let dir = fixture.list(Ino::ROOT, &["d/"], Side::Old, &scan).remove(0);
    fixture.mv("d", "e");
    assert_eq!(fixture.list(dir.ino, &["x"], Side::Old, &scan), []);
    run(fixture.directory_complete(dir.ino, scan.id(), NOW)).expect("ignored");
    assert!(!fixture.at("e").expect("there").complete);
    let scan = fixture.begin_scan();
    run(fixture.directory_complete(dir.ino, scan.id(), NOW + 1)).expect("set");
    let dir = fixture.at("e").expect("there");
    assert_eq!((dir.complete, dir.checked_at), (true, NOW + 1));
    run(fixture.directory_incomplete(dir.ino)).expect("set");
    assert!(!fixture.at("e").expect("there").complete);
}

#[test]
fn nothing_is_adopted_for_a_scan_that_has_ended() {
    let fixture = Fixture::new();
    let scan = fixture.begin_scan();
    let id = scan.id();
    drop(scan);
    let on = FoundOn { side: Side::Old, origin: Origin::Listed, now: NOW };
    assert_eq!(run(fixture.adopt(Ino::ROOT, vec![found("a")], on, id)).expect("nothing"), []);
}

#[test]
fn the_old_place_of_a_renamed_file_is_not_taken_for_a_new_one() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.confirm(node.ino, Side::Old);
    fixture.mv("a", "b");
    let scan = fixture.begin_scan();
    assert_eq!(fixture.list(Ino::ROOT, &["a"], Side::Old, &scan), []);
    fixture.confirm(node.ino, Side::Old);
    assert_eq!(fixture.list(Ino::ROOT, &["a"], Side::Old, &scan), []);
}

#[test]
fn an_upload_on_its_way_to_the_old_name_of_a_renamed_file_is_hidden() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    fixture.mv("a", "b");
    let scan = fixture.begin_scan();
    assert_eq!(fixture.list(Ino::ROOT, &["a"], Side::Old, &scan), []);
    assert_eq!(fixture.confirm_at(node.ino, Side::Old, "a"), ReceiptOutcome::Behind);
    assert_eq!(fixture.grave(Side::Old, "a"), None, "the only copy stands there");
    assert_eq!(fixture.list(Ino::ROOT, &["a"], Side::Old, &scan), []);
    fixture.assert_clean();
}
