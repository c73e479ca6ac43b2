//! Opening a ledger, and what all its operations share.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::checkpoint::Checkpointer;
use super::lock::{StateLock, private_file};
use super::readers::Readers;
use super::scan::{Scan, Scans};
use super::tombstones::Unsynced;
use super::transaction::{Core, Counts, Durability, Tx};
use super::writer::Writer;
use super::{LedgerResult, meta, nodes, schema, slices};
use crate::clock::Clock;
use crate::object::NanoTime;

/// The ledger of one bridge. Reads look at one snapshot each and block only for the disk; the future of
/// a write resolves after its commit. Each write says whether it is *durable* (synced before the answer)
/// or *lazy* (survives the process; a power failure may take it unless a later durable write followed).
pub struct Ledger {
    // Dropped in this order: the writer finishes its queue, the lock goes last.
    pub(super) writer: Writer,
    pub(super) readers: Readers,
    scans: Arc<Scans>,
    pub(super) unsynced_tombstones: Arc<Unsynced>,
    counts: Arc<Counts>,
    bridge_id: String,
    _lock: StateLock,
}

/// How a ledger is opened.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// Where writes run.
    pub mode: LedgerMode,
    /// Whether commits are synced at all. `false` is for property tests: a power failure may then take
    /// anything.
    pub sync: bool,
    /// What time it is, for operations that are not told.
    pub clock: Clock,
}

/// Where writes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerMode {
    /// On a thread of their own, committed in groups.
    Threaded,
    /// On the calling thread, one at a time: for deterministic tests.
    Inline,
}

#[cfg(test)]
impl LedgerMode {
    /// Threaded, but where a test has paused the time: it would run on while another thread works.
    pub(crate) fn of_this_test() -> LedgerMode {
        use tokio::runtime::{Handle, RuntimeFlavor};
        match Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            true => LedgerMode::Threaded,
            false => LedgerMode::Inline,
        }
    }
}

/// What the writer did since the ledger was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerCounters {
    /// Commits that were synced to the disk (or would have been, with `sync` off).
    pub syncs: u64,
    /// Commits.
    pub transactions: u64,
    /// Operations in them.
    pub operations: u64,
}

impl Ledger {
    /// Opens `ledger.db` in `state_dir`, making both if needed (modes 0600 and 0700), and holds the
    /// directory's lock until it is dropped. Blocks. Errors: `InUse` when another daemon holds the
    /// directory, `Damaged` when the file is not ours or of a newer program.
    pub fn open(state_dir: &Path, options: LedgerOptions) -> LedgerResult<Ledger> {
        let lock = StateLock::take(state_dir)?;
        let path = state_dir.join("ledger.db");
        drop(private_file(&path)?);
        let mut conn = write_connection(&path)?;
        schema::migrate(&mut conn)?;
        let bridge_id = first_rows(&mut conn, options.clock.now())?;
        let scans = Arc::new(Scans::default());
        let counts = Arc::new(Counts::default());
        let checkpointer = Checkpointer::start(&path, options.mode)?;
        let readers = Readers::open(&path)?;
        let unsynced_tombstones = Arc::new(Unsynced::default());
        let shared = (Arc::clone(&scans), Arc::clone(&unsynced_tombstones));
        let core = Core::new(conn, shared, Arc::clone(&counts), checkpointer, &options)?;
        let writer = Writer::start(core, options.mode)?;
        Ok(Ledger { writer, readers, scans, unsynced_tombstones, counts, bridge_id, _lock: lock })
    }

    /// This bridge's own name, 128 random bits in hexadecimal, made when the ledger was.
    pub fn bridge_id(&self) -> &str {
        &self.bridge_id
    }

    /// What the writer did since the ledger was opened.
    pub fn counters(&self) -> LedgerCounters {
        LedgerCounters {
            syncs: self.counts.syncs.load(Ordering::Relaxed),
            transactions: self.counts.transactions.load(Ordering::Relaxed),
            operations: self.counts.operations.load(Ordering::Relaxed),
        }
    }

    /// Begins a scan: to be called before the first request to the store, because what is removed from
    /// now on will not be adopted from its pages.
    pub fn begin_scan(&self) -> Scan {
        self.scans.begin()
    }

    /// Durable barrier: whatever was committed before this is on the disk when it answers. Costs nothing
    /// when nothing waits.
    pub async fn sync(&self) -> LedgerResult<()> {
        let barrier = |tx: &mut Tx<'_>| {
            if tx.unsynced {
                let count = meta::number(tx.conn, meta::BARRIER)? + 1;
                meta::set(tx.conn, meta::BARRIER, &count.to_string())?;
            }
            Ok(())
        };
        self.writer.write(Durability::Durable, barrier).await
    }

    /// Looks at one snapshot.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Connection) -> LedgerResult<T>) -> LedgerResult<T> {
        self.readers.read(look)
    }

    /// Runs `work` in the writer; answers after a synced commit.
    pub(super) async fn durable<T, W>(&self, work: W) -> LedgerResult<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Tx<'_>) -> LedgerResult<T> + Send + 'static,
    {
        self.writer.write(Durability::Durable, work).await
    }

    /// Runs `work` in the writer; answers after a commit that need not be synced.
    pub(super) async fn lazy<T, W>(&self, work: W) -> LedgerResult<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Tx<'_>) -> LedgerResult<T> + Send + 'static,
    {
        self.writer.write(Durability::Lazy, work).await
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("bridge_id", &self.bridge_id).finish_non_exhaustive()
    }
}

fn write_connection(path: &Path) -> LedgerResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    #[cfg_attr(not(test), expect(unused_mut, reason = "only tests watch it"))]
    let mut conn = Connection::open_with_flags(path, flags)?;
    #[cfg(test)]
    super::tests::costs::watch(&mut conn)?;
    conn.busy_timeout(Duration::from_secs(10))?;
    conn.set_prepared_statement_cache_capacity(128);
    stable_plans(&conn)?;
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL;
         PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(conn)
}

/// Without this, SQLite (built with STAT4) compiles a cached statement anew whenever a value is bound to it that might
/// change its plan: 7 % of the processor time of creating small files.
pub(super) fn stable_plans(conn: &Connection) -> LedgerResult<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Makes what every ledger has: its name, the root, the default slice.
fn first_rows(conn: &mut Connection, now: NanoTime) -> LedgerResult<String> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let bridge_id = match meta::text(&tx, meta::BRIDGE_ID)? {
        Some(bridge_id) => bridge_id,
        None => {
            let bridge_id = format!("{:032x}", rand::random::<u128>());
            meta::set(&tx, meta::BRIDGE_ID, &bridge_id)?;
            nodes::insert_root(&tx, now)?;
            slices::insert_default(&tx, now)?;
            bridge_id
        }
    };
    tx.commit()?;
    Ok(bridge_id)
}
