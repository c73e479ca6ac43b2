//! Staged content of which a part is lost, and nobody may have been told: it is never a version of its file,
//! whatever happens next.

use std::path::PathBuf;

use crate::bridge::{Bridge, BridgeError, BridgeResult, ContentTimes, blocking, router};
use crate::cache::Lease;
use crate::ledger::{FindingKind, NewFinding, Node};
use crate::object::{Ino, LinkId, Side, Version};

/// What was acknowledged of a file whose staged content is given up.
enum Acknowledged {
    /// A store has it, or there is nothing of it.
    Elsewhere,
    /// It was in the staged file alone, which is kept here if it could be put away.
    Lost(Option<PathBuf>),
}

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
        let is_elsewhere = self.is_confirmed(&node)?;
        let aside = blocking(|| self.cache.set_aside(ino));
        self.staging.forget(ino);
        let was = match &aside {
            Ok(aside) if is_elsewhere => {
                aside.iter().for_each(|aside| blocking(|| self.cache.remove_aside(aside)));
                Acknowledged::Elsewhere
            }
            Err(_) if is_elsewhere => Acknowledged::Elsewhere,
            Ok(aside) => Acknowledged::Lost(aside.clone()),
            Err(_) => Acknowledged::Lost(None),
        };
        self.report_loss(&node, why, was).await?;
        aside.map(|_| ()).map_err(|e| BridgeError::from_disk("put a damaged staged file away", e))
    }

    /// Whether nothing that was acknowledged is in the staged file alone.
    fn is_confirmed(&self, node: &Node) -> BridgeResult<bool> {
        // What is empty can be had without it.
        if node.version == Version::UNCOMMITTED || node.size == 0 {
            return Ok(true);
        }
        let readable = blocking(|| self.ledger.readable(node.ino))?;
        Ok(Side::BOTH
            .iter()
            .any(|side| readable[*side].as_ref().is_some_and(|r| router::is_current(r, node))))
    }

    async fn report_loss(&self, node: &Node, why: &str, was: Acknowledged) -> BridgeResult<()> {
        let then = match (&was, node.version) {
            (Acknowledged::Lost(Some(kept)), _) => format!(
                "No store has what was acknowledged last: it is in {}, mixed with a part of the later changes, and \
                 whoever reads the file gets EIO until it is written anew or removed. Compare it, copy it to the \
                 file's name in the mount, then delete it.",
                kept.display()
            ),
            (Acknowledged::Lost(None), _) => {
                "No store has what was acknowledged last, and it could not be put away: \
                 whoever reads the file gets EIO until it is written anew or removed."
                    .to_owned()
            }
            (Acknowledged::Elsewhere, Version::UNCOMMITTED) => "The file is new and stays empty.".to_owned(),
            (Acknowledged::Elsewhere, _) => "The file is again what it was before.".to_owned(),
        };
        let detail = format!(
            "Stores through a shared mapping could not be kept ({why}), and the program may not have been told: \
             all changes since the last fsync or close are lost. {then} Make room, then run the program that \
             wrote it again."
        );
        let finding = self.damage(node, detail)?;
        tracing::error!(ino = %node.ino, key = ?finding.key, "{}", finding.detail);
        match was {
            Acknowledged::Elsewhere => self.ledger.find(finding).await?,
            Acknowledged::Lost(_) => self.ledger.give_up(node.ino, finding).await?,
        }
        self.acks.wake(node.ino);
        Ok(self.ledger.sync().await?)
    }

    /// The upload finds that what was acknowledged is not here, and no store ever had it. Somebody was told when it
    /// was given up, but if the process ended just then, or the file was deleted in the state directory.
    pub(crate) async fn lost_here(&self, node: &Node) -> BridgeResult<()> {
        let aside = blocking(|| self.cache.aside_of(node.ino))
            .map_err(|e| BridgeError::from_disk("look for damaged staged files", e))?;
        let left = match &aside[..] {
            [] => "Nothing is left of it: was something deleted in the state directory?".to_owned(),
            files => {
                let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
                format!(
                    "What is left of it, mixed with a part of later changes, is in {}. Compare it, copy it to the \
                     file's name in the mount, then delete it.",
                    files.join(" and ")
                )
            }
        };
        let detail = format!(
            "Version {} of this file was acknowledged, and was lost on this host before any store had it: whoever \
             reads the file gets EIO until it is written anew or removed. {left}",
            node.version
        );
        let finding = self.damage(node, detail)?;
        self.ledger.give_up_silently(node, finding).await?;
        self.acks.wake(node.ino);
        Ok(())
    }

    fn damage(&self, node: &Node, detail: String) -> BridgeResult<NewFinding> {
        let key = blocking(|| self.ledger.key_of(LinkId::first(node.ino)))?;
        Ok(NewFinding { kind: FindingKind::Damage, side: None, key, detail })
    }

    /// A file that was made and whose content was given up before it was ever committed is empty, as after a
    /// crash.
    pub async fn commit_empty_if_new(&self, ino: Ino) -> BridgeResult<()> {
        let Some(node) = blocking(|| self.ledger.node(ino))? else { return Ok(()) };
        if node.version != Version::UNCOMMITTED {
            return Ok(());
        }
        let (lease, _is_new) = self.staged_or_empty(ino)?;
        self.commit(&lease, ContentTimes::of(&node)).await.map(|_version| ())
    }
}
