//! A real mount over two stores in memory whose requests are counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bridgefs::bridge::{AckPolicy, Bridge, BridgeParts, BridgeSettings, BridgeTasks, StoreHandle};
use bridgefs::cache::{Cache, CacheOptions, KeepFree};
use bridgefs::clock::{Clock, timeout};
use bridgefs::fs::{Fs, FsOptions};
use bridgefs::fuse::{MountOptions, Mounted, Unmount, mount};
use bridgefs::ledger::{Ledger, LedgerMode, LedgerOptions};
use bridgefs::object::{Key, PerSide, Side};
use bridgefs::stage::Stage;
use bridgefs::store::breaker::Breaker;
use bridgefs::store::memory::MemoryStore;
use bridgefs::store::metered::{Metered, Operation, RequestCounts};
use bridgefs::store::{Condition, ObjectMeta, SharedStore, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long stores in memory may take to have everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The mount and the counters of all that costs.
pub(crate) struct Rig {
    mounted: Option<Mounted>,
    _tasks: BridgeTasks,
    bridge: Arc<Bridge>,
    ledger: Arc<Ledger>,
    counts: PerSide<Arc<RequestCounts>>,
    runtime: Runtime,
    dir: TempDir,
}

impl Rig {
    /// Mounts an empty tree in stage `dual-write`.
    pub(crate) fn new() -> Rig {
        Rig::over(&[])
    }

    /// The same with another ack policy.
    pub(crate) fn acked_by(ack: AckPolicy) -> Rig {
        Rig::build(&[], ack)
    }

    /// Mounts a tree that the old store already holds.
    pub(crate) fn over(keys: &[String]) -> Rig {
        Rig::build(keys, AckPolicy::Primary)
    }

    fn build(keys: &[String], ack: AckPolicy) -> Rig {
        let runtime = Runtime::new().expect("a runtime");
        let dir = TempDir::new().expect("a directory");
        let stores = PerSide::from_fn(|side| Arc::new(MemoryStore::new(format!("{side}"), Clock::System)));
        runtime.block_on(fill(&stores.old, keys));
        let metered = PerSide::from_fn(|side| {
            let inner: SharedStore = Arc::<MemoryStore>::clone(&stores[side]);
            Arc::new(Metered::new(format!("{side}"), inner))
        });
        let counts = PerSide::from_fn(|side: Side| metered[side].counts());
        let (bridge, ledger) = runtime.block_on(start(dir.path(), &metered, ack));
        let tasks = runtime.block_on(async { bridge.run() });
        std::fs::create_dir(dir.path().join("mnt")).expect("a mountpoint");
        let mut rig = Rig { mounted: None, _tasks: tasks, bridge, ledger, counts, runtime, dir };
        rig.mount();
        rig.forget_costs();
        rig
    }

    fn mount(&mut self) {
        let fs = Fs::new(Arc::clone(&self.bridge), FsOptions::default());
        let at = self.dir.path().join("mnt");
        let mounted = mount(fs, &at, &MountOptions::default(), self.runtime.handle().clone());
        self.mounted = Some(mounted.expect("these tests need root and /dev/fuse"));
    }

    /// Takes from the kernel what it remembers; the bridge keeps what it knows.
    pub(crate) fn remount(&mut self) {
        self.unmount();
        self.mount();
    }

    fn unmount(&mut self) {
        let Some(mounted) = self.mounted.take() else { return };
        mounted.unmount(Unmount::Detach).expect("unmounted");
        let ended = self.runtime.block_on(async { timeout(PATIENCE, mounted.wait()).await });
        if !std::thread::panicking() {
            ended.expect("the session ends with its mount").expect("and ends well");
        }
    }

    /// A path in the mount.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("mnt").join(name)
    }

    /// Waits until both stores have everything.
    pub(crate) fn drain(&self) {
        let drained = self.runtime.block_on(self.bridge.drain(PATIENCE)).expect("drained");
        assert_eq!(drained.pending, 0, "the stores converge");
    }

    /// Counts from 0 again, once nothing is under way.
    pub(crate) fn forget_costs(&self) {
        self.drain();
        self.counts.old.reset();
        self.counts.new.reset();
    }

    /// What was paid since then on one side, once nothing is under way: each operation that was used.
    pub(crate) fn paid(&self, side: Side) -> Vec<(Operation, u64)> {
        self.drain();
        let paid = Operation::ALL.into_iter().map(|operation| (operation, self.counts[side].of(operation)));
        paid.filter(|(operation, count)| *count > 0 && *operation != Operation::Probe).collect()
    }

    /// Asserts exactly these requests, and no others, on each side.
    pub(crate) fn assert_paid(&self, what: &str, expected: &[(Operation, u64)]) {
        for side in Side::BOTH {
            assert_eq!(self.paid(side), expected, "requests to {side} for {what}");
        }
    }

    /// Times that the ledger's disk was waited for since it was opened.
    pub(crate) fn syncs(&self) -> u64 {
        self.ledger.counters().syncs
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.unmount();
    }
}

async fn fill(store: &MemoryStore, keys: &[String]) {
    for key in keys {
        let (key, body) = (Key::new(key.as_str()).expect("a key"), key.clone().into_bytes());
        let put = store.put(&key, body.into(), &ObjectMeta::default(), &Condition::Always).await;
        put.expect("the memory store takes it");
    }
}

async fn start(dir: &Path, stores: &PerSide<Arc<Metered>>, ack: AckPolicy) -> (Arc<Bridge>, Arc<Ledger>) {
    let state = dir.join("state");
    std::fs::create_dir(&state).expect("a state directory");
    let options = LedgerOptions { mode: LedgerMode::Threaded, sync: true, clock: Clock::System };
    let ledger = Arc::new(Ledger::open(&state, options).expect("a ledger"));
    let options = CacheOptions {
        bytes_max: 1 << 30,
        keep_free: KeepFree::Bytes(0),
        staged_bytes_max: 1 << 30,
        volume: ledger.bridge_id().to_owned(),
    };
    let cache = Cache::open(&state.join("cache"), options).expect("a cache");
    let stores = PerSide::from_fn(|side| {
        let inner: SharedStore = Arc::<Metered>::clone(&stores[side]);
        let breaker = Arc::new(Breaker::new(format!("{side}"), inner, 1));
        StoreHandle { name: format!("{side}"), store: Arc::<Breaker>::clone(&breaker), breaker }
    });
    let settings = BridgeSettings { ack, ..BridgeSettings::default() };
    let parts = BridgeParts { ledger: Arc::clone(&ledger), cache, stores, clock: Clock::System, settings };
    let bridge = Bridge::start(parts).await.expect("a bridge");
    bridge.set_stage("", Stage::DualWrite, 100, "test", "test").await.expect("a stage");
    (bridge, ledger)
}
