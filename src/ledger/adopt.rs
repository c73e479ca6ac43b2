//! Taking in what a store showed of a directory.

use super::replicas::{self, occupant};
use super::tombstones::{exists, is_covered};
use super::transaction::Tx;
use super::{
    Found, FoundKind, FoundObject, FoundOn, Ledger, LedgerResult, Node, Origin, ScanId, contents, nodes,
    paths, receipts, xattrs,
};
use crate::object::{Attrs, Ino, Kind, LinkId, Position, Side, Version};

/// One batch of found things.
struct Adoption {
    dir: Node,
    prefix: String,
    /// A removed directory hides whatever stands below this one.
    covered: bool,
    on: FoundOn,
    scan: ScanId,
}

impl Ledger {
    /// Lazy. Takes in what `scan` found directly below `dir`: a name that is not in the ledger becomes a
    /// node of version 1 with its replica, unless it is hidden or was removed since the scan began. What
    /// is in the ledger stays as it is, but for attributes that are now read and were only listed before.
    /// Answers the node that stands under each name that is not hidden, in the order found. A found
    /// directory gets mode and owner of `dir`. Errors: `NotFound`, `NotADirectory`.
    pub async fn adopt(
        &self,
        dir: Ino,
        found: Vec<Found>,
        on: FoundOn,
        scan: ScanId,
    ) -> LedgerResult<Vec<Node>> {
        self.lazy(move |tx| {
            let dir = nodes::directory(tx.conn, dir)?;
            let prefix = paths::prefix_of(tx.conn, dir.ino)?;
            let covered = is_covered(tx.conn, on.side, &prefix)?;
            let adoption = Adoption { dir, prefix, covered, on, scan };
            let mut standing = Vec::with_capacity(found.len());
            for found in &found {
                standing.extend(adoption.take(tx, found)?);
            }
            Ok(standing)
        })
        .await
    }
}

impl Ledger {
    /// Lazy. What a store says of the object of a known name, wherever that stands in the tree by now: attributes
    /// that were only listed become those that were read, if it is the very object that the ledger knows. Never
    /// makes a name. Answers the node as it is then; `None` if the name is gone.
    pub async fn looked_at(
        &self,
        name: LinkId,
        object: FoundObject,
        on: FoundOn,
    ) -> LedgerResult<Option<Node>> {
        self.lazy(move |tx| match nodes::named(tx.conn, name)? {
            Some(node) => upgrade(tx, node, &object, on).map(Some),
            None => Ok(None),
        })
        .await
    }
}

impl Adoption {
    fn take(&self, tx: &mut Tx<'_>, found: &Found) -> LedgerResult<Option<Node>> {
        let hidden = self.is_hidden(tx, found)?;
        match (nodes::child(tx.conn, self.dir.ino, &found.name)?, hidden) {
            // What is hidden is another object; the node's own one, known by its tag, may stand elsewhere.
            (Some(node), _) => match &found.what {
                FoundKind::Object(object) => upgrade(tx, node, object, self.on).map(Some),
                FoundKind::Directory => Ok(Some(node)),
            },
            (None, true) => Ok(None),
            (None, false) => self.insert(tx, found).map(Some),
        }
    }

    fn is_hidden(&self, tx: &Tx<'_>, found: &Found) -> LedgerResult<bool> {
        let slash = match found.what {
            FoundKind::Directory => "/",
            FoundKind::Object(_) => "",
        };
        let key = format!("{}{}{slash}", self.prefix, found.name);
        Ok(self.covered
            || tx.scans.hides(self.scan, &key)
            || exists(tx.conn, self.on.side, &key)?
            || occupant(tx.conn, self.on.side, &key)?.is_some())
    }

    fn insert(&self, tx: &mut Tx<'_>, found: &Found) -> LedgerResult<Node> {
        let node = match &found.what {
            FoundKind::Directory => self.directory(tx, &found.name)?,
            FoundKind::Object(object) => self.leaf(tx, &found.name, object)?,
        };
        nodes::insert(tx.conn, &node)?;
        if let FoundKind::Object(object) = &found.what {
            let row = receipts::found_row(&node, object, self.on.now);
            replicas::put(tx.conn, self.on.side, &row)?;
            xattrs::replace(tx.conn, node.ino, &object.xattrs)?;
            if let Some(digest) = &object.digest {
                contents::put_digest(tx.conn, node.ino, node.version, object.size, digest)?;
            }
        }
        Ok(node)
    }

    fn directory(&self, tx: &mut Tx<'_>, name: &str) -> LedgerResult<Node> {
        let attrs = Attrs { mtime: self.on.now, ..self.dir.attrs };
        let node = self.bare(tx, name, attrs)?;
        Ok(Node { kind: Kind::Directory, version: Version::UNCOMMITTED, ..node })
    }

    fn leaf(&self, tx: &mut Tx<'_>, name: &str, object: &FoundObject) -> LedgerResult<Node> {
        let node = self.bare(tx, name, object.attrs)?;
        Ok(Node { kind: object.kind, size: object.size, target: object.target.clone(), ..node })
    }

    fn bare(&self, tx: &mut Tx<'_>, name: &str, attrs: Attrs) -> LedgerResult<Node> {
        let ino = tx.inos.take(tx.conn)?;
        Ok(Node {
            ino,
            link: LinkId::first(ino),
            links: 1,
            position: Position::of(LinkId::first(ino)),
            parent: self.dir.ino,
            name: name.into(),
            kind: Kind::File,
            attrs,
            atime: attrs.mtime,
            ctime: attrs.mtime,
            size: 0,
            version: Version::FIRST,
            attr_version: 0,
            target: None,
            origin: self.on.origin,
            complete: false,
            checked_at: self.on.now,
        })
    }
}

/// Attributes that were defaults are replaced by those that were read, if they are those of the very
/// object that the ledger knows.
fn upgrade(tx: &mut Tx<'_>, mut node: Node, object: &FoundObject, on: FoundOn) -> LedgerResult<Node> {
    let guessed = match node.origin {
        Origin::Listed | Origin::Unproven => node.kind != Kind::Directory,
        Origin::Mount | Origin::Read => false,
    };
    if on.origin != Origin::Read || !guessed || !is_same(tx, &node, object, on.side)? {
        return Ok(node);
    }
    node.kind = object.kind;
    node.target.clone_from(&object.target);
    // Attributes that were set through the mount meanwhile are newer than those of the store.
    if node.attr_version == 0 {
        node.attrs = object.attrs;
        node.ctime = object.attrs.mtime;
        xattrs::replace(tx.conn, node.ino, &object.xattrs)?;
    }
    node.origin = Origin::Read;
    node.checked_at = on.now;
    nodes::update(tx.conn, &node)?;
    if let Some(digest) = &object.digest
        && contents::digest(tx.conn, node.link, node.version)?.is_none()
    {
        contents::put_digest(tx.conn, node.ino, node.version, object.size, digest)?;
    }
    Ok(node)
}

fn is_same(tx: &Tx<'_>, node: &Node, object: &FoundObject, side: Side) -> LedgerResult<bool> {
    Ok(match replicas::find(tx.conn, node.link, side)? {
        Some(row) => row.etag == object.etag,
        None => node.version == Version::FIRST && node.size == object.size,
    })
}
