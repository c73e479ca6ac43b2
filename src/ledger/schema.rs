//! The tables, and the steps from an older file to the newest. An operator may read the file with
//! `sqlite3 -readonly ledger.db` while the bridge runs; the views `v_*` spell the numbers out.
//!
//! Written so that PostgreSQL takes it with two changes of spelling (`BLOB` to `BYTEA`, and without
//! `WITHOUT ROWID`): numbers come from the program, times are nanoseconds since 1970 in one integer,
//! there are no triggers, and names compare by bytes.

use rusqlite::{Connection, TransactionBehavior};

use super::{LedgerError, LedgerErrorKind, LedgerResult};

/// Step `i` brings a file from `user_version` `i` to `i + 1`. A step that was released is never changed.
const STEPS: [&str; 7] = [FIRST, UPLOADS, POSIX, GIVEN_UP, POSITIONS, STAMPS, ATTRS_WRITTEN];

const FIRST: &str = r"
-- Single values: bridge_id, next_ino, open_findings, barrier, store_old, store_new, marked_old, marked_new.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- The tree. The root is 1, is its own parent and has the empty name.
CREATE TABLE nodes (
    ino          INTEGER PRIMARY KEY,
    parent       BIGINT   NOT NULL,
    name         TEXT     NOT NULL,
    kind         SMALLINT NOT NULL,  -- 0 file, 1 directory, 2 symlink, 3 fifo, 4 socket, 5 character, 6 block device
    mode         INTEGER  NOT NULL,  -- permission bits only
    uid          BIGINT   NOT NULL,
    gid          BIGINT   NOT NULL,
    mtime        BIGINT   NOT NULL,
    atime        BIGINT   NOT NULL,
    ctime        BIGINT   NOT NULL,
    size         BIGINT   NOT NULL,  -- bytes of the committed content
    version      BIGINT   NOT NULL,  -- 0: created, never committed
    attr_version BIGINT   NOT NULL,
    target       BLOB,               -- symlinks
    origin       SMALLINT NOT NULL,  -- 0 mount, 1 listed, 2 read, 3 unproven
    complete     SMALLINT NOT NULL,  -- directories: every name below is here
    checked_at   BIGINT   NOT NULL   -- when a store last confirmed it
);
CREATE UNIQUE INDEX nodes_by_name ON nodes (parent, name);
CREATE INDEX nodes_by_parent ON nodes (parent);
CREATE INDEX nodes_uncommitted ON nodes (ino) WHERE kind = 0 AND version = 0;
CREATE INDEX nodes_written ON nodes (ino) WHERE kind <> 1 AND (origin = 0 OR version > 1);

-- What a store confirmed. key is NULL where the object stands under the node's own path.
CREATE TABLE replicas (
    ino          BIGINT   NOT NULL,
    side         SMALLINT NOT NULL,  -- 0 old, 1 new
    key          TEXT,
    version      BIGINT   NOT NULL,
    etag         TEXT     NOT NULL,
    size         BIGINT   NOT NULL,
    attr_version BIGINT   NOT NULL,
    state        SMALLINT NOT NULL,  -- 0 copied, 1 verified, 2 mismatched
    verified_at  BIGINT,
    received_at  BIGINT   NOT NULL,
    PRIMARY KEY (ino, side)
) WITHOUT ROWID;
CREATE INDEX replicas_elsewhere ON replicas (side, key) WHERE key IS NOT NULL;

-- Digest (BLAKE3) and block checksums (CRC-32 of each MiB, little endian) of one version.
CREATE TABLE contents (
    ino     INTEGER PRIMARY KEY,
    version BIGINT NOT NULL,
    size    BIGINT NOT NULL,
    digest  BLOB   NOT NULL,
    sums    BLOB                     -- NULL: only the digest is known
);

-- A store must be brought to the node's current version, key and attributes.
CREATE TABLE intents (
    ino      BIGINT   NOT NULL,
    side     SMALLINT NOT NULL,
    attempts INTEGER  NOT NULL,
    due      BIGINT   NOT NULL,
    since    BIGINT   NOT NULL,
    error    TEXT,
    blocked  SMALLINT,               -- 0 unsupported, 1 locked, 2 source lost
    PRIMARY KEY (ino, side)
) WITHOUT ROWID;
CREATE INDEX intents_by_age ON intents (side, since, ino) WHERE blocked IS NULL;
CREATE INDEX intents_by_due ON intents (side, due) WHERE blocked IS NULL;

