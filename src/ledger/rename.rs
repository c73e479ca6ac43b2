//! Rename: one transaction of the tree. The stores follow by intents; until they have, a replica's row
//! says under which older key the object stands (LESSONS A6, B13).

use super::adopt::vouched_for;
use super::intents::want;
use super::replicas;
use super::tombstones::{self, bury, bury_prefix, state_on, uncover};
use super::transaction::Tx;
use super::tree::{self, bury_taken, exists, require_empty, take_out};
use super::{
    Entry, FindingKind, Ledger, LedgerError, LedgerErrorKind, LedgerResult, Node, Origin, Removed,
    RenameMode, findings, given_up, intents, nodes, paths,
};
use crate::object::{Ino, Key, Kind, LinkId, NanoTime, Side, Version};

/// What a rename did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The node that was named, under its new name.
    pub moved: Node,
    /// What stood there before and is gone.
    pub replaced: Option<Removed>,
    /// With [`RenameMode::Exchange`]: the node that now has the old name.
    pub exchanged: Option<Node>,
}

/// A name in a directory, owned.
struct Place {
    parent: Ino,
    name: String,
}

/// What all steps of one rename share.
struct Move {
    from: Place,
    to: Place,
    source: Node,
    old_key: Key,
    new_key: Key,
    now: NanoTime,
}

impl Ledger {
    /// Durable. Renames as POSIX says; a directory takes everything below it along. Errors: `NotFound`,
    /// `NotADirectory`, `IsADirectory`, `NotEmpty`, `Loop`, and `Exists` for [`RenameMode::NoReplace`].
    pub async fn rename(
        &self,
        from: Entry<'_>,
        to: Entry<'_>,
        mode: RenameMode,
        now: NanoTime,
    ) -> LedgerResult<Renamed> {
        let from = Place { parent: from.parent, name: from.name.to_owned() };
        let to = Place { parent: to.parent, name: to.name.to_owned() };
        self.durable(move |tx| rename(tx, from, to, mode, now)).await
    }
}

fn rename(tx: &mut Tx<'_>, from: Place, to: Place, mode: RenameMode, now: NanoTime) -> LedgerResult<Renamed> {
    let source = nodes::entry(tx.conn, from.parent, &from.name)?;
    let to_prefix = paths::prefix_of(tx.conn, nodes::directory(tx.conn, to.parent)?.ino)?;
    let target = nodes::child(tx.conn, to.parent, &to.name)?;
    if mode == RenameMode::NoReplace && target.is_some() {
        return Err(exists(to.parent, &to.name));
    }
    if target.as_ref().is_some_and(|target| target.ino == source.ino) {
        return Ok(Renamed { moved: source, replaced: None, exchanged: None });
    }
    refuse_loop(tx, to.parent, &source)?;
    let old_key = paths::key_in_tree(tx.conn, source.link)?;
    let new_key = Key::new(format!("{to_prefix}{}", to.name)).map_err(|error| {
        LedgerError::caused(LedgerErrorKind::NotFound, "the root cannot be renamed", error)
    })?;
    let plan = Move { from, to, source, old_key, new_key, now };
    match (mode, target) {
        (RenameMode::Exchange, None) => {
            Err(nodes::missing(format!("there is no `{}` to exchange with", plan.to.name)))
        }
        (RenameMode::Exchange, Some(target)) => exchange(tx, &plan, &target),
        (RenameMode::Replace | RenameMode::NoReplace, target) => replace(tx, &plan, target),
    }
}

fn replace(tx: &mut Tx<'_>, plan: &Move, target: Option<Node>) -> LedgerResult<Renamed> {
    let taken = match &target {
        Some(target) => {
            check_replaceable(tx, &plan.source, target)?;
            Some(take_out(tx, target, &plan.new_key, plan.now)?)
        }
        None => None,
    };
    let position = target.as_ref().map_or(plan.source.position, |target| target.position);
    let place = nodes::Place { parent: plan.to.parent, name: &plan.to.name, position };
    nodes::place(tx.conn, plan.source.link, place)?;
    let left = rekey(tx, &plan.source, &plan.old_key, &plan.new_key, plan)?;
    if let Some(taken) = taken.as_ref().filter(|taken| taken.removed.node.kind != Kind::Directory) {
        // Its tombstone also tells the write that replaces it which state of the object it replaces.
        bury_taken(tx, taken, &plan.new_key, plan.now)?;
    }
    bury_left(tx, &left, plan)?;
    leave_directory(tx, &plan.source, &plan.old_key, &plan.new_key, plan.now)?;
    let moved = arrive(tx, plan, plan.source.link)?;
    Ok(Renamed { moved, replaced: taken.map(|taken| taken.removed), exchanged: None })
}

fn exchange(tx: &mut Tx<'_>, plan: &Move, target: &Node) -> LedgerResult<Renamed> {
    refuse_loop(tx, plan.from.parent, target)?;
    nodes::place(tx.conn, plan.source.link, nodes::Place::NOWHERE)?;
    nodes::place(tx.conn, target.link, nodes::Place::of(&plan.source))?;
    nodes::place(tx.conn, plan.source.link, nodes::Place::of(target))?;
    let mut left = rekey(tx, &plan.source, &plan.old_key, &plan.new_key, plan)?;
    left.extend(rekey(tx, target, &plan.new_key, &plan.old_key, plan)?);
    bury_left(tx, &left, plan)?;
    leave_directory(tx, &plan.source, &plan.old_key, &plan.new_key, plan.now)?;
    leave_directory(tx, target, &plan.new_key, &plan.old_key, plan.now)?;
    let exchanged = arrive(tx, plan, target.link)?;
    let moved = arrive(tx, plan, plan.source.link)?;
    Ok(Renamed { moved, replaced: None, exchanged: Some(exchanged) })
}

