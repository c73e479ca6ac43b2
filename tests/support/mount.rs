//! A bridge as a user has it: a configuration file, the `bridgefs` program, a mount. Needs root (or
//! fusermount3) and /dev/fuse; without them a test fails, because one that is skipped looks like one that passed.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bridgefs::clock::Instant;
use nix::mount::{MntFlags, umount2};
use serde_json::Value;

/// The program under test.
pub const BRIDGEFS: &str = env!("CARGO_BIN_EXE_bridgefs");

/// How long a mount may take to be ready, and a daemon to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a store's table in the configuration says.
#[derive(Debug, Clone)]
pub struct StoreTable {
    pub url: String,
    pub options: BTreeMap<String, String>,
}

impl StoreTable {
    /// A folder, made if it is not there.
    pub fn folder(path: &Path) -> StoreTable {
        fs::create_dir_all(path).expect("a folder for a store");
        StoreTable { url: format!("file://{}", path.display()), options: BTreeMap::new() }
    }
}

/// A configuration and the folders it names, in a temporary directory that ends with it.
#[derive(Debug)]
pub struct Site {
    home: tempfile::TempDir,
    stores: [StoreTable; 2],
    bridge: BTreeMap<String, String>,
    cache: BTreeMap<String, String>,
}

impl Site {
    /// A bridge from `old` to `new` in stage dual-write, ack `primary`.
    pub fn new(old: StoreTable, new: StoreTable) -> Site {
        let home = tempfile::Builder::new().prefix("bridgefs-site-").tempdir().expect("a directory");
        fs::create_dir(home.path().join("mnt")).expect("a mountpoint");
        let cache = BTreeMap::from([("keep_free".to_owned(), "1%".to_owned())]);
        Site { home, stores: [old, new], bridge: BTreeMap::new(), cache }
    }

    /// A bridge between two folders of its own, `old` and `new`.
    pub fn folders() -> Site {
        let mut site = Site::new(
            StoreTable { url: String::new(), options: BTreeMap::new() },
            StoreTable { url: String::new(), options: BTreeMap::new() },
        );
        site.stores = ["old", "new"].map(|name| StoreTable::folder(&site.home.path().join(name)));
        site
    }

    /// Sets a key of the `[bridge]` table for the next mount.
    pub fn set(&mut self, key: &str, value: &str) {
        self.bridge.insert(key.to_owned(), value.to_owned());
    }

    /// Sets a key of the `[cache]` table for the next mount.
    pub fn set_cache(&mut self, key: &str, value: &str) {
        self.cache.insert(key.to_owned(), value.to_owned());
    }

    /// The site's directory, for whatever a test wants to keep beside the mount.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> PathBuf {
        self.home().join("mnt")
    }

    /// Where the ledger and the staged files are.
    pub fn state_dir(&self) -> PathBuf {
        self.home().join("state")
    }

    /// What the daemons of this site wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home().join("log")).unwrap_or_default()
    }

    fn config(&self) -> PathBuf {
        self.home().join("bridge.toml")
    }

    fn write_config(&self) {
        let mut text = String::from("owner = \"tests@example.com\"\nremove_by = 2099-12-31\n");
        for (name, store) in ["first", "second"].iter().zip(&self.stores) {
            write!(text, "[stores.{name}]\nurl = {:?}\n", store.url).expect("a String takes it");
            push_all(&mut text, &store.options);
        }
        write!(text, "[bridge]\nold = \"first\"\nnew = \"second\"\nstate_dir = {:?}\n", self.state_dir())
            .expect("a String takes it");
        push_all(&mut text, &self.bridge);
        text.push_str("[cache]\n");
        push_all(&mut text, &self.cache);
        fs::write(self.config(), text).expect("the configuration is written");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(BRIDGEFS);
        command.env("BRIDGEFS_RUN_DIR", self.home().join("run")).stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits until the mount answers.
    pub fn mount(&self) -> Mount<'_> {
        let mut mount = self.start();
        let ready = wait_until(PATIENCE, || self.is_ready() || has_ended(&mut mount.daemon));
        let failed = has_ended(&mut mount.daemon);
        assert!(ready && !failed, "the bridge was not mounted; its log:\n{}", tail(&self.log()));
        mount
    }

    /// Starts the daemon and waits for nothing.
    pub fn start(&self) -> Mount<'_> {
        self.write_config();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.home().join("log"));
        let log = log.expect("the log can be written");
        let daemon = self
            .command()
            .arg("mount")
            .arg(self.config())
            .arg(self.mountpoint())
            .arg("--foreground")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program was built");
        Mount { site: self, daemon, end: End::ByForce }
    }

    /// Whether the daemon answers for the mount. A dead mount of an earlier daemon does not.
    fn is_ready(&self) -> bool {
        let asked = self.command().args(["status", "--json", "--config"]).arg(self.config()).output();
        asked.is_ok_and(|output| output.status.success()) && fs::metadata(self.mountpoint()).is_ok()
    }
}

