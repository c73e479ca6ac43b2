//! Paths: computed from the tree, never stored, so that renaming a directory changes one row of it.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Ledger, LedgerError, LedgerErrorKind, LedgerResult, Node, nodes};
use crate::object::{Ino, Key, Kind};

/// Deeper than any path can be (`PATH_MAX` is 4096 bytes): beyond it, parents form a circle.
const DEPTH_MAX: usize = 65_536;

impl Ledger {
    /// The path of a node from the root, joined by slashes: the key it is to have in the stores. `None`
    /// for the root and for a node that is not, or no longer, in the tree.
    pub fn key_of(&self, ino: Ino) -> LedgerResult<Option<Key>> {
        self.read(|conn| key_of(conn, ino))
    }

    /// The node that stands under this path now.
    pub fn resolve(&self, key: &Key) -> LedgerResult<Option<Node>> {
        self.read(|conn| resolve(conn, key.as_str()))
    }
}

pub(super) fn key_of(conn: &Connection, ino: Ino) -> LedgerResult<Option<Key>> {
    let mut names: Vec<String> = Vec::new();
    let mut at = ino;
    while at != Ino::ROOT {
        if names.len() > DEPTH_MAX {
            let detail = format!("the ledger is damaged: the parents of node {ino} form a circle");
            return Err(LedgerError::new(LedgerErrorKind::Damaged, detail));
        }
        let Some((parent, name)) = link(conn, at)? else { return Ok(None) };
        names.push(name);
        at = parent;
    }
    names.reverse();
    Ok(Key::new(names.join("/")).ok())
}

/// The prefix under which the entries of a directory stand: empty for the root, else with a slash.
pub(super) fn prefix_of(conn: &Connection, directory: Ino) -> LedgerResult<String> {
    Ok(key_of(conn, directory)?.map_or_else(String::new, |key| key.as_prefix()))
}

/// The path of a node that is known to be in the tree and not its root.
pub(super) fn key_in_tree(conn: &Connection, ino: Ino) -> LedgerResult<Key> {
    key_of(conn, ino)?.ok_or_else(|| {
        LedgerError::new(LedgerErrorKind::Damaged, format!("the ledger is damaged: node {ino} has no path"))
    })
}

pub(super) fn resolve(conn: &Connection, key: &str) -> LedgerResult<Option<Node>> {
    let mut at = Ino::ROOT;
    for name in key.split('/') {
        match numbered_child(conn, at, name)? {
            Some(ino) => at = ino,
            None => return Ok(None),
        }
    }
    nodes::find(conn, at)
}

/// Whether `ino` is `ancestor` or stands somewhere below it.
pub(super) fn is_within(conn: &Connection, ino: Ino, ancestor: Ino) -> LedgerResult<bool> {
    let mut at = ino;
    for _ in 0..DEPTH_MAX {
        if at == ancestor {
            return Ok(true);
        }
        match link(conn, at)? {
            Some((parent, _)) if at != Ino::ROOT => at = parent,
            Some(_) | None => return Ok(false),
        }
    }
    Ok(true)
}

/// A file or symlink below a node, with the rest of its path (empty for the node itself).
pub(super) struct Leaf {
    pub(super) ino: Ino,
    pub(super) rest: String,
}

/// Every file and symlink at or below `top`.
pub(super) fn leaves(conn: &Connection, top: &Node) -> LedgerResult<Vec<Leaf>> {
    if top.kind != Kind::Directory {
        return Ok(vec![Leaf { ino: top.ino, rest: String::new() }]);
    }
    let sql = "WITH RECURSIVE below (ino, kind, rest) AS (
                   SELECT ino, kind, '/' || name FROM nodes WHERE parent = ?1 AND ino <> 1
                   UNION ALL
                   SELECT n.ino, n.kind, b.rest || '/' || n.name
                   FROM below b JOIN nodes n ON n.parent = b.ino WHERE b.kind = 1
               )
               SELECT ino, rest FROM below WHERE kind <> 1";
    let mut statement = conn.prepare_cached(sql)?;
    let rows =
        statement.query_map([top.ino.0], |row| Ok(Leaf { ino: Ino(row.get(0)?), rest: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn link(conn: &Connection, ino: Ino) -> LedgerResult<Option<(Ino, String)>> {
    let mut statement = conn.prepare_cached("SELECT parent, name FROM nodes WHERE ino = ?1")?;
    Ok(statement.query_row([ino.0], |row| Ok((Ino(row.get(0)?), row.get(1)?))).optional()?)
}

fn numbered_child(conn: &Connection, parent: Ino, name: &str) -> LedgerResult<Option<Ino>> {
    let sql = "SELECT ino FROM nodes WHERE parent = ?1 AND name = ?2 AND ino <> 1";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row(params![parent.0, name], |row| row.get(0).map(Ino)).optional()?)
}
