//! The table `intents`: stores that must be brought to a node's current version, key and attributes. An
//! intent is in the ledger before anything is sent, so that no restart forgets it (LESSONS A1).

use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::replicas::{side_number, side_of};
use super::{BlockReason, Intent, Ledger, LedgerResult, NewFinding, Stamp, findings, nodes};
use crate::object::{LinkId, NanoTime, Side};

/// The number of [`BlockReason::SourceLost`].
const SOURCE_LOST: i64 = 2;
/// The number of [`BlockReason::GivenUp`].
pub(super) const GIVEN_UP: i64 = 3;

macro_rules! select_intent {
    ($rest:literal) => {
        concat!("SELECT ino, side, attempts, due, since, error, blocked, stamp FROM intents ", $rest)
    };
}

impl Ledger {
    /// What `side` still has to be brought to for this node, if anything.
    pub fn intent(&self, link: LinkId, side: Side) -> LedgerResult<Option<Intent>> {
        self.read(|conn| find(conn, link, side))
    }

    /// Up to `limit` intents of `side` that are due at `now` and not blocked, the oldest change first.
    pub fn due_intents(&self, side: Side, now: NanoTime, limit: usize) -> LedgerResult<Vec<Intent>> {
        self.read(|conn| {
            let sql = select_intent!(
                "INDEXED BY intents_by_age WHERE side = ?1 AND blocked IS NULL AND due <= ?2
                 ORDER BY since, ino LIMIT ?3"
            );
            select(conn, sql, params![side_number(side), now, limit])
        })
    }

    /// Lazy. A try failed; the next one is due at `due`.
    pub async fn intent_failed(
        &self,
        link: LinkId,
        side: Side,
        error: &str,
        due: NanoTime,
    ) -> LedgerResult<()> {
        let error = error.to_owned();
        self.lazy(move |tx| {
            let sql = "UPDATE intents SET attempts = attempts + 1, error = ?3, due = ?4
                       WHERE ino = ?1 AND side = ?2";
            tx.conn.prepare_cached(sql)?.execute(params![link.0, side_number(side), error, due])?;
            Ok(())
        })
        .await
    }

    /// Lazy. The store will never take what this intent asks for. A later commit, rename or change of attributes
    /// tries again; nothing happens if there was one meanwhile.
    pub async fn intent_blocked(
        &self,
        seen: &Intent,
        reason: BlockReason,
        finding: NewFinding,
    ) -> LedgerResult<()> {
        let seen = seen.clone();
        self.lazy(move |tx| {
            if !is_as_seen(tx.conn, &seen)? {
                return Ok(());
            }
            let sql = "UPDATE intents SET attempts = attempts + 1, blocked = ?3, error = ?4
                       WHERE ino = ?1 AND side = ?2";
            let (side, reason) = (side_number(seen.side), block_number(reason));
            tx.conn.prepare_cached(sql)?.execute(params![seen.link.0, side, reason, finding.detail])?;
            findings::upsert(tx.conn, &finding, tx.now)
        })
        .await
    }

    /// Lazy. What this intent asks for is there already. Nothing happens if more was asked for meanwhile.
    pub async fn intent_dropped(&self, seen: &Intent) -> LedgerResult<()> {
        let seen = seen.clone();
        self.lazy(move |tx| {
            if is_as_seen(tx.conn, &seen)? {
                delete(tx.conn, seen.link, seen.side)?;
            }
            Ok(())
        })
        .await
    }

    /// Lazy. What is called lost is to be looked for again -> how much that is.
    pub async fn seek_lost(&self) -> LedgerResult<usize> {
        self.lazy(|tx| {
            let sql = "UPDATE intents SET attempts = 0, blocked = NULL, error = NULL, stamp = random() WHERE blocked = ?1";
            Ok(tx.conn.prepare_cached(sql)?.execute([SOURCE_LOST])?)
        })
        .await
    }

    /// Lazy. Asks for `side` to be brought up to date with the node, now. Error: `NotFound`.
    pub async fn request(&self, link: LinkId, side: Side, now: NanoTime) -> LedgerResult<()> {
        self.lazy(move |tx| {
            nodes::required_name(tx.conn, link)?;
            want(tx.conn, link, side, now)
        })
        .await
    }
}

pub(super) fn find(conn: &Connection, link: LinkId, side: Side) -> LedgerResult<Option<Intent>> {
    let mut statement = conn.prepare_cached(select_intent!("WHERE ino = ?1 AND side = ?2"))?;
    Ok(statement.query_row(params![link.0, side_number(side)], intent_of).optional()?)
}

