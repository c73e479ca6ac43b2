//! The stores of one bridge: opened, checked, and stacked.

use std::path::Path;
use std::sync::Arc;

use super::DaemonError;
use super::memo::{FolderId, Memo, Remembered};
use super::owner::{self, Belongs, Owner};
use crate::bridge::StoreHandle;
use crate::clock::Clock;
use crate::config::{Location, StoreConfig};
use crate::ledger::Ledger;
use crate::object::{NanoTime, PerSide, Side};
use crate::store::breaker::Breaker;
use crate::store::folder::FolderStore;
use crate::store::limit::{Limited, Limits};
use crate::store::memory::MemoryStore;
use crate::store::metered::Metered;
use crate::store::remote::{ProbeReport, RemoteStore};
use crate::store::{ErrorKind, SharedStore, Store, StoreError};

/// A store's clock may differ from ours by so much: request signatures are refused beyond 15 minutes, and
/// times in listings would be useless long before.
const CLOCK_SKEW_MAX: NanoTime = 300 * 1_000_000_000;

/// The stack of one store. From the inside out:
///
/// - `Metered` counts what really goes to the store: not what waits for its turn, nor what is refused;
/// - `Limited` bounds each call, so that a silent store becomes an error;
/// - `Breaker` is outside, because those errors are what opens it, and a call that it refuses must neither
///   wait for a turn nor be counted as a request.
pub(super) fn stack(config: &StoreConfig, raw: SharedStore) -> StoreHandle {
    let limits = Limits {
        requests_in_flight: usize::try_from(config.tuning.requests_max).unwrap_or(usize::MAX),
        stall: config.tuning.stall_timeout,
        ..Limits::default()
    };
    let metered = Arc::new(Metered::new(config.name.clone(), raw));
    let limited = Arc::new(Limited::new(metered, limits));
    let breaker = Arc::new(Breaker::new(config.name.clone(), limited, rand::random()));
    let store: SharedStore = Arc::<Breaker>::clone(&breaker);
    StoreHandle { name: config.name.clone(), store, breaker }
}

/// Opens both stores. One that is away does not keep the bridge from starting; one that refuses our
/// credentials, does not exist or has another clock does.
pub(super) async fn open(
    stores: &PerSide<StoreConfig>,
    state_dir: &Path,
    ledger: &Ledger,
) -> Result<PerSide<SharedStore>, DaemonError> {
    let memo = Memo::in_folder(state_dir);
    let (old, new) = futures::join!(open_one(&stores.old, &memo), open_one(&stores.new, &memo));
    let opened = PerSide { old: old?, new: new? };
    let failed = |source| DaemonError::Ledger { state_dir: state_dir.to_owned(), source };
    let mut to_note = Vec::new();
    for (side, config) in stores.iter() {
        let known = ledger.store_of(side).map_err(failed)?;
        if known.as_ref() != Some(&config.location.to_string()) {
            refuse_strange_store(state_dir, &memo, side, known.as_deref(), config)?;
            to_note.push(side);
        }
    }
    let me = Owner::here(ledger.bridge_id(), state_dir);
    let asked = ask_both(stores, &opened, &me, ledger).await?;
    let now = Clock::System.now();
    let is_first = asked.iter().any(|asked| !asked.was_marked);
    super::alias::refuse_aliases(stores, &opened, ledger.bridge_id(), is_first).await?;
    for Asked { side, was_marked, mut belongs } in asked {
        if belongs == Belongs::ToNobody {
            belongs = owner::claim(&stores[side], opened[side].as_ref(), &me, now).await?;
        }
        if belongs == Belongs::Here && !was_marked {
            ledger.note_mark(side).await.map_err(failed)?;
        }
    }
    for (_, config) in stores.iter() {
        sweep(config, &memo).await?;
    }
    for side in to_note {
        ledger.note_store(side, stores[side].location.to_string()).await.map_err(failed)?;
    }
    Ok(opened)
}

