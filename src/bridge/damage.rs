//! Staged content of which a part is lost, and nobody may have been told: it is never a version of its file,
//! whatever happens next.

use std::path::PathBuf;

use crate::bridge::{Bridge, BridgeError, BridgeResult, ContentTimes, blocking, router};
use crate::cache::Lease;
use crate::ledger::{FindingKind, NewFinding, Node};
use crate::object::{Ino, LinkId, Side, Version};

impl Bridge {
    /// Gives up the staged content of a file, also for a later run: the file is what was committed last. If
    /// no store has that yet, the staged file may be the only one that has it, in parts, and is kept where
    /// a person finds it; else its space is free once nobody has it open. `why` is what the disk or the
    /// store said.
    pub async fn give_up_staged(&self, ino: Ino, lease: Option<&Lease>, why: &str) -> BridgeResult<()> {
        if let Some(lease) = lease {
            lease.condemn();
        }
        let Some(node) = blocking(|| self.ledger.node(ino))? else {
            // It has no name any more, so it is nobody's but of those who have it open.
            tracing::error!(%ino, why, "what a mapping stored in a removed file is lost");
            return Ok(());
        };
        let elsewhere = self.is_confirmed(&node)?;
        let aside = blocking(|| self.cache.set_aside(ino));
        self.staging.forget(ino);
        let kept = match &aside {
            Ok(Some(aside)) if elsewhere => {
                blocking(|| self.cache.remove_aside(aside));
                None
            }
            Ok(aside) => aside.clone(),
            Err(_) => None,
        };
        self.report_loss(&node, why, kept).await?;
        aside.map(|_| ()).map_err(|e| BridgeError::from_disk("put a damaged staged file away", e))
    }

    /// Whether nothing that was acknowledged is in the staged file alone.
    fn is_confirmed(&self, node: &Node) -> BridgeResult<bool> {
        if node.version == Version::UNCOMMITTED {
            return Ok(true);
        }
        let readable = blocking(|| self.ledger.readable(node.ino))?;
        Ok(Side::BOTH
            .iter()
            .any(|side| readable[*side].as_ref().is_some_and(|r| router::is_current(r, node))))
    }

    async fn report_loss(&self, node: &Node, why: &str, kept: Option<PathBuf>) -> BridgeResult<()> {
        let key = blocking(|| self.ledger.key_of(LinkId::first(node.ino)))?;
        let then = match (&kept, node.version) {
            (Some(kept), _) => format!(
                "No store has what was acknowledged last: it is in {}, mixed with a part of the later changes. \
                 Compare it, copy it to the file's name in the mount, then delete it.",
                kept.display()
            ),
            (None, Version::UNCOMMITTED) => "The file is new and stays empty.".to_owned(),
            (None, _) => "The file is again what it was before.".to_owned(),
        };
        let detail = format!(
            "Stores through a shared mapping could not be kept ({why}), and the program may not have been told: \
             all changes since the last fsync or close are lost. {then} Make room, then run the program that \
             wrote it again."
        );
        let path = key.as_ref().map_or_else(String::new, ToString::to_string);
        tracing::error!(ino = %node.ino, path, "{detail}");
        let finding = NewFinding { kind: FindingKind::Damage, side: None, key, detail };
        self.ledger.find(finding).await?;
        Ok(self.ledger.sync().await?)
    }

    /// A file that was made and whose content was given up before it was ever committed is empty, as after a
    /// crash.
    pub async fn commit_empty_if_new(&self, ino: Ino) -> BridgeResult<()> {
        let Some(node) = blocking(|| self.ledger.node(ino))? else { return Ok(()) };
        if node.version != Version::UNCOMMITTED {
            return Ok(());
        }
        let lease = match self.staged(ino)? {
            Some(lease) => lease,
            None => self.stage_empty(ino)?,
        };
        self.commit(&lease, ContentTimes::of(&node)).await.map(|_version| ())
    }
}
