//! The table `contents`: digest and block checksums of the newest version whose bytes were seen.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Ledger, LedgerResult, nodes};
use crate::object::{ContentDigest, Digest, Ino, LinkId, Version};

impl Ledger {
    /// Digest and block checksums of a node's content, with the version that they are of: it may be an
    /// older one than the node's. `None` while not all bytes of any version were seen.
    pub fn content(&self, ino: Ino) -> LedgerResult<Option<(Version, ContentDigest)>> {
        self.read(|conn| {
            let sql = "SELECT version, size, digest, sums FROM contents WHERE ino = ?1 AND sums IS NOT NULL";
            let mut statement = conn.prepare_cached(sql)?;
            Ok(statement.query_row([ino.0], content_of).optional()?)
        })
    }

    /// Lazy. All bytes of `version` were seen. Ignored if the node has gone or has another version by now.
    pub async fn content_seen(&self, ino: Ino, version: Version, content: ContentDigest) -> LedgerResult<()> {
        self.lazy(move |tx| match nodes::find(tx.conn, ino)? {
            Some(node) if node.version == version => put(tx.conn, ino, version, &content),
            Some(_) | None => Ok(()),
        })
        .await
    }
}

pub(super) fn put(
    conn: &Connection,
    ino: Ino,
    version: Version,
    content: &ContentDigest,
) -> LedgerResult<()> {
    let sums: Vec<u8> = content.block_sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    store(conn, ino, version, content.size, &content.digest, Some(&sums))
}

/// Only the digest is known: from the metadata of an object that was found.
pub(super) fn put_digest(
    conn: &Connection,
    ino: Ino,
    version: Version,
    size: u64,
    digest: &Digest,
) -> LedgerResult<()> {
    store(conn, ino, version, size, digest, None)
}

fn store(
    conn: &Connection,
    ino: Ino,
    version: Version,
    size: u64,
    digest: &Digest,
    sums: Option<&[u8]>,
) -> LedgerResult<()> {
    let sql = "INSERT INTO contents (ino, version, size, digest, sums) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (ino) DO UPDATE SET version = excluded.version, size = excluded.size,
                   digest = excluded.digest, sums = excluded.sums";
    conn.prepare_cached(sql)?.execute(params![ino.0, version.0, size, digest.0, sums])?;
    Ok(())
}

/// The digest of the node that has this name, if the one that is known is of this version.
pub(super) fn digest(conn: &Connection, link: LinkId, version: Version) -> LedgerResult<Option<Digest>> {
    let sql = "SELECT c.digest FROM names n JOIN contents c ON c.ino = n.ino
               WHERE n.link = ?1 AND c.version = ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement.query_row(params![link.0, version.0], |row| row.get(0).map(Digest));
    Ok(found.optional()?)
}

pub(super) fn delete(conn: &Connection, ino: Ino) -> LedgerResult<()> {
    conn.prepare_cached("DELETE FROM contents WHERE ino = ?1")?.execute([ino.0])?;
    Ok(())
}

fn content_of(row: &Row<'_>) -> rusqlite::Result<(Version, ContentDigest)> {
    let sums: Vec<u8> = row.get(3)?;
    let (whole, _) = sums.as_chunks::<4>();
    let block_sums = whole.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    Ok((Version(row.get(0)?), ContentDigest { size: row.get(1)?, digest: Digest(row.get(2)?), block_sums }))
}
