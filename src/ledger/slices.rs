//! The table `slices`: prefixes that move as one. The longest prefix wins.

use rusqlite::{Connection, Row, params};

use super::intents::{self, want};
use super::replicas::{self, side_number};
use super::transaction::Tx;
use super::{
    Event, FindingKind, Ledger, LedgerResult, Slice, Targets, events, findings, given_up, paths, tombstones,
};
use crate::object::{Ino, Key, LinkId, NanoTime, Side};
use crate::stage::Stage;

impl Ledger {
    /// All slices by prefix; the first is the default slice, whose prefix is empty.
    pub fn slices(&self) -> LedgerResult<Vec<Slice>> {
        self.read(all)
    }

    /// Durable. Makes or changes a slice, and notes it in the event log. When its stage changes, a side
    /// that is newly written gets its deferred deletions, and intents for what the mount has written and
    /// it does not hold; on a side that is no longer written the waiting intents are dropped, but not
    /// those of an object that still stands under an old name. Takes longer the more the mount has written.
    pub async fn set_slice(&self, slice: Slice, event: Event) -> LedgerResult<()> {
        self.durable(move |tx| set(tx, &slice, &event)).await
    }
}

fn set(tx: &mut Tx<'_>, slice: &Slice, event: &Event) -> LedgerResult<()> {
    let before = all(tx.conn)?;
    let old_route = owner(&before, &slice.prefix).map_or(Stage::Off, |slice| slice.stage).route();
    put(tx.conn, slice)?;
    *tx.slices = None;
    events::append(tx.conn, event)?;
    let slices = all(tx.conn)?;
    let new_route = slice.stage.route();
    let changes = |before: bool| {
        Side::BOTH
            .into_iter()
            .filter(move |side| (old_route.writes(*side), new_route.writes(*side)) == (before, !before))
    };
    // First, because what is given up is known by the intents on the side that is left.
    changes(false).try_for_each(|side| begin_writing(tx, &slices, slice, side))?;
    changes(true).try_for_each(|side| stop_writing(tx, &slices, slice, side))
}

impl Tx<'_> {
    /// The sides that the slice of a key writes, as it is now: so no change goes by a slice in which its file no longer
    /// is. What the bridge keeps for itself goes wherever it stands.
    pub(super) fn targets(&mut self, key: &Key) -> LedgerResult<Targets> {
        if key.is_own() {
            return Ok(Targets { old: true, new: true });
        }
        let route = owner(self.slices()?, key.as_str()).map_or(Stage::Off, |slice| slice.stage).route();
        Ok(Targets { old: route.writes(Side::Old), new: route.writes(Side::New) })
    }

    /// The same for a name of the tree.
    pub(super) fn targets_of(&mut self, link: LinkId) -> LedgerResult<Targets> {
        let key = paths::key_in_tree(self.conn, link)?;
        self.targets(&key)
    }

    fn slices(&mut self) -> LedgerResult<&[Slice]> {
        if self.slices.is_none() {
            *self.slices = Some(all(self.conn)?);
        }
        Ok(self.slices.as_deref().unwrap_or_default())
    }
}

/// The slice that decides about a key.
fn owner<'s>(slices: &'s [Slice], key: &str) -> Option<&'s Slice> {
    slices.iter().filter(|slice| covers(&slice.prefix, key)).max_by_key(|slice| slice.prefix.len())
}

