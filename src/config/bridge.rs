//! The `[bridge]`, `[cache]`, `[mount]` and `[[slice]]` tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::Section;
use super::error::ConfigError;
use super::values::{self, DiskAmount};
use crate::bridge::{AckPolicy, Coherence, UnprovenReads};
use crate::object::Key;
use crate::stage::Stage;

/// The `[bridge]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// What must be true before `fsync` and `close` return, where a slice says nothing else.
    pub ack: AckPolicy,
    /// Where the ledger, the journal and the socket are.
    pub state_dir: PathBuf,
    /// Whether others change the stores, and how soon we look.
    pub coherence: Coherence,
    /// Whether an object without receipt may be read from the other store.
    pub unproven_reads: UnprovenReads,
    /// An operation of a program fails after so long.
    pub op_deadline: Duration,
    /// `fsync` and `close` wait at most so long for their ack.
    pub ack_deadline: Duration,
    /// The stage in which the default slice begins when the ledger is new.
    pub initial_stage: Stage,
}

/// The `[cache]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// Where.
    pub dir: PathBuf,
    /// At most so much.
    pub size: DiskAmount,
    /// So much of the disk is left free.
    pub keep_free: DiskAmount,
    /// At most so many bytes of content that is not on every store yet; then writers wait.
    pub staged_bytes_max: u64,
}

/// The `[mount]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountConfig {
    /// Threads that read requests from the kernel.
    pub threads: u32,
    /// Set-ID bits and device nodes have an effect in the mount.
    pub suid_and_dev: bool,
}

/// A `[[slice]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceConfig {
    /// Without leading or trailing slash; empty is the default slice.
    pub prefix: String,
    /// Its own ack, if it has one.
    pub ack: Option<AckPolicy>,
}

const BRIDGE: [&str; 9] = [
    "old",
    "new",
    "ack",
    "state_dir",
    "coherence",
    "unproven_reads",
    "op_deadline",
    "ack_deadline",
    "initial_stage",
];

impl BridgeConfig {
    pub(super) fn read(section: Section<'_>) -> Result<BridgeConfig, ConfigError> {
        section.refuse_unknown(&BRIDGE)?;
        Ok(BridgeConfig {
            ack: optional(section, "ack", read_ack)?.unwrap_or(AckPolicy::Primary),
            state_dir: section.require("state_dir")?.parse(absolute)?,
            coherence: optional(section, "coherence", read_coherence)?.unwrap_or(Coherence::Exclusive),
            unproven_reads: optional(section, "unproven_reads", read_unproven)?
                .unwrap_or(UnprovenReads::Allow),
            op_deadline: optional(section, "op_deadline", values::duration)?
                .unwrap_or(Duration::from_secs(30)),
            ack_deadline: optional(section, "ack_deadline", values::duration)?
                .unwrap_or(Duration::from_secs(60)),
            initial_stage: optional(section, "initial_stage", read_stage)?.unwrap_or(Stage::DualWrite),
        })
    }
}

impl CacheConfig {
    pub(super) fn read(section: Option<Section<'_>>, state_dir: &Path) -> Result<Self, ConfigError> {
        let mut cache = CacheConfig {
            dir: state_dir.join("cache"),
            size: DiskAmount::Bytes(10 << 30),
            keep_free: DiskAmount::Percent(5),
            staged_bytes_max: 10 << 30,
        };
        let Some(section) = section else { return Ok(cache) };
        section.refuse_unknown(&["size", "keep_free", "staged_max", "dir"])?;
        if let Some(size) = optional(section, "size", values::disk_amount)? {
            cache.size = size;
        }
        if let Some(free) = optional(section, "keep_free", values::disk_amount)? {
            cache.keep_free = free;
        }
        if let Some(staged) = optional(section, "staged_max", values::size)? {
            cache.staged_bytes_max = staged;
        }
        if let Some(dir) = optional(section, "dir", absolute)? {
            cache.dir = dir;
        }
        Ok(cache)
    }
}

impl MountConfig {
    pub(super) fn read(section: Option<Section<'_>>) -> Result<MountConfig, ConfigError> {
        let mut mount = MountConfig { threads: 4, suid_and_dev: false };
        let Some(section) = section else { return Ok(mount) };
        section.refuse_unknown(&["threads", "suid_and_dev"])?;
        if let Some(entry) = section.get("threads") {
            mount.threads = entry.number(2, 64)?;
        }
        if let Some(entry) = section.get("suid_and_dev") {
            mount.suid_and_dev = entry.flag()?;
        }
        Ok(mount)
    }
}

impl SliceConfig {
    pub(super) fn read(section: Section<'_>, before: &[SliceConfig]) -> Result<SliceConfig, ConfigError> {
        section.refuse_unknown(&["prefix", "ack"])?;
        let entry = section.require("prefix")?;
        let prefix = entry.parse(slice_prefix)?;
        if before.iter().any(|slice| slice.prefix == prefix) {
            return Err(entry.error(format!("there is already a slice \"/{prefix}\"")));
        }
        Ok(SliceConfig { prefix, ack: optional(section, "ack", read_ack)? })
    }
}

/// A slice's prefix as the ledger has it: `/exports/` is `exports`, `/` is empty.
pub fn slice_prefix(text: &str) -> Result<String, String> {
    let prefix = text.trim_matches('/');
    match Key::new(prefix) {
        Ok(key) if !key.is_path() => Err(format!("\"{text}\" is no path below the mount")),
        Ok(_) | Err(_) => Ok(prefix.to_owned()),
    }
}

fn optional<T>(
    section: Section<'_>,
    key: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, ConfigError> {
    section.get(key).map(|entry| entry.parse(read)).transpose()
}

fn read_ack(text: &str) -> Result<AckPolicy, String> {
    let words = [("journal", AckPolicy::Journal), ("primary", AckPolicy::Primary), ("both", AckPolicy::Both)];
    values::word(text, "ack policy", &words)
}

fn read_coherence(text: &str) -> Result<Coherence, String> {
    match text {
        "exclusive" => Ok(Coherence::Exclusive),
        _ => values::duration(text)
            .map(Coherence::Ttl)
            .map_err(|problem| format!("{problem}, or \"exclusive\" when nobody else writes to the stores")),
    }
}

fn read_unproven(text: &str) -> Result<UnprovenReads, String> {
    values::word(text, "choice", &[("allow", UnprovenReads::Allow), ("deny", UnprovenReads::Deny)])
}

fn read_stage(text: &str) -> Result<Stage, String> {
    text.parse().map_err(|error: crate::stage::UnknownStage| error.to_string())
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let problem = || format!("\"{text}\" must be an absolute path: the daemon changes its working directory");
    path.is_absolute().then_some(path).ok_or_else(problem)
}
