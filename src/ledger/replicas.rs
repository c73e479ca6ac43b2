//! The table `replicas`: what each store confirmed. The key is NULL where the object stands under its
//! node's own path, so that a new path of a directory costs nothing for the directories below it.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::intents::want;
use super::tombstones::{bury, state_on, uncover};
use super::transaction::Tx;
use super::{
    FindingKind, Ledger, LedgerResult, NameState, NewFinding, Node, Origin, Replica, ReplicaState, contents,
    findings, intents, links, nodes, paths,
};
use crate::object::{ETag, Key, LinkId, NanoTime, PerSide, Receipt, Side, Version};

impl Ledger {
    /// What each store confirmed of a node. The receipt's digest is given where the digest that is known
    /// is of the same version.
    pub fn replicas(&self, link: LinkId) -> LedgerResult<PerSide<Option<Replica>>> {
        self.read(|conn| both(conn, link))
    }

    /// All that the replication of a name goes by. `None`: the name is gone, or that of the root.
    pub fn name_state(&self, link: LinkId) -> LedgerResult<Option<NameState>> {
        self.read(|conn| {
            let (Some(node), Some(key)) = (nodes::named(conn, link)?, paths::key_of(conn, link)?) else {
                return Ok(None);
            };
            let replicas = both(conn, link)?;
            let (mut intents, mut occupants) = (PerSide::default(), PerSide::default());
            for side in Side::BOTH {
                intents[side] = intents::find(conn, link, side)?;
                occupants[side] = occupant(conn, side, key.as_str())?.filter(|other| *other != link);
            }
            Ok(Some(NameState { node, key, replicas, intents, occupants }))
        })
    }

    /// The node whose object on `side` stands under `key` although its path is another one now: a rename
    /// that the store has not followed. Nothing else may be written there before it has.
    pub fn occupant(&self, side: Side, key: &Key) -> LedgerResult<Option<LinkId>> {
        self.read(|conn| occupant(conn, side, key.as_str()))
    }

    /// Lazy. Forgets what `side` holds of a node, and notes the deletion of the object there. Nothing happens if it
    /// holds something else by now.
    pub async fn drop_replica(&self, side: Side, seen: &Replica) -> LedgerResult<()> {
        let (link, seen) = (seen.name, seen.receipt.clone());
        self.lazy(move |tx| match as_seen(tx.conn, link, side, &seen)? {
            Some(row) => drop_row(tx, side, &row),
            None => Ok(()),
        })
        .await
    }

