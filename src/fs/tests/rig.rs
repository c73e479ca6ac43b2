//! A file system over the real bridge and two stores in memory that can fail.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::bridge::{AckPolicy, Bridge, BridgeParts, BridgeSettings, BridgeTasks, StoreHandle};
use crate::cache::{Cache, CacheOptions, KeepFree};
use crate::clock::Clock;
use crate::fs::{Access, Caller, Fs, FsOptions, HandleId, Opened, Pages, Place, Truncate};
use crate::ledger::{Ledger, LedgerMode, LedgerOptions};
use crate::object::{Ino, Key, PerSide, Side};
use crate::stage::Stage;
use crate::store::breaker::Breaker;
use crate::store::faulty::{Faults, Faulty};
use crate::store::memory::MemoryStore;
use crate::store::{Condition, ObjectMeta, SharedStore, Store};

/// Longer than the longest pause of a lane, and than a lost answer is waited for: only what will never end takes it.
const DRAIN_MAX: Duration = Duration::from_secs(300);

pub(super) const ALICE: Caller = Caller { uid: 1000, gid: 100, umask: 0o022, pid: 1 };

/// The file system and what is behind it.
pub(super) struct Rig {
    pub(super) fs: Arc<Fs>,
    pub(super) bridge: Arc<Bridge>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) cache: Arc<Cache>,
    pub(super) stores: PerSide<Arc<MemoryStore>>,
    pub(super) faults: PerSide<Faults>,
    faulty: PerSide<SharedStore>,
    now: Arc<AtomicI64>,
    _tasks: BridgeTasks,
    pub(super) dir: TempDir,
}

/// What a process that is killed leaves.
struct Around {
    stores: PerSide<Arc<MemoryStore>>,
    faults: PerSide<Faults>,
    faulty: PerSide<SharedStore>,
    now: Arc<AtomicI64>,
    dir: TempDir,
}

/// These stores have acted when they lose an answer, or never will.
pub(super) const LATE_REQUEST_MAX: Duration = Duration::from_secs(1);

fn journal() -> BridgeSettings {
    let ack = AckPolicy::Journal;
    BridgeSettings { ack, late_request_max: LATE_REQUEST_MAX, ..BridgeSettings::default() }
}

impl Rig {
    /// Acks by the journal, so that only what a test is about waits for a store.
    pub(super) async fn new() -> Rig {
        Rig::with(journal(), 1 << 30).await
    }

    /// The same over an old store that holds an object with this metadata.
    pub(super) async fn over(key: &str, content: &'static [u8], meta: &ObjectMeta) -> Rig {
        Rig::holding(journal(), 1 << 30, Some((key, content, meta))).await
    }

    pub(super) async fn with(settings: BridgeSettings, staged_bytes_max: u64) -> Rig {
        Rig::holding(settings, staged_bytes_max, None).await
    }

    /// The same over an old store that holds this object.
    pub(super) async fn holding(
        settings: BridgeSettings,
        staged_bytes_max: u64,
        object: Option<(&str, &'static [u8], &ObjectMeta)>,
    ) -> Rig {
        let now = Arc::new(AtomicI64::new(1_000_000_000_000));
        let clock = Clock::Manual(Arc::clone(&now));
        let stores = PerSide::from_fn(|side| Arc::new(MemoryStore::new(format!("{side}"), clock.clone())));
        if let Some((key, content, meta)) = object {
            let key = Key::new(key).expect("a key");
            stores.old.put(&key, content.into(), meta, &Condition::Always).await.expect("put");
        }
        let faulty = PerSide::from_fn(|side| Faulty::new(Arc::clone(&stores[side]) as SharedStore, 1));
        let faults = PerSide::from_fn(|side| faulty[side].1.clone());
        let faulty = faulty.map(|(store, _)| Arc::new(store) as SharedStore);
        let dir = TempDir::new().expect("a directory");
        Rig::start(Around { stores, faults, faulty, now, dir }, settings, staged_bytes_max).await
    }

    async fn start(around: Around, settings: BridgeSettings, staged_bytes_max: u64) -> Rig {
        let Around { stores, faults, faulty, now, dir } = around;
        let clock = Clock::Manual(Arc::clone(&now));
        let options = LedgerOptions { mode: LedgerMode::of_this_test(), sync: false, clock: clock.clone() };
        let ledger = Arc::new(Ledger::open(dir.path(), options).expect("a ledger"));
        let volume = ledger.bridge_id().to_owned();
        let keep_free = KeepFree::Bytes(0);
        let options = CacheOptions { bytes_max: 1 << 30, keep_free, staged_bytes_max, volume };
        let cache = Cache::open(&dir.path().join("cache"), options).expect("a cache");
        let parts = BridgeParts {
            ledger: Arc::clone(&ledger),
            cache: Arc::clone(&cache),
            stores: PerSide::from_fn(|side| handle(Arc::clone(&faulty[side]))),
            clock: clock.clone(),
            settings,
        };
        let bridge = Bridge::start(parts).await.expect("a bridge");
        bridge.set_stage("", Stage::DualWrite, 100, "test", "test").await.expect("a stage");
        let options = FsOptions { clock, ..FsOptions::default() };
        let fs = Fs::new(Arc::clone(&bridge), options);
        Rig { fs, _tasks: bridge.run(), bridge, ledger, cache, stores, faults, faulty, now, dir }
    }

    /// The process is gone from one moment to the next, and another one is started in its place.
    pub(super) async fn killed(self) -> Rig {
        Rig::start(self.dead().await, journal(), 1 << 30).await
    }

    async fn dead(self) -> Around {
        let Rig { fs, bridge, ledger, cache, stores, faults, faulty, now, _tasks: tasks, dir } = self;
        let remains = Arc::downgrade(&bridge);
        drop((fs, bridge, ledger, cache, tasks));
        while remains.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        Around { stores, faults, faulty, now, dir }
    }

    /// The files of the ledger as they are now.
    pub(super) fn ledger_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = ["ledger.db", "ledger.db-wal"].map(|name| self.dir.path().join(name));
        files.map(|path| (path.clone(), std::fs::read(path).expect("read"))).into()
    }

