//! Snapshot readers: a few connections that only read, each used by one caller at a time, so that a
//! reader never waits for the writer (LESSONS B24).

use std::path::Path;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags};

use super::LedgerResult;
use super::open::stable_plans;

/// How many callers read at once; more of them wait.
const READERS: usize = 4;

/// A pool of connections that only read.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
}

/// One connection, for as long as one caller reads.
struct Lease<'a> {
    pool: &'a Readers,
    conn: Option<Connection>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> LedgerResult<Readers> {
        let idle = (0..READERS).map(|_| reader(path)).collect::<LedgerResult<Vec<_>>>()?;
        Ok(Readers { idle: Mutex::new(idle), returned: Condvar::new() })
    }

    /// Runs `look` on one snapshot.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Connection) -> LedgerResult<T>) -> LedgerResult<T> {
        let lease = self.lease();
        let conn = lease.conn.as_ref().expect("a lease holds its connection until it is dropped");
        conn.prepare_cached("BEGIN")?.execute([])?;
        let seen = look(conn);
        conn.prepare_cached("ROLLBACK")?.execute([])?;
        seen
    }

    fn lease(&self) -> Lease<'_> {
        let mut idle = self.idle.lock();
        loop {
            if let Some(conn) = idle.pop() {
                return Lease { pool: self, conn: Some(conn) };
            }
            self.returned.wait(&mut idle);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            if !conn.is_autocommit() {
                // Left open by a panic: a snapshot that stays would keep the WAL from being truncated.
                drop(conn.execute_batch("ROLLBACK"));
            }
            self.pool.idle.lock().push(conn);
            self.pool.returned.notify_one();
        }
    }
}

fn reader(path: &Path) -> LedgerResult<Connection> {
    #[cfg_attr(not(test), expect(unused_mut, reason = "only tests watch it"))]
    let mut conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    #[cfg(test)]
    super::tests::costs::watch(&mut conn)?;
    conn.busy_timeout(Duration::from_secs(10))?;
    conn.set_prepared_statement_cache_capacity(64);
    stable_plans(&conn)?;
    conn.execute_batch("PRAGMA query_only = 1; PRAGMA cache_size = -4096;")?;
    Ok(conn)
}
