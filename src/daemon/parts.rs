//! The local parts of a bridge: ledger, cache, settings, slices.

use std::path::Path;
use std::sync::Arc;

use nix::sys::statvfs::statvfs;

use super::{DaemonError, state_dir};
use crate::bridge::BridgeSettings;
use crate::cache::{Cache, CacheOptions, KeepFree};
use crate::clock::Clock;
use crate::config::{CacheConfig, Config, DiskAmount};
use crate::ledger::{Event, Ledger, LedgerError, LedgerMode, LedgerOptions, Slice};
use crate::stage::Stage;

/// Opens the ledger, which locks the state directory: a second daemon ends here.
pub(super) fn open_ledger(state_dir: &Path) -> Result<Arc<Ledger>, DaemonError> {
    state_dir::make(state_dir)?;
    let options = LedgerOptions { mode: LedgerMode::Threaded, sync: true, clock: Clock::System };
    let failed = |source| DaemonError::Ledger { state_dir: state_dir.to_owned(), source };
    let ledger = Ledger::open(state_dir, options).map_err(failed)?;
    state_dir::note_bridge(state_dir, ledger.bridge_id())?;
    Ok(Arc::new(ledger))
}

/// Opens the cache of the bridge whose ledger is `ledger`.
pub(super) fn open_cache(config: &CacheConfig, ledger: &Ledger) -> Result<Arc<Cache>, DaemonError> {
    let made = state_dir::make_private(&config.dir);
    made.map_err(|source| DaemonError::Folder { path: config.dir.clone(), source })?;
    let options = CacheOptions {
        bytes_max: config.size.bytes_of(disk_bytes(&config.dir)?),
        keep_free: match config.keep_free {
            DiskAmount::Bytes(bytes) => KeepFree::Bytes(bytes),
            DiskAmount::Percent(percent) => KeepFree::Percent(percent),
        },
        staged_bytes_max: config.staged_bytes_max,
        volume: ledger.bridge_id().to_owned(),
    };
    let dir = config.dir.clone();
    Cache::open(&config.dir, options).map_err(|source| DaemonError::Cache { dir, source })
}

fn disk_bytes(dir: &Path) -> Result<u64, DaemonError> {
    let stat =
        statvfs(dir).map_err(|errno| DaemonError::Folder { path: dir.to_owned(), source: errno.into() })?;
    Ok(stat.blocks().saturating_mul(stat.fragment_size()))
}

/// The bridge's settings out of the configuration.
pub(super) fn settings(config: &Config) -> BridgeSettings {
    let own_acks = config.slices.iter().filter_map(|slice| Some((slice.prefix.clone(), slice.ack?)));
    BridgeSettings {
        ack: config.bridge.ack,
        slice_acks: own_acks.collect(),
        coherence: config.bridge.coherence,
        unproven_reads: config.bridge.unproven_reads,
        ack_deadline: config.bridge.ack_deadline,
        op_deadline: config.bridge.op_deadline,
        ..BridgeSettings::default()
    }
}

/// Makes the slices that the ledger does not know yet: the default slice of a new ledger in the configured
/// first stage; any other one goes on in the stage of the slice that it is split from, so that adding a
/// slice moves nothing. Stages that are there stay: they live in the ledger, not in the file.
pub(super) async fn make_slices(config: &Config, ledger: &Ledger) -> Result<(), DaemonError> {
    let failed =
        |source: LedgerError| DaemonError::Ledger { state_dir: config.bridge.state_dir.clone(), source };
    let mut known = ledger.slices().map_err(failed)?;
    // A new ledger has its default slice, in stage off, but no event: nobody has set a stage yet.
    if ledger.events(1).map_err(failed)?.is_empty() {
        known.clear();
    }
    let mut wanted: Vec<&str> = config.slices.iter().map(|slice| slice.prefix.as_str()).collect();
    wanted.push("");
    wanted.sort_by_key(|prefix| prefix.len());
    for prefix in wanted {
        if known.iter().any(|slice| slice.prefix == prefix) {
            continue;
        }
        let parent = known.iter().filter(|slice| is_below(prefix, &slice.prefix));
        let parent = parent.max_by_key(|slice| slice.prefix.len());
        let stage = parent.map_or(config.bridge.initial_stage, |slice| slice.stage);
        let (slice, event) = new_slice(prefix, stage);
        ledger.set_slice(slice.clone(), event).await.map_err(failed)?;
        known.push(slice);
    }
    Ok(())
}

fn is_below(prefix: &str, parent: &str) -> bool {
    parent.is_empty() || prefix.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

fn new_slice(prefix: &str, stage: Stage) -> (Slice, Event) {
    let at = Clock::System.now();
    let event = Event {
        at,
        who: "bridgefs".to_owned(),
        what: format!("slice /{prefix} made in stage {stage}"),
        why: "it is in the configuration and was not in the ledger".to_owned(),
    };
    (
        Slice { prefix: prefix.to_owned(), stage, read_percent: 100, since: at, backfill_complete: false },
        event,
    )
}
