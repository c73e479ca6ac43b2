use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;

use super::{Outcome, show};

/// The tour: a script, so that everybody can read what is done, and by which ordinary programs.
const TOUR: &str = include_str!("../../scripts/tour");

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where the two stores, the mount and the state go; replaced when it is an earlier tour
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Leave everything there afterwards, to look at
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let default = || std::env::temp_dir().join(format!("bridgefs-demo-{}", std::process::id()));
        let dir = std::path::absolute(self.dir.clone().unwrap_or_else(default))?;
        remove_earlier_tour(&dir)?;
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let program = std::env::current_exe().context("cannot find the program's own file")?;
        let status = Command::new("bash")
            .args(["-c", TOUR, "tour"])
            .env("BRIDGEFS", program)
            .env("TOUR_DIR", &dir)
            .stdin(Stdio::null())
            .status()
            .context("the tour needs bash")?;
        if !status.success() {
            show(&format!("\nWhat the tour left is in {}.\n", dir.display()))?;
            return Ok(Outcome::Refused);
        }
        if self.keep {
            show(&format!("Look around in {}.\n", dir.display()))?;
        } else {
            std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        Ok(Outcome::Done)
    }
}

/// A folder that has no tour's configuration is someone else's: it is never removed.
fn remove_earlier_tour(dir: &PathBuf) -> anyhow::Result<()> {
    let is_empty = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if is_empty {
        return Ok(());
    }
    if !dir.join("bridge.toml").exists() || !dir.join("cloud-old").exists() {
        bail!("{} is not empty and is no earlier tour; choose another --dir", dir.display());
    }
    if crate::fuse::is_mounted(&dir.join("mnt"))? {
        bail!("an earlier tour is still mounted: bridgefs umount {}", dir.join("mnt").display());
    }
    std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}
