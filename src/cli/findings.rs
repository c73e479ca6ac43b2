use clap::Args;

use super::target::Target;
use super::{Outcome, block_on, show, show_json, units};
use crate::clock::Clock;
use crate::ledger::Finding;

#[derive(Debug, Args)]
pub(super) struct Findings {
    #[command(flatten)]
    target: Target,
    /// Write them as JSON
    #[arg(long)]
    json: bool,
}

impl Findings {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let client = self.target.client()?;
        let findings = block_on(async { Ok(client.findings().await?) })?;
        if self.json {
            show_json(&findings)?;
        } else if findings.is_empty() {
            show("Nothing to look at.\n")?;
        } else {
            let now = Clock::System.now();
            let text: String = findings.iter().map(|finding| describe(finding, now)).collect();
            show(&text)?;
        }
        Ok(Outcome::Done)
    }
}

fn describe(finding: &Finding, now: i64) -> String {
    let side = finding.side.as_ref().map(|side| format!(" on {side}")).unwrap_or_default();
    let key = finding.key.as_ref().map(|key| format!(" {key}")).unwrap_or_default();
    let kind = serde_json::to_value(finding.kind).ok();
    let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or("finding");
    format!(
        "#{} {kind}{side}{key}\n    {}\n    {}, last {} ago\n",
        finding.id,
        finding.detail,
        units::count(finding.count, "time"),
        units::age(now, finding.last_at)
    )
}
