//! The table `tombstones`: deletions. A tombstone hides its key until the store has confirmed (LESSONS A7);
//! one that ends in a slash hides what stands below a directory that was removed or moved, for as long
//! as single deletions or unmoved objects remain there, and goes with the last of them.

use std::collections::HashSet;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::replicas::{key_at, occupant, side_number, side_of, standing_at};
use super::scan::ancestors;
use super::transaction::Tx;
use super::{Ledger, LedgerResult, NewFinding, Stamp, Targets, Tombstone, TombstoneState, findings};
use crate::object::{ETag, Key, NanoTime, Side};

macro_rules! select_tombstone {
    ($rest:literal) => {
        concat!(
            "SELECT side, key, etag, attempts, due, since, error, state, last_etag, stamp FROM tombstones ",
            $rest
        )
    };
}

impl Ledger {
    /// Up to `limit` deletions that `side` still has to do and that are due at `now`, by due time.
    /// Tombstones of prefixes are not among them: there is nothing to delete under their key.
    pub fn due_tombstones(&self, side: Side, now: NanoTime, limit: usize) -> LedgerResult<Vec<Tombstone>> {
        self.read(|conn| {
            let sql = select_tombstone!(
                "WHERE side = ?1 AND state = 0 AND covers = 0 AND due <= ?2 ORDER BY due, key LIMIT ?3"
            );
            select(conn, sql, params![side_number(side), now, limit])
        })
    }

    /// The deletion that is noted for exactly this key.
    pub fn tombstone(&self, side: Side, key: &Key) -> LedgerResult<Option<Tombstone>> {
        self.read(|conn| find(conn, side, key))
    }

    /// Whether an object that `side` shows under `key` must not be shown: it is deleted here (or stands
    /// below something that is), or it is the old place of a node that was renamed.
    pub fn is_hidden(&self, side: Side, key: &Key) -> LedgerResult<bool> {
        self.read(|conn| is_hidden(conn, side, key.as_str()))
    }

    /// Durable barrier: what made this deletion necessary, an object that was moved for instance, is on the disk when
    /// it answers. Else a power failure could leave a ledger that looks for what is deleted. Costs nothing if it is
    /// there already.
    pub async fn sync_tombstone(&self, seen: &Tombstone) -> LedgerResult<()> {
        if self.unsynced_tombstones.contains(seen.stamp) { self.sync().await } else { Ok(()) }
    }

    /// Lazy. The store confirmed this deletion. Scans that run go on not believing the key. Nothing happens if what
    /// stands there was deleted again meanwhile.
    pub async fn tombstone_done(&self, seen: &Tombstone) -> LedgerResult<()> {
        let seen = seen.clone();
        self.lazy(move |tx| {
            if !is_as_seen(tx.conn, &seen)? {
                return Ok(());
            }
            remove(tx.conn, seen.side, seen.key.as_str())?;
            uncover(tx, seen.side, seen.key.as_str())
        })
        .await
    }

    /// Lazy. A try failed; the next one is due at `due`.
    pub async fn tombstone_failed(
        &self,
        side: Side,
        key: &Key,
        error: &str,
        due: NanoTime,
    ) -> LedgerResult<()> {
        let (key, error) = (key.clone(), error.to_owned());
        self.lazy(move |tx| {
            let sql = "UPDATE tombstones SET attempts = attempts + 1, error = ?3, due = ?4
                       WHERE side = ?1 AND key = ?2";
            tx.conn.prepare_cached(sql)?.execute(params![side_number(side), key.as_str(), error, due])?;
            Ok(())
        })
        .await
    }

    /// Lazy. What stands or comes to stand at `key` (the object `known`, if it is seen already) is to be deleted, unless
    /// a receipt says whose it is.
    pub async fn bury_stray(&self, side: Side, key: &Key, known: Option<ETag>) -> LedgerResult<()> {
        let key = key.clone();
        let bury = move |tx: &mut Tx<'_>| {
            bury(tx, side, key.as_str(), known.as_ref(), TombstoneState::Pending, tx.now)
        };
        self.lazy(bury).await
    }

    /// Lazy. The store will not let go of the object: the name stays hidden, and a person is told. Nothing happens if
    /// what stands there was deleted again meanwhile.
    pub async fn tombstone_blocked(&self, seen: &Tombstone, finding: NewFinding) -> LedgerResult<()> {
        let seen = seen.clone();
        self.lazy(move |tx| {
            if !is_as_seen(tx.conn, &seen)? {
                return Ok(());
            }
            let sql = "UPDATE tombstones SET attempts = attempts + 1, error = ?3, state = 2
                       WHERE side = ?1 AND key = ?2";
            let mut statement = tx.conn.prepare_cached(sql)?;
            statement.execute(params![side_number(seen.side), seen.key.as_str(), finding.detail])?;
            findings::upsert(tx.conn, &finding, tx.now)
        })
        .await
    }
}

