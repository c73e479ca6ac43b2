//! Moves the write-ahead log into the database on a connection of its own: done by the committing
//! connection it would be the tail of the commit latency (FACTS F).

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{LedgerError, LedgerErrorKind, LedgerMode, LedgerResult};

/// Above this many bytes the log is copied into the database, without making anybody wait.
const PASSIVE_BYTES: u64 = 4 << 20;

/// Above this many bytes the log's file is cut, for which readers and the writer wait a moment.
const TRUNCATE_BYTES: u64 = 64 << 20;

const PAGE_BYTES: u64 = 4096;

/// How much a checkpoint does.
#[derive(Debug, Clone, Copy)]
enum Depth {
    /// Copies what it can without waiting.
    Passive,
    /// Copies everything and cuts the log's file.
    Truncate,
}

/// Watches the log and has it emptied.
pub(super) struct Checkpointer {
    mode: Mode,
}

enum Mode {
    Threaded { wake: Option<SyncSender<Depth>>, thread: Option<JoinHandle<()>> },
    Inline(Connection),
}

impl Checkpointer {
    pub(super) fn start(path: &Path, mode: LedgerMode) -> LedgerResult<Checkpointer> {
        let conn = checkpoint_connection(path)?;
        let mode = match mode {
            LedgerMode::Inline => Mode::Inline(conn),
            LedgerMode::Threaded => {
                let (wake, woken) = sync_channel(1);
                let thread = std::thread::Builder::new()
                    .name("ledger-checkpoint".to_owned())
                    .spawn(move || checkpoint_all(&conn, &woken))
                    .map_err(|error| {
                        let detail = format!("cannot start the ledger's checkpointer: {error}");
                        LedgerError::caused(LedgerErrorKind::Io, detail, error)
                    })?;
                Mode::Threaded { wake: Some(wake), thread: Some(thread) }
            }
        };
        Ok(Checkpointer { mode })
    }

    /// Looks at the log after a commit of `writer`, and has it emptied when it is long.
    pub(super) fn after_commit(&self, writer: &Connection) {
        let Some(depth) = due(writer) else { return };
        match &self.mode {
            Mode::Inline(conn) => checkpoint(conn, depth),
            Mode::Threaded { wake, .. } => match wake.as_ref().map(|wake| wake.try_send(depth)) {
                // Full: one waits already. Disconnected: the thread has died and said why.
                None | Some(Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) => {}
            },
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        if let Mode::Threaded { wake, thread } = &mut self.mode {
            drop(wake.take());
            drop(thread.take().map(JoinHandle::join));
        }
    }
}

/// Which checkpoint the log needs now. `NOOP` only asks: how many frames the log has, how many are copied.
fn due(writer: &Connection) -> Option<Depth> {
    let (_, frames, copied) = pragma(writer, "PRAGMA wal_checkpoint(NOOP)").ok()?;
    let bytes = |frames: i64| u64::try_from(frames).unwrap_or(0) * PAGE_BYTES;
    if bytes(frames) > TRUNCATE_BYTES {
        Some(Depth::Truncate)
    } else if bytes(frames - copied) > PASSIVE_BYTES {
        Some(Depth::Passive)
    } else {
        None
    }
}

/// Whether it had to leave something, the frames of the log, and how many of them are copied.
fn pragma(conn: &Connection, sql: &str) -> rusqlite::Result<(bool, i64, i64)> {
    conn.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}

fn checkpoint_connection(path: &Path) -> LedgerResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_millis(100))?;
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -1024;")?;
    Ok(conn)
}

fn checkpoint_all(conn: &Connection, woken: &Receiver<Depth>) {
    while let Ok(depth) = woken.recv() {
        checkpoint(conn, depth);
    }
}

/// A checkpoint that fails loses nothing: the log stays, and the next commit asks again.
fn checkpoint(conn: &Connection, depth: Depth) {
    let sql = match depth {
        Depth::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Depth::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    match pragma(conn, sql) {
        Ok((busy, frames, copied)) => tracing::debug!(?depth, busy, frames, copied, "ledger checkpoint"),
        Err(error) => tracing::warn!(%error, "the ledger's log could not be moved into the database"),
    }
}
