use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bridge::BridgeStatus;
use crate::stage::Stage;

/// `GET /status`: the mount and its bridge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountStatus {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The configuration it was started with.
    pub config: PathBuf,
    /// The daemon.
    pub pid: u32,
    /// The daemon's version: after an upgrade it is not the command's.
    pub version: String,
    /// Files whose last change could not be committed when they were closed, and nobody was left to be told.
    pub unsettled: Vec<UnsettledFile>,
    /// Everything else.
    #[serde(flatten)]
    pub bridge: BridgeStatus,
}

/// A file that was closed while its last change could not be committed. It goes on being tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsettledFile {
    /// Its inode number (`find MOUNTPOINT -inum N`).
    pub ino: u64,
    /// Why the last try failed.
    pub error: String,
}

/// `POST /stage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRequest {
    /// The slice's prefix, without leading or trailing slash; empty is the default slice.
    pub prefix: String,
    /// Where it is to go.
    pub stage: Stage,
    /// In stage live: how many percent of the keys prefer new, 0 to 100.
    pub read_percent: u8,
    /// Why; recorded.
    pub reason: String,
}

/// `POST /shutdown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// How long to wait for the queues to empty, in seconds.
    pub drain_s: u64,
    /// Take the mount away although programs still use it.
    pub lazy: bool,
}

/// The answer to `POST /shutdown`: what stays in the journal until the next mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Changes that are not on every store yet, deletions among them.
    pub pending: u64,
    /// How many of those are deletions: they wait, or are watched so that nothing late brings a file back.
    #[serde(default)]
    pub deletions: u64,
    /// The bytes of the others.
    pub bytes: u64,
    /// Changes that a store refuses: the journal may hold the only copy.
    #[serde(default)]
    pub blocked: u64,
    /// Files whose content was lost on this host before any store had it.
    #[serde(default)]
    pub given_up: u64,
}

/// The body of every answer that is a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What happened and what to do.
    pub error: String,
}
