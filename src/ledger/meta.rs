//! Single values, and the numbers of nodes.

use rusqlite::{Connection, OptionalExtension};

use super::{Ledger, LedgerError, LedgerErrorKind, LedgerResult};
use crate::object::{Ino, Side};

/// How many inode numbers one transaction takes in advance.
const INO_CHUNK: u64 = 8192;

pub(super) const BRIDGE_ID: &str = "bridge_id";
pub(super) const NEXT_INO: &str = "next_ino";
pub(super) const OPEN_FINDINGS: &str = "open_findings";
pub(super) const BARRIER: &str = "barrier";

impl Ledger {
    /// The address of the store whose receipts stand under `side`; `None` until it was noted.
    pub fn store_of(&self, side: Side) -> LedgerResult<Option<String>> {
        self.read(|conn| text(conn, store_name(side)))
    }

    /// Durable. Notes the address of the store whose receipts stand under `side`.
    pub async fn note_store(&self, side: Side, address: String) -> LedgerResult<()> {
        self.durable(move |tx| set(tx.conn, store_name(side), &address)).await
    }

    /// Whether the store under `side` was seen to carry this bridge's mark.
    pub fn is_marked(&self, side: Side) -> LedgerResult<bool> {
        self.read(|conn| Ok(text(conn, mark_name(side))?.is_some()))
    }

    /// Durable. The store under `side` carries this bridge's mark.
    pub async fn note_mark(&self, side: Side) -> LedgerResult<()> {
        self.durable(move |tx| set(tx.conn, mark_name(side), "1")).await
    }
}

fn store_name(side: Side) -> &'static str {
    match side {
        Side::Old => "store_old",
        Side::New => "store_new",
    }
}

fn mark_name(side: Side) -> &'static str {
    match side {
        Side::Old => "marked_old",
        Side::New => "marked_new",
    }
}

pub(super) fn text(conn: &Connection, name: &str) -> LedgerResult<Option<String>> {
    let mut statement = conn.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn number(conn: &Connection, name: &str) -> LedgerResult<u64> {
    let Some(raw) = text(conn, name)? else { return Ok(0) };
    raw.parse().map_err(|error| {
        let detail = format!("the ledger is damaged: meta.{name} is `{raw}` and not a number");
        LedgerError::caused(LedgerErrorKind::Damaged, detail, error)
    })
}

pub(super) fn set(conn: &Connection, name: &str, value: &str) -> LedgerResult<()> {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    conn.prepare_cached(sql)?.execute([name, value])?;
    Ok(())
}

/// Inode numbers that were taken from the file and not yet given. What a stopped daemon had left over is
/// skipped: a number is never given twice, or the kernel would show one file's pages as another's.
#[derive(Debug, Clone, Copy)]
pub(super) struct InoReserve {
    next: u64,
    end: u64,
}

impl InoReserve {
    /// Starts at the first number that no earlier run can have given.
    pub(super) fn load(conn: &Connection) -> LedgerResult<InoReserve> {
        let next = number(conn, NEXT_INO)?.max(Ino::ROOT.0 + 1);
        Ok(InoReserve { next, end: next })
    }

    /// Whether more was taken from the file than in `earlier`.
    pub(super) fn took_more_than(&self, earlier: &InoReserve) -> bool {
        self.end != earlier.end
    }

    /// Writes again what was taken, to have it synced.
    pub(super) fn note(&self, conn: &Connection) -> LedgerResult<()> {
        set(conn, NEXT_INO, &self.end.to_string())
    }

    /// The next number, reserved in the transaction of `conn`.
    pub(super) fn take(&mut self, conn: &Connection) -> LedgerResult<Ino> {
        if self.next == self.end {
            self.end += INO_CHUNK;
            self.note(conn)?;
        }
        let ino = Ino(self.next);
        self.next += 1;
        Ok(ino)
    }
}
