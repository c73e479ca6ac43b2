//! Taking in what a store showed of a directory.

use super::replicas::{self, occupant};
use super::tombstones::{exists, is_covered};
use super::transaction::Tx;
use super::{
    FindingKind, Found, FoundKind, FoundObject, FoundOn, Ledger, LedgerResult, Node, Origin, ScanId,
    contents, findings, intents, nodes, paths, receipts, tree, xattrs,
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
    /// is in the ledger stays as it is, but for attributes that are now read and were only listed before, and for
    /// what was unproven: that becomes what is found.
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

    /// Lazy. The store that knows every name does not have this one, which was unproven: it leaves the tree. No deletion
    /// is noted, and what another store has under it stays there. What is not unproven any more stays, and a directory in
    /// which something stands. Answers what the name stands for then.
    pub async fn disown(&self, name: LinkId) -> LedgerResult<Option<Node>> {
        self.lazy(move |tx| match nodes::named(tx.conn, name)? {
            Some(node) => Ok((!disown(tx, &node)?).then_some(node)),
            None => Ok(None),
        })
        .await
    }
}

impl Adoption {
    fn take(&self, tx: &mut Tx<'_>, found: &Found) -> LedgerResult<Option<Node>> {
        let hidden = self.is_hidden(tx, found)?;
        match (nodes::child(tx.conn, self.dir.ino, &found.name)?, hidden) {
            (Some(node), _) if node.origin == Origin::Unproven && self.on.origin == Origin::Read => {
                if hidden { Ok(Some(node)) } else { self.prove(tx, node, found).map(Some) }
            }
            // What is hidden is another object; the node's own one, known by its tag, may stand elsewhere.
            (Some(node), _) => match &found.what {
                FoundKind::Object(object) => upgrade(tx, node, object, self.on).map(Some),
                FoundKind::Directory => Ok(Some(node)),
            },
            (None, true) => Ok(None),
            (None, false) => self.insert(tx, found).map(Some),
        }
    }

    /// What the store that knows every name has in place of what was unproven.
    fn prove(&self, tx: &mut Tx<'_>, node: Node, found: &Found) -> LedgerResult<Node> {
        match &found.what {
            FoundKind::Object(object) if !node.kind.is_directory() => upgrade(tx, node, object, self.on),
            FoundKind::Directory if node.kind.is_directory() => {
                let proven = Node { origin: Origin::Read, checked_at: self.on.now, ..node };
                nodes::update(tx.conn, &proven)?;
                Ok(proven)
            }
            FoundKind::Object(_) | FoundKind::Directory => {
                if disown(tx, &node)? {
                    self.insert(tx, found)
                } else {
                    Ok(node)
                }
            }
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
/// object that the ledger knows. What was unproven becomes the object that is found, whichever it is.
fn upgrade(tx: &mut Tx<'_>, mut node: Node, object: &FoundObject, on: FoundOn) -> LedgerResult<Node> {
    let guessed = match node.origin {
        Origin::Listed | Origin::Unproven => node.kind != Kind::Directory,
        Origin::Mount | Origin::Read => false,
    };
    if on.origin != Origin::Read || !guessed {
        return Ok(node);
    }
    let was_unproven = node.origin == Origin::Unproven;
    if !is_same(tx, &node, object, on.side)? {
        if !was_unproven {
            return Ok(node);
        }
        supersede(tx, &mut node, object, on.side.other())?;
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
    if was_unproven {
        replicas::put(tx.conn, on.side, &receipts::found_row(&node, object, on.now))?;
    }
    if let Some(digest) = &object.digest
        && contents::digest(tx.conn, node.link, node.version)?.is_none()
    {
        contents::put_digest(tx.conn, node.ino, node.version, object.size, digest)?;
    }
    Ok(node)
}

/// What is found is another content than what was unproven: a version of its own, of which the other store has
/// nothing. What that one has is left alone, as anything that it holds and nobody asked for.
fn supersede(tx: &mut Tx<'_>, node: &mut Node, object: &FoundObject, other: Side) -> LedgerResult<()> {
    replicas::delete(tx.conn, node.link, other)?;
    if intents::delete(tx.conn, node.link, other)? {
        let key = paths::key_in_tree(tx.conn, node.link)?;
        findings::close(tx.conn, FindingKind::Blocked, other, Some(key.as_str()))?;
    }
    node.version = node.version.next();
    node.size = object.size;
    Ok(())
}

/// Whether an unproven name could be and was taken out of the tree.
fn disown(tx: &mut Tx<'_>, node: &Node) -> LedgerResult<bool> {
    if node.origin != Origin::Unproven || nodes::has_children(tx.conn, node.ino)? {
        return Ok(false);
    }
    let key = paths::key_in_tree(tx.conn, node.link)?;
    tree::take_out(tx, node, &key, tx.now)?;
    Ok(true)
}

/// The mount did something to an unproven name or directory, so it is there whatever a store says; of an object the
/// attributes are still to be read.
pub(super) fn vouched_for(node: Node) -> Node {
    match node.origin {
        Origin::Unproven => Node { origin: Origin::Listed, ..node },
        Origin::Mount | Origin::Listed | Origin::Read => node,
    }
}

/// Of what is unproven it takes a digest: two contents of one length would be mixed, block by block.
fn is_same(tx: &Tx<'_>, node: &Node, object: &FoundObject, side: Side) -> LedgerResult<bool> {
    Ok(match replicas::find(tx.conn, node.link, side)? {
        Some(row) => row.etag == object.etag,
        None if node.origin == Origin::Unproven => {
            let known = contents::digest(tx.conn, node.link, node.version)?;
            known.is_some() && known == object.digest && node.size == object.size
        }
        None => node.version == Version::FIRST && node.size == object.size,
    })
}
