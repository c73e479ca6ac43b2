//! Further names of a node (hard links). The row with the node's own number carries one of its names; each
//! further name has a row of its own, which has a place, replicas and intents; all else is in the node's row, so
//! that a change costs the same whatever the number of names. Every name is an object of its own in the stores.

use rusqlite::{Connection, OptionalExtension, params};

use super::intents::want;
use super::nodes::Place;
use super::replicas::{self, ReplicaRow};
use super::tombstones::uncover;
use super::transaction::Tx;
use super::tree::{exists, require_leaf};
use super::{
    Ledger, LedgerError, LedgerErrorKind, LedgerResult, Node, Origin, Replica, ReplicaState, given_up, nodes,
    paths, tombstones,
};
use crate::object::{Ino, LinkId, NanoTime, PerSide, Position, Side, Version};

/// The most names that a node may have: that of ext4.
const LINKS_MAX: u32 = 65_000;

impl Ledger {
    /// The next of a node's names; the first one is that with its own number.
    pub fn name_after(&self, ino: Ino, name: LinkId) -> LedgerResult<Option<LinkId>> {
        self.read(|conn| match nodes::find(conn, ino)? {
            Some(node) => name_after(conn, &node, Some(name)),
            None => Ok(None),
        })
    }

    /// What `side` holds of the node's current content under another name than this one.
    pub fn twin(&self, node: &Node, side: Side) -> LedgerResult<Option<Replica>> {
        self.read(|conn| first_current(conn, node, side, |name| name != node.link))
    }

    /// What each store holds of a node, to be read: under its first name if that is its current content,
    /// else under one of the others if that is.
    pub fn readable(&self, ino: Ino) -> LedgerResult<PerSide<Option<Replica>>> {
        Ok(self.readable_node(ino)?.map(|(_, replicas)| replicas).unwrap_or_default())
    }

    /// The same with the node, at one moment: what is current of it is so of this version.
    pub fn readable_node(&self, ino: Ino) -> LedgerResult<Option<(Node, PerSide<Option<Replica>>)>> {
        self.read(|conn| {
            let Some(node) = nodes::find(conn, ino)? else { return Ok(None) };
            let mut replicas = replicas::both(conn, LinkId::first(ino))?;
            for side in Side::BOTH.into_iter().filter(|_| node.links > 1) {
                if let Some(current) = first_current(conn, &node, side, |_| true)? {
                    replicas[side] = Some(current);
                }
            }
            Ok(Some((node, replicas)))
        })
    }

    /// Whether a store that may still take it has yet to get something of the node, under whichever name.
    pub fn is_awaited(&self, ino: Ino) -> LedgerResult<bool> {
        self.read(|conn| {
            let first = "SELECT 1 FROM intents WHERE ino = ?1 AND blocked IS NULL";
            // The newest name first: it is the last to be sent.
            let further = "SELECT 1 FROM nodes f JOIN intents i ON i.ino = f.ino
                           WHERE f.link_of = ?1 AND i.blocked IS NULL ORDER BY f.ino DESC LIMIT 1";
            Ok(conn.prepare_cached(first)?.exists([ino.0])?
                || conn.prepare_cached(further)?.exists([ino.0])?)
        })
    }

    /// Durable. Gives a node that is no directory a further name -> the node under that name. Errors:
    /// `NotFound`, `IsADirectory`, `Exists`, `NotADirectory` (the parent), `TooManyLinks`.
    pub async fn link(&self, ino: Ino, parent: Ino, name: &str, now: NanoTime) -> LedgerResult<Node> {
        let name = name.to_owned();
        self.durable(move |tx| link(tx, ino, parent, &name, now)).await
    }
}

fn link(tx: &mut Tx<'_>, ino: Ino, parent: Ino, name: &str, now: NanoTime) -> LedgerResult<Node> {
    let mut node = nodes::required(tx.conn, ino)?;
    require_leaf(&node)?;
    nodes::directory(tx.conn, parent)?;
    if nodes::child(tx.conn, parent, name)?.is_some() {
        return Err(exists(parent, name));
    }
    if node.links >= LINKS_MAX {
        let detail = format!("node {ino} has {LINKS_MAX} names, which is the most");
        return Err(LedgerError::new(LedgerErrorKind::TooManyLinks, detail));
    }
    node.links += 1;
    node.ctime = now;
    // The mount has made this name, so a store that comes to be written must get it.
    node.origin = Origin::Mount;
    nodes::update(tx.conn, &node)?;
    let link = LinkId(tx.inos.take(tx.conn)?.0);
    let further = Node { link, position: Position::of(link), parent, name: name.into(), ..node };
    nodes::insert(tx.conn, &further)?;
    nodes::touch(tx.conn, parent, now)?;
    if further.version > Version::UNCOMMITTED {
        want_where_written(tx, further.link, now)?;
        given_up::share(tx.conn, ino, further.link)?;
    }
    Ok(further)
}

