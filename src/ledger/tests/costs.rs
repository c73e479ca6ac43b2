//! What SQLite has to do for the ledger's operations, counted: a ledger has millions of rows.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, StatementStatus};

use super::*;

thread_local! {
    /// Statements that have looked at every row of a table, in any ledger of this thread.
    static WALKS: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    /// Instructions of SQLite's machine, in any ledger of this thread.
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what `conn` does.
pub(in crate::ledger) fn watch(conn: &mut Connection) -> LedgerResult<()> {
    let note = |event: TraceEvent<'_>| {
        if let TraceEvent::Profile(statement, _) = event
            && statement.get_status(StatementStatus::FullscanStep) > 0
        {
            WALKS.with_borrow_mut(|walks| walks.insert(statement.sql().into_owned()));
        }
    };
    conn.trace_v2(TraceEventCodes::SQLITE_TRACE_PROFILE, Some(note))?;
    let count = || {
        STEPS.set(STEPS.get() + 1);
        false // to go on
    };
    Ok(conn.progress_handler(1, Some(count))?)
}

/// Forgets which statements have walked through a table -> them, but for that of the slices, which are few and read
/// once after each flip.
pub(super) fn walks() -> BTreeSet<String> {
    let mut walks = WALKS.take();
    walks.retain(|sql| !sql.contains(" FROM slices"));
    walks
}

fn steps(work: impl FnOnce()) -> u64 {
    let before = STEPS.get();
    work();
    STEPS.get() - before
}

/// What is done about a further name, by the mount and by the replicator on both stores.
fn life_of_a_name(fixture: &Fixture, ino: Ino, name: &str) {
    let node = run(fixture.link(ino, Ino::ROOT, name, NOW)).expect("linked");
    for side in Side::BOTH {
        let twin = fixture.twin(&node, side).expect("read").expect("the first name is there");
        let receipt = NewReceipt { made_of: Some(twin.receipt), ..receipt_of(&node, name) };
        assert!(fixture.is_awaited(ino).expect("read"));
        run(fixture.receipt((ino, node.link), side, receipt)).expect("recorded");
    }
    assert!(!fixture.is_unconfirmed(ino, node.version).expect("read"));
    fixture.readable_node(ino).expect("read").expect("there");
}

#[test]
fn what_a_further_name_costs_does_not_grow_with_their_number() {
    let fixture = Fixture::new();
    let (file, unconfirmed) = (fixture.file("a"), fixture.file("never sent"));
    for side in Side::BOTH {
        fixture.confirm(file.ino, side);
    }
    let cost = |name: &str| steps(|| life_of_a_name(&fixture, file.ino, name));
    walks();
    let first = [cost("b"), cost("c")][1];
    for n in 0..300 {
        cost(&n.to_string());
    }
    let last = cost("z");
    assert!(last < first + first / 10, "{last} steps for the 303rd name, {first} for the second");
    run(fixture.link(unconfirmed.ino, Ino::ROOT, "nor this", NOW)).expect("linked");
    assert!(fixture.is_unconfirmed(unconfirmed.ino, unconfirmed.version).expect("read"));
    assert_eq!(walks(), BTreeSet::new());
}
