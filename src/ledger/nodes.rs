//! The table `nodes`: files, directories and symlinks.

use nix::unistd::{Gid, Uid};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::{Ledger, LedgerError, LedgerErrorKind, LedgerResult, Node, Origin};
use crate::object::{Attrs, Device, Ino, Kind, LinkId, NanoTime, Position, Version};

macro_rules! select_node {
    ($rest:literal) => {
        concat!(
            "SELECT link, parent, name, kind, mode, uid, gid, mtime, atime, ctime, size, version, attr_version, \
             target, origin, complete, checked_at, rdev, links, ino, position FROM names ",
            $rest
        )
    };
}

impl Ledger {
    /// The node with this number.
    pub fn node(&self, ino: Ino) -> LedgerResult<Option<Node>> {
        self.read(|conn| find(conn, ino))
    }

    /// The node with this name in the directory `parent`.
    pub fn child(&self, parent: Ino, name: &str) -> LedgerResult<Option<Node>> {
        self.read(|conn| child(conn, parent, name))
    }

    /// The node of this name.
    pub fn named(&self, link: LinkId) -> LedgerResult<Option<Node>> {
        self.read(|conn| named(conn, link))
    }

    /// Up to `limit` names in the directory `parent` whose position is above `after`, in that order.
    pub fn children(&self, parent: Ino, after: Position, limit: usize) -> LedgerResult<Vec<Node>> {
        self.read(|conn| {
            let sql =
                select_node!("WHERE parent = ?1 AND position > ?2 AND link <> 1 ORDER BY position LIMIT ?3");
            select(conn, sql, params![parent.0, after.0, limit])
        })
    }

    /// The highest position of a name in the directory `parent`.
    pub fn last_position(&self, parent: Ino) -> LedgerResult<Position> {
        self.read(|conn| {
            let sql = "SELECT coalesce(max(position), 0) FROM nodes WHERE parent = ?1";
            Ok(conn.prepare_cached(sql)?.query_row([parent.0], |row| row.get(0).map(Position))?)
        })
    }

    /// How many directories stand directly in the directory `parent`, as far as they are known.
    pub fn subdirectories(&self, parent: Ino) -> LedgerResult<u32> {
        self.read(|conn| {
            let sql = "SELECT count(*) FROM nodes WHERE parent = ?1 AND kind = 1 AND ino <> 1";
            Ok(conn.prepare_cached(sql)?.query_row([parent.0], |row| row.get(0))?)
        })
    }

    /// Whether anything stands in the directory `parent`.
    pub fn has_children(&self, parent: Ino) -> LedgerResult<bool> {
        self.read(|conn| has_children(conn, parent))
    }

    /// Up to `limit` files above `after` that were created and never committed: what a crash left behind.
    pub fn uncommitted(&self, after: Ino, limit: usize) -> LedgerResult<Vec<Node>> {
        self.read(|conn| {
            let sql = select_node!(
                "WHERE link IN (SELECT ino FROM nodes WHERE kind = 0 AND version = 0 AND link_of IS NULL AND ino > ?1
                               ORDER BY ino LIMIT ?2) ORDER BY link"
            );
            select(conn, sql, params![after.0, limit])
        })
    }
}

pub(super) fn find(conn: &Connection, ino: Ino) -> LedgerResult<Option<Node>> {
    named(conn, LinkId::first(ino))
}

pub(super) fn named(conn: &Connection, link: LinkId) -> LedgerResult<Option<Node>> {
    let mut statement = conn.prepare_cached(select_node!("WHERE link = ?1"))?;
    Ok(statement.query_row([link.0], node_of_row).optional()?)
}

pub(super) fn child(conn: &Connection, parent: Ino, name: &str) -> LedgerResult<Option<Node>> {
    if name.is_empty() {
        return Ok(None); // The root's own row: it is nobody's entry.
    }
    let mut statement = conn.prepare_cached(select_node!("WHERE parent = ?1 AND name = ?2"))?;
    Ok(statement.query_row(params![parent.0, name], node_of_row).optional()?)
}

pub(super) fn has_children(conn: &Connection, parent: Ino) -> LedgerResult<bool> {
    let sql = "SELECT 1 FROM nodes WHERE parent = ?1 AND ino <> 1 LIMIT 1";
    Ok(conn.prepare_cached(sql)?.exists([parent.0])?)
}

