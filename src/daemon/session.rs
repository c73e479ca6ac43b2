//! The mount as the daemon holds it. STUB until the fs branch is there.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::bridge::Bridge;
use crate::config::MountConfig;

#[derive(Debug)]
pub(super) struct Session;

#[derive(Debug, Clone, Copy)]
pub(super) enum Unmount {
    IfUnused,
    Lazily,
}

impl Session {
    pub(super) fn mount(_: Arc<Bridge>, _: &MountConfig, _: &Path) -> io::Result<Session> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn unmount(&self, _: Unmount) -> io::Result<()> {
        Ok(())
    }
    pub(super) async fn ended(&self) {}
}