-- Deletions. covers = 1: key ends in a slash and hides everything below it.
CREATE TABLE tombstones (
    side     SMALLINT NOT NULL,
    key      TEXT     NOT NULL,
    covers   SMALLINT NOT NULL,
    etag     TEXT,
    attempts INTEGER  NOT NULL,
    due      BIGINT   NOT NULL,
    since    BIGINT   NOT NULL,
    error    TEXT,
    state    SMALLINT NOT NULL,      -- 0 pending, 1 deferred, 2 blocked
    PRIMARY KEY (side, key)
) WITHOUT ROWID;
CREATE INDEX tombstones_by_due ON tombstones (side, due) WHERE state = 0 AND covers = 0;

CREATE TABLE slices (
    prefix            TEXT PRIMARY KEY,
    stage             TEXT     NOT NULL,
    read_percent      SMALLINT NOT NULL,
    since             BIGINT   NOT NULL,
    backfill_complete SMALLINT NOT NULL
) WITHOUT ROWID;

-- side and key are empty where the finding is about none.
CREATE TABLE findings (
    id       INTEGER PRIMARY KEY,
    kind     TEXT     NOT NULL,
    side     TEXT     NOT NULL,
    key      TEXT     NOT NULL,
    detail   TEXT     NOT NULL,
    first_at BIGINT   NOT NULL,
    last_at  BIGINT   NOT NULL,
    count    BIGINT   NOT NULL,
    closed   SMALLINT NOT NULL
);
CREATE UNIQUE INDEX findings_by_subject ON findings (kind, side, key);
CREATE INDEX findings_open ON findings (last_at) WHERE closed = 0;

-- Append only.
CREATE TABLE events (
    id   INTEGER PRIMARY KEY,
    at   BIGINT NOT NULL,
    who  TEXT   NOT NULL,
    what TEXT   NOT NULL,
    why  TEXT   NOT NULL
);

CREATE VIEW v_nodes AS
SELECT ino, parent, name, size, version,
       CASE kind WHEN 0 THEN 'file' WHEN 1 THEN 'directory' ELSE 'symlink' END AS kind,
       CASE origin WHEN 0 THEN 'mount' WHEN 1 THEN 'listed' WHEN 2 THEN 'read' ELSE 'unproven' END AS origin
FROM nodes;
CREATE VIEW v_replicas AS
SELECT ino, CASE side WHEN 0 THEN 'old' ELSE 'new' END AS side, key, version, etag, size,
       CASE state WHEN 0 THEN 'copied' WHEN 1 THEN 'verified' ELSE 'mismatched' END AS state
FROM replicas;
CREATE VIEW v_intents AS
SELECT ino, CASE side WHEN 0 THEN 'old' ELSE 'new' END AS side, attempts, due, since, error,
       CASE blocked WHEN 0 THEN 'unsupported' WHEN 1 THEN 'locked' WHEN 2 THEN 'source-lost' END AS blocked
FROM intents;
CREATE VIEW v_tombstones AS
SELECT CASE side WHEN 0 THEN 'old' ELSE 'new' END AS side, key, attempts, due, since, error,
       CASE state WHEN 0 THEN 'pending' WHEN 1 THEN 'deferred' ELSE 'blocked' END AS state
FROM tombstones;
";

const UPLOADS: &str = r"
-- Uploads in parts that have begun and not ended.
CREATE TABLE uploads (
    side SMALLINT NOT NULL,
    id   TEXT     NOT NULL,  -- the store's name for it
    key  TEXT     NOT NULL,
    PRIMARY KEY (side, id)
) WITHOUT ROWID;
";

const POSIX: &str = r"
ALTER TABLE nodes ADD COLUMN rdev BIGINT NOT NULL DEFAULT 0;   -- kinds 5 and 6: the device
ALTER TABLE nodes ADD COLUMN links BIGINT NOT NULL DEFAULT 1;  -- names of a node that is no directory
-- A further name of the node with this number. The row has its own place, replicas and intents; all else is
-- what that node had when the name was given, and only the index nodes_written looks at it.
ALTER TABLE nodes ADD COLUMN link_of BIGINT;
CREATE INDEX nodes_further_names ON nodes (link_of) WHERE link_of IS NOT NULL;
CREATE INDEX nodes_subdirectories ON nodes (parent) WHERE kind = 1;

-- The tag that a receipt named where it is not certain that the object still has it.
ALTER TABLE tombstones ADD COLUMN last_etag TEXT;

-- Extended attributes.
CREATE TABLE xattrs (
    ino   BIGINT NOT NULL,
    name  BLOB   NOT NULL,  -- with its namespace, as in `user.comment`
    value BLOB   NOT NULL,
    PRIMARY KEY (ino, name)
) WITHOUT ROWID;