    /// The power fails: of what the ledger was told since these files were as they are here nothing was synced, and
    /// nothing of the cache.
    pub(super) async fn lost_power(self, ledger: Vec<(PathBuf, Vec<u8>)>) -> Rig {
        let around = self.dead().await;
        // It is closed when SQLite has removed this.
        while around.dir.path().join("ledger.db-shm").exists() {
            tokio::task::yield_now().await;
        }
        std::fs::remove_dir_all(around.dir.path().join("cache/blocks")).expect("removed");
        for (path, content) in ledger {
            std::fs::write(path, content).expect("written");
        }
        Rig::start(around, journal(), 1 << 30).await
    }

    /// Lets a second pass on the wall clock -> the time then.
    pub(super) fn tick(&self) -> i64 {
        self.now.fetch_add(1_000_000_000, Ordering::SeqCst) + 1_000_000_000
    }

    /// Lets so many nanoseconds pass on the wall clock.
    pub(super) fn skip(&self, nanos: i64) {
        self.now.fetch_add(nanos, Ordering::SeqCst);
    }

    pub(super) async fn open(&self, ino: Ino, access: Access) -> HandleId {
        self.opened(ino, access, Truncate::Keep).await.handle
    }

    pub(super) async fn opened(&self, ino: Ino, access: Access, truncate: Truncate) -> Opened {
        self.fs.open(ino, access, truncate).await.expect("opened")
    }

    /// What becomes of the kernel's pages at an open; it is closed again.
    pub(super) async fn pages_at_open(&self, ino: Ino, access: Access) -> &'static str {
        let opened = self.opened(ino, access, Truncate::Keep).await;
        let what = match opened.pages {
            Pages::Keep => "keep",
            Pages::KeepAndNote => "keep and note",
            Pages::Drop(_alone) => "drop",
        };
        self.close(opened.handle).await;
        what
    }

    /// Makes a file in the root with this content, and closes it.
    pub(super) async fn file(&self, name: &str, content: &[u8]) -> Ino {
        let made = self.fs.create(Ino::ROOT, name, 0o644, ALICE).await.expect("made");
        self.write(made.handle, 0, content).await;
        self.close(made.handle).await;
        made.info.ino
    }

    pub(super) async fn write(&self, handle: HandleId, offset: u64, content: &[u8]) {
        self.fs.write(handle, Place::At(offset), content).await.expect("written");
    }

    pub(super) async fn read(&self, handle: HandleId) -> Vec<u8> {
        self.fs.read(handle, 0, 1 << 20).await.expect("read").to_vec()
    }

    /// What a reader finds who opens it now.
    pub(super) async fn content(&self, ino: Ino) -> Vec<u8> {
        let handle = self.open(ino, Access::Read).await;
        let content = self.read(handle).await;
        self.close(handle).await;
        content
    }

    /// As the kernel does it for the last descriptor.
    pub(super) async fn close(&self, handle: HandleId) {
        self.fs.flush(handle).await.expect("flushed");
        self.fs.release(handle).await.expect("released");
    }

    /// Waits until both stores have everything.
    pub(super) async fn drain(&self) {
        let drained = self.bridge.drain(DRAIN_MAX).await.expect("drained");
        assert_eq!(drained.pending, 0, "the stores converge");
    }

    /// Drains, and waits until no staged file stands in for the stores: the last receipt is a moment earlier
    /// than its end. Nobody asks for a lease here, which would keep it.
    pub(super) async fn settle(&self) {
        self.drain().await;
        while self.cache.stats().staged_files > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// What both stores hold under a key; they must agree.
    pub(super) async fn stored(&self, key: &str) -> Option<Vec<u8>> {
        self.drain().await;
        let held = PerSide::from_fn(|side| {
            let objects = self.stores[side].snapshot();
            objects.into_iter().find(|(k, _)| k.as_str() == key).map(|(_, (body, _))| body.to_vec())
        });
        assert_eq!(held[Side::Old], held[Side::New], "both stores hold the same");
        held.old
    }
}

fn handle(store: SharedStore) -> StoreHandle {
    let breaker = Arc::new(Breaker::new("store", store, 1));
    tokio::spawn(Arc::clone(&breaker).run_probe());
    StoreHandle { name: "store".to_owned(), store: Arc::clone(&breaker) as SharedStore, breaker }
}
