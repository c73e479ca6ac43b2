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
        show(&describe(&self.mountpoint, stopped))?;
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

/// What stays in the journal, in sentences.
fn describe(mountpoint: &Path, stopped: Stopped) -> String {
    let shown = mountpoint.display();
    if stopped.pending == 0 && stopped.blocked == 0 && stopped.given_up == 0 {
        return format!("{shown} is unmounted; nothing waits to be sent.\n");
    }
    let are = |count: u64, one: &str| match count {
        1 => format!("1 {one} is"),
        _ => format!("{} are", units::count(count, one)),
    };
    let mut text = format!("{shown} is unmounted.");
    let changes = stopped.pending.saturating_sub(stopped.deletions);
    if changes > 0 {
        let one = are(changes, "change");
        let what = units::with_bytes(format!(" {one} not on every store yet"), stopped.bytes);
        text.push_str(&format!("{what}: safe in the journal, and sent at the next mount."));
    }
    if stopped.deletions > 0 {
        text.push_str(&format!(
            " {} not finished: still to be sent, or watched so that nothing late brings the file back; the next mount \
             goes on.",
            are(stopped.deletions, "deletion")
        ));
    }
    if stopped.blocked > 0 {
        text.push_str(&format!(
            " {} refused by a store and may stand nowhere but in the journal: mount again, and see `bridgefs \
             findings`.",
            are(stopped.blocked, "change")
        ));
    }
    if stopped.given_up > 0 {
        text.push_str(&format!(
            " {} damaged, and what was acknowledged last is on no store: what is left of it is in `cache/damaged/` of \
             the state directory; mount again, and see `bridgefs findings`.",
            are(stopped.given_up, "file")
        ));
    }
    text.push_str(" Do not delete the state directory.\n");
    text
}

/// Whether the kernel has a bridgefs mount exactly there. Reads the mount table: asking the mount itself
/// would hang or fail when its daemon is dead.
fn is_ours(mountpoint: &Path) -> anyhow::Result<bool> {
    let wanted = std::path::absolute(mountpoint)?;
    Ok(crate::fuse::is_mounted(&wanted)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_by_its_kind() {
        let said = |stopped| describe(Path::new("/mnt"), stopped);
        assert_eq!(said(Stopped::default()), "/mnt is unmounted; nothing waits to be sent.\n");
        let deletions = said(Stopped { pending: 29, deletions: 29, ..Stopped::default() });
        assert!(deletions.contains("29 deletions are not finished"), "{deletions}");
        assert!(!deletions.contains("0 B") && !deletions.contains("change"), "{deletions}");
        let both = said(Stopped { pending: 3, deletions: 2, bytes: 1536, ..Stopped::default() });
        assert!(both.contains("1 change is not on every store yet (1.5 KiB)"), "{both}");
        assert!(
            both.contains("2 deletions are") && both.contains("Do not delete the state directory"),
            "{both}"
        );
        let empty = said(Stopped { pending: 1, ..Stopped::default() });
        assert!(!empty.contains("0 B"), "{empty}");
        let blocked = said(Stopped { blocked: 1, ..Stopped::default() });
        assert!(blocked.contains("1 change is refused") && !blocked.contains("nothing waits"), "{blocked}");
        let damaged = said(Stopped { given_up: 2, ..Stopped::default() });
        assert!(damaged.contains("2 files are damaged") && damaged.contains("`cache/damaged/`"), "{damaged}");
        assert!(!damaged.contains("journal") && damaged.contains("Do not delete"), "{damaged}");
    }
}
