//! Whether the file is whole, and whether what it says can be true.

use rusqlite::Connection;

use super::replicas::{key_at, occupant, side_of, standing_at};
use super::tombstones::{self, something_below};
use super::{Ledger, LedgerResult, findings, meta, paths};
use crate::object::{Ino, LinkId};

/// Queries whose every row is a violation: what it means, and the query.
const VIOLATIONS: [(&str, &str); 16] = [
    ("is not below the root", UNREACHABLE),
    (
        "stands in a node that is no directory",
        "SELECT n.ino FROM nodes n LEFT JOIN nodes p ON p.ino = n.parent WHERE p.kind IS NULL OR p.kind <> 1",
    ),
    ("has no name", "SELECT ino FROM nodes WHERE name = '' AND ino <> 1"),
    ("has a name with a slash", "SELECT ino FROM nodes WHERE instr(name, '/') > 0"),
    ("is a directory with a version", "SELECT ino FROM nodes WHERE kind = 1 AND version <> 0"),
    ("has a replica and is not there", "SELECT ino FROM replicas WHERE ino NOT IN (SELECT ino FROM nodes)"),
    ("has an intent and is not there", "SELECT ino FROM intents WHERE ino NOT IN (SELECT ino FROM nodes)"),
    ("has a content and is not there", "SELECT ino FROM contents WHERE ino NOT IN (SELECT ino FROM nodes)"),
    (
        "has an extended attribute and is not there",
        "SELECT ino FROM xattrs WHERE ino NOT IN (SELECT ino FROM nodes)",
    ),
    (
        "has the position of another name in its directory",
        "SELECT min(ino) FROM nodes WHERE ino <> 1 GROUP BY parent, position HAVING count(*) > 1",
    ),
    (
        "has a replica of a version that was never committed",
        "SELECT n.link FROM names n JOIN replicas r ON r.ino = n.link WHERE r.version > n.version OR r.version < 1",
    ),
    (
        "has a content of a version that was never committed",
        "SELECT n.ino FROM nodes n JOIN contents c ON c.ino = n.ino WHERE c.version > n.version",
    ),
    (
        "has an intent and nothing to send",
        "SELECT n.link FROM names n JOIN intents i ON i.ino = n.link WHERE n.kind = 1 OR n.version = 0",
    ),
    (
        "is a further name of a node that is not there",
        "SELECT n.ino FROM nodes n LEFT JOIN nodes f ON f.ino = n.link_of AND f.link_of IS NULL AND f.kind <> 1
         WHERE n.link_of IS NOT NULL AND f.ino IS NULL",
    ),
    (
        "has not as many names as it says",
        "SELECT n.ino FROM nodes n WHERE n.link_of IS NULL AND n.kind <> 1
         AND n.links <> 1 + (SELECT count(*) FROM nodes f WHERE f.link_of = n.ino)",
    ),
    (
        "has a replica under the key of another node's replica",
        "SELECT min(ino) FROM replicas WHERE key IS NOT NULL GROUP BY side, key HAVING count(*) > 1",
    ),
];

const UNREACHABLE: &str = "WITH RECURSIVE tree (ino) AS (
        SELECT 1 UNION SELECT n.ino FROM nodes n JOIN tree t ON n.parent = t.ino
    ) SELECT ino FROM nodes WHERE ino NOT IN (SELECT ino FROM tree)";

/// How many violations of one sort are reported.
const REPORTED_MAX: usize = 20;

impl Ledger {
    /// Reads everything and says, one sentence each, what is damaged or cannot be true. Empty: clean.
    pub fn check(&self) -> LedgerResult<Vec<String>> {
        self.read(|conn| {
            let mut found = integrity(conn)?;
            for (what, sql) in VIOLATIONS {
                let mut statement = conn.prepare(sql)?;
                let rows = statement.query_map([], |row| row.get::<_, u64>(0))?;
                for ino in rows.take(REPORTED_MAX) {
                    found.push(format!("node {} {what}", ino?));
                }
            }
            found.extend(numbers(conn)?);
            found.extend(moved_replicas(conn)?);
            found.extend(deletions(conn)?);
            Ok(found)
        })
    }
}

fn integrity(conn: &Connection) -> LedgerResult<Vec<String>> {
    let mut statement = conn.prepare("PRAGMA integrity_check")?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    let lines = lines.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(lines
        .into_iter()
        .filter(|line| line != "ok")
        .map(|line| format!("the file is damaged: {line}"))
        .collect())
}

fn numbers(conn: &Connection) -> LedgerResult<Vec<String>> {
    let mut found = Vec::new();
    let largest: u64 = conn.query_row("SELECT coalesce(max(ino), 0) FROM nodes", [], |row| row.get(0))?;
    let next = meta::number(conn, meta::NEXT_INO)?;
    if largest > Ino::ROOT.0 && largest >= next {
        found.push(format!("node {largest} has a number that will be given again, from {next} on"));
    }
    if largest == 0 {
        found.push("there is no root".to_owned());
    }
    let (kept, counted) = (meta::number(conn, meta::OPEN_FINDINGS)?, findings::count_open(conn)?);
    if kept != counted {
        found.push(format!("{counted} findings are open and {kept} are said to be"));
    }
    Ok(found)
}

fn moved_replicas(conn: &Connection) -> LedgerResult<Vec<String>> {
    let mut found = Vec::new();
    let mut statement = conn.prepare("SELECT ino, side, key FROM replicas WHERE key IS NOT NULL")?;
    let rows = statement
        .query_map([], |row| Ok((LinkId(row.get(0)?), side_of(1, row.get(1)?)?, key_at(row, 2)?)))?;
    for row in rows {
        let (name, side, key) = row?;
        if paths::key_of(conn, name)?.as_ref() == Some(&key) {
            found.push(format!("node {name} has its own path {key} written out as its key on {side}"));
        }
    }
    Ok(found)
}

fn deletions(conn: &Connection) -> LedgerResult<Vec<String>> {
    let mut found = Vec::new();
    for tombstone in tombstones::all(conn)? {
        let (side, key) = (tombstone.side, tombstone.key.as_str());
        if key.ends_with('/') {
            if !something_below(conn, side, key)? {
                found.push(format!("{key} is hidden on {side} and nothing below it waits"));
            }
        } else if standing_at(conn, side, key)?.is_some() {
            let ino =
                occupant(conn, side, key)?.map_or_else(|| "a node".to_owned(), |ino| format!("node {ino}"));
            found.push(format!("{key} is to be deleted on {side}, where the replica of {ino} stands"));
        }
    }
    Ok(found)
}
