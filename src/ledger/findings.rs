//! The table `findings`: what a person must know, one row per kind, side and key. Bounded: a bucket full
//! of illegal keys must not fill the disk of the state directory.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Finding, FindingKind, Ledger, LedgerError, LedgerErrorKind, LedgerResult, NewFinding, meta};
use crate::object::{Key, NanoTime, Side};

/// How many findings are open at most. Beyond it a new one is only counted, in one row of its kind that
/// names no side and no key.
pub(super) const OPEN_FINDINGS_MAX: u64 = 100_000;

impl Ledger {
    /// Up to `limit` findings, the latest first.
    pub fn findings(&self, include_closed: bool, limit: usize) -> LedgerResult<Vec<Finding>> {
        self.read(|conn| {
            let sql = "SELECT id, kind, side, key, detail, first_at, last_at, count, closed FROM findings
                       WHERE closed = 0 OR ?1 ORDER BY last_at DESC, id DESC LIMIT ?2";
            let mut statement = conn.prepare_cached(sql)?;
            let rows = statement.query_map(params![include_closed, limit], finding_of)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Lazy. Reports a finding; one that is there already is counted, and opened again.
    pub async fn find(&self, finding: NewFinding) -> LedgerResult<()> {
        self.lazy(move |tx| upsert(tx.conn, &finding, tx.now)).await
    }
}

/// A finding that says how things are, not what happened, is over when they are no longer so.
pub(super) fn close(conn: &Connection, kind: FindingKind, side: Side, key: Option<&str>) -> LedgerResult<()> {
    close_subject(conn, kind, side.as_str(), key.unwrap_or_default())
}

/// What was damaged under this key is whole, or gone.
pub(super) fn close_damage(conn: &Connection, key: &str) -> LedgerResult<()> {
    close_subject(conn, FindingKind::Damage, "", key)
}

fn close_subject(conn: &Connection, kind: FindingKind, side: &str, key: &str) -> LedgerResult<()> {
    let sql = "UPDATE findings SET closed = 1 WHERE kind = ?1 AND side = ?2 AND key = ?3 AND closed = 0";
    match conn.prepare_cached(sql)?.execute(params![kind_word(kind), side, key])? {
        0 => Ok(()),
        closed => set_open(conn, meta::number(conn, meta::OPEN_FINDINGS)?.saturating_sub(closed as u64)),
    }
}

/// What is damaged has another key now. Where one is open under that, which two files that change places have, both
/// stay where they are: each says in which file its content is kept.
pub(super) fn move_damage(conn: &Connection, from: &str, to: &str) -> LedgerResult<()> {
    let damage = kind_word(FindingKind::Damage);
    if closed(conn, FindingKind::Damage, "", to)? == Some(false) {
        return Ok(());
    }
    let sql =
        "UPDATE OR REPLACE findings SET key = ?3 WHERE kind = ?1 AND side = '' AND key = ?2 AND closed = 0";
    conn.prepare_cached(sql)?.execute(params![damage, from, to])?;
    Ok(())
}

/// Whether a finding about the same is open.
pub(super) fn is_open(conn: &Connection, new: &NewFinding) -> LedgerResult<bool> {
    let side = new.side.map_or("", Side::as_str);
    Ok(closed(conn, new.kind, side, new.key.as_ref().map_or("", Key::as_str))? == Some(false))
}

pub(super) fn upsert(conn: &Connection, new: &NewFinding, now: NanoTime) -> LedgerResult<()> {
    let side = new.side.map_or("", Side::as_str);
    let key = new.key.as_ref().map_or("", Key::as_str);
    match closed(conn, new.kind, side, key)? {
        Some(closed) => repeat(conn, new.kind, (side, key), &new.detail, now, closed),
        None if meta::number(conn, meta::OPEN_FINDINGS)? >= OPEN_FINDINGS_MAX => {
            overflow(conn, new.kind, now)
        }
        None => insert(conn, new.kind, (side, key), &new.detail, now),
    }
}

fn overflow(conn: &Connection, kind: FindingKind, now: NanoTime) -> LedgerResult<()> {
    let detail = format!(
        "more than {OPEN_FINDINGS_MAX} findings are open; further ones of this kind are only counted here: \
         repair or acknowledge those that are listed"
    );
    match closed(conn, kind, "", "")? {
        Some(closed) => repeat(conn, kind, ("", ""), &detail, now, closed),
        None => insert(conn, kind, ("", ""), &detail, now),
    }
}

/// Whether the finding is closed, if it is there.
fn closed(conn: &Connection, kind: FindingKind, side: &str, key: &str) -> LedgerResult<Option<bool>> {
    let sql = "SELECT closed FROM findings WHERE kind = ?1 AND side = ?2 AND key = ?3";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row(params![kind_word(kind), side, key], |row| row.get(0)).optional()?)
}

fn repeat(
    conn: &Connection,
    kind: FindingKind,
    (side, key): (&str, &str),
    detail: &str,
    now: NanoTime,
    was_closed: bool,
) -> LedgerResult<()> {
    let sql = "UPDATE findings SET detail = ?4, last_at = ?5, count = count + 1, closed = 0
               WHERE kind = ?1 AND side = ?2 AND key = ?3";
    conn.prepare_cached(sql)?.execute(params![kind_word(kind), side, key, detail, now])?;
    if was_closed { one_more_open(conn) } else { Ok(()) }
}

fn insert(
    conn: &Connection,
    kind: FindingKind,
    (side, key): (&str, &str),
    detail: &str,
    now: NanoTime,
) -> LedgerResult<()> {
    let sql = "INSERT INTO findings (kind, side, key, detail, first_at, last_at, count, closed)
               VALUES (?1, ?2, ?3, ?4, ?5, ?5, 1, 0)";
    conn.prepare_cached(sql)?.execute(params![kind_word(kind), side, key, detail, now])?;
    one_more_open(conn)
}

fn one_more_open(conn: &Connection) -> LedgerResult<()> {
    set_open(conn, meta::number(conn, meta::OPEN_FINDINGS)? + 1)
}

/// The number of open findings is kept, because counting them for each new one would be quadratic.
fn set_open(conn: &Connection, open: u64) -> LedgerResult<()> {
    meta::set(conn, meta::OPEN_FINDINGS, &open.to_string())
}

pub(super) fn count_open(conn: &Connection) -> LedgerResult<u64> {
    Ok(conn.query_row("SELECT count(*) FROM findings WHERE closed = 0", [], |row| row.get(0))?)
}

fn finding_of(row: &Row<'_>) -> rusqlite::Result<Finding> {
    let filled = |text: String| (!text.is_empty()).then_some(text);
    let kind: String = row.get(1)?;
    Ok(Finding {
        id: row.get(0)?,
        kind: kind_of(&kind).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
        })?,
        side: filled(row.get(2)?),
        key: filled(row.get(3)?),
        detail: row.get(4)?,
        first_at: row.get(5)?,
        last_at: row.get(6)?,
        count: row.get(7)?,
        closed: row.get(8)?,
    })
}

fn kind_word(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Missing => "missing",
        FindingKind::Mismatch => "mismatch",
        FindingKind::Bypass => "bypass",
        FindingKind::IllegalKey => "illegal-key",
        FindingKind::Blocked => "blocked",
        FindingKind::Denied => "denied",
        FindingKind::Damage => "damage",
    }
}

fn kind_of(word: &str) -> LedgerResult<FindingKind> {
    match word {
        "missing" => Ok(FindingKind::Missing),
        "mismatch" => Ok(FindingKind::Mismatch),
        "bypass" => Ok(FindingKind::Bypass),
        "illegal-key" => Ok(FindingKind::IllegalKey),
        "blocked" => Ok(FindingKind::Blocked),
        "denied" => Ok(FindingKind::Denied),
        "damage" => Ok(FindingKind::Damage),
        other => Err(LedgerError::new(LedgerErrorKind::Damaged, format!("`{other}` is no kind of finding"))),
    }
}
