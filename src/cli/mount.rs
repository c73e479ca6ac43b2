use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use crate::config::Config;
use crate::daemon::{self, Detached, LogTo};
use crate::fuse::MountFlags;

#[derive(Debug, Args)]
pub(super) struct Mount {
    /// The configuration
    config: PathBuf,
    /// An empty directory
    mountpoint: PathBuf,
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    foreground: bool,
    /// What `mount -o` said to the kernel
    #[arg(skip)]
    flags: MountFlags,
}

impl Mount {
    /// As mount(8) has it done: in the background, with what the kernel is to be told.
    pub(super) fn with_flags(config: PathBuf, mountpoint: PathBuf, flags: MountFlags) -> Mount {
        Mount { config, mountpoint, foreground: false, flags }
    }

    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        // Everything that can be refused before the fork is, so that its message needs no pipe.
        let config = Config::load(&std::path::absolute(&self.config)?)?;
        let mountpoint = daemon::prepare_mountpoint(&config, &self.mountpoint)?;
        for warning in &config.warnings {
            eprintln!("bridgefs: {warning}");
        }
        if self.foreground {
            daemon::start_log(LogTo::Terminal);
            daemon::run(&config, &mountpoint, self.flags, || {})?;
            return Ok(Outcome::Done);
        }
        match daemon::detach(&config.bridge.state_dir)? {
            Detached::Parent(daemon) => daemon.wait_until_ready().map(|()| Outcome::Done).map_err(Into::into),
            Detached::Child(mut report) => {
                daemon::start_log(LogTo::File);
                let outcome = daemon::run(&config, &mountpoint, self.flags, || report.ready());
                if let Err(error) = &outcome {
                    report.failed(&error.to_string());
                }
                Ok(outcome.map(|_| Outcome::Done)?)
            }
        }
    }
}