fn is_as_seen(conn: &Connection, seen: &Intent) -> LedgerResult<bool> {
    Ok(find(conn, seen.link, seen.side)?.is_some_and(|intent| intent.stamp == seen.stamp))
}

/// Every intent of one side, blocked or not.
pub(super) fn all(conn: &Connection, side: Side) -> LedgerResult<Vec<Intent>> {
    select(conn, select_intent!("WHERE side = ?1"), [side_number(side)])
}

/// Asks for `side` to be brought up to date, now. Since when it is behind stays as it was, and so does what has
/// no content to be sent.
pub(super) fn want(conn: &Connection, link: LinkId, side: Side, now: NanoTime) -> LedgerResult<()> {
    let sql = "INSERT INTO intents (ino, side, attempts, due, since, stamp) VALUES (?1, ?2, 0, ?3, ?3, random())
               ON CONFLICT (ino, side) DO UPDATE SET
                   attempts = 0, due = excluded.due, stamp = excluded.stamp, error = CASE WHEN blocked = ?4 THEN error END,
                   blocked = CASE WHEN blocked = ?4 THEN blocked END";
    conn.prepare_cached(sql)?.execute(params![link.0, side_number(side), now, GIVEN_UP])?;
    Ok(())
}

/// What this name has to send is lost.
pub(super) fn give_up(conn: &Connection, link: LinkId, why: &str) -> LedgerResult<()> {
    let sql = "UPDATE intents SET blocked = ?2, error = ?3, stamp = random() WHERE ino = ?1";
    conn.prepare_cached(sql)?.execute(params![link.0, GIVEN_UP, why])?;
    Ok(())
}

/// It is there again, or there is something else to send -> whether it was lost.
pub(super) fn take_up(conn: &Connection, link: LinkId) -> LedgerResult<bool> {
    let sql =
        "UPDATE intents SET blocked = NULL, error = NULL, stamp = random() WHERE ino = ?1 AND blocked = ?2";
    Ok(conn.prepare_cached(sql)?.execute(params![link.0, GIVEN_UP])? > 0)
}

/// What this name has to send is not lost after all -> on which sides it was called so.
pub(super) fn found_again(conn: &Connection, link: LinkId) -> LedgerResult<Vec<Side>> {
    let sql = "UPDATE intents SET attempts = 0, blocked = NULL, error = NULL, stamp = random()
               WHERE ino = ?1 AND blocked = ?2 RETURNING side";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(params![link.0, SOURCE_LOST], |row| side_of(0, row.get(0)?))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Whether what this name has to send is lost.
pub(super) fn is_given_up(conn: &Connection, link: LinkId) -> LedgerResult<bool> {
    let sql = "SELECT 1 FROM intents WHERE ino = ?1 AND blocked = ?2";
    Ok(conn.prepare_cached(sql)?.exists(params![link.0, GIVEN_UP])?)
}

/// Answers whether the intent was there and blocked: then a finding says so, and is over with it.
pub(super) fn delete(conn: &Connection, link: LinkId, side: Side) -> LedgerResult<bool> {
    let sql = "DELETE FROM intents WHERE ino = ?1 AND side = ?2 RETURNING blocked IS NOT NULL";
    let mut statement = conn.prepare_cached(sql)?;
    let blocked = statement.query_row(params![link.0, side_number(side)], |row| row.get(0)).optional()?;
    Ok(blocked.unwrap_or(false))
}

fn select(conn: &Connection, sql: &str, params: impl Params) -> LedgerResult<Vec<Intent>> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(params, intent_of)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn intent_of(row: &Row<'_>) -> rusqlite::Result<Intent> {
    let blocked: Option<i64> = row.get(6)?;
    Ok(Intent {
        link: LinkId(row.get(0)?),
        side: side_of(1, row.get(1)?)?,
        attempts: row.get(2)?,
        due: row.get(3)?,
        since: row.get(4)?,
        error: row.get(5)?,
        blocked: blocked.map(block_of).transpose()?,
        stamp: Stamp(row.get(7)?),
    })
}

fn block_number(reason: BlockReason) -> i64 {
    match reason {
        BlockReason::Unsupported => 0,
        BlockReason::Locked => 1,
        BlockReason::SourceLost => SOURCE_LOST,
        BlockReason::GivenUp => GIVEN_UP,
    }
}

fn block_of(number: i64) -> rusqlite::Result<BlockReason> {
    match number {
        0 => Ok(BlockReason::Unsupported),
        1 => Ok(BlockReason::Locked),
        SOURCE_LOST => Ok(BlockReason::SourceLost),
        GIVEN_UP => Ok(BlockReason::GivenUp),
        other => Err(rusqlite::Error::IntegralValueOutOfRange(6, other)),
    }
}
