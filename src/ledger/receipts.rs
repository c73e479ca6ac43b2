//! What a store confirmed, and what it found to have changed by itself.

use super::replicas::{self, ReplicaRow, displace};
use super::tombstones::{bury, state_on, uncover};
use super::transaction::Tx;
use super::{
    FindingKind, FoundObject, Ledger, LedgerResult, NewReceipt, Node, Origin, ReceiptOutcome, Replica,
    ReplicaState, TombstoneState, contents, findings, given_up, intents, links, nodes, paths, tombstones,
    xattrs,
};
use crate::object::{Ino, Key, LinkId, NanoTime, Side};

impl Ledger {
    /// Lazy. Records that `side` holds an object: it becomes the node's replica there. An object that the
    /// node had under another key of that side is to be deleted; a deletion that was noted for the
    /// receipt's key is void; another node's replica under that key is overwritten, and is wanted again.
    /// A digest that was not known before makes newer attributes: what was there before the bridge gets it
    /// into its metadata too.
    ///
    /// `ino` is the node that the name `link` had when the object was sent.
    pub async fn receipt(
        &self,
        (ino, link): (Ino, LinkId),
        side: Side,
        receipt: NewReceipt,
    ) -> LedgerResult<ReceiptOutcome> {
        self.lazy(move |tx| match nodes::named(tx.conn, link)? {
            None => nobodys(tx, ino, link, side, &receipt),
            Some(node) => record(tx, &node, side, &receipt),
        })
        .await
    }

    /// Durable, or after a power failure another state of the object would get the same version, and what was sent of
    /// the first one would pass for it. Someone replaced the object that `side` held (`seen`) without the mount: the node gets a new version,
    /// which `side` holds, and the other one is brought to it if its slice is written there. `None`, and nothing happens, if the side
    /// holds something else by now, or is to get something. Error: `NotFound`.
    pub async fn replaced_outside(
        &self,
        side: Side,
        seen: &Replica,
        found: FoundObject,
        now: NanoTime,
    ) -> LedgerResult<Option<Node>> {
        let (link, seen) = (seen.name, seen.receipt.clone());
        self.durable(move |tx| {
            let is_still = replicas::as_seen(tx.conn, link, side, &seen)?.is_some();
            if !is_still || intents::find(tx.conn, link, side)?.is_some() {
                return Ok(None);
            }
            replace(tx, link, side, &found, now).map(Some)
        })
        .await
    }
}

/// The name was deleted while its upload was on the way: what has arrived must go again, unless it stands under
/// another name of the node, which may have taken over the number or the object of the one that is gone.
fn nobodys(
    tx: &mut Tx<'_>,
    ino: Ino,
    link: LinkId,
    side: Side,
    new: &NewReceipt,
) -> LedgerResult<ReceiptOutcome> {
    let key = new.receipt.key.as_str();
    let at_home = paths::resolve(tx.conn, key)?;
    let moving =
        replicas::occupant(tx.conn, side, key)?.map(|heir| nodes::named(tx.conn, heir)).transpose()?;
    if let Some(heir) = at_home.into_iter().chain(moving.flatten()).find(|node| node.ino == ino) {
        return record(tx, &heir, side, new);
    }
    displace(tx, side, key, link)?;
    bury(tx, side, key, Some(&new.receipt.etag), TombstoneState::Pending, new.now)?;
    Ok(ReceiptOutcome::Gone)
}

