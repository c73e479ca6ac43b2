//! A `[stores.NAME]` table.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::document::{Entry, Section};
use super::error::ConfigError;
use super::options::{Provider, StoreOptions, is_secret};
use super::values;

/// One configured store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Its name in messages, metrics and `status`.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// object_store's own options.
    pub options: StoreOptions,
    /// How it is used.
    pub tuning: StoreTuning,
    pub(super) line: usize,
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A bucket or container, below an optional prefix without slashes at its ends.
    Remote {
        /// Whose protocol it speaks.
        provider: Provider,
        /// The bucket or container.
        bucket: String,
        /// What all keys begin with; empty for the whole bucket.
        prefix: String,
    },
    /// A folder of this host.
    Folder(PathBuf),
    /// The daemon's own memory: gone when it ends. For tests.
    Memory,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Remote { provider, bucket, prefix } => {
                write!(f, "{}://{bucket}", provider.scheme())?;
                if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
            }
            Location::Folder(path) => write!(f, "file://{}", path.display()),
            Location::Memory => f.write_str("memory:///"),
        }
    }
}

/// How a store is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTuning {
    /// A connection that takes longer to be made has failed.
    pub connect_timeout: Duration,
    /// A request on which nothing moves for so long has failed.
    pub stall_timeout: Duration,
    /// So many requests at once; more wait.
    pub requests_max: u32,
    /// Whether checksums are sent with the bytes.
    pub checksum: Checksums,
}

/// Whether checksums are sent with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// Where the probe found that the store checks them.
    Auto,
    /// Never: some S3 look-alikes refuse the headers.
    Off,
}

impl Default for StoreTuning {
    fn default() -> StoreTuning {
        StoreTuning {
            connect_timeout: Duration::from_secs(3),
            stall_timeout: Duration::from_secs(4),
            requests_max: 64,
            checksum: Checksums::Auto,
        }
    }
}

const TUNING: [&str; 4] = ["connect_timeout", "stall_timeout", "requests_max", "checksum"];

impl StoreConfig {
    pub(super) fn read(name: &str, section: Section<'_>) -> Result<StoreConfig, ConfigError> {
        let location = section.require("url")?.parse(parse_url)?;
        let known = known_keys(&location);
        section.refuse_unknown(&known)?;
        let mut options = StoreOptions::default();
        for entry in section.entries() {
            if entry.key != "url" && !TUNING.contains(&entry.key) {
                options.0.insert(entry.key.to_owned(), read_option(&entry)?);
            }
        }
        let (name, line) = (name.to_owned(), section.line());
        Ok(StoreConfig { name, location, options, tuning: read_tuning(section)?, line })
    }

    /// Whether the store is in another process: everything but [`Location::Memory`] and folders.
    pub fn is_remote(&self) -> bool {
        matches!(self.location, Location::Remote { .. })
    }
}

fn read_option(entry: &Entry<'_>) -> Result<String, ConfigError> {
    if is_secret(entry.key) {
        entry.note_secret();
    }
    entry.plain()
}

fn known_keys(location: &Location) -> Vec<&'static str> {
    let mut known = vec!["url"];
    match location {
        Location::Remote { provider, .. } => known.extend(provider.options()),
        Location::Folder(_) | Location::Memory => {}
    }
    known.extend(TUNING);
    known
}

fn read_tuning(section: Section<'_>) -> Result<StoreTuning, ConfigError> {
    let mut tuning = StoreTuning::default();
    if let Some(entry) = section.get("connect_timeout") {
        tuning.connect_timeout = entry.parse(values::duration)?;
    }
    if let Some(entry) = section.get("stall_timeout") {
        tuning.stall_timeout = entry.parse(values::duration)?;
    }
    if let Some(entry) = section.get("requests_max") {
        tuning.requests_max = entry.number(1, 10_000)?;
    }
    if let Some(entry) = section.get("checksum") {
        let words = [("auto", Checksums::Auto), ("off", Checksums::Off)];
        tuning.checksum = entry.parse(|text| values::word(text, "checksum mode", &words))?;
    }
    Ok(tuning)
}

fn parse_url(url: &str) -> Result<Location, String> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| not_a_url(url))?;
    match scheme {
        "s3" => remote(Provider::S3, rest, url),
        "az" => remote(Provider::Azure, rest, url),
        "gs" => remote(Provider::Google, rest, url),
        "file" if rest.starts_with('/') && rest.len() > 1 => Ok(Location::Folder(PathBuf::from(rest))),
        "file" => Err(format!("\"{url}\" must name an absolute folder: file:///data/old")),
        "memory" => Ok(Location::Memory),
        _ => Err(not_a_url(url)),
    }
}

fn not_a_url(url: &str) -> String {
    format!(
        "\"{url}\" is no store; a store is s3://BUCKET, az://CONTAINER, gs://BUCKET (each with an optional \
         /PREFIX) or file:///FOLDER"
    )
}

fn remote(provider: Provider, rest: &str, url: &str) -> Result<Location, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(format!("\"{url}\" names no bucket"));
    }
    let prefix = prefix.trim_matches('/');
    let is_path = prefix.is_empty() || prefix.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    if !is_path {
        return Err(format!("the prefix \"{prefix}\" has an empty, \".\" or \"..\" segment"));
    }
    Ok(Location::Remote { provider, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}
