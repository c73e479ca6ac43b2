//! Changes of the tree made through the mount, but for renames.

use rusqlite::{Connection, params};

use super::adopt::vouched_for;
use super::replicas::{self, ReplicaRow};
use super::tombstones::{bury, bury_prefix, note_last, state_on, uncover};
use super::transaction::Tx;
use super::{
    AttrChange, Commit, Entry, FindingKind, Ledger, LedgerError, LedgerErrorKind, LedgerResult, NewNode,
    Node, Origin, Removed, ScanId, contents, findings, given_up, intents, links, nodes, paths, xattrs,
};
use crate::object::{ETag, Ino, Key, Kind, LinkId, NanoTime, Position, Side, Version};

impl Ledger {
    /// Makes a node. Lazy for a file (which has version 0 until its first commit) and a directory (which
    /// is complete); durable for what is complete when it is made and goes to the targets at once. Errors:
    /// `Exists`, `NotFound` and `NotADirectory` (the parent).
    pub async fn create(&self, parent: Ino, name: &str, node: NewNode) -> LedgerResult<Node> {
        let (name, is_fixed) = (name.to_owned(), node.kind.is_fixed());
        let work = move |tx: &mut Tx<'_>| create(tx, parent, &name, node);
        if is_fixed { self.durable(work).await } else { self.lazy(work).await }
    }

    /// Durable. A file has new content: the point of no return of a write. Errors: `NotFound`,
    /// `IsADirectory`.
    pub async fn commit(&self, ino: Ino, commit: Commit) -> LedgerResult<Version> {
        self.durable(move |tx| {
            let node = nodes::required(tx.conn, ino)?;
            commit_on(tx, node, &commit)
        })
        .await
    }

    /// The same of content that is newer than version `seen` and may be older than the next one -> `None` if
    /// there is a next one: then nothing was done. What is committed is asked of `commit` when nothing can come
    /// in between any more.
    pub async fn commit_after(
        &self,
        ino: Ino,
        seen: Version,
        commit: impl FnOnce(&Node) -> Option<Commit> + Send + 'static,
    ) -> LedgerResult<Option<Version>> {
        self.durable(move |tx| {
            let node = nodes::required(tx.conn, ino)?;
            if node.version != seen {
                return Ok(None);
            }
            commit(&node).map(|commit| commit_on(tx, node, &commit)).transpose()
        })
        .await
    }

    /// Lazy. Changes attributes; what a store keeps in an object's metadata is to be brought there.
    /// Error: `NotFound`.
    pub async fn set_attrs(&self, ino: Ino, change: AttrChange) -> LedgerResult<Node> {
        self.lazy(move |tx| set_attrs(tx, ino, change)).await
    }

    /// Durable. Removes a name of what is no directory, with a tombstone on each side that may hold it:
    /// pending where its slice writes, deferred elsewhere. The node goes with its last name. Errors:
    /// `NotFound`, `NotADirectory` (the parent), `IsADirectory`.
    pub async fn unlink(&self, entry: Entry<'_>, now: NanoTime) -> LedgerResult<Removed> {
        let (parent, name) = (entry.parent, entry.name.to_owned());
        self.durable(move |tx| {
            let node = nodes::entry(tx.conn, parent, &name)?;
            require_leaf(&node)?;
            let key = paths::key_in_tree(tx.conn, node.link)?;
            let taken = take_out(tx, &node, &key, now)?;
            bury_taken(tx, &taken, &key, now)?;
            nodes::touch(tx.conn, parent, now)?;
            Ok(taken.removed)
        })
        .await
    }

    /// Durable. Removes an empty directory. Errors: `NotFound`, `NotADirectory`, `NotEmpty`.
    pub async fn rmdir(&self, entry: Entry<'_>, now: NanoTime) -> LedgerResult<Removed> {
        let (parent, name) = (entry.parent, entry.name.to_owned());
        self.durable(move |tx| {
            let node = nodes::entry(tx.conn, parent, &name)?;
            nodes::directory(tx.conn, node.ino)?;
            require_empty(tx.conn, &node)?;
            let key = paths::key_in_tree(tx.conn, node.link)?;
            let taken = take_out(tx, &node, &key, now)?;
            for side in Side::BOTH {
                bury_prefix(tx.conn, side, &key.as_prefix(), now)?;
            }
            nodes::touch(tx.conn, parent, now)?;
            Ok(taken.removed)
        })
        .await
    }

