//! What a change of a file by others ends: set-ID bits, and the attribute `security.capability`. The kernel
//! leaves that to us (in return it does not ask for the attribute before every write); the rules are those
//! of its own file systems.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::handles::HandleId;
use super::inodes::{InodeTable, State};
use super::{Caller, Fs, FsError, FsResult};
use crate::ledger::{AttrChange, Node};
use crate::object::{Attrs, CAPABILITY, Ino, Privileges, SET_ID_BITS};

/// Whether an inode in use is known to have nothing that a write ends, so that writes need not ask.
#[derive(Debug)]
pub(super) struct PrivilegeWatch {
    /// Grows after each change that may have given it something.
    changes: AtomicU64,
    /// How far that was when it was found to have nothing.
    none_at: AtomicU64,
}

impl Default for PrivilegeWatch {
    fn default() -> PrivilegeWatch {
        PrivilegeWatch { changes: AtomicU64::new(1), none_at: AtomicU64::new(0) }
    }
}

impl PrivilegeWatch {
    pub(super) fn is_none(&self) -> bool {
        self.changes.load(Ordering::SeqCst) == self.none_at.load(Ordering::SeqCst)
    }

    /// Taken before it is looked at: what changes while one looks is then looked at again.
    pub(super) fn moment(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub(super) fn found_none(&self, moment: u64) {
        self.none_at.fetch_max(moment, Ordering::SeqCst);
    }

    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

impl Fs {
    /// Whether a write through this handle has nothing to end, as far as that is known without waiting.
    pub fn writes_end_nothing(&self, handle: HandleId) -> bool {
        self.files.get(handle).is_ok_and(|file| file.inode.privileges.is_none())
    }

    /// A write through this handle on behalf of `caller`, who may not keep what it ends, comes next.
    pub async fn end_privileges_of(&self, handle: HandleId, caller: Caller) -> FsResult<()> {
        let ino = self.files.get(handle)?.inode.ino();
        self.end_privileges(ino, caller).await
    }

    /// The same for a change of the length.
    pub async fn end_privileges(&self, ino: Ino, caller: Caller) -> FsResult<()> {
        let ended = self.ended_by(ino, caller).await?;
        self.end(ino, ended).await
    }

    pub(super) async fn end(&self, ino: Ino, ended: Privileges) -> FsResult<()> {
        if ended == Privileges::Keep {
            return Ok(());
        }
        let change = AttrChange { privileges: ended, ctime: self.now(), ..AttrChange::default() };
        self.apply(ino, change).await
    }

    /// What a change by `caller` ends: `Keep` where there is nothing to end.
    pub(super) async fn ended_by(&self, ino: Ino, caller: Caller) -> FsResult<Privileges> {
        Ok(self.ending(ino, caller).await?.map_or(Privileges::Keep, |(_, ended)| ended))
    }

    /// The same where nothing else is asked for: before a write, or by `chown(-1, -1)`, which looks the same
    /// and may be anybody's. Nobody but the owner may take bits from what nobody is writing to.
    pub(super) async fn ended_alone(&self, ino: Ino, caller: Caller) -> FsResult<Privileges> {
        let Some((node, ended)) = self.ending(ino, caller).await? else { return Ok(Privileges::Keep) };
        let Attrs { mode, uid, .. } = node.attrs;
        let may = caller.uid == 0 || caller.uid == uid || ended.left_of(mode) == mode;
        if may || self.files.any(|file| file.inode.ino() == ino && file.writable().is_ok()) {
            return Ok(ended);
        }
        Err(FsError::NotOwner)
    }

    async fn ending(&self, ino: Ino, caller: Caller) -> FsResult<Option<(Node, Privileges)>> {
        let Some((node, is_capable)) = self.privileges_of(ino).await? else { return Ok(None) };
        let Attrs { mode, gid, .. } = node.attrs;
        let ended = if is_member(caller, gid) { Privileges::Drop } else { Privileges::DropAll };
        let nothing = node.kind.is_directory() || (ended.left_of(mode) == mode && !is_capable);
        Ok((!nothing).then_some((node, ended)))
    }

    /// A node that may have privileges, and whether it has the capability; `None` where it has none at all.
    async fn privileges_of(&self, ino: Ino) -> FsResult<Option<(Node, bool)>> {
        let inode = self.inodes.find(ino);
        let Some(inode) = inode else { return Ok(Some(self.ask(self.bridge.privileges(ino)).await?)) };
        if inode.privileges.is_none() {
            return Ok(None);
        }
        let moment = inode.privileges.moment();
        let orphan = |state: &State| {
            state.orphan.as_ref().map(|orphan| (orphan.node.clone(), orphan.xattrs.get(CAPABILITY).is_some()))
        };
        let known = orphan(&*inode.state.read().await);
        let (node, is_capable) = match known {
            Some(known) => known,
            None => self.ask(self.bridge.privileges(ino)).await?,
        };
        if node.attrs.mode & SET_ID_BITS == 0 && !is_capable {
            inode.privileges.found_none(moment);
        }
        Ok(Some((node, is_capable)))
    }

    pub(super) fn is_unprivileged(&self, ino: Ino) -> bool {
        self.inodes.find(ino).is_some_and(|inode| inode.privileges.is_none())
    }
}

impl InodeTable {
    /// After a change that may have given an inode privileges, or taken them.
    pub(super) fn privileges_changed(self: &Arc<Self>, ino: Ino) {
        if let Some(inode) = self.find(ino) {
            inode.privileges.changed();
        }
    }
}

/// Whether `caller` may keep a set-group-ID bit of this group on a file that the group cannot execute.
fn is_member(caller: Caller, gid: u32) -> bool {
    caller.uid == 0 || caller.gid == gid || further_groups(caller.pid).contains(&gid)
}

/// The supplementary groups of a process, which a request does not tell. None if it cannot be seen.
fn further_groups(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|gid| gid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{PrivilegeWatch, further_groups};

    #[test]
    fn what_changes_while_one_looks_is_looked_at_again() {
        let watch = PrivilegeWatch::default();
        assert!(!watch.is_none(), "nothing is known at first");
        let moment = watch.moment();
        watch.changed();
        watch.found_none(moment);
        assert!(!watch.is_none());
        watch.found_none(watch.moment());
        assert!(watch.is_none());
        watch.changed();
        assert!(!watch.is_none());
    }

    #[test]
    fn the_groups_of_this_process_are_seen_and_of_none_there_are_none() {
        let mut mine: Vec<u32> =
            nix::unistd::getgroups().expect("groups").iter().map(|g| g.as_raw()).collect();
        let mut seen = further_groups(std::process::id());
        mine.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, mine);
        assert!(further_groups(u32::MAX).is_empty());
    }
}