/// Tombstones that a power failure may take: by their stamps those noted since the last sync, and all before the first
/// one, because the run before this one need not have synced.
#[derive(Debug, Default)]
pub(super) struct Unsynced(Mutex<Option<HashSet<i64>>>);

impl Unsynced {
    fn note(&self, stamp: i64) {
        if let Some(stamps) = self.0.lock().as_mut() {
            stamps.insert(stamp);
        }
    }

    fn contains(&self, stamp: Stamp) -> bool {
        self.0.lock().as_ref().is_none_or(|stamps| stamps.contains(&stamp.0))
    }

    /// Whatever was noted is on the disk.
    pub(super) fn synced(&self) {
        *self.0.lock() = Some(HashSet::new());
    }
}

/// How a deletion is noted on `side`: to be done, or only hidden while the side is not written.
pub(super) fn state_on(targets: Targets, side: Side) -> TombstoneState {
    if targets.contains(side) { TombstoneState::Pending } else { TombstoneState::Deferred }
}

/// Notes that what stands at `key` on `side` is deleted. Where some node's replica stands there it does
/// nothing: that deletion would take the node's copy, and the replica hides the key itself.
pub(super) fn bury(
    tx: &mut Tx<'_>,
    side: Side,
    key: &str,
    etag: Option<&ETag>,
    state: TombstoneState,
    now: NanoTime,
) -> LedgerResult<()> {
    if standing_at(tx.conn, side, key)?.is_some() {
        return Ok(());
    }
    let stamp = insert(tx.conn, side, key, etag, state, now)?;
    tx.unsynced_tombstones.note(stamp);
    Ok(())
}

/// Hides everything below the directory that had the path `prefix` (with its slash), if anything there
/// still waits on `side`.
pub(super) fn bury_prefix(conn: &Connection, side: Side, prefix: &str, now: NanoTime) -> LedgerResult<()> {
    if something_below(conn, side, prefix)? {
        let _stamp = insert(conn, side, prefix, None, TombstoneState::Pending, now)?;
    }
    Ok(())
}

/// Where it is not known what stands there, what stood there last is not forgotten: it may be of before the bridge,
/// and the write that replaces it must know it for ours.
fn insert(
    conn: &Connection,
    side: Side,
    key: &str,
    etag: Option<&ETag>,
    state: TombstoneState,
    now: NanoTime,
) -> LedgerResult<i64> {
    let sql = "INSERT INTO tombstones (side, key, covers, etag, attempts, due, since, state, stamp)
               VALUES (?1, ?2, ?3, ?4, 0, ?5, ?5, ?6, random())
               ON CONFLICT (side, key) DO UPDATE SET
                   etag = excluded.etag,
                   last_etag = CASE WHEN excluded.etag IS NULL THEN coalesce(etag, last_etag) END,
                   attempts = 0, due = excluded.due, error = NULL,
                   state = excluded.state, stamp = excluded.stamp
               RETURNING stamp";
    let mut statement = conn.prepare_cached(sql)?;
    let values = params![
        side_number(side),
        key,
        key.ends_with('/'),
        etag.map(ETag::as_str),
        now,
        state_number(state),
    ];
    Ok(statement.query_row(values, |row| row.get(0))?)
}

/// What a deletion is not bound to, because it may have changed, is still the best guess of what stands there.
pub(super) fn note_last(conn: &Connection, side: Side, key: &str, etag: &ETag) -> LedgerResult<()> {
    let sql = "UPDATE tombstones SET last_etag = ?3 WHERE side = ?1 AND key = ?2 AND etag IS NULL";
    conn.prepare_cached(sql)?.execute(params![side_number(side), key, etag.as_str()])?;
    Ok(())
}

pub(super) fn remove(conn: &Connection, side: Side, key: &str) -> LedgerResult<()> {
    let sql = "DELETE FROM tombstones WHERE side = ?1 AND key = ?2";
    conn.prepare_cached(sql)?.execute(params![side_number(side), key])?;
    Ok(())
}

fn find(conn: &Connection, side: Side, key: &Key) -> LedgerResult<Option<Tombstone>> {
    let mut statement = conn.prepare_cached(select_tombstone!("WHERE side = ?1 AND key = ?2"))?;
    Ok(statement.query_row(params![side_number(side), key.as_str()], tombstone_of).optional()?)
}

fn is_as_seen(conn: &Connection, seen: &Tombstone) -> LedgerResult<bool> {
    Ok(find(conn, seen.side, &seen.key)?.is_some_and(|now| now.stamp == seen.stamp))
}