fn push_all(text: &mut String, table: &BTreeMap<String, String>) {
    for (key, value) in table {
        writeln!(text, "{key} = {value:?}").expect("a String takes it");
    }
}

fn has_ended(daemon: &mut Child) -> bool {
    daemon.try_wait().is_ok_and(|ended| ended.is_some())
}

/// A running bridge; unmounted, by force if need be, when it is dropped.
#[derive(Debug)]
pub struct Mount<'s> {
    site: &'s Site,
    daemon: Child,
    end: End,
}

/// What is to be done when a mount is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The daemon is killed and the mount taken away.
    ByForce,
    /// Nothing: it is unmounted, or left dead for the next one to clean.
    Left,
}

impl Mount<'_> {
    /// The mounted directory.
    pub fn path(&self) -> PathBuf {
        self.site.mountpoint()
    }

    /// `SIGKILL` for the daemon. The mount stays, dead, for the next one to clean.
    pub fn kill(&mut self) {
        self.daemon.kill().expect("the daemon is ours");
        self.daemon.wait().expect("the daemon is our child");
        self.end = End::Left;
    }

    /// What `bridgefs VERB ARGS..` prints about this bridge; it must succeed.
    pub fn ask(&self, verb: &str, arguments: &[&str]) -> Output {
        let config = self.site.config();
        let output = self.site.command().arg(verb).args(arguments).arg("--config").arg(config).output();
        let output = output.expect("the program was built");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "bridgefs {verb} {arguments:?}: {errors}\n{}", self.site.log());
        output
    }

    /// `bridgefs status --json`.
    pub fn status(&self) -> Value {
        let output = self.ask("status", &["--json"]);
        serde_json::from_slice(&output.stdout).expect("status --json prints JSON")
    }

    /// Moves the whole tree to a stage.
    pub fn stage(&self, stage: &str) {
        self.ask("stage", &["/", stage, "--reason", "a test"]);
    }

    /// Waits until no change and no deletion is pending on either store and nothing is staged.
    pub fn settle(&self, limit: Duration) {
        let mut last = Value::Null;
        let settled = wait_until(limit, || {
            last = self.status();
            is_settled(&last)
        });
        assert!(settled, "the queues are not empty after {limit:?}: {last:#}\n{}", tail(&self.site.log()));
    }

    /// Unmounts in order; both stores must have everything then.
    pub fn unmount(mut self) {
        let output = self.site.command().args(["umount", "--json"]).arg(self.path()).output();
        let output = output.expect("the program was built");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "umount: {said}{errors}\n{}", tail(&self.site.log()));
        let stopped: Value = serde_json::from_str(&said).expect("umount --json prints JSON");
        assert_eq!(stopped["pending"], 0, "everything was sent before the unmount: {stopped}");
        let ended = wait_until(PATIENCE, || has_ended(&mut self.daemon));
        assert!(ended, "the daemon ends after the unmount\n{}", tail(&self.site.log()));
        self.end = End::Left;
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        if self.end == End::Left && !std::thread::panicking() {
            return;
        }
        self.daemon.kill().ok();
        self.daemon.wait().ok();
        umount2(&self.path(), MntFlags::MNT_DETACH).ok();
    }
}

fn is_settled(status: &Value) -> bool {
    let idle = |store: &Value| store["counts"]["pending"] == 0 && store["counts"]["deletions"] == 0;
    let stores = status["stores"].as_array().expect("status lists the stores");
    stores.len() == 2 && stores.iter().all(idle) && status["staged_files"] == 0
}

/// The end of a log: the whole of it would hide what failed.
pub fn tail(log: &str) -> &str {
    let start = log.len().saturating_sub(6000);
    let start = (start..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
    &log[start..]
}

/// Looks until `condition` holds or `limit` is over; says whether it held. Other processes give no other sign.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= end {
            return false;
        }
        pause(Duration::from_millis(20));
    }
    true
}

/// Lets time pass for the other processes of a test.
#[expect(clippy::disallowed_methods, reason = "a test's thread, not one of the program")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Runs a program that must succeed; returns what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
