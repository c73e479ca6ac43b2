//! What programs rely on, on a real kernel mount over two stores in memory. Needs root and /dev/fuse.

#![allow(missing_docs, reason = "a test")]

mod content;
mod links;
mod names;
mod programs;
mod rig;
