//! The table `xattrs`: extended attributes of nodes. Those of an object are part of its metadata in the
//! stores; those of a directory are nowhere else.

use rusqlite::{Connection, OptionalExtension, params};

use super::tree::attrs_changed;
use super::{Ledger, LedgerError, LedgerErrorKind, LedgerResult, NewXattr, Node, nodes};
use crate::object::{CAPABILITY, Ino, NanoTime, Privileges, XattrRefusal, Xattrs};

impl Ledger {
    /// The value of one attribute. Error: `NotFound` (the node).
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> LedgerResult<Option<Box<[u8]>>> {
        self.read(|conn| {
            let value = find(conn, ino, name)?;
            if value.is_none() {
                nodes::required(conn, ino)?;
            }
            Ok(value)
        })
    }

    /// All of a node; none where there is no such node.
    pub fn xattrs(&self, ino: Ino) -> LedgerResult<Xattrs> {
        self.read(|conn| all(conn, ino))
    }

    /// Lazy. Sets one; the stores are to be brought to it. Errors: `NotFound` (the node), `Exists`,
    /// `NoAttribute`, `NoRoom`.
    pub async fn set_xattr(&self, ino: Ino, new: NewXattr, now: NanoTime) -> LedgerResult<()> {
        self.lazy(move |tx| {
            let node = nodes::required(tx.conn, ino)?;
            let before = all(tx.conn, ino)?;
            let mut after = before.clone();
            after.set(&new.name, &new.value, new.mode, node.kind).map_err(refused)?;
            put(tx.conn, ino, &new.name, &new.value)?;
            attrs_changed(tx, node, before != after, now).map(drop)
        })
        .await
    }

    /// Lazy. Removes one; the stores are to be brought to it. Errors: `NotFound` (the node),
    /// `NoAttribute`.
    pub async fn remove_xattr(&self, ino: Ino, name: &[u8], now: NanoTime) -> LedgerResult<()> {
        let name: Box<[u8]> = name.into();
        self.lazy(move |tx| {
            let node = nodes::required(tx.conn, ino)?;
            if !delete(tx.conn, ino, &name)? {
                return Err(refused(XattrRefusal::Missing));
            }
            attrs_changed(tx, node, true, now).map(drop)
        })
        .await
    }
}

fn refused(why: XattrRefusal) -> LedgerError {
    let kind = match why {
        XattrRefusal::Exists => LedgerErrorKind::Exists,
        XattrRefusal::Missing => LedgerErrorKind::NoAttribute,
        XattrRefusal::Full { .. } => LedgerErrorKind::NoRoom,
    };
    LedgerError::new(kind, why.to_string())
}

pub(super) fn all(conn: &Connection, ino: Ino) -> LedgerResult<Xattrs> {
    let mut statement = conn.prepare_cached("SELECT name, value FROM xattrs WHERE ino = ?1")?;
    let mut rows = statement.query([ino.0])?;
    let mut xattrs = Xattrs::default();
    while let Some(row) = rows.next()? {
        xattrs.insert(row.get::<_, Vec<u8>>(0)?.into(), row.get::<_, Vec<u8>>(1)?.into());
    }
    Ok(xattrs)
}

/// Takes over what the metadata of an object says.
pub(super) fn replace(conn: &Connection, ino: Ino, xattrs: &Xattrs) -> LedgerResult<()> {
    delete_all(conn, ino)?;
    xattrs.iter().try_for_each(|(name, value)| put(conn, ino, name, value))
}

/// Takes them out with a node that loses its last name.
pub(super) fn take(conn: &Connection, node: &Node) -> LedgerResult<Xattrs> {
    if node.links > 1 {
        return Ok(Xattrs::default());
    }
    let xattrs = all(conn, node.ino)?;
    if !xattrs.is_empty() {
        delete_all(conn, node.ino)?;
    }
    Ok(xattrs)
}

/// Takes away what a change of the file ends -> whether there was something.
pub(super) fn drop_capability(conn: &Connection, ino: Ino, privileges: Privileges) -> LedgerResult<bool> {
    match privileges {
        Privileges::Keep => Ok(false),
        Privileges::Drop | Privileges::DropAll => delete(conn, ino, CAPABILITY),
    }
}

fn find(conn: &Connection, ino: Ino, name: &[u8]) -> LedgerResult<Option<Box<[u8]>>> {
    let mut statement = conn.prepare_cached("SELECT value FROM xattrs WHERE ino = ?1 AND name = ?2")?;
    let value = statement.query_row(params![ino.0, name], |row| row.get::<_, Vec<u8>>(0)).optional()?;
    Ok(value.map(Into::into))
}

fn put(conn: &Connection, ino: Ino, name: &[u8], value: &[u8]) -> LedgerResult<()> {
    let sql = "INSERT INTO xattrs (ino, name, value) VALUES (?1, ?2, ?3)
               ON CONFLICT (ino, name) DO UPDATE SET value = excluded.value";
    conn.prepare_cached(sql)?.execute(params![ino.0, name, value])?;
    Ok(())
}

fn delete(conn: &Connection, ino: Ino, name: &[u8]) -> LedgerResult<bool> {
    let sql = "DELETE FROM xattrs WHERE ino = ?1 AND name = ?2";
    Ok(conn.prepare_cached(sql)?.execute(params![ino.0, name])? > 0)
}

fn delete_all(conn: &Connection, ino: Ino) -> LedgerResult<()> {
    conn.prepare_cached("DELETE FROM xattrs WHERE ino = ?1")?.execute([ino.0])?;
    Ok(())
}
