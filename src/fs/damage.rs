//! What a mapping stored and could not be kept.
//!
//! The kernel sends it when the program has long gone on, perhaps closed the file or ended: a refusal reaches
//! whoever syncs or closes next, or nobody. So it is not refused by a limit of ours. If the disk refuses it, all
//! that was not committed yet is given up: a version with holes would be a lie on both stores.

use std::time::Duration;

use super::handles::HandleId;
use super::inodes::{Committed, ContentState, InodeRef};
use super::io::Place;
use super::{Fs, FsError, FsResult, disk};
use crate::bridge::BridgeErrorKind;
use crate::clock::Instant;
use crate::object::Ino;

/// A full disk is tried again after this, or earlier when an upload gave something back: others may make
/// room too.
const PAUSE_ON_FULL_DISK: Duration = Duration::from_secs(1);

impl Fs {
    pub(super) async fn write_mapped(&self, handle: HandleId, place: Place, data: &[u8]) -> FsResult<()> {
        let file = self.files.get(handle)?;
        file.inode.check_whole()?;
        let written = self.write_when_there_is_room(handle, place, data).await;
        if let Err(error) = &written {
            self.give_up(&file.inode, error).await;
        }
        written
    }

    /// Waits for room on the disk as long as any operation may.
    async fn write_when_there_is_room(&self, handle: HandleId, place: Place, data: &[u8]) -> FsResult<()> {
        let deadline = Instant::now() + self.options.deadline;
        loop {
            let written = self.write_once(handle, place, data).await;
            let left = deadline.saturating_duration_since(Instant::now());
            match &written {
                Err(error) if error.bridge_kind() == Some(BridgeErrorKind::NoSpace) && !left.is_zero() => {
                    self.bridge.space_freed(left.min(PAUSE_ON_FULL_DISK)).await;
                }
                Ok(()) | Err(_) => return written,
            }
        }
    }

    /// From now on the content is neither committed nor read, and everybody who has it open hears so.
    async fn give_up(&self, inode: &InodeRef, error: &FsError) {
        if !inode.begin_damage() {
            return;
        }
        // What the kernel keeps of it is no version.
        self.pages_are_lost(inode.ino());
        let _alone = inode.changes.lock().await;
        let lease = inode.lease().await;
        let given_up = self.bridge.give_up_staged(inode.ino(), lease.as_ref(), &error.to_string()).await;
        if let Err(error) = given_up {
            tracing::error!(ino = %inode.ino(), %error, "the loss of what a mapping stored could not be put on record");
        }
    }

    /// Who cuts a damaged file to nothing begins with a whole one.
    pub(super) async fn begin_anew(&self, inode: &InodeRef) -> FsResult<()> {
        let _alone = inode.changes.lock().await;
        let mut state = inode.state.write().await;
        let (lease, is_new) = self.bridge.staged_or_empty(inode.ino())?;
        inode.touch(&lease, self.now());
        if !is_new {
            disk::set_len(inode, &lease, 0)?;
        }
        inode.set_committed(Committed { generation: None, version: inode.committed().version });
        state.content = ContentState::Staged(lease);
        inode.end_damage();
        Ok(())
    }

    pub(super) async fn make_empty_if_new(&self, ino: Ino) {
        if let Err(error) = self.bridge.commit_empty_if_new(ino).await {
            tracing::warn!(%ino, %error, "a new file whose content is lost is made empty at the next start");
        }
    }
}