    /// Lazy. Every name below the directory is in the ledger now, as `scan` saw it. Ignored when the
    /// directory has moved, or the scan has ended, since: then the scan saw another one.
    pub async fn directory_complete(&self, ino: Ino, scan: ScanId, now: NanoTime) -> LedgerResult<()> {
        self.lazy(move |tx| {
            let prefix = paths::prefix_of(tx.conn, ino)?;
            if tx.scans.hides(scan, &prefix) {
                return Ok(());
            }
            let sql = "UPDATE nodes SET complete = 1, checked_at = ?2 WHERE ino = ?1 AND kind = 1";
            tx.conn.prepare_cached(sql)?.execute(params![ino.0, now])?;
            Ok(())
        })
        .await
    }

    /// Lazy. The directory must be listed again before a missing name is believed.
    pub async fn directory_incomplete(&self, ino: Ino) -> LedgerResult<()> {
        self.lazy(move |tx| {
            let sql = "UPDATE nodes SET complete = 0 WHERE ino = ?1 AND kind = 1";
            tx.conn.prepare_cached(sql)?.execute([ino.0])?;
            Ok(())
        })
        .await
    }
}

fn commit_on(tx: &mut Tx<'_>, mut node: Node, commit: &Commit) -> LedgerResult<Version> {
    require_leaf(&node)?;
    node.version = node.version.next();
    node.size = commit.size;
    node.attrs.mtime = commit.mtime;
    node.ctime = node.ctime.max(commit.ctime);
    node.origin = Origin::Mount;
    nodes::update(tx.conn, &node)?;
    given_up::end(tx.conn, &node, || paths::key_in_tree(tx.conn, LinkId::first(node.ino)))?;
    links::want_all(tx, &node, tx.now)?;
    Ok(node.version)
}

fn create(tx: &mut Tx<'_>, parent: Ino, name: &str, new: NewNode) -> LedgerResult<Node> {
    nodes::directory(tx.conn, parent)?;
    if nodes::child(tx.conn, parent, name)?.is_some() {
        return Err(exists(parent, name));
    }
    let target_bytes = new.target.as_ref().map_or(0, |target| target.len() as u64);
    let ino = tx.inos.take(tx.conn)?;
    let node = Node {
        ino,
        link: LinkId::first(ino),
        links: 1,
        position: Position::of(LinkId::first(ino)),
        parent,
        name: name.into(),
        kind: new.kind,
        attrs: new.attrs,
        atime: new.now,
        ctime: new.now,
        size: target_bytes,
        version: if new.kind.is_fixed() { Version::FIRST } else { Version::UNCOMMITTED },
        attr_version: 0,
        target: new.target,
        origin: Origin::Mount,
        complete: new.kind == Kind::Directory,
        checked_at: new.now,
    };
    nodes::insert(tx.conn, &node)?;
    if node.kind.is_fixed() {
        links::want_where_written(tx, node.link, new.now)?;
    }
    nodes::touch(tx.conn, parent, new.now)?;
    Ok(node)
}

fn set_attrs(tx: &mut Tx<'_>, ino: Ino, change: AttrChange) -> LedgerResult<Node> {
    let mut node = nodes::required(tx.conn, ino)?;
    let before = node.attrs;
    node.attrs.mode = change.mode.unwrap_or(before.mode);
    node.attrs.uid = change.uid.unwrap_or(before.uid);
    node.attrs.gid = change.gid.unwrap_or(before.gid);
    node.attrs.mtime = change.mtime.unwrap_or(before.mtime);
    node.atime = change.atime.unwrap_or(node.atime);
    let mut dropped = false;
    if !node.kind.is_directory() {
        node.attrs.mode = change.privileges.left_of(node.attrs.mode);
        dropped = xattrs::drop_capability(tx.conn, ino, change.privileges)?;
    }
    let differ = node.attrs != before || dropped;
    attrs_changed(tx, node, differ, change.ctime)
}

/// Writes a node whose attributes were set at `now`; if they differ from before and a store may have the
/// node, the stores are to be brought to them.
pub(super) fn attrs_changed(tx: &mut Tx<'_>, node: Node, differ: bool, now: NanoTime) -> LedgerResult<Node> {
    let mut node = vouched_for(node);
    let stale = differ && !node.kind.is_directory() && node.version > Version::UNCOMMITTED;
    node.ctime = now;
    if stale {
        node.attr_version += 1;
    }
    nodes::update(tx.conn, &node)?;
    if stale {
        links::want_all(tx, &node, now)?;
    }
    Ok(node)
}

/// A name that is out of the tree, and its replicas as rows.
pub(super) struct TakenOut {
    pub(super) removed: Removed,
    /// Replicas that stood under the node's own path.
    at_home: Vec<(Side, ReplicaRow)>,
    /// Replicas that stood under an older path.
    pub(super) elsewhere: Vec<(Side, ReplicaRow)>,
}

