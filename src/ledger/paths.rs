//! Paths: computed from the tree, never stored, so that renaming a directory changes one row of it.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Ledger, LedgerError, LedgerErrorKind, LedgerResult, Node, nodes};
use crate::object::{Ino, Key, Kind, LinkId};

/// Deeper than any path can be (`PATH_MAX` is 4096 bytes): beyond it, parents form a circle.
const DEPTH_MAX: usize = 65_536;

impl Ledger {
    /// The path of a name from the root, joined by slashes: the key it is to have in the stores. `None`
    /// for the root and for a name that is not, or no longer, in the tree.
    pub fn key_of(&self, link: LinkId) -> LedgerResult<Option<Key>> {
        self.read(|conn| key_of(conn, link))
    }

    /// The node that stands under this path now.
    pub fn resolve(&self, key: &Key) -> LedgerResult<Option<Node>> {
        self.read(|conn| resolve(conn, key.as_str()))
    }
}

pub(super) fn key_of(conn: &Connection, link: LinkId) -> LedgerResult<Option<Key>> {
    let mut names: Vec<String> = Vec::new();
    let mut at = link;
    while at != LinkId::first(Ino::ROOT) {
        if names.len() > DEPTH_MAX {
            let detail = format!("the ledger is damaged: the parents of node {link} form a circle");
            return Err(LedgerError::new(LedgerErrorKind::Damaged, detail));
        }
        let Some((parent, name)) = place(conn, at)? else { return Ok(None) };
        names.push(name);
        at = LinkId::first(parent);
    }
    names.reverse();
    Ok(Key::new(names.join("/")).ok())
}

/// The prefix under which the entries of a directory stand: empty for the root, else with a slash.
pub(super) fn prefix_of(conn: &Connection, directory: Ino) -> LedgerResult<String> {
    Ok(key_of(conn, LinkId::first(directory))?.map_or_else(String::new, |key| key.as_prefix()))
}

/// The path of a name that is known to be in the tree and not its root.
pub(super) fn key_in_tree(conn: &Connection, link: LinkId) -> LedgerResult<Key> {
    key_of(conn, link)?.ok_or_else(|| {
        LedgerError::new(LedgerErrorKind::Damaged, format!("the ledger is damaged: name {link} has no path"))
    })
}

pub(super) fn resolve(conn: &Connection, key: &str) -> LedgerResult<Option<Node>> {
    let mut at = LinkId::first(Ino::ROOT);
    for name in key.split('/') {
        match numbered_child(conn, Ino(at.0), name)? {
            Some(link) => at = link,
            None => return Ok(None),
        }
    }
    nodes::named(conn, at)
}

/// Whether `ino` is `ancestor` or stands somewhere below it.
pub(super) fn is_within(conn: &Connection, ino: Ino, ancestor: Ino) -> LedgerResult<bool> {
    let mut at = ino;
    for _ in 0..DEPTH_MAX {
        if at == ancestor {
            return Ok(true);
        }
        match place(conn, LinkId::first(at))? {
            Some((parent, _)) if at != Ino::ROOT => at = parent,
            Some(_) | None => return Ok(false),
        }
    }
    Ok(true)
}

/// A name below a node that is no directory, with the rest of its path (empty for the node itself).
pub(super) struct Leaf {
    pub(super) link: LinkId,
    pub(super) rest: String,
}

/// Every name at or below `top` that is no directory.
pub(super) fn leaves(conn: &Connection, top: &Node) -> LedgerResult<Vec<Leaf>> {
    if top.kind != Kind::Directory {
        return Ok(vec![Leaf { link: top.link, rest: String::new() }]);
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
        statement.query_map([top.ino.0], |row| Ok(Leaf { link: LinkId(row.get(0)?), rest: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn place(conn: &Connection, link: LinkId) -> LedgerResult<Option<(Ino, String)>> {
    let mut statement = conn.prepare_cached("SELECT parent, name FROM nodes WHERE ino = ?1")?;
    Ok(statement.query_row([link.0], |row| Ok((Ino(row.get(0)?), row.get(1)?))).optional()?)
}

fn numbered_child(conn: &Connection, parent: Ino, name: &str) -> LedgerResult<Option<LinkId>> {
    let sql = "SELECT ino FROM nodes WHERE parent = ?1 AND name = ?2 AND ino <> 1";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row(params![parent.0, name], |row| row.get(0).map(LinkId)).optional()?)
}
