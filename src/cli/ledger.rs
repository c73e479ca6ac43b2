use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};

use super::{Outcome, block_on, show, show_json, units};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::{Client, socket_path};
use crate::ledger::{Ledger, LedgerErrorKind, LedgerMode, LedgerOptions};

#[derive(Debug, Args)]
pub(super) struct LedgerCommand {
    #[command(subcommand)]
    verb: LedgerVerb,
}

#[derive(Debug, Subcommand)]
enum LedgerVerb {
    /// Read all of the ledger and say what is damaged or cannot be true; changes nothing
    Check(Check),
}

#[derive(Debug, Args)]
struct Check {
    /// The configuration
    config: PathBuf,
    /// Write the outcome as JSON: a list, empty if all is well
    #[arg(long)]
    json: bool,
}

impl LedgerCommand {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        match &self.verb {
            LedgerVerb::Check(check) => check.run(),
        }
    }
}

impl Check {
    fn run(&self) -> anyhow::Result<Outcome> {
        let config = Config::load(&self.config)?;
        let wrong = look(&config.bridge.state_dir)?;
        if self.json {
            show_json(&wrong)?;
        } else if wrong.is_empty() {
            show("The ledger is sound.\n")?;
        } else {
            let lines: String = wrong.iter().map(|line| format!("{line}\n")).collect();
            let count = units::count(wrong.len() as u64, "thing");
            show(&format!(
                "{lines}\n{count} cannot be true. The stores are untouched. Keep a copy of the state directory, and report this.\n"
            ))?;
        }
        Ok(if wrong.is_empty() { Outcome::Done } else { Outcome::Refused })
    }
}

/// Asks the daemon if one runs, for it alone may open the ledger then.
fn look(state_dir: &Path) -> anyhow::Result<Vec<String>> {
    if !state_dir.join("ledger.db").exists() {
        bail!("there is no ledger in {}: it is made by the first mount", state_dir.display());
    }
    let options = LedgerOptions { mode: LedgerMode::Inline, sync: true, clock: Clock::System };
    match Ledger::open(state_dir, options) {
        Ok(ledger) => Ok(ledger.check()?),
        Err(error) if error.kind() == LedgerErrorKind::InUse => {
            let client = Client::new(&socket_path(state_dir));
            block_on(async { Ok(client.check().await?) })
        }
        Err(error) => Err(error.into()),
    }
}
