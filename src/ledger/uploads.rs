//! The table `uploads`: uploads in parts that have begun. What a killed process leaves of them costs money in a bucket
//! and room in a folder until somebody gives it up.

use rusqlite::params;

use super::replicas::{side_number, side_of};
use super::{Ledger, LedgerResult};
use crate::object::{Key, Side};

/// An upload in parts whose end is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// The store that has the parts.
    pub side: Side,
    /// What it is to become.
    pub key: Key,
    /// The store's name for it.
    pub id: String,
}

impl Ledger {
    /// Lazy. An upload has begun.
    pub async fn upload_begun(&self, upload: OpenUpload) -> LedgerResult<()> {
        self.lazy(move |tx| {
            let sql = "INSERT OR REPLACE INTO uploads (side, id, key) VALUES (?1, ?2, ?3)";
            let row = params![side_number(upload.side), upload.id, upload.key.as_str()];
            tx.conn.prepare_cached(sql)?.execute(row)?;
            Ok(())
        })
        .await
    }

    /// Lazy. It was completed or given up.
    pub async fn upload_ended(&self, side: Side, id: &str) -> LedgerResult<()> {
        let id = id.to_owned();
        self.lazy(move |tx| {
            let sql = "DELETE FROM uploads WHERE side = ?1 AND id = ?2";
            tx.conn.prepare_cached(sql)?.execute(params![side_number(side), id])?;
            Ok(())
        })
        .await
    }

    /// All of them.
    pub fn open_uploads(&self) -> LedgerResult<Vec<OpenUpload>> {
        self.read(|conn| {
            let mut statement = conn.prepare_cached("SELECT side, id, key FROM uploads")?;
            let rows = statement.query_map([], |row| {
                let key: String = row.get(2)?;
                let key = Key::new(key).map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
                })?;
                Ok(OpenUpload { side: side_of(0, row.get(0)?)?, key, id: row.get(1)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }
}