/// Takes a name out of every table, with its node if it was the last one and nothing stands in it. What
/// the stores hold under that name is for the caller to bury.
pub(super) fn take_out(tx: &mut Tx<'_>, node: &Node, key: &Key, now: NanoTime) -> LedgerResult<TakenOut> {
    if node.links == 1 {
        given_up::end(tx.conn, node, || Ok(key.clone()))?;
    }
    let was_first = node.link == LinkId::first(node.ino);
    let node = links::free_to_go(tx, node)?;
    if was_first && node.links > 1 {
        let heir = paths::key_in_tree(tx.conn, LinkId::first(node.ino))?;
        given_up::moved(tx.conn, &node, key, &heir)?;
    }
    let xattrs = xattrs::take(tx.conn, &node)?;
    let removed = Removed { node: node.clone(), links_left: node.links - 1, xattrs };
    let mut taken = TakenOut { removed, at_home: Vec::new(), elsewhere: Vec::new() };
    for side in Side::BOTH {
        if let Some(row) = replicas::find(tx.conn, node.link, side)? {
            match links::inherit(tx, &node, side, &row)? {
                Some(inherited) => taken.elsewhere.extend(inherited.given_up.map(|row| (side, row))),
                None if row.key.is_some() => taken.elsewhere.push((side, row)),
                None => taken.at_home.push((side, row)),
            }
        }
        replicas::delete(tx.conn, node.link, side)?;
        if intents::delete(tx.conn, node.link, side)? {
            findings::close(tx.conn, FindingKind::Blocked, side, Some(key.as_str()))?;
        }
    }
    nodes::delete(tx.conn, node.link)?;
    if node.links > 1 {
        let mut rest = nodes::required(tx.conn, node.ino)?;
        rest.links -= 1;
        rest.ctime = now;
        nodes::update(tx.conn, &rest)?;
    } else {
        contents::delete(tx.conn, node.ino)?;
    }
    if node.kind.is_directory() {
        tx.scans.removed(&key.as_prefix());
    } else {
        tx.scans.removed(key.as_str());
    }
    Ok(taken)
}

/// Notes the deletion of a node that was taken out, wherever a store may hold it: also where no receipt
/// says so, because an upload may be on its way. A node that has the key now voids it by its receipt.
pub(super) fn bury_taken(tx: &mut Tx<'_>, taken: &TakenOut, key: &Key, now: NanoTime) -> LedgerResult<()> {
    let node = &taken.removed.node;
    if node.origin == Origin::Mount && node.version == Version::UNCOMMITTED {
        return Ok(()); // It never left this host.
    }
    for side in Side::BOTH {
        let at_home = taken.at_home.iter().find(|(at, _)| *at == side);
        bury_object(tx, side, key, (node, at_home.map(|(_, row)| row)), now)?;
        for (_, row) in taken.elsewhere.iter().filter(|(at, _)| *at == side) {
            if let Some(old) = &row.key {
                bury_object(tx, side, old, (node, Some(row)), now)?;
                uncover(tx, side, old.as_str())?;
            }
        }
    }
    Ok(())
}

/// Notes the deletion of what stands at `key`, of which this row of the node is known, if any.
fn bury_object(
    tx: &mut Tx<'_>,
    side: Side,
    key: &Key,
    (node, row): (&Node, Option<&ReplicaRow>),
    now: NanoTime,
) -> LedgerResult<()> {
    let state = state_on(tx.targets(key)?, side);
    let etag = row.and_then(|row| trusted_etag(node, row));
    bury(tx, side, key.as_str(), etag, state, now)?;
    match row.filter(|_| etag.is_none()) {
        Some(row) => note_last(tx.conn, side, key.as_str(), &row.etag),
        None => Ok(()),
    }
}

/// The tag of the object to delete, if it is certain: while something newer may be on its way there,
/// a deletion bound to the old tag would leave it behind.
fn trusted_etag<'r>(node: &Node, row: &'r ReplicaRow) -> Option<&'r ETag> {
    let current = row.is_current(node) && row.attr_version == node.attr_version;
    current.then_some(&row.etag)
}

pub(super) fn exists(parent: Ino, name: &str) -> LedgerError {
    LedgerError::new(LedgerErrorKind::Exists, format!("there is a `{name}` in node {parent} already"))
}

pub(super) fn require_leaf(node: &Node) -> LedgerResult<()> {
    if node.kind.is_directory() {
        let detail = format!("node {} is a directory", node.ino);
        return Err(LedgerError::new(LedgerErrorKind::IsADirectory, detail));
    }
    Ok(())
}

pub(super) fn require_empty(conn: &Connection, node: &Node) -> LedgerResult<()> {
    if nodes::has_children(conn, node.ino)? {
        let detail = format!("the directory with the number {} is not empty", node.ino);
        return Err(LedgerError::new(LedgerErrorKind::NotEmpty, detail));
    }
    Ok(())
}
