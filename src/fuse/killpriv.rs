//! Which requests end set-ID bits and `security.capability` (FUSE_HANDLE_KILLPRIV_V2). Without that
//! capability the kernel asks for `security.capability` before every single write.
//!
//! The kernel marks the requests of callers without CAP_FSETID. fuser passes the mark of writes on, and drops
//! that of `setattr` (as which an `open` that truncates comes too); there a caller who is not root stands for
//! one without it. A change of owner ends them whoever asks.

use fuser::{Request, WriteFlags};

use super::ops::caller;
use crate::fs::{Caller, SetAttrs};

/// Who must not keep them after a `setattr` with this change, if it ends them. An empty change is the kernel's
/// word for "the set-ID bits and nothing else": before a write by who is not the owner, and after `chown(-1, -1)`.
pub(super) fn ended_by_setattr(request: &Request, change: &SetAttrs) -> Option<Caller> {
    let caller = caller(request, 0);
    let is_chown = change.uid.is_some() || change.gid.is_some();
    let is_cut = change.size.is_some() && caller.uid != 0;
    (is_chown || is_cut || change.is_nothing_else()).then_some(caller)
}

/// The same of a `write`.
pub(super) fn ended_by_write(request: &Request, flags: WriteFlags) -> Option<Caller> {
    flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID).then(|| caller(request, 0))
}
