//! A real mount over two stores in memory that count their requests and fail as they are told, taken away when it
//! is dropped.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
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
use bridgefs::store::faulty::{Faults, Faulty};
use bridgefs::store::limit::{Limited, Limits};
use bridgefs::store::memory::MemoryStore;
use bridgefs::store::metered::{Metered, Operation, RequestCounts};
use bridgefs::store::{Condition, ObjectMeta, SharedStore, Store};
use bytes::Bytes;
use nix::mount::{MntFlags, MsFlags};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// What a test may want to be otherwise.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    /// The old store holds objects of one byte under these keys.
    pub(crate) keys: Vec<String>,
    pub(crate) settings: BridgeSettings,
    pub(crate) files: FsOptions,
    pub(crate) limits: Limits,
    pub(crate) mount: MountOptions,
    /// The limit of staged content in bytes, if not a large one.
    pub(crate) staged_bytes_max: Option<u64>,
    /// Staged content and cache have a small disk of their own, of so many bytes.
    pub(crate) disk_bytes: Option<u64>,
}

/// The mount and all that is behind it.
pub(crate) struct Rig {
    mounted: Option<Mounted>,
    _tasks: BridgeTasks,
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) fs: Arc<Fs>,
    pub(crate) stores: PerSide<Arc<MemoryStore>>,
    pub(crate) faults: PerSide<Faults>,
    counts: PerSide<Arc<RequestCounts>>,
    pub(crate) runtime: Runtime,
    _disk: Option<SmallDisk>,
    dir: TempDir,
}

/// A disk that is full soon, taken away when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, bytes: u64) -> SmallDisk {
        std::fs::create_dir_all(at).expect("a directory");
        let size = format!("size={bytes}");
        nix::mount::mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
            .expect("a disk");
        SmallDisk(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Files that are still open on it keep it until they are closed.
        nix::mount::umount2(&self.0, MntFlags::MNT_DETACH).expect("unmounted");
    }
}

impl Rig {
    /// Mounts an empty tree in stage `dual-write`.
    pub(crate) fn new() -> Rig {
        Rig::over(std::iter::empty())
    }

    /// The same over an old store that holds objects of one byte under these keys.
    pub(crate) fn over(keys: impl Iterator<Item = String>) -> Rig {
        Rig::with(Setup { keys: keys.collect(), ..Setup::default() })
    }

    pub(crate) fn with(setup: Setup) -> Rig {
        require_privileges();
        let runtime = Runtime::new().expect("a runtime");
        let dir = TempDir::new().expect("a directory");
        let stores = PerSide::from_fn(|side| Arc::new(MemoryStore::new(format!("{side}"), Clock::System)));
        runtime.block_on(seed(&stores.old, setup.keys));
        let faulty =
            PerSide::from_fn(|side| Faulty::new(Arc::<MemoryStore>::clone(&stores[side]) as SharedStore, 1));
        let faults = PerSide::from_fn(|side: Side| faulty[side].1.clone());
        let metered = faulty.map(|(store, _)| Arc::new(Metered::new("a store", Arc::new(store))));
        let counts = PerSide::from_fn(|side: Side| metered[side].counts());
        let limited = metered.map(|store| Arc::new(Limited::new(store, setup.limits)) as SharedStore);
        let disk = setup.disk_bytes.map(|bytes| SmallDisk::mount(&dir.path().join("state/cache"), bytes));
        let staged_bytes_max = setup.staged_bytes_max.unwrap_or(1 << 30);
        let bridge = runtime.block_on(start(dir.path(), limited, setup.settings, staged_bytes_max));
        let tasks = runtime.block_on(async { bridge.run() });
        let fs = Fs::new(Arc::clone(&bridge), setup.files);
        let at = dir.path().join("mnt");
        std::fs::create_dir(&at).expect("a mountpoint");
        let mounted = mount(Arc::clone(&fs), &at, &setup.mount, runtime.handle().clone()).expect("a mount");
        Rig {
            mounted: Some(mounted),
            _tasks: tasks,
            bridge,
            fs,
            stores,
            faults,
            counts,
            runtime,
            _disk: disk,
            dir,
        }
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

    /// Requests to both stores so far, but for those that only look whether they are there.
    pub(crate) fn requests(&self) -> Vec<(Operation, u64)> {
        let paid = Operation::ALL.into_iter().filter(|operation| *operation != Operation::Probe);
        paid.map(|operation| (operation, self.requests_for(operation))).collect()
    }

    /// Requests of one sort to both stores so far.
    pub(crate) fn requests_for(&self, operation: Operation) -> u64 {
        self.counts.old.of(operation) + self.counts.new.of(operation)
    }

    /// Lets everybody into the test's own directories above the mount.
    pub(crate) fn let_all_in(&self) {
        let above = self.root().parent().expect("below the root").to_owned();
        std::fs::set_permissions(above, Permissions::from_mode(0o755)).expect("open to all");
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

async fn seed(store: &MemoryStore, keys: Vec<String>) {
    let meta = ObjectMeta::default();
    for key in keys {
        let key = Key::new(key).expect("a key");
        store.put(&key, Bytes::from_static(b"x"), &meta, &Condition::Always).await.expect("put");
    }
}

async fn start(
    dir: &Path,
    stores: PerSide<SharedStore>,
    settings: BridgeSettings,
    staged_bytes_max: u64,
) -> Arc<Bridge> {
    let state = dir.join("state");
    std::fs::create_dir_all(&state).expect("a state directory");
    let options = LedgerOptions { mode: LedgerMode::Threaded, sync: true, clock: Clock::System };
    let ledger = Arc::new(Ledger::open(&state, options).expect("a ledger"));
    let options = CacheOptions {
        bytes_max: 1 << 30,
        keep_free: KeepFree::Bytes(0),
        staged_bytes_max,
        volume: ledger.bridge_id().to_owned(),
    };
    let cache = Cache::open(&state.join("cache"), options).expect("a cache");
    let stores = PerSide::from_fn(|side| handle(side, SharedStore::clone(&stores[side])));
    let parts = BridgeParts { ledger, cache, stores, clock: Clock::System, settings };
    let bridge = Bridge::start(parts).await.expect("a bridge");
    bridge.set_stage("", Stage::DualWrite, 100, "test", "test").await.expect("a stage");
    bridge
}

fn handle(side: Side, store: SharedStore) -> StoreHandle {
    let breaker = Arc::new(Breaker::new(format!("{side}"), store, 1));
    tokio::spawn(Arc::clone(&breaker).run_probe());
    StoreHandle { name: format!("{side}"), store: Arc::clone(&breaker) as SharedStore, breaker }
}
