//! Extended attributes: the ledger's, but for files without a name that are still open. Who may see and
//! change which is the kernel's to check, but for the list, which it shows as it gets it.

use std::future::Future;
use std::sync::Arc;

use super::orphans::Orphan;
use super::{Caller, Fs, FsError, FsResult};
use crate::bridge::{BridgeErrorKind, BridgeResult};
use crate::ledger::NewXattr;
use crate::object::{CAPABILITY, Ino, XattrMode, XattrName, XattrRefusal, Xattrs};

/// Attributes that only the administrator sees.
const TRUSTED: &[u8] = b"trusted.";

impl Fs {
    /// The value of one attribute.
    pub async fn getxattr(&self, ino: Ino, name: &[u8]) -> FsResult<Box<[u8]>> {
        readable(name)?;
        if name == CAPABILITY && self.is_unprivileged(ino) {
            return Err(no_attribute()); // The kernel asks before a write; here it is known.
        }
        let here = |xattrs: &Xattrs| xattrs.get(name).map(Into::into).ok_or_else(no_attribute);
        self.look(ino, here, self.bridge.xattr(ino, name)).await
    }

    /// The names of all, each with a NUL behind it. Those of `trusted.` are for callers with
    /// `CAP_SYS_ADMIN`; whether this one has it is not told us, so root stands for it.
    pub async fn listxattr(&self, ino: Ino, caller: Caller) -> FsResult<Vec<u8>> {
        let xattrs = self.look(ino, |xattrs| Ok(xattrs.clone()), self.bridge.xattrs(ino)).await?;
        let names = xattrs.iter().map(|(name, _)| name);
        let shown = names.filter(|name| caller.uid == 0 || !name.starts_with(TRUSTED));
        Ok(shown.flat_map(|name| name.iter().chain(b"\0")).copied().collect())
    }

    /// Sets one attribute.
    pub async fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> FsResult<()> {
        writable(name)?;
        let here = |orphan: &mut Orphan| orphan.xattrs.set(name, value, mode, orphan.node.kind);
        let (bridge, new) =
            (Arc::clone(&self.bridge), NewXattr { name: name.into(), value: value.into(), mode });
        let inodes = Arc::clone(&self.inodes);
        let there = async move {
            let done = bridge.set_xattr(ino, new).await;
            inodes.privileges_changed(ino);
            inodes.ctime_changed(ino);
            done
        };
        self.change(ino, here, there).await
    }

    /// Removes one attribute.
    pub async fn removexattr(&self, ino: Ino, name: &[u8]) -> FsResult<()> {
        writable(name)?;
        let (bridge, owned) = (Arc::clone(&self.bridge), Box::<[u8]>::from(name));
        let inodes = Arc::clone(&self.inodes);
        let there = async move {
            let done = bridge.remove_xattr(ino, &owned).await;
            inodes.ctime_changed(ino);
            done
        };
        self.change(ino, |orphan| orphan.xattrs.remove(name), there).await
    }

    /// Asks the memory of a file without a name, else the bridge; one that loses its name in between is
    /// asked again.
    async fn look<T>(
        &self,
        ino: Ino,
        here: impl Fn(&Xattrs) -> FsResult<T>,
        there: impl Future<Output = BridgeResult<T>>,
    ) -> FsResult<T> {
        if let Some(seen) = self.in_orphan(ino, |orphan| here(&orphan.xattrs)).await {
            return seen;
        }
        match self.ask(there).await {
            Err(error) if is_gone(&error) => {
                self.in_orphan(ino, |orphan| here(&orphan.xattrs)).await.unwrap_or(Err(error))
            }
            answer => answer,
        }
    }

    /// The same for a change.
    async fn change(
        &self,
        ino: Ino,
        here: impl Fn(&mut Orphan) -> Result<(), XattrRefusal>,
        there: impl Future<Output = BridgeResult<()>> + Send + 'static,
    ) -> FsResult<()> {
        if let Some(done) = self.change_orphan(ino, &here).await {
            return done;
        }
        match self.carry_out(there).await {
            Err(error) if is_gone(&error) => self.change_orphan(ino, &here).await.unwrap_or(Err(error)),
            done => done,
        }
    }

    async fn change_orphan(
        &self,
        ino: Ino,
        change: impl Fn(&mut Orphan) -> Result<(), XattrRefusal>,
    ) -> Option<FsResult<()>> {
        let inode = self.inodes.find(ino)?;
        let mut state = inode.state.write().await;
        let orphan = state.orphan.as_mut()?;
        let changed = change(orphan).map_err(refused);
        if changed.is_ok() {
            orphan.node.ctime = self.now();
            inode.privileges.changed();
            inode.quiet_until.end();
        }
        Some(changed)
    }
}

/// Whether there can be an attribute of this name.
fn readable(name: &[u8]) -> FsResult<()> {
    match XattrName::of(name) {
        XattrName::Plain | XattrName::Reserved => Ok(()),
        XattrName::Malformed => {
            Err(FsError::Invalid("an extended attribute has a name behind its namespace"))
        }
        XattrName::Foreign => Err(FsError::NotKept("attributes of this namespace are not kept")),
    }
}

/// Whether an attribute of this name can be changed.
fn writable(name: &[u8]) -> FsResult<()> {
    readable(name)?;
    match XattrName::of(name) {
        XattrName::Reserved => Err(FsError::NotKept("`user.bridgefs.` is kept for the bridge itself")),
        XattrName::Plain | XattrName::Malformed | XattrName::Foreign => Ok(()),
    }
}

fn no_attribute() -> FsError {
    refused(XattrRefusal::Missing)
}

fn refused(why: XattrRefusal) -> FsError {
    let kind = match why {
        XattrRefusal::Exists => BridgeErrorKind::Exists,
        XattrRefusal::Missing => BridgeErrorKind::NoAttribute,
        XattrRefusal::Full { .. } => BridgeErrorKind::NoSpace,
    };
    FsError::bridge(kind, why.to_string())
}

fn is_gone(error: &FsError) -> bool {
    error.bridge_kind() == Some(BridgeErrorKind::NotFound)
}