-- Every name with what its node is.
CREATE VIEW names AS
SELECT f.ino AS link, f.parent, f.name, n.ino, n.kind, n.mode, n.uid, n.gid, n.mtime, n.atime, n.ctime, n.size, n.version,
       n.attr_version, n.target, n.origin, n.complete, n.checked_at, n.rdev, n.links
FROM nodes f JOIN nodes n ON n.ino = coalesce(f.link_of, f.ino);

DROP VIEW v_nodes;
CREATE VIEW v_nodes AS
SELECT ino, link, parent, name, size, version, links,
       CASE kind WHEN 0 THEN 'file' WHEN 1 THEN 'directory' WHEN 2 THEN 'symlink' WHEN 3 THEN 'fifo'
                 WHEN 4 THEN 'socket' WHEN 5 THEN 'char-device' ELSE 'block-device' END AS kind,
       CASE origin WHEN 0 THEN 'mount' WHEN 1 THEN 'listed' WHEN 2 THEN 'read' ELSE 'unproven' END AS origin
FROM names;
";

const GIVEN_UP: &str = r"
-- intents.blocked may be 3: the content was lost on this host before any store had it.
DROP VIEW v_intents;
CREATE VIEW v_intents AS
SELECT ino, CASE side WHEN 0 THEN 'old' ELSE 'new' END AS side, attempts, due, since, error,
       CASE blocked WHEN 0 THEN 'unsupported' WHEN 1 THEN 'locked' WHEN 2 THEN 'source-lost'
                    WHEN 3 THEN 'given-up' END AS blocked
FROM intents;
";

const POSITIONS: &str = r"
-- The order of the names in a directory: a number that stays with the name, whichever row takes it over.
ALTER TABLE nodes ADD COLUMN position BIGINT NOT NULL DEFAULT 0;
UPDATE nodes SET position = ino;
DROP INDEX nodes_by_parent;
CREATE INDEX nodes_by_position ON nodes (parent, position);
DROP VIEW names;
CREATE VIEW names AS
SELECT f.ino AS link, f.parent, f.name, n.ino, n.kind, n.mode, n.uid, n.gid, n.mtime, n.atime, n.ctime, n.size, n.version,
       n.attr_version, n.target, n.origin, n.complete, n.checked_at, n.rdev, n.links, f.position
FROM nodes f JOIN nodes n ON n.ino = coalesce(f.link_of, f.ino);
";

const STAMPS: &str = r"
-- Another random number with each change of what is wanted: what was decided before it is void.
ALTER TABLE intents ADD COLUMN stamp BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tombstones ADD COLUMN stamp BIGINT NOT NULL DEFAULT 0;
";

const ATTRS_WRITTEN: &str = r"
-- Also what was only found, if its attributes were changed: both stores have them, or are to have them.
DROP INDEX nodes_written;
CREATE INDEX nodes_written ON nodes (ino) WHERE kind <> 1 AND (origin = 0 OR version > 1 OR attr_version > 0);
";

/// Brings the file to the newest schema, each step in one transaction.
pub(super) fn migrate(conn: &mut Connection) -> LedgerResult<()> {
    let found = user_version(conn)?;
    if found > STEPS.len() {
        let detail = format!(
            "the ledger has schema version {found}, this program knows versions up to {}: it was written by \
             a newer bridgefs; start that one",
            STEPS.len()
        );
        return Err(LedgerError::new(LedgerErrorKind::Damaged, detail));
    }
    for (index, step) in STEPS.iter().enumerate().skip(found) {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "user_version", index + 1)?;
        tx.commit()?;
    }
    Ok(())
}

fn user_version(conn: &Connection) -> LedgerResult<usize> {
    Ok(conn.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::{STEPS, migrate, user_version};
    use crate::ledger::LedgerErrorKind;
    use rusqlite::Connection;

    #[test]
    fn an_empty_file_gets_the_newest_schema_and_a_second_time_changes_nothing() {
        let mut conn = Connection::open_in_memory().expect("opens");
        migrate(&mut conn).expect("migrates");
        migrate(&mut conn).expect("nothing to do");
        assert_eq!(user_version(&conn).expect("read"), STEPS.len());
    }

    #[test]
    fn a_file_of_a_newer_program_is_refused_and_says_why() {
        let mut conn = Connection::open_in_memory().expect("opens");
        conn.pragma_update(None, "user_version", 99).expect("set");
        let error = migrate(&mut conn).expect_err("refused");
        assert_eq!(error.kind(), LedgerErrorKind::Damaged);
        assert!(error.to_string().contains("version 99"), "{error}");
        assert!(error.to_string().contains("newer bridgefs"), "{error}");
    }
}
