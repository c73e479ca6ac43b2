//! Opening and closing files.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::attrs::overlay;
use super::handles::{Debt, FileHandle, HandleId};
use super::inodes::{ContentState, InodeRef, State};
use super::{Fs, FsResult};
use crate::cache::Lease;
use crate::ledger::Node;
use crate::object::{Ino, SET_ID_BITS, Version};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only to read.
    Read,
    /// Only to write.
    Write,
    /// To read and to write.
    ReadWrite,
}

impl Access {
    pub(super) fn reads(self) -> bool {
        match self {
            Access::Read | Access::ReadWrite => true,
            Access::Write => false,
        }
    }

    pub(super) fn writes(self) -> bool {
        match self {
            Access::Write | Access::ReadWrite => true,
            Access::Read => false,
        }
    }
}

/// What an open does to the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncate {
    /// It stays.
    Keep,
    /// It is thrown away (`O_TRUNC`).
    ToZero,
}

/// A file that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub handle: HandleId,
    /// What becomes of the pages that the kernel may have of it.
    pub pages: Pages,
    /// Its attributes are others than the kernel was told.
    pub has_new_attrs: bool,
}

/// Pages that the kernel kept of a file.
///
/// A page may have what a `write` has just put there and what has not come here yet. Who drops it then, and reads it
/// again, has what was there before, and keeps that. And whoever reads a page from a slow store keeps it until it is
/// there. So pages are dropped only while nobody has the file open.
#[derive(Debug)]
pub enum Pages {
    /// They are right.
    Keep,
    /// They are right, and hide the reads that are to be noted, but others have the file open: the open is to be noted
    /// ([`Fs::note_open`]).
    KeepAndNote,
    /// They are of another content, or hide a read that is to be noted. They must go before the open is answered;
    /// until this is dropped nobody else opens the file.
    Drop(OwnedMutexGuard<()>),
}

/// What the kernel has of the content of a file that is opened.
enum Kept {
    /// It was not open before.
    Nothing,
    /// What there is, is right.
    Current,
    /// Perhaps another content.
    Outdated,
}

/// What a handle left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// What was written.
    AsWritten,
    /// Content of which something is lost: once all have closed the file it is what it was before, and what
    /// the kernel knows of it is wrong.
    Damaged,
}

impl Fs {
    /// Opens a file. All who have it open share one content; the first one pins the version.
    pub async fn open(self: &Arc<Self>, ino: Ino, access: Access, truncate: Truncate) -> FsResult<Opened> {
        let inode = self.inodes.enter(ino);
        let alone = self.in_time(Arc::clone(&inode.opening).lock_owned()).await?;
        let mut state = inode.state.write().await;
        let (mut already_empty, mut has_new_attrs) = (false, false);
        if matches!(state.content, ContentState::Idle) {
            if let Some(orphan) = &state.orphan {
                return Err(orphan.without_content());
            }
            state.content = match truncate {
                Truncate::Keep => self.pin(&inode).await?,
                Truncate::ToZero => self.pin_empty(&inode).await?,
            };
            already_empty = truncate == Truncate::ToZero;
            has_new_attrs = matches!(&state.content, ContentState::Clean(content) if content.is_news());
        }
        if state.handles == 0 {
            inode.accept_writes();
            self.rescue_if_nameless(&inode, &mut state);
        }
        let kept = self.kept_pages(&inode, &state);
        let is_open = state.handles > 0;
        inode.quiet_until.end();
        state.handles += 1;
        state.writers += usize::from(access.writes());
        drop(state);
        let file = FileHandle { inode: inode.clone(), access, debt: Debt::default() };
        if truncate == Truncate::ToZero {
            let emptied = if already_empty { Ok(()) } else { self.set_size(&inode, 0).await };
            if let Err(error) = emptied {
                self.close(&inode, access).await;
                return Err(error);
            }
            file.debt.add();
        }
        let pages = match kept {
            Kept::Nothing => Pages::Keep,
            Kept::Outdated => Pages::Drop(alone),
            // A file without a name cannot be opened; one that loses it right now hides nothing.
            Kept::Current => match self.hides_a_read(ino, access).await.unwrap_or(false) {
                false => Pages::Keep,
                true if is_open => Pages::KeepAndNote,
                true => Pages::Drop(alone),
            },
        };
        Ok(Opened { handle: self.files.insert(file), pages, has_new_attrs })
    }

