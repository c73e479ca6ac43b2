use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::table::Table;
use super::target::{Target, mount_of};
use super::{Outcome, block_on, show, units};
use crate::bridge::{FileStatus, ReplicaStatus, StoreStatus};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::control::{Client, MountStatus};
use crate::ledger::Slice;
use crate::object::NanoTime;
use crate::stage::Stage;

/// How often `--watch` looks again.
const WATCH_PERIOD: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Status {
    /// A file on the mount (or its path below the mountpoint): what each store holds of it
    path: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// Look again every two seconds, until interrupted
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Write it as JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        self.refuse_configuration()?;
        let client = self.target.client_for(self.path.as_deref())?;
        block_on(async {
            if !self.watch {
                return show(&self.once(&client).await?);
            }
            let mut period = clock::interval(WATCH_PERIOD);
            loop {
                period.tick().await;
                // Clears the screen and goes to its top.
                show(&format!("\x1b[2J\x1b[H{}", self.once(&client).await?))?;
            }
        })?;
        Ok(Outcome::Done)
    }

    /// Other verbs take the configuration where this one takes a path.
    fn refuse_configuration(&self) -> anyhow::Result<()> {
        match &self.path {
            Some(path) if mount_of(path).is_none() && Config::load(path).is_ok() => {
                let path = path.display();
                bail!(
                    "{path} is a configuration, and `status` takes a file of a mount: use `status --config {path}`"
                )
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn once(&self, client: &Client) -> anyhow::Result<String> {
        let mount = client.status().await?;
        let Some(path) = &self.path else { return self.render(&mount, || describe_mount(&mount)) };
        let file = client.file(&below_mount(path, &mount.mountpoint)?).await?;
        self.render(&file, || describe_file(&file))
    }

    fn render(&self, value: &impl serde::Serialize, text: impl Fn() -> String) -> anyhow::Result<String> {
        if self.json { Ok(format!("{}\n", serde_json::to_string_pretty(value)?)) } else { Ok(text()) }
    }
}

/// The path below the mountpoint: a path on the mount loses the mountpoint, any other is taken as it is.
fn below_mount(path: &Path, mountpoint: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(path)?;
    let below = absolute.strip_prefix(mountpoint).unwrap_or(path);
    Ok(below.to_string_lossy().trim_matches('/').to_owned())
}

fn describe_mount(mount: &MountStatus) -> String {
    let now = Clock::System.now();
    let bridge = &mount.bridge;
    let mut text = format!(
        "{}  ({}, daemon {}, bridgefs {})\n\n",
        mount.mountpoint.display(),
        mount.config.display(),
        mount.pid,
        mount.version
    );
    text.push_str(&slices(&bridge.slices, now));
    text.push('\n');
    text.push_str(&stores(&bridge.stores, bridge.files, now));
    text.push_str(&format!(
        "\n{}, {}, {} known; cache {}; {} not on every store yet\n",
        units::count(bridge.files, "file"),
        match bridge.directories {
            1 => "1 directory".to_owned(),
            count => format!("{count} directories"),
        },
        units::bytes(bridge.bytes),
        units::bytes(bridge.cache_bytes),
        units::with_bytes(units::count(bridge.staged_files, "file"), bridge.staged_bytes),
    ));
    for concern in concerns(mount) {
        text.push_str(&format!("! {concern}\n"));
    }
    text
}

fn slices(slices: &[Slice], now: NanoTime) -> String {
    let mut table = Table::new(&["slice", "stage", "reads from new", "since"]);
    for slice in slices {
        let reads = match slice.stage {
            Stage::Off | Stage::DualWrite | Stage::Shadow => "no".to_owned(),
            Stage::Live => format!("{} %", slice.read_percent),
            Stage::RampDown | Stage::Complete => "100 %".to_owned(),
        };
        let since = format!("{} ago", units::age(now, slice.since));
        table.row([format!("/{}", slice.prefix), slice.stage.to_string(), reads, since]);
    }
    table.to_string()
}

fn stores(stores: &[StoreStatus], files: u64, now: NanoTime) -> String {
    let mut table =
        Table::new(&["store", "side", "answers", "current", "to do", "oldest", "deletions", "blocked"]);
    for store in stores {
        let counts = &store.counts;
        let answers = match store.breaker.as_str() {
            "closed" => "yes",
            "half-open" => "being tried",
            _ => "no",
        };
        table.row([
            store.name.clone(),
            store.side.clone(),
            answers.to_owned(),
            format!("{} of {files}", counts.current),
            units::with_bytes(counts.pending.to_string(), counts.pending_bytes),
            counts.oldest_pending.map_or_else(|| "-".to_owned(), |since| units::age(now, since)),
            counts.deletions.to_string(),
            counts.blocked.to_string(),
        ]);
    }
    table.to_string()
}

/// What a person should look at, one sentence each.
fn concerns(mount: &MountStatus) -> Vec<String> {
    let bridge = &mount.bridge;
    let mut concerns = Vec::new();
    if let Some(error) = &bridge.ledger_error {
        concerns.push(format!("the ledger cannot be used, nothing is replicated: {error}"));
    }
    for file in &mount.unsettled {
        concerns.push(format!(
            "a change of inode {} (find {} -inum {}) is not in the journal: {}; it goes on being tried",
            file.ino,
            mount.mountpoint.display(),
            file.ino,
            file.error
        ));
    }
    for store in bridge.stores.iter().filter(|store| store.breaker != "closed") {
        let why = store.last_error.as_deref().unwrap_or("it does not answer");
        concerns.push(format!(
            "store {} is away ({why}); everything goes on with the other one, and what it misses is sent when it is \
             back",
            store.name
        ));
    }
    for store in &bridge.stores {
        concerns.extend(troubles(store));
    }
    if bridge.findings > 0 {
        concerns.push(format!("{}: see `bridgefs findings`", units::count(bridge.findings, "finding")));
    }
    if bridge.degraded_acks > 0 {
        concerns.push(format!(
            "{} given by fewer stores than `ack` asks, because one was away or refused",
            units::count(bridge.degraded_acks, "acknowledgement")
        ));
    }
    if bridge.unproven_reads > 0 {
        concerns.push(format!(
            "{} of objects without a receipt, while the preferred store was away",
            units::count(bridge.unproven_reads, "read")
        ));
    }
    concerns
}

/// A store that answers, and yet does not take what it is sent.
fn troubles(store: &StoreStatus) -> Option<String> {
    let (name, counts) = (&store.name, &store.counts);
    if let Some(why) = &store.refusal {
        return Some(format!(
            "store {name} takes nothing now ({why}); everything goes on with the other one, and what it misses is sent \
             when it takes it"
        ));
    }
    let why = counts.failing_error.as_deref().filter(|_| counts.failing > 0)?;
    let files = units::count(counts.failing, "file");
    Some(format!(
        "store {name} has refused {files} again and again ({why}); they are tried again until it takes them"
    ))
}

fn describe_file(file: &FileStatus) -> String {
    let staged = if file.staged { ", kept here until every store has it" } else { "" };
    let mut text = format!(
        "/{}  version {}, {} ({} bytes){staged}\nslice /{}, stage {}\n\n",
        file.path,
        file.version,
        units::bytes(file.size),
        file.size,
        file.slice,
        file.stage
    );
    let mut table = Table::new(&["store", "state", "version", "size", "age", "etag", "blake3"]);
    for replica in &file.replicas {
        table.row(replica_cells(replica));
    }
    text.push_str(&table.to_string());
    for replica in &file.replicas {
        if let Some(key) = &replica.key {
            text.push_str(&format!("{}: still stands under {key}\n", replica.store));
        }
        if let Some(error) = &replica.last_error {
            let attempts = units::count(u64::from(replica.attempts), "attempt");
            text.push_str(&format!("{}: {attempts} failed, last: {error}\n", replica.store));
        }
    }
    text
}

fn replica_cells(replica: &ReplicaStatus) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let short = |hash: &String| hash.chars().take(16).collect::<String>();
    [
        replica.store.clone(),
        replica.state.clone(),
        or_dash(replica.version.map(|version| version.to_string())),
        or_dash(replica.size.map(|size| size.to_string())),
        or_dash(replica.age_seconds.map(|age| format!("{age} s"))),
        or_dash(replica.etag.clone()),
        or_dash(replica.blake3.as_ref().map(short)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_on_the_mount_loses_the_mountpoint() {
        let below = |path: &str| below_mount(Path::new(path), Path::new("/mnt/docs")).expect("a path");
        assert_eq!(below("/mnt/docs/a/b.txt"), "a/b.txt");
        assert_eq!(below("/a/b.txt"), "a/b.txt");
        assert_eq!(below("/mnt/docs"), "");
    }
}
