//! The local parts of a bridge: ledger, cache, settings, slices.

use std::path::Path;
use std::sync::Arc;

use nix::sys::statvfs::statvfs;

use super::DaemonError;
use super::detach::make_private_folder;
use crate::bridge::BridgeSettings;
use crate::cache::{Cache, CacheOptions, KeepFree};
use crate::clock::Clock;
use crate::config::{CacheConfig, Config, DiskAmount};
use crate::ledger::{Event, Ledger, LedgerError, LedgerMode, LedgerOptions, Slice};
use crate::stage::Stage;

/// Opens the ledger, which locks the state directory: a second daemon ends here.
pub(super) fn open_ledger(state_dir: &Path) -> Result<Arc<Ledger>, DaemonError> {
    make_private_folder(state_dir)?;
    let options = LedgerOptions { mode: LedgerMode::Threaded, sync: true, clock: Clock::System };
    let opened = Ledger::open(state_dir, options);
    opened.map(Arc::new).map_err(|source| DaemonError::Ledger { state_dir: state_dir.to_owned(), source })
}

/// Opens the cache of the bridge whose ledger is `ledger`.
pub(super) fn open_cache(config: &CacheConfig, ledger: &Ledger) -> Result<Arc<Cache>, DaemonError> {
    make_private_folder(&config.dir)?;
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

/// Makes the slices that the ledger does not know yet, in stage off. In a ledger without any history the
/// default slice gets the configured first stage. Stages that are there stay: they live in the ledger, not
/// in the file.
pub(super) async fn make_slices(config: &Config, ledger: &Ledger) -> Result<(), DaemonError> {
    let failed =
        |source: LedgerError| DaemonError::Ledger { state_dir: config.bridge.state_dir.clone(), source };
    let known = ledger.slices().map_err(failed)?;
    let is_new = ledger.events(1).map_err(failed)?.is_empty();
    let first = is_new.then_some(("", config.bridge.initial_stage));
    let configured = config.slices.iter().map(|slice| (slice.prefix.as_str(), Stage::Off));
    let unknown = configured.filter(|(prefix, _)| known.iter().all(|slice| slice.prefix != *prefix));
    for (prefix, stage) in first.into_iter().chain(unknown) {
        let (slice, event) = new_slice(prefix, stage);
        ledger.set_slice(slice, event).await.map_err(failed)?;
    }
    Ok(())
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