/// The node, or `NotFound`.
pub(super) fn required(conn: &Connection, ino: Ino) -> LedgerResult<Node> {
    find(conn, ino)?.ok_or_else(|| missing(format!("there is no node {ino}")))
}

/// The node of a name, or `NotFound`.
pub(super) fn required_name(conn: &Connection, link: LinkId) -> LedgerResult<Node> {
    named(conn, link)?.ok_or_else(|| missing(format!("there is no name {link}")))
}

/// The directory, or `NotFound`, or `NotADirectory`.
pub(super) fn directory(conn: &Connection, ino: Ino) -> LedgerResult<Node> {
    let node = required(conn, ino)?;
    if node.kind.is_directory() {
        return Ok(node);
    }
    Err(LedgerError::new(LedgerErrorKind::NotADirectory, format!("node {ino} is no directory")))
}

/// The entry `name` of the directory `parent`, or `NotFound`, or `NotADirectory`.
pub(super) fn entry(conn: &Connection, parent: Ino, name: &str) -> LedgerResult<Node> {
    directory(conn, parent)?;
    child(conn, parent, name)?.ok_or_else(|| missing(format!("there is no `{name}` in node {parent}")))
}

pub(super) fn missing(detail: String) -> LedgerError {
    LedgerError::new(LedgerErrorKind::NotFound, detail)
}

pub(super) fn insert(conn: &Connection, node: &Node) -> LedgerResult<()> {
    let sql =
        "INSERT INTO nodes (ino, parent, name, kind, mode, uid, gid, mtime, atime, ctime, size, version,
                                  attr_version, target, origin, complete, checked_at, rdev, links, link_of, position)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
                       ?20, ?21)";
    conn.prepare_cached(sql)?.execute(params![
        node.link.0,
        node.parent.0,
        &*node.name,
        kind_number(node.kind),
        node.attrs.mode,
        node.attrs.uid,
        node.attrs.gid,
        node.attrs.mtime,
        node.atime,
        node.ctime,
        node.size,
        node.version.0,
        node.attr_version,
        node.target.as_deref(),
        origin_number(node.origin),
        node.complete,
        node.checked_at,
        device_number(node.kind),
        node.links,
        (node.link != LinkId::first(node.ino)).then_some(node.ino.0),
        node.position.0,
    ])?;
    Ok(())
}

/// Writes everything but the place in the tree, which only [`place`] changes.
pub(super) fn update(conn: &Connection, node: &Node) -> LedgerResult<()> {
    let sql = "UPDATE nodes SET kind = ?2, mode = ?3, uid = ?4, gid = ?5, mtime = ?6, atime = ?7, ctime = ?8,
                   size = ?9, version = ?10, attr_version = ?11, target = ?12, origin = ?13, complete = ?14,
                   checked_at = ?15, rdev = ?16, links = ?17 WHERE ino = ?1";
    conn.prepare_cached(sql)?.execute(params![
        node.ino.0,
        kind_number(node.kind),
        node.attrs.mode,
        node.attrs.uid,
        node.attrs.gid,
        node.attrs.mtime,
        node.atime,
        node.ctime,
        node.size,
        node.version.0,
        node.attr_version,
        node.target.as_deref(),
        origin_number(node.origin),
        node.complete,
        node.checked_at,
        device_number(node.kind),
        node.links,
    ])?;
    Ok(())
}

/// Where a name stands. Whoever takes over a name takes its position too: a directory that is being read shows a
/// name that is there all the while exactly once, whatever it is given to (POSIX on `rename`: the name "shall
/// remain visible").
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) parent: Ino,
    pub(super) name: &'a str,
    pub(super) position: Position,
}

impl<'a> Place<'a> {
    /// A place that no name can have: two rows never share one.
    pub(super) const NOWHERE: Place<'static> = Place { parent: Ino(0), name: "", position: Position(0) };

