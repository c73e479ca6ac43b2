//! What is remembered of the stores between two mounts, so that a bridge can start while one is away.
//! One small file; when it is lost, the next start asks the stores again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::DaemonError;
use crate::config::StoreConfig;
use crate::store::Capabilities;
use crate::store::folder::StoreId;

/// What is remembered of one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Remembered {
    /// Which folder it was: an empty mountpoint is another one.
    Folder {
        /// Its identity.
        id: FolderId,
    },
    /// What the last probe found.
    Remote {
        /// What it can do.
        capabilities: Capabilities,
    },
}

/// A [`StoreId`] as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FolderId(String);

impl From<StoreId> for FolderId {
    fn from(id: StoreId) -> FolderId {
        FolderId(id.0)
    }
}

impl From<FolderId> for StoreId {
    fn from(id: FolderId) -> StoreId {
        StoreId(id.0)
    }
}

/// The file with everything that is remembered, by the stores' URLs.
#[derive(Debug)]
pub(super) struct Memo {
    file: PathBuf,
    /// Held while the file is read and written anew.
    turn: Mutex<()>,
}

impl Memo {
    pub(super) fn in_folder(state_dir: &Path) -> Memo {
        Memo { file: state_dir.join("stores.json"), turn: Mutex::default() }
    }

    pub(super) fn recall(&self, store: &StoreConfig) -> Result<Option<Remembered>, DaemonError> {
        self.recall_at(&store.location.to_string())
    }

    /// As [`Memo::recall`], of the store at a URL.
    pub(super) fn recall_at(&self, url: &str) -> Result<Option<Remembered>, DaemonError> {
        let _turn = self.turn.lock();
        Ok(self.read()?.remove(url))
    }

    pub(super) fn remember(&self, store: &StoreConfig, what: Remembered) -> Result<(), DaemonError> {
        let _turn = self.turn.lock();
        let mut all = self.read()?;
        all.insert(store.location.to_string(), what);
        let new = self.file.with_extension("new");
        let written = serde_json::to_vec_pretty(&all)
            .map_err(io::Error::from)
            .and_then(|text| std::fs::write(&new, text))
            .and_then(|()| std::fs::rename(&new, &self.file));
        written.map_err(|source| self.failed(source))
    }

    fn read(&self) -> Result<BTreeMap<String, Remembered>, DaemonError> {
        match std::fs::read(&self.file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| self.failed(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> DaemonError {
        DaemonError::Folder { path: self.file.clone(), source }
    }
}