/// What `side` holds of the node's current content under the first of its names that has it there and that `is_asked`.
fn first_current(
    conn: &Connection,
    node: &Node,
    side: Side,
    is_asked: impl Fn(LinkId) -> bool,
) -> LedgerResult<Option<Replica>> {
    let mut after = None;
    // One at a time: nearly always it is the first one, of names that may be thousands.
    while let Some(name) = name_after(conn, node, after)? {
        if is_asked(name)
            && let Some(row) = replicas::find(conn, name, side)?.filter(|row| row.is_current(node))
        {
            return row.into_replica(conn).map(Some);
        }
        after = Some(name);
    }
    Ok(None)
}

/// Every name of a node, the one with its own number first.
pub(super) fn names(conn: &Connection, node: &Node) -> LedgerResult<Vec<LinkId>> {
    let mut names = Vec::new();
    while let Some(name) = name_after(conn, node, names.last().copied())? {
        names.push(name);
    }
    Ok(names)
}

/// The next of a node's names.
fn name_after(conn: &Connection, node: &Node, after: Option<LinkId>) -> LedgerResult<Option<LinkId>> {
    let first = LinkId::first(node.ino);
    let Some(after) = after else { return Ok(Some(first)) };
    if node.links == 1 {
        return Ok(None);
    }
    let above = if after == first { LinkId(0) } else { after };
    let sql = "SELECT ino FROM nodes WHERE link_of = ?1 AND ino > ?2 ORDER BY ino LIMIT 1";
    let found =
        conn.prepare_cached(sql)?.query_row(params![node.ino.0, above.0], |row| row.get(0).map(LinkId));
    Ok(found.optional()?)
}

/// Asks for every name of a node to be brought up to date: each may stand in another slice.
pub(super) fn want_all(tx: &mut Tx<'_>, node: &Node, now: NanoTime) -> LedgerResult<()> {
    names(tx.conn, node)?.into_iter().try_for_each(|name| want_where_written(tx, name, now))
}

/// Asks for a name to be brought up to date on the sides that its slice writes.
pub(super) fn want_where_written(tx: &mut Tx<'_>, name: LinkId, now: NanoTime) -> LedgerResult<()> {
    let targets = tx.targets_of(name)?;
    Side::BOTH
        .into_iter()
        .filter(|side| targets.contains(*side))
        .try_for_each(|side| want(tx.conn, name, side, now))
}

/// A node keeps its number when the name that carries it goes: that name and a further one change places
/// -> the node under the same name as before, which another row can be taken away for.
pub(super) fn free_to_go(tx: &Tx<'_>, node: &Node) -> LedgerResult<Node> {
    let first = LinkId::first(node.ino);
    if node.link != first {
        return Ok(node.clone());
    }
    let Some(further) = name_after(tx.conn, node, Some(first))? else { return Ok(node.clone()) };
    let other = nodes::required_name(tx.conn, further)?;
    nodes::place(tx.conn, first, Place::NOWHERE)?;
    nodes::place(tx.conn, further, Place::of(node))?;
    nodes::place(tx.conn, first, Place::of(&other))?;
    // Through a number that nothing can have, likewise.
    for table in ["replicas", "intents"] {
        let mut renumber = tx.conn.prepare_cached(&format!("UPDATE {table} SET ino = ?2 WHERE ino = ?1"))?;
        renumber.execute([first.0, 0])?;
        renumber.execute([further.0, first.0])?;
        renumber.execute([0, further.0])?;
    }
    Ok(Node { link: further, ..node.clone() })
}

/// What a name that goes had on a store is left to the node's first name, if that has nothing there or something
/// older: no content is deleted before it, or a newer one, stands under another name. Also an older one, because it
/// may be all that was acknowledged, and the newer one only here. Answers what the first name had there instead,
/// or `None` if nothing was left to it.
pub(super) fn inherit(
    tx: &mut Tx<'_>,
    node: &Node,
    side: Side,
    row: &ReplicaRow,
) -> LedgerResult<Option<Inherited>> {
    let heir = LinkId::first(node.ino);
    if node.link == heir || row.state == ReplicaState::Mismatched {
        return Ok(None);
    }
    let before = replicas::find(tx.conn, heir, side)?;
    let is_as_new =
        |before: &ReplicaRow| before.version >= row.version && before.state != ReplicaState::Mismatched;
    if before.as_ref().is_some_and(is_as_new) {
        return Ok(None);
    }
    let path = paths::key_in_tree(tx.conn, heir)?;
    let stands_at = row.key_or_path(tx.conn)?;
    replicas::delete(tx.conn, node.link, side)?;
    let is_home = stands_at == path;
    let key = (!is_home).then_some(stands_at);
    replicas::put(tx.conn, side, &ReplicaRow { link: heir, key, ..row.clone() })?;
    if is_home {
        tombstones::remove(tx.conn, side, path.as_str())?;
        uncover(tx, side, path.as_str())?;
    }
    want(tx.conn, heir, side, tx.now)?;
    let given_up =
        before.map(|before| ReplicaRow { key: Some(before.key.clone().unwrap_or(path)), ..before });
    Ok(Some(Inherited { given_up }))
}

/// A replica was left to the first name.
pub(super) struct Inherited {
    /// What the first name had before, with the key under which it stands.
    pub(super) given_up: Option<ReplicaRow>,
}
