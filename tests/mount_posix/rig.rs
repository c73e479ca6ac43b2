//! A real mount over two stores in memory, taken away when it is dropped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bridgefs::bridge::{Bridge, BridgeParts, BridgeSettings, BridgeTasks, StoreHandle};
use bridgefs::cache::{Cache, CacheOptions, KeepFree};
use bridgefs::clock::Clock;
use bridgefs::fs::{Fs, FsOptions};
use bridgefs::fuse::{MountOptions, Mounted, Unmount, mount};
use bridgefs::ledger::{Ledger, LedgerMode, LedgerOptions};
use bridgefs::object::{Key, PerSide, Side};
use bridgefs::stage::Stage;
use bridgefs::store::breaker::Breaker;
use bridgefs::store::memory::MemoryStore;
use bridgefs::store::{Condition, ObjectMeta, SharedStore, Store};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The mount and all that is behind it.
pub(crate) struct Rig {
    mounted: Option<Mounted>,
    _tasks: BridgeTasks,
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) fs: Arc<Fs>,
    pub(crate) stores: PerSide<Arc<MemoryStore>>,
    pub(crate) runtime: Runtime,
    dir: TempDir,
}

impl Rig {
    /// Mounts an empty tree in stage `dual-write`.
    pub(crate) fn new() -> Rig {
        Rig::over(std::iter::empty())
    }

    /// The same over an old store that holds objects of one byte under these keys.
    pub(crate) fn over(keys: impl Iterator<Item = String>) -> Rig {
        require_privileges();
        let runtime = Runtime::new().expect("a runtime");
        let dir = TempDir::new().expect("a directory");
        let stores = PerSide::from_fn(|side| Arc::new(MemoryStore::new(format!("{side}"), Clock::System)));
        runtime.block_on(seed(&stores.old, keys));
        let bridge = runtime.block_on(start(dir.path(), &stores));
        let tasks = runtime.block_on(async { bridge.run() });
        let fs = Fs::new(Arc::clone(&bridge), FsOptions::default());
        let at = dir.path().join("mnt");
        std::fs::create_dir(&at).expect("a mountpoint");
        let options = MountOptions::default();
        let mounted = mount(Arc::clone(&fs), &at, &options, runtime.handle().clone()).expect("a mount");
        Rig { mounted: Some(mounted), _tasks: tasks, bridge, fs, stores, runtime, dir }
    }

    /// A path in the mount.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// The mountpoint.
    pub(crate) fn root(&self) -> &Path {
        self.mounted.as_ref().expect("mounted").path()
    }

    /// A directory on the disk that the state directory is on.
    pub(crate) fn native(&self) -> PathBuf {
        let native = self.dir.path().join("native");
        std::fs::create_dir_all(&native).expect("a directory");
        native
    }

    /// Does the same in the mount and on the native disk: what it tells must be the same.
    pub(crate) fn same_as_native(&self, what: impl Fn(&Path) -> Vec<String>) {
        let (native, here) = (what(&self.native()), what(self.root()));
        let pairs = native.iter().zip(&here).filter(|(native, here)| native != here);
        let other: Vec<_> = pairs.map(|(native, here)| format!("native: {native}\nmount:  {here}")).collect();
        assert!(other.is_empty(), "{}", other.join("\n"));
        assert_eq!(here.len(), native.len());
        assert!(!here.is_empty(), "nothing was compared");
    }

    pub(crate) fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().expect("mounted")
    }

    /// Waits until both stores have everything.
    pub(crate) fn drain(&self) {
        let drained = self.runtime.block_on(self.bridge.drain(Duration::from_secs(60))).expect("drained");
        assert_eq!(drained.pending, 0, "the stores converge");
    }

    /// Runs a shell script in the mount -> what it printed.
    pub(crate) fn shell(&self, script: &str) -> String {
        let output = Command::new("bash")
            .args(["-euc", script])
            .current_dir(self.root())
            .output()
            .expect("bash is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let Some(mounted) = self.mounted.take() else { return };
        mounted.unmount(Unmount::Detach).expect("unmounted");
        let ended = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(10), mounted.wait()).await });
        if !std::thread::panicking() {
            ended.expect("the session ends with its mount").expect("and ends well");
        }
    }
}

/// A test that needs a mount and cannot have one has failed: nothing is skipped silently.
fn require_privileges() {
    assert!(Path::new("/dev/fuse").exists(), "these tests need /dev/fuse");
    assert!(nix::unistd::geteuid().is_root(), "these tests need root, to mount");
}

async fn seed(store: &MemoryStore, keys: impl Iterator<Item = String>) {
    let meta = ObjectMeta::default();
    for key in keys {
        let key = Key::new(key).expect("a key");
        store.put(&key, Bytes::from_static(b"x"), &meta, &Condition::Always).await.expect("put");
    }
}

async fn start(dir: &Path, stores: &PerSide<Arc<MemoryStore>>) -> Arc<Bridge> {
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
    let stores = PerSide::from_fn(|side| handle(side, &stores[side]));
    let settings = BridgeSettings::default();
    let parts = BridgeParts { ledger, cache, stores, clock: Clock::System, settings };
    let bridge = Bridge::start(parts).await.expect("a bridge");
    bridge.set_stage("", Stage::DualWrite, 100, "test", "test").await.expect("a stage");
    bridge
}

fn handle(side: Side, store: &Arc<MemoryStore>) -> StoreHandle {
    let inner: SharedStore = Arc::clone(store) as Arc<dyn Store>;
    let breaker = Arc::new(Breaker::new(format!("{side}"), inner, 1));
    tokio::spawn(Arc::clone(&breaker).run_probe());
    StoreHandle { name: format!("{side}"), store: Arc::clone(&breaker) as SharedStore, breaker }
}
