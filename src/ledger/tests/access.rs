//! Opening, durability, group commit, a full disk.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn threaded(dir: &Path) -> Arc<Ledger> {
    Arc::new(Ledger::open(dir, options(LedgerMode::Threaded, true)).expect("opens"))
}

async fn new_file(ledger: &Ledger, name: &str) -> Node {
    let new = NewNode { kind: Kind::File, attrs: ATTRS, now: NOW, target: None };
    ledger.create(Ino::ROOT, name, new).await.expect("created")
}

async fn commit(ledger: &Ledger, ino: Ino) -> Version {
    ledger.commit(ino, Commit { size: 1, mtime: NOW, ctime: NOW }).await.expect("committed")
}

#[test]
fn a_new_ledger_has_a_name_a_root_and_the_default_slice_and_keeps_them() {
    let mut fixture = Fixture::new();
    let bridge_id = fixture.bridge_id().to_owned();
    assert_eq!(bridge_id.len(), 32);
    assert!(bridge_id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    fixture.reopen();
    assert_eq!(fixture.bridge_id(), bridge_id);
    assert_eq!(fixture.node(Ino::ROOT).expect("read").expect("the root").kind, Kind::Directory);
    let prefixes: Vec<String> =
        fixture.slices().expect("read").into_iter().map(|slice| slice.prefix).collect();
    assert_eq!(prefixes, [""]);
    assert_eq!(fixture.key_of(LinkId::first(Ino::ROOT)).expect("read"), None);
    fixture.assert_clean();
}

#[test]
fn the_files_are_for_their_owner_only() {
    let fixture = Fixture::new();
    fixture.file("a");
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "lock"] {
        let mode = fixture.dir.path().join(name).metadata().expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_second_ledger_on_the_same_directory_is_refused() {
    let fixture = Fixture::new();
    let error = Ledger::open(fixture.dir.path(), options(LedgerMode::Inline, true)).expect_err("held");
    assert_eq!(error.kind(), LedgerErrorKind::InUse);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn a_file_that_is_no_ledger_is_refused_as_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("ledger.db"), vec![b'x'; 8192]).expect("written");
    let error = Ledger::open(dir.path(), options(LedgerMode::Inline, true)).expect_err("no ledger");
    assert_eq!(error.kind(), LedgerErrorKind::Damaged);
}

#[test]
fn what_was_committed_is_there_for_one_who_finds_the_files_of_a_dead_process() {
    let fixture = Fixture::new();
    let node = fixture.file("a");
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["ledger.db", "ledger.db-wal"] {
        std::fs::copy(fixture.dir.path().join(name), copy.path().join(name)).expect("copied");
    }
    let found = open_at(copy.path());
    assert_eq!(found.node(node.ino).expect("read"), Some(node));
    assert_eq!(found.check().expect("checked"), Vec::<String>::new());
}

#[tokio::test]
async fn concurrent_durable_commits_share_their_syncs() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = threaded(dir.path());
    let mut nodes = Vec::new();
    for i in 0..128 {
        nodes.push(new_file(&ledger, &format!("f{i}")).await.ino);
    }
    let before = ledger.counters();
    let commits = nodes.iter().map(|ino| commit(&ledger, *ino));
    let versions = futures::future::join_all(commits).await;
    assert!(versions.iter().all(|version| *version == Version::FIRST));
    let after = ledger.counters();
    assert_eq!(after.operations - before.operations, 128);
    assert!(after.syncs - before.syncs <= 32, "{before:?} {after:?}");
    assert!(after.syncs > before.syncs);
}

#[tokio::test]
async fn lazy_operations_cost_no_sync_and_a_barrier_costs_one_at_most() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = threaded(dir.path());
    ledger.sync().await.expect("synced");
    let before = ledger.counters().syncs;
    let node = new_file(&ledger, "a").await;
    assert_eq!(ledger.counters().syncs, before + 1, "numbers for some thousand nodes are taken for good");
    let before = before + 1;
    new_file(&ledger, "c").await;
    ledger.request(node.link, Side::Old, NOW).await.expect("requested");
    assert_eq!(ledger.counters().syncs, before);
    ledger.sync().await.expect("synced");
    assert_eq!(ledger.counters().syncs, before + 1);
    ledger.sync().await.expect("synced");
    assert_eq!(ledger.counters().syncs, before + 1);
    new_file(&ledger, "b").await;
    commit(&ledger, node.ino).await;
    assert_eq!(ledger.counters().syncs, before + 2);
    ledger.sync().await.expect("synced by the commit already");
    assert_eq!(ledger.counters().syncs, before + 2);
}

