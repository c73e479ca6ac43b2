use std::fmt;

use super::{Digest, ETag, Ino, Key, Version};

/// Names one upload: which bridge, which node, which version. It travels in the object's metadata, so
/// that a conditional put whose answer was lost is recognised as our own and not taken for a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpId(String);

impl OpId {
    /// The id of the upload of `version` of `ino` by the bridge `bridge_id` (its ledger's UUID).
    pub fn new(bridge_id: &str, ino: Ino, version: Version) -> OpId {
        OpId(format!("{bridge_id}.{ino}.{version}"))
    }

    /// Takes an id as it stands in an object's metadata.
    pub fn from_metadata(raw: &str) -> OpId {
        OpId(raw.to_owned())
    }

    /// Which node and version it was the upload of, if it is an id at all.
    pub fn content(&self) -> Option<(Ino, Version)> {
        let (rest, version) = self.0.rsplit_once('.')?;
        let (_bridge, ino) = rest.rsplit_once('.')?;
        Some((Ino(ino.parse().ok()?), Version(version.parse().ok()?)))
    }

    /// The id as it goes into the metadata: ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a store confirmed of one object: the only thing that routing believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The key it stands under, which may still be the one before a rename.
    pub key: Key,
    /// The ledger's version of the content.
    pub version: Version,
    /// The store's tag for it.
    pub etag: ETag,
    /// Length in bytes.
    pub size: u64,
    /// Our digest, if we have seen all the bytes.
    pub digest: Option<Digest>,
}
