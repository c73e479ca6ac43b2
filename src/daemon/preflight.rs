//! What can be known before the first mount: a line for each thing that must be right.

use std::fs::OpenOptions;
use std::path::Path;

use nix::sys::statfs::statfs;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::{DaemonError, alias, mountpoint, stores};
use crate::config::{Config, Location, StoreConfig};
use crate::store::remote::ProbeReport;
use crate::store::{Capabilities, SharedStore};

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
    lines.push(state_dir(&config.bridge.state_dir));
    if let Some(at) = at {
        lines.push(match mountpoint::prepare_mountpoint(config, at) {
            Ok(_) => Line::new("mountpoint", Verdict::Good, "empty, and not in use"),
            Err(error) => Line::new("mountpoint", Verdict::Bad, error.to_string()),
        });
    }
    let (old, new) = futures::join!(store(&config.stores.old), store(&config.stores.new));
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

/// The state directory, or the nearest folder above it that is there.
fn state_dir(path: &Path) -> Line {
    let line = |verdict, found: String| Line::new("state_dir", verdict, found);
    let Some(existing) = path.ancestors().find(|folder| folder.exists()) else {
        return line(Verdict::Bad, format!("nothing of {} is there", path.display()));
    };
    if let Err(errno) = access(existing, AccessFlags::W_OK | AccessFlags::X_OK) {
        return line(Verdict::Bad, format!("cannot write to {}: {errno}", existing.display()));
    }
    if let Some(kind) = network_file_system(existing) {
        let found = format!("{} is on {kind}: the journal needs a local disk that syncs", existing.display());
        return line(Verdict::Bad, found);
    }
    match statvfs(existing) {
        Ok(stat) => {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            let verdict = if free < 1 << 30 { Verdict::Warning } else { Verdict::Good };
            line(verdict, format!("local, {} MiB free", free >> 20))
        }
        Err(errno) => line(Verdict::Bad, format!("cannot ask for the free space: {errno}")),
    }
}

/// The name of the network file system that `path` is on, if it is on one.
fn network_file_system(path: &Path) -> Option<&'static str> {
    const NETWORK: [(i64, &str); 4] =
        [(0x6969, "NFS"), (0x6573_5546, "FUSE"), (0xff53_4d42, "SMB"), (0xfe53_4d42, "SMB")];
    let kind = statfs(path).ok()?.filesystem_type().0;
    NETWORK.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

/// What is known of one store.
struct Looked {
    lines: Vec<Line>,
    opened: Option<SharedStore>,
}

async fn store(config: &StoreConfig) -> Looked {
    let what = format!("store {}", config.name);
    let bad =
        |found: String| Looked { lines: vec![Line::new(what.clone(), Verdict::Bad, found)], opened: None };
    match &config.location {
        Location::Memory => Looked {
            lines: vec![Line::new(what, Verdict::Warning, "in memory: gone when the mount ends; for tests")],
            opened: None,
        },
        Location::Folder(path) if !path.is_dir() => {
            bad(format!("there is no folder {}: make it first", path.display()))
        }
        Location::Folder(path) => {
            match access(path.as_path(), AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK) {
                Ok(()) => Looked {
                    lines: vec![Line::new(
                        what,
                        Verdict::Good,
                        format!("the folder {} can be written", path.display()),
                    )],
                    opened: None,
                },
                Err(errno) => bad(format!("cannot write to {}: {errno}", path.display())),
            }
        }
        Location::Remote { .. } => match probe(config).await {
            Ok((opened, report)) => Looked { lines: report_lines(&what, &report), opened: Some(opened) },
            Err(error) => bad(error.to_string()),
        },
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
