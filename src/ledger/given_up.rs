//! What is nowhere whole: content that was acknowledged, that no store ever confirmed, and whose staged file
//! lost a part of it or is gone itself. Its intents are blocked for that reason, whatever else is changed of the node,
//! until it has new content; its finding follows it from name to name and is over with it.

use rusqlite::{Connection, params};

use super::{Ledger, LedgerResult, NewFinding, Node, Origin, findings, intents, links, nodes};
use crate::object::{Ino, Key, LinkId, Version};

impl Ledger {
    /// Whether `version` is the node's content, came through the mount, and no store ever confirmed it.
    pub fn is_unconfirmed(&self, ino: Ino, version: Version) -> LedgerResult<bool> {
        self.read(|conn| {
            let node = nodes::find(conn, ino)?;
            if node.is_none_or(|node| node.version != version || node.origin != Origin::Mount) {
                return Ok(false);
            }
            // Also one that was marked since, or whose receipt was for an object that is overwritten by now.
            let sql = "SELECT 1 FROM replicas WHERE ino = ?1 AND version >= ?2
                       UNION ALL SELECT 1 FROM nodes f JOIN replicas r ON r.ino = f.ino WHERE f.link_of = ?1 AND r.version >= ?2
                       UNION ALL SELECT 1 FROM contents WHERE ino = ?1 AND version >= ?2";
            Ok(!conn.prepare_cached(sql)?.exists(params![ino.0, version.0])?)
        })
    }

    /// Lazy. Nothing of the node's content is sent any more, under whichever name.
    pub async fn give_up(&self, ino: Ino, finding: NewFinding) -> LedgerResult<()> {
        self.lazy(move |tx| {
            block(tx.conn, ino, &finding)?;
            findings::upsert(tx.conn, &finding, tx.now)
        })
        .await
    }

    /// The same where it is found out later: a finding that says so already stays as it is, and nothing happens if
    /// the node has another version by now.
    pub async fn give_up_silently(&self, seen: &Node, finding: NewFinding) -> LedgerResult<()> {
        let (ino, version) = (seen.ino, seen.version);
        self.lazy(move |tx| {
            if nodes::find(tx.conn, ino)?.is_none_or(|node| node.version != version) {
                return Ok(());
            }
            block(tx.conn, ino, &finding)?;
            if findings::is_open(tx.conn, &finding)? {
                return Ok(());
            }
            findings::upsert(tx.conn, &finding, tx.now)
        })
        .await
    }
}

fn block(conn: &Connection, ino: Ino, finding: &NewFinding) -> LedgerResult<()> {
    let Some(node) = nodes::find(conn, ino)? else { return Ok(()) };
    links::names(conn, &node)?.into_iter().try_for_each(|name| intents::give_up(conn, name, &finding.detail))
}

/// A name of a node that a store is to get has no more to send than the others, and than the other store.
pub(super) fn share(conn: &Connection, ino: Ino, name: LinkId) -> LedgerResult<()> {
    if intents::is_given_up(conn, LinkId::first(ino))? {
        intents::give_up(conn, name, "the content of this file is lost")?;
    }
    Ok(())
}

/// The node is to have other content, or a store has what was given up: it may be sent again -> whether it was
/// given up.
pub(super) fn lift(conn: &Connection, node: &Node) -> LedgerResult<bool> {
    if !intents::take_up(conn, LinkId::first(node.ino))? {
        return Ok(false);
    }
    for name in links::names(conn, node)? {
        intents::take_up(conn, name)?;
    }
    Ok(true)
}

/// The node has new content under its first name `key`, or is gone with it: nobody needs what was given up.
pub(super) fn end(
    conn: &Connection,
    node: &Node,
    key: impl FnOnce() -> LedgerResult<Key>,
) -> LedgerResult<()> {
    if lift(conn, node)? { findings::close_damage(conn, key()?.as_str()) } else { Ok(()) }
}

/// A name of the node goes from one key to another, or its number to another name: so does the finding.
pub(super) fn moved(conn: &Connection, node: &Node, from: &Key, to: &Key) -> LedgerResult<()> {
    if intents::is_given_up(conn, LinkId::first(node.ino))? {
        findings::move_damage(conn, from.as_str(), to.as_str())?;
    }
    Ok(())
}

/// Files that were given up.
pub(super) fn count(conn: &Connection) -> LedgerResult<u64> {
    let sql =
        "SELECT count(DISTINCT n.ino) FROM intents i JOIN names n ON n.link = i.ino WHERE i.blocked = ?1";
    Ok(conn.query_row(sql, [intents::GIVEN_UP], |row| row.get(0))?)
}
