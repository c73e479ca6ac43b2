//! What does not arrive, for a person to know: what a store will never take, what is nowhere any more, and what
//! fails again and again.

use super::Outcome;
use super::condition::Standing;
use super::lane::STUCK_TRIES;
use super::sync::{Made, Situation};
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, blocking, router};
use crate::ledger::{ATTRS_UNKNOWN, BlockReason, FindingKind, NewFinding};
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
            BlockReason::SourceLost | BlockReason::GivenUp => {
                if let Some(outcome) = self.find_again(situation).await? {
                    return Ok(outcome);
                }
                if reason == BlockReason::SourceLost {
                    return self.lost_everywhere(side, situation, error).await;
                }
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

    /// A power failure takes what the ledger was told since its last sync: that a store has the content may be among it,
    /// and here it is not kept longer than that. So before it is called lost, each store is asked for the upload that
    /// brought it. `None`: it is nowhere.
    async fn find_again(&self, lost: &Situation) -> BridgeResult<Option<Outcome>> {
        let mut found = None;
        for side in Side::BOTH {
            let Some(_keys) = self.replicator.locks.try_lock(side, &[&lost.key, lost.stands_at(side)]) else {
                return Ok(Some(Outcome::Later("its key is being changed")));
            };
            let is_same = |now: &Situation| {
                now.key == lost.key
                    && now.node.version == lost.node.version
                    && now.stands_at(side) == lost.stands_at(side)
            };
            let Some(now) = self.situation(lost.node.link)?.filter(is_same) else {
                return Ok(Some(Outcome::Done));
            };
            if now.replica(side).is_some_and(|replica| router::is_current(replica, &now.node)) {
                found = Some(Outcome::Done);
                continue;
            }
            match self.take_back(side, &now).await {
                // A store that gave wrong answers may give more of them: not at once.
                Ok(true) => {
                    found = Some(Outcome::Later("the store had it all the same"));
                    continue;
                }
                Ok(false) => {}
                Err(_) if !now.routing.route.writes(side) => continue,
                Err(error) => return Err(error),
            }
            if let Some(occupant) = now.occupants[side] {
                if self.moves_away(side, now.node.link, occupant)? {
                    return Ok(Some(Outcome::Later("another object must move away first")));
                }
                continue;
            }
            match self.standing(side, &now.key, &self.op_id(&now.node)).await {
                Ok(Standing::Mine(info)) => {
                    found =
                        Some(self.record_receipt(side, &now, info.etag, ATTRS_UNKNOWN, Made::Found).await?);
                }
                Ok(Standing::Nothing | Standing::Ours(_) | Standing::Foreign(_)) => {}
                // One that is not written need not be there to be asked.
                Err(_) if !now.routing.route.writes(side) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
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
             and write it through the mount; or remove the file, and with it whatever stands under its name in the \
             stores now. It is looked for again every hour, when a store is back, and after a restart.",
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
pub(super) fn block_reason(error: &BridgeError) -> Option<BlockReason> {
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
