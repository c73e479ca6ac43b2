//! What does not arrive, for a person to know: what a store will never take, what is nowhere any more, and what
//! fails again and again.

use super::Outcome;
use super::lane::STUCK_TRIES;
use super::sync::Situation;
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, blocking};
use crate::ledger::{BlockReason, FindingKind, NewFinding};
use crate::object::{LinkId, Side};
use crate::store::ErrorKind;

impl Bridge {
    /// A store that will never take the object is a finding, not a task for ever.
    pub(super) async fn refused(
        &self,
        side: Side,
        situation: &Situation,
        error: BridgeError,
    ) -> BridgeResult<Outcome> {
        let Some(reason) = block_reason(&error) else { return Err(error) };
        let version = situation.node.version;
        match reason {
            BlockReason::Unsupported | BlockReason::Locked => {}
            BlockReason::SourceLost => return self.lost_everywhere(side, situation, error).await,
            BlockReason::GivenUp => {
                self.lost_here(&situation.node).await?;
                return Ok(Outcome::Done);
            }
        }
        let kept = match situation.replica(side.other()) {
            Some(replica) if replica.receipt.version == version => "The other store has it",
            Some(_) | None => {
                "Its content stays in the state directory of this host until the other store has it"
            }
        };
        let detail = format!(
            "the {side} store will not take version {version} of this file: {error}. {kept}. \
             Rename it, or free the object in the store; any change of the file makes the bridge try again."
        );
        let key = Some(situation.key.clone());
        let finding = NewFinding { kind: FindingKind::Blocked, side: Some(side), key, detail };
        self.block_intent(side, situation, reason, finding).await
    }

    /// Not if more was asked for meanwhile: then that is tried.
    async fn block_intent(
        &self,
        side: Side,
        situation: &Situation,
        reason: BlockReason,
        finding: NewFinding,
    ) -> BridgeResult<Outcome> {
        if let Some(intent) = situation.intent(side) {
            self.ledger.intent_blocked(intent, reason, finding).await?;
        }
        self.acks.wake(situation.node.ino);
        Ok(Outcome::Done)
    }

    /// No store and no local file has the version any more. The other store's deletion or replacement has its own
    /// finding; this one says what it means.
    async fn lost_everywhere(
        &self,
        side: Side,
        situation: &Situation,
        error: BridgeError,
    ) -> BridgeResult<Outcome> {
        let detail = format!(
            "version {} of this file is nowhere any more: {error}. It was confirmed by a store before, so somebody removed \
             or replaced it there without the mount. Restore it from a backup or from the bucket's old versions, \
             and write it through the mount; or remove the file.",
            situation.node.version
        );
        let key = Some(situation.key.clone());
        let finding = NewFinding { kind: FindingKind::Missing, side: Some(side), key, detail };
        self.block_intent(side, situation, BlockReason::SourceLost, finding).await
    }

    /// One file fails again and again on a store that takes others: it is not the store that is waited for.
    pub(super) async fn report_stuck(
        &self,
        side: Side,
        name: LinkId,
        error: &BridgeError,
    ) -> BridgeResult<()> {
        let has_own_report = matches!(error.store_kind(), Some(ErrorKind::Denied | ErrorKind::Throttled));
        if has_own_report || self.replicator.acceptance(side).refuses() {
            return Ok(());
        }
        let Some(key) = blocking(|| self.ledger.key_of(name))? else { return Ok(()) };
        let advice = match error.store_kind() {
            Some(_) => {
                "Look in the bucket at what stands under this key, also with a slash at its end and below it, and who \
                 writes there; move what does not come from the mount out of the way."
            }
            None => {
                "The store is not to blame: look at the disk of the state directory (`df`, `dmesg`), and make room or \
                 mend it."
            }
        };
        let detail = format!(
            "the {side} store answers, but has not got the last change of this file in {STUCK_TRIES} tries or more: \
             {error}. The change is kept, on the other store or in the state directory of this host, and is tried \
             again. {advice}"
        );
        let finding = NewFinding { kind: FindingKind::Blocked, side: Some(side), key: Some(key), detail };
        Ok(self.ledger.find(finding).await?)
    }
}

/// Why trying again cannot help, if it cannot.
fn block_reason(error: &BridgeError) -> Option<BlockReason> {
    match error.store_kind() {
        Some(ErrorKind::Unsupported) => Some(BlockReason::Unsupported),
        Some(ErrorKind::Locked) => Some(BlockReason::Locked),
        Some(
            ErrorKind::NotFound
            | ErrorKind::PreconditionFailed
            | ErrorKind::Unavailable
            | ErrorKind::Throttled
            | ErrorKind::Denied
            | ErrorKind::Corrupt,
        ) => None,
        None if error.kind() == BridgeErrorKind::Lost => Some(BlockReason::GivenUp),
        None => (error.kind() == BridgeErrorKind::Stale).then_some(BlockReason::SourceLost),
    }
}
