//! The configuration file, validated into types. A file that loads can be mounted as far as a file can
//! tell; whether the stores answer is for `bridgefs check`.

mod bridge;
mod document;
mod error;
mod options;
mod overlap;
mod store;
mod values;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use document::{Section, Source};

pub use bridge::{BridgeConfig, CacheConfig, MountConfig, SliceConfig, slice_prefix};
pub use error::{ConfigError, Place};
pub use options::{Provider, StoreOptions};
pub use store::{Location, StoreConfig, StoreTuning};
pub use values::{DiskAmount, suggestion};

use crate::clock::Clock;
use crate::object::{NanoTime, PerSide, Side};

/// An annotated configuration, as `bridgefs init` writes it.
pub const EXAMPLE: &str = include_str!("example.toml");

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Who takes this bridge down.
    pub owner: Option<String>,
    /// By when.
    pub remove_by: Option<jiff::civil::Date>,
    /// The two stores.
    pub stores: PerSide<StoreConfig>,
    /// The `[bridge]` table.
    pub bridge: BridgeConfig,
    /// The `[cache]` table.
    pub cache: CacheConfig,
    /// The `[mount]` table.
    pub mount: MountConfig,
    /// The `[[slice]]` tables, in order.
    pub slices: Vec<SliceConfig>,
    /// What is allowed but should be looked at, one sentence each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads and checks `file`, with the process's environment for `${NAME}`.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let whole = Place { file: file.to_owned(), line: 0, section: String::new() };
        let text = std::fs::read_to_string(file).map_err(|error| whole.error(unreadable(file, &error)))?;
        let permissions = std::fs::metadata(file).map_or(0, |meta| meta.permissions().mode());
        let environment = |name: &str| std::env::var(name).ok();
        let source = Source::new(file, text, &environment);
        let mut config = read(&source, file)?;
        if let (Some(line), true) = (source.first_secret(), permissions & 0o077 != 0) {
            config.warnings.push(format!(
                "{}:{line}: a secret stands here and other users can read the file (mode {:04o}); do \
                 `chmod 600 {}`, or take it from the environment with ${{NAME}}",
                file.display(),
                permissions & 0o7777,
                file.display()
            ));
        }
        config.warnings.extend(overdue(&config, Clock::System.now()));
        Ok(config)
    }

    /// Checks `text` as if it stood in `file`, with `environment` for `${NAME}`.
    pub fn parse(
        file: &Path,
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        read(&Source::new(file, text.to_owned(), environment), file)
    }

    /// Why the bridge cannot be mounted at `mountpoint`, if it cannot: a folder that the daemon itself
    /// needs would be hidden by the mount, and the daemon would wait for itself.
    pub fn conflict_with_mountpoint(&self, mountpoint: &Path) -> Option<String> {
        let at = overlap::resolve(mountpoint);
        let mut own = vec![
            ("state_dir".to_owned(), self.bridge.state_dir.clone()),
            ("the cache folder".to_owned(), self.cache.dir.clone()),
        ];
        for (_, store) in self.stores.iter() {
            if let Location::Folder(root) = &store.location {
                own.push((format!("the folder of store \"{}\"", store.name), root.clone()));
            }
        }
        let clash = own.into_iter().find(|(_, path)| overlap::nested(&overlap::resolve(path), &at));
        clash.map(|(what, path)| {
            format!(
                "{what} ({}) and the mountpoint {} are inside one another: the bridge would wait for itself; \
                 choose another mountpoint",
                path.display(),
                mountpoint.display()
            )
        })
    }
}

fn unreadable(file: &Path, error: &std::io::Error) -> String {
    let problem = format!("cannot read the configuration: {error}");
    if error.kind() != std::io::ErrorKind::NotFound {
        return problem;
    }
    let file = file.display();
    format!("{problem}; correct the path, or write a configuration to start from: `bridgefs init {file}`")
}

fn read(source: &Source<'_>, file: &Path) -> Result<Config, ConfigError> {
    let document = source.parse()?;
    let root = Section::root(source, document.get_ref());
    root.refuse_unknown(&["owner", "remove_by", "stores", "bridge", "cache", "mount", "slice"])?;
    let section = root.require("bridge")?.section("bridge")?;
    let bridge = BridgeConfig::read(section)?;
    let stores = read_stores(root, section)?;
    let cache = root.get("cache").map(|entry| entry.section("cache")).transpose()?;
    let mount = root.get("mount").map(|entry| entry.section("mount")).transpose()?;
    let mut config = Config {
        file: file.to_owned(),
        owner: root.get("owner").map(|entry| entry.text()).transpose()?,
        remove_by: root.get("remove_by").map(|entry| entry.date()).transpose()?,
        stores,
        cache: CacheConfig::read(cache, &bridge.state_dir)?,
        mount: MountConfig::read(mount)?,
        slices: read_slices(root)?,
        bridge,
        warnings: Vec::new(),
    };
    refuse_own_folders_in_stores(&config, section, cache)?;
    config.warnings = missing_ends(&config);
    Ok(config)
}

