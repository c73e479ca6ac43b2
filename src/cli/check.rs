use std::path::PathBuf;

use clap::Args;

use super::table::Table;
use super::{Outcome, block_on, show, show_json};
use crate::config::Config;
use crate::daemon::preflight::{self, Line, Verdict};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration
    config: PathBuf,
    /// The directory that it will be mounted on
    mountpoint: Option<PathBuf>,
    /// Write the outcome as JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let config = Config::load(&self.config)?;
        let lines = block_on(async { Ok(preflight::look(&config, self.mountpoint.as_deref()).await) })?;
        let bad = lines.iter().filter(|line| line.verdict == Verdict::Bad).count();
        if self.json {
            show_json(&lines)?;
        } else {
            show(&describe(&lines, bad))?;
        }
        Ok(if bad == 0 { Outcome::Done } else { Outcome::Refused })
    }
}

fn describe(lines: &[Line], bad: usize) -> String {
    let mut table = Table::new(&["", "what", "found"]);
    for line in lines {
        let mark = match line.verdict {
            Verdict::Good => "ok",
            Verdict::Warning => "look",
            Verdict::Bad => "BAD",
        };
        table.row([mark.to_owned(), line.what.clone(), line.found.replace('\n', " ")]);
    }
    let end = match bad {
        0 => "It can be mounted.".to_owned(),
        1 => "One thing must be mended before it can be mounted. Nothing was changed.".to_owned(),
        several => format!("{several} things must be mended before it can be mounted. Nothing was changed."),
    };
    format!("{table}\n{end}\n")
}
