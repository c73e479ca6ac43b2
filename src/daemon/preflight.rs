//! What can be known before the first mount: a line for each thing that must be right.

use std::fs::OpenOptions;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::memo::{Memo, Remembered};
use super::owner::{self, Belongs, Owner};
use super::{DaemonError, alias, mountpoint, state_dir, stores};
use crate::config::{Config, Location, StoreConfig};
use crate::store::folder::{FolderStore, StoreId};
use crate::store::remote::ProbeReport;
use crate::store::{Capabilities, SharedStore, Store};

/// Whether a thing is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is.
    Good,
    /// It works, but should be looked at.
    Warning,
    /// It would fail.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What.
    pub what: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub found: String,
}

impl Line {
    fn new(what: impl Into<String>, verdict: Verdict, found: impl Into<String>) -> Line {
        Line { what: what.into(), verdict, found: found.into() }
    }
}

/// Looks at everything that a mount of `config` needs. Puts one small object into each store and removes it.
pub async fn look(config: &Config, at: Option<&Path>) -> Vec<Line> {
    let mut lines = vec![Line::new("configuration", Verdict::Good, "it is complete")];
    lines.extend(config.warnings.iter().map(|text| Line::new("configuration", Verdict::Warning, text)));
    lines.push(fuse_device());
    lines.push(local_disk(&config.bridge.state_dir));
    if let Some(at) = at {
        lines.push(match mountpoint::prepare_mountpoint(config, at) {
            Ok(_) => Line::new("mountpoint", Verdict::Good, "empty, and not in use"),
            Err(error) => Line::new("mountpoint", Verdict::Bad, error.to_string()),
        });
    }
    let state_dir = &config.bridge.state_dir;
    let (old, new) =
        futures::join!(store(&config.stores.old, state_dir), store(&config.stores.new, state_dir));
    lines.extend(old.lines);
    lines.extend(new.lines);
    if let (Some(a), Some(b)) = (&old.opened, &new.opened) {
        lines.push(two_places(a, b).await);
    }
    lines
}

fn fuse_device() -> Line {
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Line::new("/dev/fuse", Verdict::Good, "can be used"),
        Err(error) => Line::new(
            "/dev/fuse",
            Verdict::Bad,
            format!(
                "{error}: load the module (modprobe fuse); in a container, pass the device and CAP_SYS_ADMIN in"
            ),
        ),
    }
}

fn local_disk(path: &Path) -> Line {
    let line = |verdict, found: String| Line::new("state_dir", verdict, found);
    if let Err(error) = state_dir::try_to_make(path) {
        return line(Verdict::Bad, error.to_string());
    }
    match statvfs(state_dir::nearest(path)) {
        Ok(stat) => {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            let verdict = if free < 1 << 30 { Verdict::Warning } else { Verdict::Good };
            line(verdict, format!("local, {} MiB free", free >> 20))
        }
        Err(errno) => line(Verdict::Bad, format!("cannot ask for the free space: {errno}")),
    }
}

/// What is known of one store.
struct Looked {
    lines: Vec<Line>,
    opened: Option<SharedStore>,
}

async fn store(config: &StoreConfig, state_dir: &Path) -> Looked {
    let what = format!("store {}", config.name);
    let bad = |found: String| Looked { lines: vec![Line::new(&what, Verdict::Bad, found)], opened: None };
    match &config.location {
        Location::Memory => {
            let found = "in memory: gone when the mount ends; for tests";
            Looked { lines: vec![Line::new(what, Verdict::Warning, found)], opened: None }
        }
        Location::Folder(path) => match folder(config, path, state_dir).await {
            Ok(lines) => Looked { lines, opened: None },
            Err(found) => bad(found),
        },
        Location::Remote { .. } => match probe(config).await {
            Ok((opened, report)) => {
                let mut lines = report_lines(&what, &report);
                lines.push(whose(config, opened.as_ref(), state_dir).await);
                Looked { lines, opened: Some(opened) }
            }
            Err(error) => bad(error.to_string()),
        },
    }
}

/// Looks at a folder and makes it no store: that is for the first mount.
async fn folder(config: &StoreConfig, path: &Path, state_dir: &Path) -> Result<Vec<Line>, String> {
    if !path.is_dir() {
        return Err(format!("there is no folder {}: make it first", path.display()));
    }
    access(path, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|errno| format!("cannot write to {}: {errno}", path.display()))?;
    let found = format!("the folder {} can be written", path.display());
    let mut lines = vec![Line::new(format!("store {}", config.name), Verdict::Good, found)];
    let known = folder_id(config, state_dir).map_err(|error| error.to_string())?;
    if known.is_some() || path.join(".bridgefs/store").exists() {
        lines.push(whose(config, &FolderStore::existing(path, known), state_dir).await);
    }
    Ok(lines)
}