fn read_stores(root: Section<'_>, bridge: Section<'_>) -> Result<PerSide<StoreConfig>, ConfigError> {
    let tables = root.require("stores")?.section("stores")?;
    let mut stores = Vec::new();
    for entry in tables.entries() {
        let name = format!("stores.{}", entry.key);
        stores.push(StoreConfig::read(entry.key, entry.section(&name)?)?);
    }
    let names: Vec<&str> = stores.iter().map(|store| store.name.as_str()).collect();
    let pick = |side: Side| {
        let entry = bridge.require(side.as_str())?;
        let name = entry.text()?;
        let found = stores.iter().find(|store| store.name == name);
        found.cloned().ok_or_else(|| {
            let hint = values::suggestion(&name, &names);
            entry.error(format!("there is no [stores.{name}]{hint}"))
        })
    };
    let picked = PerSide { old: pick(Side::Old)?, new: pick(Side::New)? };
    if picked.old.name == picked.new.name {
        let problem = "this is also `old`: a bridge needs two different stores";
        return Err(bridge.require("new")?.error(problem));
    }
    if let Some(problem) = overlap::between_stores(&picked.old, &picked.new) {
        return Err(bridge.require("new")?.error(problem));
    }
    match stores.iter().find(|store| store.name != picked.old.name && store.name != picked.new.name) {
        Some(extra) => Err(bridge.error(format!(
            "[stores.{}] in line {} is neither `old` nor `new`: a bridge has exactly two stores",
            extra.name, extra.line
        ))),
        None => Ok(picked),
    }
}

fn read_slices(root: Section<'_>) -> Result<Vec<SliceConfig>, ConfigError> {
    let mut slices = Vec::new();
    let Some(entry) = root.get("slice") else { return Ok(slices) };
    for section in entry.sections("slice")? {
        let slice = SliceConfig::read(section, &slices)?;
        slices.push(slice);
    }
    Ok(slices)
}

fn refuse_own_folders_in_stores(
    config: &Config,
    bridge: Section<'_>,
    cache: Option<Section<'_>>,
) -> Result<(), ConfigError> {
    for (_, store) in config.stores.iter() {
        if let Some(problem) = overlap::with_own_folder(store, "state_dir", &config.bridge.state_dir) {
            return Err(bridge.require("state_dir")?.error(problem));
        }
        let Some(entry) = cache.and_then(|section| section.get("dir")) else { continue };
        if let Some(problem) = overlap::with_own_folder(store, "the cache folder", &config.cache.dir) {
            return Err(entry.error(problem));
        }
    }
    Ok(())
}

/// A bridge without an owner and an end stays for ever.
fn missing_ends(config: &Config) -> Vec<String> {
    let missing = [("owner", config.owner.is_none()), ("remove_by", config.remove_by.is_none())];
    let missing = missing.into_iter().filter(|(_, missing)| *missing);
    missing
        .map(|(key, _)| {
            format!(
                "{}: `{key}` is missing: a bridge needs someone who takes it down and a day; a later version \
                 will refuse dual-write without it",
                config.file.display()
            )
        })
        .collect()
}

/// A bridge that outlives its day is what the day was named for.
fn overdue(config: &Config, now: NanoTime) -> Option<String> {
    let today = jiff::Timestamp::from_nanosecond(now.into()).ok()?.to_zoned(jiff::tz::TimeZone::UTC).date();
    let remove_by = config.remove_by.filter(|day| *day < today)?;
    let owner = config.owner.as_deref().unwrap_or("its owner");
    Some(format!(
        "{}: `remove_by` is {remove_by}, and that is over: {owner} should finish the migration and take the bridge down, \
         or name another day",
        config.file.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_that_outlives_its_day_is_warned_about() {
        let environment = |_: &str| Some("from-the-environment".to_owned());
        let config = Config::parse(Path::new("bridgefs.toml"), EXAMPLE, &environment).expect("valid");
        let at = |day: &str| day.parse::<jiff::Timestamp>().expect("a time").as_nanosecond();
        let at = |day| overdue(&config, NanoTime::try_from(at(day)).expect("this century"));
        assert_eq!(at("2027-03-31T23:59:00Z"), None);
        let warning = at("2027-04-01T00:00:00Z").expect("warned");
        assert!(warning.contains("2027-03-31") && warning.contains("storage-team@example.com"), "{warning}");
    }

    #[test]
    fn the_example_is_a_valid_configuration() {
        let environment = |_: &str| Some("from-the-environment".to_owned());
        let config = Config::parse(Path::new("bridgefs.toml"), EXAMPLE, &environment).expect("valid");
        assert_eq!(config.warnings, Vec::<String>::new());
        assert_eq!(config.stores.old.location.to_string(), "s3://docs-prod");
    }
}