/// Removes what a killed daemon left in a folder. Only now, when the folder is known to be this bridge's alone:
/// what looks abandoned could be another bridge's work.
async fn sweep(config: &StoreConfig, memo: &Memo) -> Result<(), DaemonError> {
    let Location::Folder(path) = &config.location else { return Ok(()) };
    let Some(Remembered::Folder { id }) = memo.recall(config)? else { return Ok(()) };
    if let Err(error) = FolderStore::existing(path, Some(id.into())).sweep().await {
        tracing::warn!(store = config.name, %error, "the store is away; the bridge starts without it");
    }
    Ok(())
}

/// What a store says of whose it is, and what the ledger says.
struct Asked {
    side: Side,
    was_marked: bool,
    belongs: Belongs,
}

/// Both are asked before either is changed: a bridge that is refused by one must leave the other as it was.
async fn ask_both(
    stores: &PerSide<StoreConfig>,
    opened: &PerSide<SharedStore>,
    me: &Owner,
    ledger: &Ledger,
) -> Result<Vec<Asked>, DaemonError> {
    let mut asked = Vec::new();
    for (side, config) in stores.iter().filter(|(_, config)| config.location != Location::Memory) {
        let failed = |source| DaemonError::Ledger { state_dir: me.state_dir.clone().into(), source };
        let was_marked = ledger.is_marked(side).map_err(failed)?;
        let belongs = owner::ask(config, opened[side].as_ref(), me, was_marked).await?;
        asked.push(Asked { side, was_marked, belongs });
    }
    Ok(asked)
}

/// Receipts belong to one store. Under another one, or with the two exchanged, the ledger would call
/// current what the store does not hold, and the two sides would stay different without a finding. A folder
/// that was only moved is known by its identity.
fn refuse_strange_store(
    state_dir: &Path,
    memo: &Memo,
    side: Side,
    known: Option<&str>,
    config: &StoreConfig,
) -> Result<(), DaemonError> {
    let Some(known) = known else { return Ok(()) };
    let now = config.location.to_string();
    let identity = memo.recall_at(&now)?;
    if matches!(identity, Some(Remembered::Folder { .. })) && memo.recall_at(known)? == identity {
        return Ok(());
    }
    Err(DaemonError::Unsafe {
        why: format!(
            "the ledger in {} was made with `{side}` = {known}, but the configuration now names {now}. What the \
             ledger knows of the one store would be believed of the other: reads could be old, and what differs \
             would be called equal. Nothing was mounted and nothing was changed. Name the stores as before, or \
             start a new bridge with an empty state_dir, once this one has nothing to do (`bridgefs status`)",
            state_dir.display()
        ),
    })
}

async fn open_one(config: &StoreConfig, memo: &Memo) -> Result<SharedStore, DaemonError> {
    match &config.location {
        Location::Memory => Ok(Arc::new(MemoryStore::new(config.name.clone(), Clock::System))),
        Location::Folder(path) => open_folder(config, path, memo).await,
        Location::Remote { .. } => open_remote(config, memo).await,
    }
}

/// A folder that was used before may be away. One that was not must be there: an empty directory in its
/// place may be the mountpoint of a disk that is not mounted, and everything would go to the wrong disk.
async fn open_folder(config: &StoreConfig, path: &Path, memo: &Memo) -> Result<SharedStore, DaemonError> {
    if let Some(Remembered::Folder { id }) = memo.recall(config)? {
        refuse_another_folder(config, path, &id).await?;
        return Ok(Arc::new(FolderStore::existing(path, Some(id.into()))));
    }
    if !path.is_dir() {
        return Err(DaemonError::Unsafe {
            why: format!(
                "store \"{}\": the folder {} is not there. Make it first; if it is on a disk of its own, mount \
                 that disk first",
                config.name,
                path.display()
            ),
        });
    }
    let store = FolderStore::create(path).await.map_err(|error| refused(config, error))?;
    if let Some(id) = store.id() {
        memo.remember(config, Remembered::Folder { id: id.into() })?;
    }
    Ok(Arc::new(store))
}

