//! What still stands where an object is to go, in a store that cannot hold `a` beside `a/b`: a folder.

use rusqlite::{Connection, OptionalExtension, params};

use super::replicas::{occupant, side_number};
use super::scan::ancestors;
use super::tombstones::prefix_end;
use super::{Ledger, LedgerResult};
use crate::object::{Key, LinkId, Side};

/// Something that is gone from the tree and not yet from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// A deletion that the store has not confirmed.
    Deletion,
    /// The object of a node that was renamed away.
    Object(LinkId),
}

impl Ledger {
    /// What stands on `side` under a name that `key` needs as a directory, or below `key` itself, and is on
    /// its way out. Renamed objects are named first.
    pub fn obstacle(&self, side: Side, key: &Key) -> LedgerResult<Option<Obstacle>> {
        self.read(|conn| match moved(conn, side, key.as_str())? {
            Some(ino) => Ok(Some(Obstacle::Object(ino))),
            None => Ok(is_deleted(conn, side, key.as_str())?.then_some(Obstacle::Deletion)),
        })
    }
}

fn moved(conn: &Connection, side: Side, key: &str) -> LedgerResult<Option<LinkId>> {
    for above in names_above(key) {
        if let Some(ino) = occupant(conn, side, above)? {
            return Ok(Some(ino));
        }
    }
    let below = format!("{key}/");
    let sql = "SELECT ino FROM replicas WHERE side = ?1 AND key > ?2 AND key < ?3 LIMIT 1";
    let mut statement = conn.prepare_cached(sql)?;
    let range = params![side_number(side), below, prefix_end(&below)];
    Ok(statement.query_row(range, |row| row.get(0).map(LinkId)).optional()?)
}

fn is_deleted(conn: &Connection, side: Side, key: &str) -> LedgerResult<bool> {
    let sql = "SELECT 1 FROM tombstones WHERE side = ?1 AND key = ?2 AND covers = 0 AND state = 0";
    for above in names_above(key) {
        if conn.prepare_cached(sql)?.exists(params![side_number(side), above])? {
            return Ok(true);
        }
    }
    let below = format!("{key}/");
    let sql =
        "SELECT 1 FROM tombstones WHERE side = ?1 AND key > ?2 AND key < ?3 AND covers = 0 AND state = 0
               LIMIT 1";
    Ok(conn.prepare_cached(sql)?.exists(params![side_number(side), below, prefix_end(&below)])?)
}

/// `a` and `a/b` for `a/b/c`.
fn names_above(key: &str) -> impl Iterator<Item = &str> {
    ancestors(key).filter_map(|prefix| prefix.strip_suffix('/'))
}
