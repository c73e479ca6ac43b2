use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use nix::mount::{MntFlags, umount2};

use super::target::mount_of;
use super::{Outcome, block_on, show, show_json, units};
use crate::control::{Client, ClientError, StopRequest, Stopped};

#[derive(Debug, Args)]
pub(super) struct Umount {
    /// Where the bridge is mounted
    mountpoint: PathBuf,
    /// Wait at most so many seconds for the queues to empty; the rest stays in the journal
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    drain: u64,
    /// Take the mount away although programs still use it
    #[arg(long)]
    lazy: bool,
    /// Write the outcome as JSON
    #[arg(long)]
    json: bool,
}

impl Umount {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let Some(mount) = mount_of(&self.mountpoint) else { return self.without_daemon() };
        let client = Client::new(&mount.socket);
        let request = StopRequest { drain_s: self.drain, lazy: self.lazy };
        let stop = async {
            // A dead mount's bridge may be mounted elsewhere by now: that one is not to be ended.
            let elsewhere = client.status().await.is_ok_and(|now| now.mountpoint != mount.mountpoint);
            Ok(if elsewhere { None } else { Some(client.stop(request).await) })
        };
        let Some(answer) = block_on(stop)? else { return self.without_daemon() };
        match answer {
            Ok(stopped) => self.report(stopped),
            Err(ClientError::NotRunning { .. }) => self.without_daemon(),
            Err(error) => Err(error.into()),
        }
    }

    fn report(&self, stopped: Stopped) -> anyhow::Result<Outcome> {
        if self.json {
            show_json(&stopped)?;
            return Ok(Outcome::Done);
        }
        let shown = self.mountpoint.display();
        match stopped.pending {
            0 => show(&format!("{shown} is unmounted; nothing waits to be sent.\n"))?,
            pending => show(&format!(
                "{shown} is unmounted. {} ({}) not on every store yet: safe in the journal, and sent at the next \
                 mount. Do not delete the state directory.\n",
                if pending == 1 { "1 change is".to_owned() } else { format!("{pending} changes are") },
                units::bytes(stopped.bytes)
            ))?,
        }
        if stopped.blocked > 0 {
            show(&format!(
                "{} refused by a store and may stand nowhere but in the journal: mount again, and see `bridgefs \
                 findings`. Do not delete the state directory.\n",
                if stopped.blocked == 1 {
                    "1 change is".to_owned()
                } else {
                    format!("{} changes are", stopped.blocked)
                },
            ))?;
        }
        Ok(Outcome::Done)
    }

    /// The daemon is dead, or was never there: only the kernel is asked.
    fn without_daemon(&self) -> anyhow::Result<Outcome> {
        if !is_ours(&self.mountpoint)? {
            bail!("{} is no bridgefs mount; nothing was done", self.mountpoint.display());
        }
        umount2(&self.mountpoint, MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", self.mountpoint.display()))?;
        show(&format!(
            "{} is unmounted; its daemon was already gone. What was acknowledged is in its journal and is sent at \
             the next mount.\n",
            self.mountpoint.display()
        ))?;
        Ok(Outcome::Done)
    }
}

/// Whether the kernel has a bridgefs mount exactly there. Reads the mount table: asking the mount itself
/// would hang or fail when its daemon is dead.
fn is_ours(mountpoint: &Path) -> anyhow::Result<bool> {
    let wanted = std::path::absolute(mountpoint)?;
    Ok(crate::fuse::is_mounted(&wanted)?)
}
