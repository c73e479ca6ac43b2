//! Telling the kernel that something changed behind it.

use std::ffi::OsStr;
use std::io;
use std::thread;

use fuser::{INodeNo, Notifier};
use tokio::sync::mpsc;

use crate::object::Ino;

/// Changes that wait to be told; more make the teller wait.
const WAITING_MAX: usize = 1024;

/// What the kernel must forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidate {
    /// Attributes and pages of a node.
    Inode(Ino),
    /// That a name in a directory means what it meant.
    Entry(Ino, Box<str>),
}

/// Hands invalidations to the kernel, on a thread of its own: the kernel may hold locks that only another
/// answer of ours releases, so no thread that answers may tell it.
#[derive(Debug, Clone)]
pub struct Invalidator(mpsc::Sender<Invalidate>);

impl Invalidator {
    pub(super) fn start(notifier: Notifier) -> io::Result<Invalidator> {
        let (tell, mut told) = mpsc::channel(WAITING_MAX);
        let run = move || {
            while let Some(what) = told.blocking_recv() {
                if let Err(error) = notify(&notifier, &what) {
                    tracing::debug!(?what, %error, "the kernel did not take an invalidation");
                }
            }
        };
        thread::Builder::new().name("fuse-notify".to_owned()).spawn(run)?;
        Ok(Invalidator(tell))
    }

    /// Queues one; waits while too many are queued. Once the mount is gone there is nobody to tell.
    pub async fn tell(&self, what: Invalidate) {
        if self.0.send(what).await.is_err() {
            tracing::debug!("an invalidation came after the mount was gone");
        }
    }
}

fn notify(notifier: &Notifier, what: &Invalidate) -> io::Result<()> {
    match what {
        Invalidate::Inode(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
        Invalidate::Entry(dir, name) => notifier.inval_entry(INodeNo(dir.0), OsStr::new(&**name)),
    }
}
