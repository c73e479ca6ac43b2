//! The real things under a case: two stores with faults, a state directory, a bridge that can be killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bridgefs::bridge::{
    AckPolicy, Bridge, BridgeParts, BridgeSettings, BridgeTasks, Coherence, StoreHandle, UnprovenReads,
};
use bridgefs::cache::{Cache, CacheOptions, KeepFree};
use bridgefs::clock::{Clock, sleep};
use bridgefs::ledger::{Ledger, LedgerMode, LedgerOptions};
use bridgefs::object::{PerSide, Side};
use bridgefs::store::breaker::Breaker;
use bridgefs::store::faulty::{Fault, Faults, Faulty, Rule};
use bridgefs::store::limit::{Limited, Limits};
use bridgefs::store::metered::Operation;
use bridgefs::store::{ErrorKind, SharedStore};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::recorder::Recorder;
use crate::step::Trouble;

/// A request that is late arrives at most this much later, which is less than the bridge allows for.
const LATE_MAX: Duration = Duration::from_secs(55);

/// How many turns of the runtime a killed bridge may take to be gone.
const TURNS_TO_DIE: u32 = 10_000;

/// What a case chooses of the bridge.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// The ack policy of everything.
    pub ack: AckPolicy,
    /// Reads without proof.
    pub unproven: UnprovenReads,
}

/// A running process.
#[derive(Debug)]
struct Up {
    bridge: Arc<Bridge>,
    tasks: BridgeTasks,
    breakers: PerSide<Arc<Breaker>>,
}

/// Everything that is not the model.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    /// The two stores as they really are.
    pub stores: PerSide<Arc<Recorder>>,
    /// What goes wrong between the bridge and them.
    pub faults: PerSide<Faults>,
    faulty: PerSide<SharedStore>,
    clock: Arc<AtomicI64>,
    choice: Choice,
    seed: u64,
    up: Option<Up>,
    couriers: Vec<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.couriers.iter().for_each(JoinHandle::abort);
    }
}