/// Whether a key is `prefix` or stands below it.
pub(crate) fn covers(prefix: &str, key: &str) -> bool {
    match key.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

fn is_in(slices: &[Slice], slice: &Slice, key: &str) -> bool {
    owner(slices, key).is_some_and(|owner| owner.prefix == slice.prefix)
}

fn node_is_in(conn: &Connection, slices: &[Slice], slice: &Slice, link: LinkId) -> LedgerResult<bool> {
    if slices.len() == 1 {
        return Ok(true); // There is only the default slice: no path needs to be computed.
    }
    Ok(paths::key_of(conn, link)?.is_some_and(|key| is_in(slices, slice, key.as_str())))
}

fn begin_writing(tx: &mut Tx<'_>, slices: &[Slice], slice: &Slice, side: Side) -> LedgerResult<()> {
    for tombstone in tombstones::deferred(tx.conn, side)? {
        if is_in(slices, slice, tombstone.key.as_str()) {
            tombstones::wake(tx.conn, side, &tombstone.key, tx.now)?;
        }
    }
    for (link, ino) in written_and_not_on(tx.conn, side)? {
        if node_is_in(tx.conn, slices, slice, link)? {
            want(tx.conn, link, side, tx.now)?;
            given_up::share(tx.conn, ino, link)?;
        }
    }
    Ok(())
}

fn stop_writing(tx: &mut Tx<'_>, slices: &[Slice], slice: &Slice, side: Side) -> LedgerResult<()> {
    for intent in intents::all(tx.conn, side)? {
        let replica = replicas::find(tx.conn, intent.link, side)?;
        let moved = replica.as_ref().is_some_and(|row| row.key.is_some());
        if moved || !node_is_in(tx.conn, slices, slice, intent.link)? {
            continue;
        }
        if intents::delete(tx.conn, intent.link, side)?
            && let Some(key) = paths::key_of(tx.conn, intent.link)?
        {
            findings::close(tx.conn, FindingKind::Blocked, side, Some(key.as_str()))?;
        }
    }
    Ok(())
}

/// What the mount has written and `side` does not hold as it is now -> the names, and of which nodes. Of what was only
/// found, and is not there at all, a change of attributes brings no content. The condition on `nodes` is word for
/// word that of the index `nodes_written`, which makes this independent of what was only found. The row of a
/// further name always meets it: such a name is the mount's.
fn written_and_not_on(conn: &Connection, side: Side) -> LedgerResult<Vec<(LinkId, Ino)>> {
    let sql = "SELECT f.ino, n.ino FROM nodes f INDEXED BY nodes_written
               JOIN nodes n ON n.ino = coalesce(f.link_of, f.ino)
               LEFT JOIN replicas r ON r.ino = f.ino AND r.side = ?1
               WHERE f.kind <> 1 AND (f.origin = 0 OR f.version > 1 OR f.attr_version > 0) AND n.version > 0
                 AND (r.ino IS NULL AND (f.origin = 0 OR f.version > 1)
                      OR r.version <> n.version OR r.attr_version <> n.attr_version
                      OR r.key IS NOT NULL OR r.state = 2)";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([side_number(side)], |row| Ok((LinkId(row.get(0)?), Ino(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn insert_default(conn: &Connection, now: NanoTime) -> LedgerResult<()> {
    let slice = Slice {
        prefix: String::new(),
        stage: Stage::Off,
        read_percent: 100,
        since: now,
        backfill_complete: false,
    };
    put(conn, &slice)
}

fn put(conn: &Connection, slice: &Slice) -> LedgerResult<()> {
    let sql = "INSERT INTO slices (prefix, stage, read_percent, since, backfill_complete)
               VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (prefix) DO UPDATE SET stage = excluded.stage, read_percent = excluded.read_percent,
                   since = excluded.since, backfill_complete = excluded.backfill_complete";
    conn.prepare_cached(sql)?.execute(params![
        slice.prefix,
        slice.stage.as_str(),
        slice.read_percent,
        slice.since,
        slice.backfill_complete,
    ])?;
    Ok(())
}

fn all(conn: &Connection) -> LedgerResult<Vec<Slice>> {
    let sql = "SELECT prefix, stage, read_percent, since, backfill_complete FROM slices ORDER BY prefix";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], slice_of)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn slice_of(row: &Row<'_>) -> rusqlite::Result<Slice> {
    let stage = row.get::<_, String>(1)?.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(Slice {
        prefix: row.get(0)?,
        stage,
        read_percent: row.get(2)?,
        since: row.get(3)?,
        backfill_complete: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_prefix_covers_whole_names_only() {
        let table = [
            ("", "a/b", true),
            ("a", "a", true),
            ("a", "a/b", true),
            ("a", "ab", false),
            ("a/b", "a", false),
        ];
        for (prefix, key, covered) in table {
            assert_eq!(covers(prefix, key), covered, "{prefix:?} {key:?}");
        }
    }
}