fn record(tx: &mut Tx<'_>, node: &Node, side: Side, new: &NewReceipt) -> LedgerResult<ReceiptOutcome> {
    let path = paths::key_in_tree(tx.conn, node.link)?;
    let key = &new.receipt.key;
    displace(tx, side, key.as_str(), node.link)?;
    let before = replicas::find(tx.conn, node.link, side)?;
    if before.as_ref().is_some_and(|before| is_better(before, new, &path)) {
        // An upload that was overtaken, by a newer version or by one to the new name: the better one stays.
        bury(tx, side, key.as_str(), Some(&new.receipt.etag), TombstoneState::Pending, new.now)?;
        return outcome(tx, node, side, &path);
    }
    tombstones::remove(tx.conn, side, key.as_str())?;
    if new.receipt.version == node.version {
        // It arrived while it was given up.
        given_up::lift(tx.conn, node)?;
    }
    let state =
        if is_made_of_wrong(tx, side, new)? { ReplicaState::Mismatched } else { ReplicaState::Copied };
    let row = ReplicaRow { state, ..row_of(node.link, new, &path) };
    let (node, row) = with_digest(tx, node, side, row, new)?;
    replicas::put(tx.conn, side, &row)?;
    uncover(tx, side, key.as_str())?;
    if let Some(before) = before {
        leave_old_key(tx, side, &before, new, &path)?;
    }
    let outcome = outcome(tx, &node, side, &path)?;
    match outcome {
        ReceiptOutcome::Satisfied => {
            intents::delete(tx.conn, node.link, side)?;
            findings::close(tx.conn, FindingKind::Blocked, side, Some(path.as_str()))?;
            findings::close(tx.conn, FindingKind::Denied, side, None)?;
        }
        // It may have been up to date before; or it was renamed on its way, and the store left meanwhile.
        ReceiptOutcome::Behind if intents::find(tx.conn, node.link, side)?.is_none() => {
            intents::want(tx.conn, node.link, side, new.now)?;
        }
        ReceiptOutcome::Behind | ReceiptOutcome::Gone => {}
    }
    Ok(outcome)
}

/// Notes the digest of an upload -> the node and the replica with it. Replicas that have this content without
/// anybody having seen its digest are objects from before the bridge: they carry older attributes from now on.
fn with_digest(
    tx: &Tx<'_>,
    node: &Node,
    side: Side,
    mut row: ReplicaRow,
    new: &NewReceipt,
) -> LedgerResult<(Node, ReplicaRow)> {
    let mut node = node.clone();
    let Some(content) = new.content.as_ref().filter(|_| row.version == node.version) else {
        return Ok((node, row));
    };
    let mut bare = Vec::new();
    if contents::digest(tx.conn, node.link, node.version)?.is_none() {
        for (link, at) in links::names(tx.conn, &node)?.into_iter().flat_map(|l| Side::BOTH.map(|at| (l, at)))
        {
            let replica = replicas::find(tx.conn, link, at)?.filter(|replica| replica.is_current(&node));
            bare.extend(replica.filter(|_| (link, at) != (node.link, side)).map(|_| (link, at)));
        }
    }
    contents::put(tx.conn, node.ino, node.version, content)?;
    if !bare.is_empty() {
        let is_up_to_date = row.attr_version == node.attr_version;
        node.attr_version += 1;
        nodes::update(tx.conn, &node)?;
        row.attr_version = if is_up_to_date { node.attr_version } else { row.attr_version };
    }
    bare.into_iter().try_for_each(|(link, at)| intents::want(tx.conn, link, at, new.now))?;
    Ok((node, row))
}

/// Whether what a store has is worth more than what has just arrived there under the receipt's key.
fn is_better(before: &ReplicaRow, new: &NewReceipt, path: &Key) -> bool {
    let is_home = before.key.is_none() && new.receipt.key != *path;
    before.state != ReplicaState::Mismatched
        && (before.version > new.receipt.version || is_home && before.version == new.receipt.version)
}

/// Asked of the key: a name may have got another number or place meanwhile, and a store whose tags follow from the
/// content gives the right objects of this node the tag of the wrong one.
fn is_made_of_wrong(tx: &Tx<'_>, side: Side, new: &NewReceipt) -> LedgerResult<bool> {
    let Some(source) = &new.made_of else { return Ok(false) };
    let row = replicas::standing_at(tx.conn, side, source.key.as_str())?;
    Ok(row.is_some_and(|row| row.etag == source.etag && row.state == ReplicaState::Mismatched))
}

