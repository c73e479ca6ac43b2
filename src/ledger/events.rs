//! The table `events`: the append-only log of who did what, when and why.

use rusqlite::{Connection, params};

use super::{Event, Ledger, LedgerResult};

impl Ledger {
    /// Up to `limit` events, the newest first.
    pub fn events(&self, limit: usize) -> LedgerResult<Vec<Event>> {
        self.read(|conn| {
            let sql = "SELECT at, who, what, why FROM events ORDER BY id DESC LIMIT ?1";
            let mut statement = conn.prepare_cached(sql)?;
            let rows = statement.query_map([limit], |row| {
                Ok(Event { at: row.get(0)?, who: row.get(1)?, what: row.get(2)?, why: row.get(3)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Lazy. Appends an event.
    pub async fn record(&self, event: Event) -> LedgerResult<()> {
        self.lazy(move |tx| append(tx.conn, &event)).await
    }
}

pub(super) fn append(conn: &Connection, event: &Event) -> LedgerResult<()> {
    let sql = "INSERT INTO events (at, who, what, why) VALUES (?1, ?2, ?3, ?4)";
    conn.prepare_cached(sql)?.execute(params![event.at, event.who, event.what, event.why])?;
    Ok(())
}
