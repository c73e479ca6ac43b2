use clap::Args;

use super::target::Target;
use super::{Outcome, block_on, show, show_json};
use crate::config::slice_prefix;
use crate::control::StageRequest;
use crate::stage::Stage as StageWord;

#[derive(Debug, Args)]
pub(super) struct Stage {
    #[command(flatten)]
    target: Target,
    /// The slice: `/`, or a prefix such as /exports
    #[arg(value_parser = slice_prefix)]
    slice: Slice,
    /// off, dual-write, shadow, live, ramp-down or complete
    stage: StageWord,
    /// In stage live: how many percent of the keys prefer the new store
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    read_percent: u8,
    /// Why; recorded with your name
    #[arg(long, default_value = "")]
    reason: String,
    /// Write the outcome as JSON
    #[arg(long)]
    json: bool,
}

type Slice = String;

impl Stage {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        let client = self.target.client()?;
        let request = StageRequest {
            prefix: self.slice,
            stage: self.stage,
            read_percent: self.read_percent,
            reason: self.reason,
        };
        let change = block_on(async { Ok(client.stage(&request).await?) })?;
        if self.json {
            show_json(&change)?;
        } else {
            show(&format!(
                "/{}: {} -> {}. It holds for every operation from now on; no gate was checked (this version has \
                 none).\n",
                change.prefix, change.from, change.to
            ))?;
        }
        Ok(Outcome::Done)
    }
}