fn row_of(link: LinkId, new: &NewReceipt, path: &Key) -> ReplicaRow {
    ReplicaRow {
        link,
        key: (new.receipt.key != *path).then(|| new.receipt.key.clone()),
        version: new.receipt.version,
        etag: new.receipt.etag.clone(),
        size: new.receipt.size,
        attr_version: new.attr_version,
        state: ReplicaState::Copied,
        received_at: new.now,
    }
}

/// The object stands under its new key now: the one under the old key goes (LESSONS A6).
fn leave_old_key(
    tx: &mut Tx<'_>,
    side: Side,
    before: &ReplicaRow,
    new: &NewReceipt,
    path: &Key,
) -> LedgerResult<()> {
    let old = before.key.as_ref().unwrap_or(path);
    if *old == new.receipt.key {
        return Ok(());
    }
    if old != path {
        let state = state_on(tx.targets(old)?, side);
        bury(tx, side, old.as_str(), Some(&before.etag), state, new.now)?;
    }
    uncover(tx, side, old.as_str())
}

/// Whether the replica is all that the node is now.
fn outcome(tx: &Tx<'_>, node: &Node, side: Side, path: &Key) -> LedgerResult<ReceiptOutcome> {
    let row = replicas::find(tx.conn, node.link, side)?;
    let current = row.is_some_and(|row| {
        row.is_current(node)
            && row.attr_version == node.attr_version
            && row.key.is_none_or(|key| key == *path)
    });
    Ok(if current { ReceiptOutcome::Satisfied } else { ReceiptOutcome::Behind })
}

fn replace(
    tx: &mut Tx<'_>,
    link: LinkId,
    side: Side,
    found: &FoundObject,
    now: NanoTime,
) -> LedgerResult<Node> {
    let mut node = nodes::required_name(tx.conn, link)?;
    let key = paths::key_in_tree(tx.conn, link)?;
    node.kind = found.kind;
    node.target.clone_from(&found.target);
    node.size = found.size;
    node.version = node.version.next();
    node.attr_version += 1;
    node.attrs = found.attrs;
    node.ctime = now;
    node.checked_at = now;
    node.origin = Origin::Read;
    nodes::update(tx.conn, &node)?;
    given_up::end(tx.conn, &node, || Ok(key.clone()))?;
    xattrs::replace(tx.conn, node.ino, &found.xattrs)?;
    displace(tx, side, key.as_str(), link)?;
    tombstones::remove(tx.conn, side, key.as_str())?;
    let before = replicas::find(tx.conn, link, side)?;
    replicas::put(tx.conn, side, &found_row(&node, found, now))?;
    uncover(tx, side, key.as_str())?;
    if let Some((old, before)) = before.and_then(|row| Some((row.key.clone()?, row))) {
        bury(tx, side, old.as_str(), Some(&before.etag), TombstoneState::Pending, now)?;
        uncover(tx, side, old.as_str())?;
    }
    if let Some(digest) = &found.digest {
        contents::put_digest(tx.conn, node.ino, node.version, found.size, digest)?;
    }
    intents::delete(tx.conn, link, side)?;
    let other = side.other();
    if tx.targets(&key)?.contains(other) {
        intents::want(tx.conn, link, other, now)?;
    }
    for further in links::names(tx.conn, &node)?.into_iter().filter(|further| *further != link) {
        links::want_where_written(tx, further, now)?;
    }
    Ok(node)
}

/// The replica of an object that was found under its node's own path.
pub(super) fn found_row(node: &Node, found: &FoundObject, now: NanoTime) -> ReplicaRow {
    ReplicaRow {
        link: node.link,
        key: None,
        version: node.version,
        etag: found.etag.clone(),
        size: found.size,
        attr_version: node.attr_version,
        state: ReplicaState::Copied,
        received_at: now,
    }
}
