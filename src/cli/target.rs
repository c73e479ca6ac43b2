//! Which running mount a verb means: the one of `--config` or `$BRIDGEFS_CONFIG`, the one that a path is
//! on, or the only one there is.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use crate::config::Config;
use crate::control::{Client, RunningMount, socket_path};

/// The option that names a bridge by its configuration.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The configuration of the bridge; default: $BRIDGEFS_CONFIG, else the bridge that is mounted
    #[arg(short, long, value_name = "CONFIG")]
    config: Option<PathBuf>,
}

impl Target {
    /// A client for the daemon of the bridge that is meant.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        if let Some(file) = super::chosen_config(self.config.as_ref()) {
            let config = Config::load(&file)?;
            return Ok(Client::new(&socket_path(&config.bridge.state_dir)));
        }
        match RunningMount::all().as_slice() {
            [] => bail!(
                "no bridgefs is mounted here: start one with `bridgefs mount CONFIG MOUNTPOINT`, or name its \
                 configuration with --config"
            ),
            [only] => Ok(Client::new(&only.socket)),
            several => {
                let list: Vec<String> = several.iter().map(describe).collect();
                bail!("several bridges are mounted; choose one with --config:\n  {}", list.join("\n  "))
            }
        }
    }

    /// As [`Target::client`], but a path on a mount chooses that mount.
    pub(super) fn client_for(&self, path: Option<&Path>) -> anyhow::Result<Client> {
        let chosen = super::chosen_config(self.config.as_ref());
        match (chosen, path.and_then(mount_of)) {
            (None, Some(mount)) => Ok(Client::new(&mount.socket)),
            _ => self.client(),
        }
    }
}

/// The running mount that `path` is on or below.
pub(super) fn mount_of(path: &Path) -> Option<RunningMount> {
    let mounts = RunningMount::all();
    let innermost = |path: PathBuf| {
        let on_it = mounts.iter().filter(|mount| path.starts_with(&mount.mountpoint));
        on_it.max_by_key(|mount| mount.mountpoint.components().count()).cloned()
    };
    // Links are resolved only when the name alone does not tell: that asks the mount, which may be stuck.
    innermost(std::path::absolute(path).ok()?).or_else(|| innermost(path.canonicalize().ok()?))
}

fn describe(mount: &RunningMount) -> String {
    format!("{}  ({})", mount.config.display(), mount.mountpoint.display())
}
