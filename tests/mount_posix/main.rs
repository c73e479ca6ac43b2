//! What programs rely on, on a real kernel mount over two stores in memory. Needs root and /dev/fuse.

#![allow(missing_docs, reason = "a test")]

mod access;
mod blocked;
mod content;
mod effects;
mod links;
mod locks;
mod mapped;
mod mapping;
mod names;
mod programs;
mod ranges;
mod rig;
mod set_id;
mod statfs;
mod sync;
mod xattrs;