/// Which folder the last mount found there, if there was one.
fn folder_id(config: &StoreConfig, state_dir: &Path) -> Result<Option<StoreId>, DaemonError> {
    if !state_dir.is_dir() {
        return Ok(None);
    }
    match Memo::in_folder(state_dir).recall(config)? {
        Some(Remembered::Folder { id }) => Ok(Some(id.into())),
        Some(Remembered::Remote { .. }) | None => Ok(None),
    }
}

/// Whose a store is, by its mark, as a mount will see it.
async fn whose(config: &StoreConfig, store: &dyn Store, state_dir: &Path) -> Line {
    let line = |verdict, found: String| Line::new(format!("store {}, owner", config.name), verdict, found);
    let has_ledger = state_dir.join("ledger.db").exists();
    let mut me = Owner::here(&state_dir::bridge_of(state_dir).unwrap_or_default(), state_dir);
    match owner::read(store).await {
        // A ledger that no mount has opened since ids are written down is known by its place.
        Ok(Some(mark)) if me.bridge.is_empty() && has_ledger => {
            let is_here = mark.host == me.host && mark.state_dir == me.state_dir;
            me.bridge = if is_here { mark.bridge } else { String::new() };
        }
        Err(error) if has_ledger && error.kind().is_unknown() => {
            let found = format!(
                "it does not say whose it is: {error}. A bridge that has used it before is mounted without it, and \
                 what it misses is sent when it is back"
            );
            return line(Verdict::Warning, found);
        }
        Ok(_) | Err(_) => {}
    }
    match owner::ask(config, store, &me, false).await {
        Ok(Belongs::Here) => line(Verdict::Good, "this bridge's".to_owned()),
        Ok(Belongs::ToNobody | Belongs::Unknown) => {
            line(Verdict::Good, "nobody's yet: the first mount marks it as this bridge's".to_owned())
        }
        Err(error) => line(Verdict::Bad, error.to_string()),
    }
}

async fn probe(config: &StoreConfig) -> Result<(SharedStore, ProbeReport), DaemonError> {
    let remote = stores::connect(config)?;
    match remote.probe_capabilities().await {
        Ok(report) => Ok((remote.shared(), report)),
        Err(source) => {
            let advice = stores::advice(source.kind());
            Err(DaemonError::Store { name: config.name.clone(), source, advice })
        }
    }
}

fn report_lines(what: &str, report: &ProbeReport) -> Vec<Line> {
    let latency = report.latency.as_millis();
    let mut lines = vec![Line::new(
        what,
        Verdict::Good,
        format!("reads, writes, lists, deletes; {latency} ms a request"),
    )];
    lines.push(match stores::refuse_skew(what, report) {
        Ok(()) => Line::new(format!("{what}, clock"), Verdict::Good, "within 5 minutes of ours"),
        Err(error) => Line::new(format!("{what}, clock"), Verdict::Bad, error.to_string()),
    });
    let lacking = lacking(&report.capabilities);
    if lacking.is_empty() {
        lines.push(Line::new(format!("{what}, abilities"), Verdict::Good, "everything the bridge can use"));
    } else {
        let found = format!(
            "it does not do: {}. The bridge works without, but cannot see another writer at the same moment: use it with \
             coherence = \"exclusive\"",
            lacking.join(", ")
        );
        lines.push(Line::new(format!("{what}, abilities"), Verdict::Warning, found));
    }
    lines
}

fn lacking(can: &Capabilities) -> Vec<&'static str> {
    let table = [
        (can.put_if_absent, "create-only put"),
        (can.put_if_match, "conditional put"),
        (can.conditional_complete, "conditional completion of an upload"),
        (can.conditional_delete, "conditional delete"),
        (can.conditional_get, "conditional get"),
        (can.metadata, "user metadata"),
        (can.checksums, "checksums on the wire"),
    ];
    table.into_iter().filter(|(can, _)| !can).map(|(_, name)| name).collect()
}

async fn two_places(a: &SharedStore, b: &SharedStore) -> Line {
    match alias::appears_in_both(a, b, &format!("{:032x}", rand::random::<u128>())).await {
        Ok(false) => {
            Line::new("two places", Verdict::Good, "what is put into one does not appear in the other")
        }
        Ok(true) => Line::new(
            "two places",
            Verdict::Bad,
            "the two stores are one place under two names: a deletion on one side would destroy both copies",
        ),
        Err(error) => Line::new("two places", Verdict::Bad, format!("could not be tried: {error}")),
    }
}