    /// The first handle of a file that was just made, on its new staged file.
    pub(super) async fn open_new(&self, node: &Node, lease: Lease) -> HandleId {
        let inode = self.inodes.enter(node.ino);
        if node.attrs.mode & SET_ID_BITS == 0 {
            // Nobody else can have reached it yet: the kernel keeps the name locked until it is made.
            inode.privileges.found_none(inode.privileges.moment());
        }
        let mut state = inode.state.write().await;
        lease.set_times(node.attrs.mtime, node.ctime);
        state.content = ContentState::Staged(lease);
        state.handles += 1;
        state.writers += 1;
        drop(state);
        self.remember(node.ino, Version::UNCOMMITTED);
        let file = FileHandle { inode, access: Access::Write, debt: Debt::default() };
        file.debt.add();
        self.files.insert(file)
    }

    /// Compares with what was seen last, and remembers what is seen now.
    fn kept_pages(&self, inode: &InodeRef, state: &State) -> Kept {
        let version = match &state.content {
            ContentState::Clean(content) => content.version(),
            ContentState::Staged(_) => inode.committed().version.unwrap_or(Version::UNCOMMITTED),
            ContentState::Idle => return Kept::Outdated,
        };
        let mut seen = self.seen.lock();
        if state.handles > 0 {
            // Whoever has it open already sees what is written, and so do the kernel's pages.
            return Kept::Current;
        }
        let knows_all = seen.len() < seen.cap().get();
        match seen.put(inode.ino(), Some(version)) {
            Some(Some(before)) if before == version => Kept::Current,
            None if knows_all => Kept::Nothing,
            Some(_) | None => Kept::Outdated,
        }
    }

    /// What the kernel has of the content is no version: it goes with the first open after the last close.
    pub(super) fn pages_are_lost(&self, ino: Ino) {
        self.seen.lock().put(ino, None);
    }

    /// Notes the version that the kernel's pages agree with.
    pub(super) fn remember(&self, ino: Ino, version: Version) {
        self.seen.lock().put(ino, Some(version));
    }

    /// The kernel is done with a handle: no file descriptor and no mapping refers to it. Changes that no
    /// `flush` has seen (stores through a mapping, a killed process) are committed now; nobody is left to
    /// be told of a failure, so it is counted, shown, and tried again.
    pub async fn release(self: &Arc<Self>, handle: HandleId) -> FsResult<Release> {
        let file = self.files.remove(handle)?;
        let left = match file.inode.check_whole() {
            Ok(()) => Release::AsWritten,
            Err(_) => Release::Damaged,
        };
        if file.access.writes()
            && left == Release::AsWritten
            && let Err(error) = self.commit_changes(&file.inode).await
        {
            self.note_failed_commit(&file.inode, &error);
        }
        self.close(&file.inode, file.access).await;
        Ok(left)
    }

    /// One handle fewer. The last one gives the content back.
    pub(super) async fn close(self: &Arc<Self>, inode: &InodeRef, access: Access) {
        let mut state = inode.state.write().await;
        state.handles = state.handles.saturating_sub(1);
        state.writers = state.writers.saturating_sub(usize::from(access.writes()));
        if state.handles == 0 {
            self.let_go(inode, &mut state).await;
        }
    }

    /// Gives the content of an inode that nobody has open back to the bridge, unless it holds changes
    /// that could not be committed: those stay where they are.
    pub(super) async fn let_go(self: &Arc<Self>, inode: &InodeRef, state: &mut State) {
        let had_name = state.orphan.is_none();
        let was_damaged = inode.end_damage();
        let last = state.orphan.as_ref().map(|orphan| overlay(&orphan.node, state));
        if let Some((orphan, last)) = state.orphan.as_mut().zip(last) {
            orphan.end(last).await;
            self.forget_unsettled(inode.ino());
        }
        match &state.content {
            ContentState::Idle => return,
            ContentState::Staged(lease) if had_name && !was_damaged && inode.is_dirty(lease) => {
                self.keep_unsettled(inode);
                return;
            }
            ContentState::Staged(lease) => lease.forget_times(),
            ContentState::Clean(_) => {}
        }
        state.content = ContentState::Idle;
        inode.reset();
        if was_damaged && had_name {
            self.make_empty_if_new(inode.ino()).await;
        }
        self.bridge.released(inode.ino());
    }
}