fn refuse_loop(tx: &Tx<'_>, new_parent: Ino, moved: &Node) -> LedgerResult<()> {
    if moved.kind == Kind::Directory && paths::is_within(tx.conn, new_parent, moved.ino)? {
        let detail = format!("the directory with the number {} cannot go into itself", moved.ino);
        return Err(LedgerError::new(LedgerErrorKind::Loop, detail));
    }
    Ok(())
}

fn check_replaceable(tx: &Tx<'_>, source: &Node, target: &Node) -> LedgerResult<()> {
    match (source.kind.is_directory(), target.kind.is_directory()) {
        (true, true) => require_empty(tx.conn, target),
        (true, false) => {
            let detail = format!("node {} is no directory", target.ino);
            Err(LedgerError::new(LedgerErrorKind::NotADirectory, detail))
        }
        (false, _) => tree::require_leaf(target),
    }
}

/// A key that something may stand under although no receipt says so.
type Left = (Side, Key);

/// Turns the replicas' own keys into explicit ones for all that moved, and asks the stores to follow.
/// Answers the keys where an upload may still arrive, or an overwritten object still stands.
fn rekey(tx: &mut Tx<'_>, top: &Node, old_top: &Key, new_top: &Key, plan: &Move) -> LedgerResult<Vec<Left>> {
    let mut left = Vec::new();
    for leaf in paths::leaves(tx.conn, top)? {
        let node = nodes::required_name(tx.conn, leaf.link)?;
        if node.origin == Origin::Unproven {
            nodes::update(tx.conn, &vouched_for(node.clone()))?;
        }
        let old = extended(old_top, &leaf.rest);
        let new = extended(new_top, &leaf.rest);
        tx.scans.removed(old.as_str());
        tx.scans.removed(new.as_str());
        if node.version > Version::UNCOMMITTED {
            for side in Side::BOTH {
                left.extend(rekey_on(tx, &node, side, &old, &new, plan)?);
            }
        }
    }
    Ok(left)
}

fn rekey_on(
    tx: &mut Tx<'_>,
    node: &Node,
    side: Side,
    old: &Key,
    new: &Key,
    plan: &Move,
) -> LedgerResult<Option<Left>> {
    let row = replicas::find(tx.conn, node.link, side)?;
    let intent = intents::find(tx.conn, node.link, side)?;
    if intent.as_ref().is_some_and(|intent| intent.blocked.is_some()) {
        findings::close(tx.conn, FindingKind::Blocked, side, Some(old.as_str()))?;
    }
    if node.link == LinkId::first(node.ino) {
        given_up::moved(tx.conn, node, old, new)?;
    }
    let at_old_key = row.as_ref().is_some_and(|row| row.key.is_none());
    match row.as_ref().map(|row| row.key.as_ref()) {
        Some(None) => replicas::set_key(tx.conn, node.link, side, Some(old.as_str()))?,
        Some(Some(explicit)) if explicit == new => {
            replicas::set_key(tx.conn, node.link, side, None)?;
            tombstones::remove(tx.conn, side, new.as_str())?;
            uncover(tx, side, new.as_str())?;
        }
        Some(Some(_)) | None => {}
    }
    if tx.targets(new)?.contains(side) || row.is_some() {
        want(tx.conn, node.link, side, plan.now)?;
    }
    // A store without a receipt may have it, too: from before the bridge, or of an upload whose answer was lost. Of what
    // is unproven it may have something else.
    let may_stand = intent.is_some() || (row.is_none() && node.origin != Origin::Unproven);
    Ok((may_stand && !at_old_key).then(|| (side, old.clone())))
}

fn bury_left(tx: &mut Tx<'_>, left: &[Left], plan: &Move) -> LedgerResult<()> {
    for (side, key) in left {
        let state = state_on(tx.targets(key)?, *side);
        bury(tx, *side, key.as_str(), None, state, plan.now)?;
    }
    Ok(())
}

/// Hides what the stores still show below a directory's old path, and tells the scans that run.
fn leave_directory(tx: &mut Tx<'_>, moved: &Node, old: &Key, new: &Key, now: NanoTime) -> LedgerResult<()> {
    if moved.kind != Kind::Directory {
        return Ok(());
    }
    for side in Side::BOTH {
        bury_prefix(tx.conn, side, &old.as_prefix(), now)?;
    }
    tx.scans.removed(&old.as_prefix());
    tx.scans.removed(&new.as_prefix());
    Ok(())
}

/// Sets the times of both directories and of the node, which is answered as it is now.
fn arrive(tx: &mut Tx<'_>, plan: &Move, link: LinkId) -> LedgerResult<Node> {
    nodes::touch(tx.conn, plan.from.parent, plan.now)?;
    nodes::touch(tx.conn, plan.to.parent, plan.now)?;
    let mut node = vouched_for(nodes::required_name(tx.conn, link)?);
    node.ctime = plan.now;
    nodes::update(tx.conn, &node)?;
    Ok(node)
}

fn extended(top: &Key, rest: &str) -> Key {
    Key::new(format!("{top}{rest}")).expect("a key with something behind it is not empty")
}