    pub(super) fn of(node: &'a Node) -> Place<'a> {
        Place { parent: node.parent, name: &node.name, position: node.position }
    }
}

pub(super) fn place(conn: &Connection, link: LinkId, place: Place<'_>) -> LedgerResult<()> {
    let sql = "UPDATE nodes SET parent = ?2, name = ?3, position = ?4 WHERE ino = ?1";
    conn.prepare_cached(sql)?.execute(params![link.0, place.parent.0, place.name, place.position.0])?;
    Ok(())
}

/// A directory's entries changed.
pub(super) fn touch(conn: &Connection, directory: Ino, now: NanoTime) -> LedgerResult<()> {
    let (unproven, listed) = (origin_number(Origin::Unproven), origin_number(Origin::Listed));
    // What the mount has changed is there, whatever a store says.
    let sql = "UPDATE nodes SET mtime = ?2, ctime = ?2, origin = CASE origin WHEN ?3 THEN ?4 ELSE origin END
               WHERE ino = ?1";
    conn.prepare_cached(sql)?.execute(params![directory.0, now, unproven, listed])?;
    Ok(())
}

pub(super) fn delete(conn: &Connection, link: LinkId) -> LedgerResult<()> {
    conn.prepare_cached("DELETE FROM nodes WHERE ino = ?1")?.execute([link.0])?;
    Ok(())
}

/// The root belongs to whoever made the ledger, until its attributes are set.
pub(super) fn insert_root(conn: &Connection, now: NanoTime) -> LedgerResult<()> {
    let attrs = Attrs { mode: 0o755, uid: Uid::current().as_raw(), gid: Gid::current().as_raw(), mtime: now };
    let root = Node {
        ino: Ino::ROOT,
        link: LinkId::first(Ino::ROOT),
        links: 1,
        position: Position::of(LinkId::first(Ino::ROOT)),
        parent: Ino::ROOT,
        name: "".into(),
        kind: Kind::Directory,
        attrs,
        atime: now,
        ctime: now,
        size: 0,
        version: Version::UNCOMMITTED,
        attr_version: 0,
        target: None,
        origin: Origin::Mount,
        complete: false,
        checked_at: now,
    };
    insert(conn, &root)
}

fn select(conn: &Connection, sql: &str, params: impl Params) -> LedgerResult<Vec<Node>> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(params, node_of_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn node_of_row(row: &Row<'_>) -> rusqlite::Result<Node> {
    let name: String = row.get(2)?;
    let target: Option<Vec<u8>> = row.get(13)?;
    Ok(Node {
        ino: Ino(row.get(19)?),
        link: LinkId(row.get(0)?),
        links: row.get(18)?,
        position: Position(row.get(20)?),
        parent: Ino(row.get(1)?),
        name: name.into(),
        kind: kind_of(3, row.get(3)?, Device(row.get(17)?))?,
        attrs: Attrs { mode: row.get(4)?, uid: row.get(5)?, gid: row.get(6)?, mtime: row.get(7)? },
        atime: row.get(8)?,
        ctime: row.get(9)?,
        size: row.get(10)?,
        version: Version(row.get(11)?),
        attr_version: row.get(12)?,
        target: target.map(Into::into),
        origin: origin_of(14, row.get(14)?)?,
        complete: row.get(15)?,
        checked_at: row.get(16)?,
    })
}

fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::File => 0,
        Kind::Directory => 1,
        Kind::Symlink => 2,
        Kind::Fifo => 3,
        Kind::Socket => 4,
        Kind::CharDevice(_) => 5,
        Kind::BlockDevice(_) => 6,
    }
}

fn device_number(kind: Kind) -> u32 {
    kind.device().map_or(0, |device| device.0)
}

fn kind_of(column: usize, number: i64, device: Device) -> rusqlite::Result<Kind> {
    match number {
        0 => Ok(Kind::File),
        1 => Ok(Kind::Directory),
        2 => Ok(Kind::Symlink),
        3 => Ok(Kind::Fifo),
        4 => Ok(Kind::Socket),
        5 => Ok(Kind::CharDevice(device)),
        6 => Ok(Kind::BlockDevice(device)),
        other => Err(rusqlite::Error::IntegralValueOutOfRange(column, other)),
    }
}

fn origin_number(origin: Origin) -> i64 {
    match origin {
        Origin::Mount => 0,
        Origin::Listed => 1,
        Origin::Read => 2,
        Origin::Unproven => 3,
    }
}

fn origin_of(column: usize, number: i64) -> rusqlite::Result<Origin> {
    match number {
        0 => Ok(Origin::Mount),
        1 => Ok(Origin::Listed),
        2 => Ok(Origin::Read),
        3 => Ok(Origin::Unproven),
        other => Err(rusqlite::Error::IntegralValueOutOfRange(column, other)),
    }
}