#[tokio::test]
async fn an_operation_runs_although_its_caller_went_away_and_drop_waits_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = threaded(dir.path());
    let node = new_file(&ledger, "a").await;
    {
        let mut commit = Box::pin(commit(&ledger, node.ino));
        assert!(futures::poll!(&mut commit).is_pending());
    }
    drop(ledger);
    let ledger = open_at(dir.path());
    assert_eq!(ledger.node(node.ino).expect("read").expect("there").version, Version::FIRST);
}

#[test]
fn a_full_disk_refuses_the_operation_whole_and_later_ones_work_when_there_is_room() {
    let fixture = Fixture::new();
    let limit = |pages: u32| {
        run(fixture.lazy(move |tx| {
            let sql = format!("PRAGMA max_page_count = {pages}");
            Ok(tx.conn.query_row(&sql, [], |row| row.get::<_, u32>(0))?)
        }))
        .expect("limited")
    };
    let node = fixture.file("a");
    limit(1); // SQLite raises it to the pages that are there.
    let fill = |i: u32| {
        let event = Event { at: NOW, who: "w".repeat(3000), what: i.to_string(), why: String::new() };
        run(fixture.record(event))
    };
    let error = (0..100).find_map(|i| fill(i).err()).expect("the disk is full");
    assert_eq!(error.kind(), LedgerErrorKind::Full, "{error}");
    let written = fixture.events(1000).expect("reads go on").len();
    limit(1_000_000);
    fill(100).expect("there is room again");
    assert_eq!(fixture.events(1000).expect("read").len(), written + 1);
    assert_eq!(fixture.node(node.ino).expect("read"), Some(node));
    fixture.assert_clean();
}

#[test]
fn an_operation_that_fails_leaves_nothing_behind() {
    let fixture = Fixture::off();
    let failed: LedgerResult<()> = run(fixture.durable(|tx| {
        tx.inos.take(tx.conn)?;
        events::append(
            tx.conn,
            &Event { at: 0, who: String::new(), what: String::new(), why: String::new() },
        )?;
        Err(LedgerError::new(LedgerErrorKind::NotFound, "on purpose"))
    }));
    assert_eq!(kind_of(failed), LedgerErrorKind::NotFound);
    assert_eq!(fixture.events(10).expect("read"), []);
    fixture.file("a");
    fixture.assert_clean();
}

#[test]
fn after_a_failed_commit_the_writer_refuses_until_it_is_reopened() {
    let mut fixture = Fixture::new();
    // A deferred constraint that is broken makes the commit itself fail, as a broken disk would.
    let broken = run(fixture.durable(|tx| {
        Ok(tx.conn.execute_batch(
            "PRAGMA defer_foreign_keys = 1; CREATE TABLE bad (x REFERENCES meta (name)
             DEFERRABLE INITIALLY DEFERRED); INSERT INTO bad VALUES ('nothing')",
        )?)
    }));
    let error = broken.expect_err("the commit fails");
    assert_eq!(error.kind(), LedgerErrorKind::Io);
    let new = NewNode { kind: Kind::File, attrs: ATTRS, now: NOW, target: None };
    let refused = run(fixture.create(Ino::ROOT, "a", new.clone())).expect_err("poisoned");
    assert!(refused.to_string().contains("restart"), "{refused}");
    assert_eq!(fixture.at("a"), None);
    fixture.reopen();
    run(fixture.create(Ino::ROOT, "a", new)).expect("works again");
    fixture.assert_clean();
}

#[test]
fn the_log_is_emptied_while_it_is_written() {
    let fixture = Fixture::new();
    for _ in 0..60 {
        let event = || Event { at: NOW, who: "w".repeat(200_000), what: String::new(), why: String::new() };
        run(fixture.record(event())).expect("recorded");
    }
    let log = fixture.dir.path().join("ledger.db-wal").metadata().expect("there").len();
    assert!(log < 9 << 20, "12 MB were written, the log has {log} bytes");
}

#[test]
fn numbers_are_never_given_twice_not_even_the_highest_after_a_restart() {
    let mut fixture = Fixture::new();
    let mut given = std::collections::HashSet::new();
    for round in 0..3 {
        for i in 0..1500 {
            let path = format!("f{i}");
            assert!(given.insert(fixture.make(&path, Kind::File).ino), "round {round}, file {i}");
            fixture.rm(&path).expect("removed");
        }
        fixture.reopen();
    }
    fixture.assert_clean();
}