    /// Lazy. What `side` held of a node under an older key is not there any more, nor anywhere else: that key is free, for
    /// whatever stands there now too, and from now on it is said to stand at `nowhere`, which is nobody else's -> whether it
    /// was so; it is not if the side holds something else by now.
    pub async fn forsake_key(&self, side: Side, seen: &Replica, nowhere: Key) -> LedgerResult<bool> {
        let (link, seen) = (seen.name, seen.receipt.clone());
        self.lazy(move |tx| match as_seen(tx.conn, link, side, &seen)? {
            Some(row) if row.state == ReplicaState::Mismatched && row.key.is_some() => {
                // The row stays, or its content would seem never to have been on a store. It does not claim its own
                // path: something else may stand there, and wait for its deletion.
                set_key(tx.conn, link, side, Some(nowhere.as_str()))?;
                uncover(tx, side, seen.key.as_str())?;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        })
        .await
    }

    /// Lazy. The same as `drop_replica` where the slice of a name does not write `side` any more, and the object
    /// there stands under an older key, unless a store that is written lacks the content: then this waits for it, and asks for it where
    /// nobody has.
    pub async fn leave(&self, side: Side, seen: &Replica) -> LedgerResult<Leaving> {
        let (link, seen) = (seen.name, seen.receipt.clone());
        self.lazy(move |tx| {
            let (Some(node), Some(row)) =
                (nodes::named(tx.conn, link)?, as_seen(tx.conn, link, side, &seen)?)
            else {
                return Ok(Leaving::Done);
            };
            let targets = tx.targets_of(link)?;
            if targets.contains(side) {
                return Ok(Leaving::Done);
            }
            let is_current = |row: Option<ReplicaRow>| row.is_some_and(|row| row.is_current(&node));
            let other = side.other();
            if targets.contains(other) && !is_current(find(tx.conn, link, other)?) {
                if intents::find(tx.conn, link, other)?.is_some() {
                    return Ok(Leaving::Waits);
                }
                want(tx.conn, link, other, tx.now)?;
                return Ok(Leaving::Asked);
            }
            drop_row(tx, side, &row)?;
            Ok(Leaving::Done)
        })
        .await
    }

    /// Lazy. The object is the one of this receipt, with another tag: a change of its attributes was not confirmed,
    /// and is asked for once more. Nothing happens if the store holds something else, or under another key, by now.
    pub async fn retagged(&self, link: LinkId, side: Side, seen: &Receipt, etag: ETag) -> LedgerResult<()> {
        let seen = seen.clone();
        self.lazy(move |tx| {
            let Some(row) = as_seen(tx.conn, link, side, &seen)? else { return Ok(()) };
            put(tx.conn, side, &ReplicaRow { etag, attr_version: 0, ..row })?;
            want(tx.conn, link, side, tx.now)
        })
        .await
    }

    /// Lazy. The store holds what its receipt says, although it was found not to: it is read again, and whoever called
    /// the content lost because of that looks again. Nothing happens if it holds something else, or under another key, by now.
    pub async fn mark_mistaken(&self, link: LinkId, side: Side, seen: &Receipt) -> LedgerResult<()> {
        let seen = seen.clone();
        self.lazy(move |tx| {
            let Some(row) = as_seen(tx.conn, link, side, &seen)? else { return Ok(()) };
            let Some(node) = nodes::named(tx.conn, link)? else { return Ok(()) };
            put(tx.conn, side, &ReplicaRow { state: ReplicaState::Copied, ..row })?;
            for kind in [FindingKind::Missing, FindingKind::Mismatch] {
                findings::close(tx.conn, kind, side, Some(seen.key.as_str()))?;
            }
            for name in links::names(tx.conn, &node)? {
                let path = paths::key_in_tree(tx.conn, name)?;
                for lacking in intents::found_again(tx.conn, name)? {
                    findings::close(tx.conn, FindingKind::Missing, lacking, Some(path.as_str()))?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Lazy. The store was found not to hold what its receipt says: it is not read any more, it is to be
    /// written again, and a person is told. Nothing happens if it holds something else, or under another key, by now,
    /// or if the file has newer content.
    pub async fn mark_mismatched(
        &self,
        link: LinkId,
        side: Side,
        seen: &Receipt,
        finding: NewFinding,
    ) -> LedgerResult<()> {
        let seen = seen.clone();
        self.lazy(move |tx| {
            let Some(row) = as_seen(tx.conn, link, side, &seen)? else { return Ok(()) };
            if nodes::named(tx.conn, link)?.is_none_or(|node| node.version != row.version) {
                return Ok(()); // Newer content is on its way there, and may just have arrived.
            }
            put(tx.conn, side, &ReplicaRow { state: ReplicaState::Mismatched, ..row })?;
            want(tx.conn, link, side, tx.now)?;
            findings::upsert(tx.conn, &finding, tx.now)
        })
        .await
    }
}

/// Whether what a store that is left still has may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// Nothing of it is left to be done.
    Done,
    /// The other store must have the content first.
    Waits,
    /// The same, and it was asked to only now.
    Asked,
}

fn drop_row(tx: &mut Tx<'_>, side: Side, row: &ReplicaRow) -> LedgerResult<()> {
    delete(tx.conn, row.link, side)?;
    let key = row.key_or_path(tx.conn)?;
    // The mount took it from here: should this side be written again, it must come back.
    if let Some(node) = nodes::named(tx.conn, row.link)?.filter(|node| node.origin != Origin::Mount) {
        nodes::update(tx.conn, &Node { origin: Origin::Mount, ..node })?;
    }
    let (state, now) = (state_on(tx.targets(&key)?, side), tx.now);
    bury(tx, side, key.as_str(), Some(&row.etag), state, now)?;
    bury_at_home(tx, row.link, side, &key)?;
    uncover(tx, side, key.as_str())
}

/// What `side` holds of a name, if it is still what this receipt says, and under the same key.
pub(super) fn as_seen(
    conn: &Connection,
    link: LinkId,
    side: Side,
    seen: &Receipt,
) -> LedgerResult<Option<ReplicaRow>> {
    let Some(row) = find(conn, link, side)? else { return Ok(None) };
    let is_same = row.version == seen.version && row.etag == seen.etag && row.key_or_path(conn)? == seen.key;
    Ok(is_same.then_some(row))
}

/// A row of the table.
#[derive(Debug, Clone)]
pub(super) struct ReplicaRow {
    pub(super) link: LinkId,
    /// `None`: the node's own path.
    pub(super) key: Option<Key>,
    pub(super) version: Version,
    pub(super) etag: ETag,
    pub(super) size: u64,
    pub(super) attr_version: u64,
    pub(super) state: ReplicaState,
    pub(super) received_at: NanoTime,
}

impl ReplicaRow {
    /// Whether the object is the node's content as it is now, under whatever key and with whatever attributes.
    pub(super) fn is_current(&self, node: &Node) -> bool {
        self.version == node.version && self.state != ReplicaState::Mismatched
    }

    pub(super) fn key_or_path(&self, conn: &Connection) -> LedgerResult<Key> {
        match &self.key {
            Some(key) => Ok(key.clone()),
            None => paths::key_in_tree(conn, self.link),
        }
    }

    pub(super) fn into_replica(self, conn: &Connection) -> LedgerResult<Replica> {
        let key = self.key_or_path(conn)?;
        let digest = contents::digest(conn, self.link, self.version)?;
        let receipt = Receipt { key, version: self.version, etag: self.etag, size: self.size, digest };
        Ok(Replica {
            name: self.link,
            receipt,
            attr_version: self.attr_version,
            state: self.state,
            received_at: self.received_at,
        })
    }
}

pub(super) fn both(conn: &Connection, link: LinkId) -> LedgerResult<PerSide<Option<Replica>>> {
    let mut replicas = PerSide::default();
    for side in Side::BOTH {
        if let Some(row) = find(conn, link, side)? {
            replicas[side] = Some(row.into_replica(conn)?);
        }
    }
    Ok(replicas)
}

pub(super) fn find(conn: &Connection, link: LinkId, side: Side) -> LedgerResult<Option<ReplicaRow>> {
    let sql = "SELECT ino, key, version, etag, size, attr_version, state, verified_at, received_at
               FROM replicas WHERE ino = ?1 AND side = ?2";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row(params![link.0, side_number(side)], row_of).optional()?)
}

pub(super) fn put(conn: &Connection, side: Side, row: &ReplicaRow) -> LedgerResult<()> {
    let sql = "INSERT INTO replicas
                   (ino, side, key, version, etag, size, attr_version, state, verified_at, received_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
               ON CONFLICT (ino, side) DO UPDATE SET
                   key = excluded.key, version = excluded.version, etag = excluded.etag, size = excluded.size,
                   attr_version = excluded.attr_version, state = excluded.state,
                   verified_at = excluded.verified_at, received_at = excluded.received_at";
    let (state, verified_at) = match row.state {
        ReplicaState::Copied => (0, None),
        ReplicaState::Verified(at) => (1, Some(at)),
        ReplicaState::Mismatched => (2, None),
    };
    conn.prepare_cached(sql)?.execute(params![
        row.link.0,
        side_number(side),
        row.key.as_ref().map(Key::as_str),
        row.version.0,
        row.etag.as_str(),
        row.size,
        row.attr_version,
        state,
        verified_at,
        row.received_at,
    ])?;
    Ok(())
}

pub(super) fn set_key(conn: &Connection, link: LinkId, side: Side, key: Option<&str>) -> LedgerResult<()> {
    let sql = "UPDATE replicas SET key = ?3 WHERE ino = ?1 AND side = ?2";
    conn.prepare_cached(sql)?.execute(params![link.0, side_number(side), key])?;
    Ok(())
}

pub(super) fn delete(conn: &Connection, link: LinkId, side: Side) -> LedgerResult<()> {
    let sql = "DELETE FROM replicas WHERE ino = ?1 AND side = ?2";
    conn.prepare_cached(sql)?.execute(params![link.0, side_number(side)])?;
    Ok(())
}

pub(super) fn occupant(conn: &Connection, side: Side, key: &str) -> LedgerResult<Option<LinkId>> {
    let sql = "SELECT ino FROM replicas WHERE side = ?1 AND key = ?2 LIMIT 1";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row(params![side_number(side), key], |row| row.get(0).map(LinkId)).optional()?)
}

/// The object at `key` is now that of `owner` (or of nobody in the tree): a replica that another node
/// had there is overwritten, and that node must be written again.
pub(super) fn displace(tx: &mut Tx<'_>, side: Side, key: &str, owner: LinkId) -> LedgerResult<()> {
    if let Some(other) = occupant(tx.conn, side, key)?
        && other != owner
    {
        delete(tx.conn, other, side)?;
        want(tx.conn, other, side, tx.now)?;
    }
    if let Some(other) = paths::resolve(tx.conn, key)?
        && other.link != owner
        && find(tx.conn, other.link, side)?.is_some_and(|row| row.key.is_none())
    {
        delete(tx.conn, other.link, side)?;
        want(tx.conn, other.link, side, tx.now)?;
    }
    Ok(())
}

/// The replica whose object stands under `key`, whichever name has it.
pub(super) fn standing_at(conn: &Connection, side: Side, key: &str) -> LedgerResult<Option<ReplicaRow>> {
    if let Some(link) = occupant(conn, side, key)? {
        return find(conn, link, side);
    }
    let Some(node) = paths::resolve(conn, key)? else { return Ok(None) };
    Ok(find(conn, node.link, side)?.filter(|row| row.key.is_none()))
}

pub(super) fn side_number(side: Side) -> i64 {
    match side {
        Side::Old => 0,
        Side::New => 1,
    }
}

pub(super) fn side_of(column: usize, number: i64) -> rusqlite::Result<Side> {
    match number {
        0 => Ok(Side::Old),
        1 => Ok(Side::New),
        other => Err(rusqlite::Error::IntegralValueOutOfRange(column, other)),
    }
}

/// A key column; an empty one is no key and can only come from damage.
pub(super) fn key_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Key> {
    Key::new(row.get::<_, String>(column)?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<ReplicaRow> {
    let explicit = !matches!(row.get_ref(1)?, rusqlite::types::ValueRef::Null);
    let state = match row.get(6)? {
        0_i64 => ReplicaState::Copied,
        1 => ReplicaState::Verified(row.get(7)?),
        2 => ReplicaState::Mismatched,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(6, other)),
    };
    Ok(ReplicaRow {
        link: LinkId(row.get(0)?),
        key: if explicit { Some(key_at(row, 1)?) } else { None },
        version: Version(row.get(2)?),
        etag: ETag::new(&row.get::<_, String>(3)?),
        size: row.get(4)?,
        attr_version: row.get(5)?,
        state,
        received_at: row.get(8)?,
    })
}

/// A rename over a file left its object to be overwritten under the new path. A store that is left before
/// that happened keeps it, so its deletion is noted.
fn bury_at_home(tx: &mut Tx<'_>, link: LinkId, side: Side, left: &Key) -> LedgerResult<()> {
    match paths::key_of(tx.conn, link)? {
        Some(path) if path != *left => {
            let (state, now) = (state_on(tx.targets(&path)?, side), tx.now);
            bury(tx, side, path.as_str(), None, state, now)
        }
        Some(_) | None => Ok(()),
    }
}
