//! A `[stores.NAME]` table.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::document::{Entry, Section};
use super::error::ConfigError;
use super::options::{Provider, StoreOptions, is_secret};
use super::values;
use crate::store::remote;

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
    /// A request on which nothing moves for so long has failed.
    pub stall_timeout: Duration,
    /// So many requests at once; more wait.
    pub requests_max: u32,
}

impl Default for StoreTuning {
    fn default() -> StoreTuning {
        StoreTuning { stall_timeout: Duration::from_secs(3), requests_max: 64 }
    }
}

/// Keys that a folder or a memory store takes too.
const LOCAL: [&str; 3] = ["url", "requests_max", "stall_timeout"];

impl StoreConfig {
    pub(super) fn read(name: &str, section: Section<'_>) -> Result<StoreConfig, ConfigError> {
        let location = section.require("url")?.parse(parse_url)?;
        refuse_unknown(&location, section)?;
        let mut options = StoreOptions::default();
        for entry in section.entries() {
            if !matches!(entry.key, "url" | "requests_max") {
                options.0.insert(entry.key.to_owned(), read_option(&location, &entry)?);
            }
        }
        let (name, line) = (name.to_owned(), section.line());
        Ok(StoreConfig { name, location, options, tuning: read_tuning(section)?, line })
    }
}

fn refuse_unknown(location: &Location, section: Section<'_>) -> Result<(), ConfigError> {
    let mut known = LOCAL.to_vec();
    if let Location::Remote { provider, .. } = location {
        let scheme = provider.scheme();
        known.extend(remote::known_options(scheme));
        let long = section.entries().into_iter().map(|entry| entry.key);
        known.extend(long.filter(|name| remote::check_option(scheme, name).is_ok()));
    }
    section.refuse_unknown(&known)
}

/// The value of an option of the store's own, checked here, where the line is known.
fn read_option(location: &Location, entry: &Entry<'_>) -> Result<String, ConfigError> {
    if is_secret(entry.key) {
        entry.note_secret();
    }
    match entry.key {
        "stall_timeout" | "connect_timeout" => {
            entry.parse(values::duration).map(|duration| format!("{}ms", duration.as_millis()))
        }
        "checksum" => {
            let words = [("auto", "auto"), ("none", "none")];
            entry.parse(|text| values::word(text, "checksum mode", &words)).map(str::to_owned)
        }
        _ => {
            let value = entry.plain()?;
            if let Location::Remote { provider, .. } = location {
                remote::check_value(provider.scheme(), entry.key, &value)
                    .map_err(|problem| entry.error(problem))?;
            }
            Ok(value)
        }
    }
}

fn read_tuning(section: Section<'_>) -> Result<StoreTuning, ConfigError> {
    let mut tuning = StoreTuning::default();
    if let Some(entry) = section.get("stall_timeout") {
        tuning.stall_timeout = entry.parse(values::duration)?;
    }
    if let Some(entry) = section.get("requests_max") {
        tuning.requests_max = entry.number(1, 10_000)?;
    }
    Ok(tuning)
}

fn parse_url(url: &str) -> Result<Location, String> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| not_a_url(url))?;
    match scheme {
        "s3" => cloud(Provider::S3, rest, url),
        "az" => cloud(Provider::Azure, rest, url),
        "gs" => cloud(Provider::Google, rest, url),
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

fn cloud(provider: Provider, rest: &str, url: &str) -> Result<Location, String> {
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