impl World {
    /// Two empty stores and an empty directory; nothing runs yet.
    pub fn new(seed: u64, choice: Choice) -> World {
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000_000_000));
        let number = |side: Side| seed * 2 + u64::from(side == Side::New);
        let stores =
            PerSide::from_fn(|side| Recorder::new(side, Clock::Manual(Arc::clone(&clock)), number(side)));
        let both = PerSide::from_fn(|side| {
            let raw: SharedStore = Arc::<Recorder>::clone(&stores[side]);
            let (faulty, faults) = Faulty::new(raw, number(side) ^ 0x5555);
            (Arc::new(faulty) as SharedStore, faults)
        });
        let faults = PerSide::from_fn(|side| both[side].1.clone());
        let faulty = both.map(|(store, _)| store);
        let couriers = Side::BOTH.map(|side| tokio::spawn(courier(faults[side].clone()))).into();
        let dir =
            tempfile::Builder::new().prefix("bridgefs-model-").tempdir_in(ramdisk()).expect("a directory");
        World { dir, stores, faults, faulty, clock, choice, seed, up: None, couriers }
    }

    /// Starts the process.
    pub async fn start(&mut self) -> Result<(), String> {
        let clock = Clock::Manual(Arc::clone(&self.clock));
        let state = self.dir.path().join("state");
        let options = LedgerOptions { mode: LedgerMode::Inline, sync: false, clock: clock.clone() };
        let ledger = Arc::new(Ledger::open(&state, options).map_err(|e| format!("open the ledger: {e}"))?);
        let volume = ledger.bridge_id().to_owned();
        let options = CacheOptions {
            bytes_max: 3 << 20,
            keep_free: KeepFree::Bytes(0),
            staged_bytes_max: 256 << 20,
            volume,
        };
        let cache = Cache::open(&self.dir.path().join("cache"), options)
            .map_err(|e| format!("open the cache: {e}"))?;
        let breakers = PerSide::from_fn(|side| {
            let limits = Limits { requests_in_flight: 8, ..Limits::default() };
            let limited = Arc::new(Limited::new(Arc::clone(&self.faulty[side]), limits));
            Arc::new(Breaker::new(side.as_str(), limited, self.seed))
        });
        let stores = PerSide::from_fn(|side| StoreHandle {
            name: format!("the-{side}-one"),
            store: Arc::<Breaker>::clone(&breakers[side]),
            breaker: Arc::clone(&breakers[side]),
        });
        let settings = BridgeSettings {
            ack: self.choice.ack,
            unproven_reads: self.choice.unproven,
            coherence: Coherence::Exclusive,
            ..BridgeSettings::default()
        };
        let parts = BridgeParts { ledger, cache, stores, clock, settings };
        let bridge = Bridge::start(parts).await.map_err(|e| format!("start the bridge: {e}"))?;
        let tasks = bridge.run();
        self.up = Some(Up { bridge, tasks, breakers });
        Ok(())
    }

    /// The process is gone from one moment to the next: nothing is said to anybody.
    pub async fn kill(&mut self) -> Result<(), String> {
        let Some(Up { bridge, tasks, breakers }) = self.up.take() else { return Ok(()) };
        let remains = Arc::downgrade(&bridge);
        drop((bridge, tasks, breakers));
        for _ in 0..TURNS_TO_DIE {
            if remains.strong_count() == 0 {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        Err("the bridge is still held by somebody after it was killed".to_owned())
    }

    /// The process ends in order.
    pub async fn stop(&mut self) -> Result<(), String> {
        if let Some(Up { bridge, tasks, breakers }) = self.up.take() {
            tasks.stop().await;
            let remains = Arc::downgrade(&bridge);
            drop((bridge, breakers));
            for _ in 0..TURNS_TO_DIE {
                if remains.strong_count() == 0 {
                    return Ok(());
                }
                tokio::task::yield_now().await;
            }
            return Err("the bridge is still held by somebody after it was stopped".to_owned());
        }
        Ok(())
    }

    /// The disk of the cache is replaced by an empty one; only between a stop and a start, and only when
    /// nothing is staged.
    pub fn forget_cache(&self) {
        std::fs::remove_dir_all(self.dir.path().join("cache")).expect("the cache is there");
    }

    /// The running bridge.
    pub fn bridge(&self) -> Arc<Bridge> {
        Arc::clone(&self.up.as_ref().expect("a process runs").bridge)
    }

    /// Whether calls to a store are refused now.
    pub fn is_open(&self, side: Side) -> bool {
        self.up.as_ref().is_some_and(|up| up.breakers[side].is_open())
    }

    /// Wall-clock time now.
    pub fn now(&self) -> i64 {
        // A tick each time it is asked: no two changes happen at the same time.
        self.clock.fetch_add(1_000_001, Ordering::Relaxed)
    }

    /// The wall clock jumps; the virtual time of the timers does not.
    pub fn jump(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1_000_000_000, Ordering::Relaxed);
    }

    /// Something begins to go wrong.
    pub fn trouble(&self, side: Side, trouble: Trouble) {
        let faults = &self.faults[side];
        match trouble {
            Trouble::Down => faults.down(),
            Trouble::Stall => faults.push(Rule::always(Fault::Stall)),
            Trouble::Slow => faults.push(Rule::always(Fault::Delay(Duration::from_millis(800)))),
            Trouble::LostAnswers => faults.push(Rule::always(Fault::FailAfter).sometimes(0.5)),
            Trouble::Late => {
                faults.push(Rule::always(Fault::Late).on(&Operation::MUTATIONS).sometimes(0.5));
            }
            Trouble::Truncated => {
                faults.push(Rule::always(Fault::Truncate { after_bytes: 50 }).sometimes(0.5));
            }
            Trouble::Flipped => faults.push(Rule::always(Fault::FlipBit).sometimes(0.5)),
            Trouble::Denied => faults.push(Rule::always(Fault::Fail(ErrorKind::Denied))),
            Trouble::Throttled => {
                faults.push(Rule::always(Fault::Fail(ErrorKind::Throttled)).sometimes(0.5));
            }
            Trouble::Flaky => {
                faults.push(Rule::always(Fault::Fail(ErrorKind::Unavailable)).sometimes(0.3));
            }
        }
    }

    /// Everything is well with a store again.
    pub fn heal(&self, side: Side) {
        self.faults[side].clear();
        self.faults[side].up();
    }

    /// What was late arrives.
    pub async fn release_late(&self) {
        for side in Side::BOTH {
            self.faults[side].release_late().await;
        }
    }
}

/// Delivers what is late, now and then.
async fn courier(faults: Faults) {
    loop {
        sleep(LATE_MAX).await;
        faults.release_late().await;
    }
}

/// A directory in memory, where there is one.
fn ramdisk() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}
