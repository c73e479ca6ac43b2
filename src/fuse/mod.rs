//! Kernel requests to [`crate::fs`] calls and back: thin, and the only place with errno.
//!
//! | file | what |
//! |---|---|
//! | `mountpoint` | the directory that is mounted on, and every reason not to |
//! | `session` | mount, serve, unmount |
//! | `flags` | what the kernel looks after: read-only, nosuid and so on |
//! | `ops` | one request, one call, one reply |
//! | `data` | the requests about bytes that take more than one call |
//! | `pages` | having the kernel write back what a mapping changed |
//! | `xattr` | the same for extended attributes |
//! | `killpriv` | which requests end set-ID bits and capabilities |
//! | `replies` | what our answers look like to the kernel |
//! | `hybrid` | on which thread an operation runs |
//! | `invalidate` | telling the kernel what changed behind it |
//! | `errno`, `time` | the kernel's words |

mod data;
mod errno;
mod flags;
mod hybrid;
mod invalidate;
mod killpriv;
mod modes;
mod mountpoint;
mod ops;
mod pages;
mod replies;
mod session;
mod time;
mod xattr;

pub use flags::{MountFlags, remount};
pub use invalidate::{Invalidate, Invalidator};
pub use mountpoint::{MountError, is_mounted, prepare};
pub use session::{MountOptions, Mounted, Unmount, mount};