/// To be called when a tombstone or an explicit replica key at `key` is gone: scans that run must go on
/// not believing it, and prefixes that were hidden only because of it are free.
pub(super) fn uncover(tx: &mut Tx<'_>, side: Side, key: &str) -> LedgerResult<()> {
    tx.scans.removed(key);
    let prefixes: Vec<&str> = ancestors(key).collect();
    for prefix in prefixes.into_iter().rev() {
        if exists(tx.conn, side, prefix)? && !something_below(tx.conn, side, prefix)? {
            remove(tx.conn, side, prefix)?;
            tx.scans.removed(prefix);
        }
    }
    Ok(())
}

pub(super) fn is_hidden(conn: &Connection, side: Side, key: &str) -> LedgerResult<bool> {
    Ok(exists(conn, side, key)? || occupant(conn, side, key)?.is_some() || is_covered(conn, side, key)?)
}

/// Whether a removed directory hides `key`, or, with a slash at its end, everything below it.
pub(super) fn is_covered(conn: &Connection, side: Side, key: &str) -> LedgerResult<bool> {
    for prefix in ancestors(key) {
        if exists(conn, side, prefix)? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn exists(conn: &Connection, side: Side, key: &str) -> LedgerResult<bool> {
    let sql = "SELECT 1 FROM tombstones WHERE side = ?1 AND key = ?2";
    Ok(conn.prepare_cached(sql)?.exists(params![side_number(side), key])?)
}

/// Whether a single deletion, or a replica that has not moved, stands below `prefix`.
pub(super) fn something_below(conn: &Connection, side: Side, prefix: &str) -> LedgerResult<bool> {
    let end = prefix_end(prefix);
    let range = params![side_number(side), prefix, end];
    let sql = "SELECT 1 FROM tombstones WHERE side = ?1 AND key > ?2 AND key < ?3 AND covers = 0 LIMIT 1";
    if conn.prepare_cached(sql)?.exists(range)? {
        return Ok(true);
    }
    let sql = "SELECT 1 FROM replicas WHERE side = ?1 AND key > ?2 AND key < ?3 LIMIT 1";
    Ok(conn.prepare_cached(sql)?.exists(range)?)
}

/// The first text behind all that begin with `prefix`, which ends in a slash: `0` follows `/` in ASCII.
pub(super) fn prefix_end(prefix: &str) -> String {
    format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix))
}

/// The deferred deletions of one side, by key.
pub(super) fn deferred(conn: &Connection, side: Side) -> LedgerResult<Vec<Tombstone>> {
    select(conn, select_tombstone!("WHERE side = ?1 AND state = 1 ORDER BY key"), [side_number(side)])
}

/// A deferred deletion is to be done after all.
pub(super) fn wake(conn: &Connection, side: Side, key: &Key, now: NanoTime) -> LedgerResult<()> {
    let sql = "UPDATE tombstones SET state = 0, due = ?3, stamp = random() WHERE side = ?1 AND key = ?2 AND state = 1";
    conn.prepare_cached(sql)?.execute(params![side_number(side), key.as_str(), now])?;
    Ok(())
}

/// All tombstones, for the check.
pub(super) fn all(conn: &Connection) -> LedgerResult<Vec<Tombstone>> {
    select(conn, select_tombstone!("ORDER BY side, key"), [])
}

fn select(conn: &Connection, sql: &str, params: impl Params) -> LedgerResult<Vec<Tombstone>> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(params, tombstone_of)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn tombstone_of(row: &Row<'_>) -> rusqlite::Result<Tombstone> {
    let (etag, last_etag): (Option<String>, Option<String>) = (row.get(2)?, row.get(8)?);
    Ok(Tombstone {
        side: side_of(0, row.get(0)?)?,
        key: key_at(row, 1)?,
        etag: etag.map(|raw| ETag::new(&raw)),
        last_etag: last_etag.map(|raw| ETag::new(&raw)),
        attempts: row.get(3)?,
        due: row.get(4)?,
        since: row.get(5)?,
        error: row.get(6)?,
        state: state_of(row.get(7)?)?,
        stamp: Stamp(row.get(9)?),
    })
}

fn state_number(state: TombstoneState) -> i64 {
    match state {
        TombstoneState::Pending => 0,
        TombstoneState::Deferred => 1,
        TombstoneState::Blocked => 2,
    }
}

fn state_of(number: i64) -> rusqlite::Result<TombstoneState> {
    match number {
        0 => Ok(TombstoneState::Pending),
        1 => Ok(TombstoneState::Deferred),
        2 => Ok(TombstoneState::Blocked),
        other => Err(rusqlite::Error::IntegralValueOutOfRange(7, other)),
    }
}