/// A folder that is away is waited for; one in whose place another store stands was mixed up.
async fn refuse_another_folder(config: &StoreConfig, path: &Path, id: &FolderId) -> Result<(), DaemonError> {
    let found = FolderStore::existing(path, None);
    match found.probe().await.map(|()| found.id()) {
        Ok(Some(there)) if FolderId::from(there.clone()) != *id => Err(DaemonError::Unsafe {
            why: format!(
                "store \"{}\": the folder {} is another store than the one that this bridge has there: two folders were exchanged, or one was restored from elsewhere. Nothing was mounted and \
                 nothing was changed. Put the right folder there",
                config.name,
                path.display(),
            ),
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn open_remote(config: &StoreConfig, memo: &Memo) -> Result<SharedStore, DaemonError> {
    let remote = connect(config)?;
    match remote.probe_capabilities().await {
        Ok(report) => {
            refuse_skew(&format!("store \"{}\"", config.name), &report)?;
            memo.remember(config, Remembered::Remote { capabilities: report.capabilities })?;
        }
        Err(error) if is_away(&error) => {
            tracing::warn!(store = config.name, %error, "the store is away; the bridge starts without it");
            if let Some(Remembered::Remote { capabilities }) = memo.recall(config)? {
                remote.assume(capabilities);
            }
        }
        Err(error) => return Err(refused(config, error)),
    }
    Ok(remote.shared())
}

/// Prepares a remote store; nothing is sent.
pub(super) fn connect(config: &StoreConfig) -> Result<RemoteStore, DaemonError> {
    let url = config.location.to_string();
    let remote = RemoteStore::connect(&config.name, &url, config.options.reveal());
    remote.map_err(|error| refused(config, error))
}

fn is_away(error: &StoreError) -> bool {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Throttled => true,
        ErrorKind::NotFound
        | ErrorKind::PreconditionFailed
        | ErrorKind::Denied
        | ErrorKind::Locked
        | ErrorKind::Unsupported
        | ErrorKind::Corrupt => false,
    }
}

/// Refuses a store whose clock is not ours; `what` names it.
pub(super) fn refuse_skew(what: &str, report: &ProbeReport) -> Result<(), DaemonError> {
    match report.clock_skew {
        Some(skew) if skew.abs() > CLOCK_SKEW_MAX => Err(DaemonError::Unsafe {
            why: format!(
                "{what}: its clock and this host's differ by {} s, more than {} s. Requests would be refused \
                 and times would be wrong; set this host's clock (timedatectl set-ntp true)",
                skew.abs() / 1_000_000_000,
                CLOCK_SKEW_MAX / 1_000_000_000
            ),
        }),
        Some(_) | None => Ok(()),
    }
}

fn refused(config: &StoreConfig, source: StoreError) -> DaemonError {
    let advice = advice(source.kind());
    DaemonError::Store { name: config.name.clone(), source, advice }
}

/// What to do about a store that could not be opened. A store that refuses says itself what to mend: the
/// credentials are only one of many causes.
pub(super) fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Denied => {
            "The store was reached, but refuses: mend what it says, and look with `bridgefs check`. Nothing was mounted"
        }
        ErrorKind::NotFound => {
            "Make the bucket or container first, or correct `url` and `endpoint`. Nothing was mounted"
        }
        ErrorKind::Unavailable | ErrorKind::Throttled => {
            "It cannot be reached now: look at the network, at `endpoint`, and at the provider's status page"
        }
        ErrorKind::Unsupported | ErrorKind::Locked => {
            "The bridge cannot use it as it is set up. Nothing was mounted"
        }
        ErrorKind::PreconditionFailed | ErrorKind::Corrupt => {
            "Its answers are not those of an object store: is `endpoint` right? Nothing was mounted"
        }
    }
}
