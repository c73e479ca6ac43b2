use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use crate::config::Config;
use crate::daemon::{self, Detached, LogTo};

#[derive(Debug, Args)]
pub(super) struct Mount {
    /// The configuration
    config: PathBuf,
    /// An empty directory
    mountpoint: PathBuf,
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    foreground: bool,
}

impl Mount {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        // Everything that can be refused before the fork is, so that its message needs no pipe.
        let config = Config::load(&std::path::absolute(&self.config)?)?;
        let mountpoint = daemon::prepare_mountpoint(&config, &self.mountpoint)?;
        for warning in &config.warnings {
            eprintln!("bridgefs: {warning}");
        }
        if self.foreground {
            daemon::start_log(LogTo::Terminal);
            daemon::run(&config, &mountpoint, || {})?;
            return Ok(Outcome::Done);
        }
        match daemon::detach(&config.bridge.state_dir)? {
            Detached::Parent(daemon) => daemon.wait_until_ready().map(|()| Outcome::Done).map_err(Into::into),
            Detached::Child(mut report) => {
                daemon::start_log(LogTo::File);
                let outcome = daemon::run(&config, &mountpoint, || report.ready());
                if let Err(error) = &outcome {
                    report.failed(&error.to_string());
                }
                Ok(outcome.map(|_| Outcome::Done)?)
            }
        }
    }
}
