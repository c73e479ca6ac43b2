//! Counts for `status`.

use rusqlite::{Connection, params};

use super::replicas::side_number;
use super::{Ledger, LedgerResult, SideSummary, Summary, findings, given_up, intents};
use crate::object::Side;

/// So many failures in a row are more than bad luck.
const FAILING_MIN: u32 = 5;

impl Ledger {
    /// Counts everything, on one snapshot. Reads all rows: about a second for a million objects.
    pub fn summary(&self) -> LedgerResult<Summary> {
        self.read(|conn| {
            let sql = "SELECT count(*) FILTER (WHERE kind <> 1), count(*) FILTER (WHERE kind = 1),
                              coalesce(sum(size) FILTER (WHERE kind = 0), 0) FROM names";
            let (files, directories, bytes) =
                conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let sides = [side_summary(conn, Side::Old)?, side_summary(conn, Side::New)?];
            let (given_up, findings) = (given_up::count(conn)?, findings::count_open(conn)?);
            Ok(Summary { files, directories, bytes, sides, given_up, findings })
        })
    }
}

fn side_summary(conn: &Connection, side: Side) -> LedgerResult<SideSummary> {
    let side = side_number(side);
    let sql = "SELECT count(*) FROM replicas r JOIN names n ON n.link = r.ino
               WHERE r.side = ?1 AND r.version = n.version AND r.state <> 2";
    let current = conn.query_row(sql, [side], |row| row.get(0))?;
    let sql = "SELECT count(*) FILTER (WHERE i.blocked IS NULL),
                      coalesce(sum(n.size) FILTER (WHERE i.blocked IS NULL), 0),
                      min(i.since) FILTER (WHERE i.blocked IS NULL),
                      count(*) FILTER (WHERE i.blocked <> ?2)
               FROM intents i JOIN names n ON n.link = i.ino WHERE i.side = ?1";
    let (pending, pending_bytes, oldest_pending, blocked) =
        conn.query_row(sql, params![side, intents::GIVEN_UP], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    // The columns beside max() are those of the row that has it.
    let sql = "SELECT count(*), error, max(attempts) FROM intents
               WHERE side = ?1 AND blocked IS NULL AND attempts >= ?2";
    let (failing, failing_error) =
        conn.query_row(sql, params![side, FAILING_MIN], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sql = "SELECT count(*) FROM tombstones WHERE side = ?1 AND state = 0 AND covers = 0";
    let deletions = conn.query_row(sql, [side], |row| row.get(0))?;
    Ok(SideSummary {
        current,
        pending,
        pending_bytes,
        oldest_pending,
        blocked,
        failing,
        failing_error,
        deletions,
    })
}
