//! What programs rely on, on a real kernel mount over two stores in memory. Needs root and /dev/fuse.

#![allow(missing_docs, reason = "a test")]

mod content;
mod names;
mod programs;
mod rig;
mod xattrs;
