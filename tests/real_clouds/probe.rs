//! A small program that works without a pause and measures each of its operations.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bridgefs::clock::Instant;

/// An operation that took longer than this was waiting for a store: a silent one is suspected after 2 s.
pub(crate) const STALL: Duration = Duration::from_secs(2);

/// What the probe saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) operations: u64,
    pub(crate) longest: Duration,
    /// Operations beyond [`STALL`]: which, after what time, for how long.
    pub(crate) stalls: Vec<(&'static str, Duration, Duration)>,
    pub(crate) failures: Vec<String>,
}

/// Files that were there before, with what they hold.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) dir: PathBuf,
    pub(crate) files: usize,
    pub(crate) len: usize,
}

impl History {
    /// Writes them.
    pub(crate) fn make(dir: PathBuf, files: usize, len: usize) -> History {
        fs::create_dir(&dir).expect("a directory in the mount");
        let history = History { dir, files, len };
        for at in 0..files {
            fs::write(history.path(at), history.content(at)).expect("a file in the mount");
        }
        history
    }

    pub(crate) fn path(&self, at: usize) -> PathBuf {
        self.dir.join(format!("{at:03}.bin"))
    }

    pub(crate) fn content(&self, at: usize) -> Vec<u8> {
        (0..self.len)
            .map(|byte| u8::try_from((byte * 31 + byte / 251 + at * 7) % 256).expect("below 256"))
            .collect()
    }
}

impl Seen {
    /// How many stalls began before that time.
    pub(crate) fn stalls_before(&self, end: Duration) -> usize {
        self.stalls.iter().filter(|(_, begun, _)| *begun < end).count()
    }
}

/// Works in `dir` until `stop`; times count from `start`.
pub(crate) fn work(dir: &Path, history: &History, start: Instant, stop: &AtomicBool) -> Seen {
    let mut probe = Probe { start, seen: Seen::default() };
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) {
        probe.round(dir, history, round);
        round += 1;
    }
    probe.seen
}

struct Probe {
    start: Instant,
    seen: Seen,
}

impl Probe {
    fn measure<T>(&mut self, what: &'static str, work: impl FnOnce() -> io::Result<T>) -> Option<T> {
        let begun = Instant::now();
        let result = work();
        let took = begun.elapsed();
        self.seen.operations += 1;
        self.seen.longest = self.seen.longest.max(took);
        if took > STALL {
            self.seen.stalls.push((what, begun.duration_since(self.start), took));
        }
        result.map_err(|error| self.seen.failures.push(format!("{what} after {took:?}: {error}"))).ok()
    }

    fn expect(&mut self, what: &str, found: Option<Vec<u8>>, wanted: &[u8]) {
        if found.is_some_and(|found| found != wanted) {
            self.seen.failures.push(format!("{what}: other bytes than were written"));
        }
    }

    fn round(&mut self, dir: &Path, history: &History, round: usize) {
        let (path, renamed) = (dir.join(format!("work {round}")), dir.join(format!("done {round}")));
        let content = format!("round {round}\n").repeat(300).into_bytes();
        let file = self.measure("create", || File::create(&path));
        if let Some(mut file) = file {
            self.measure("write", || file.write_all(&content));
            self.measure("close", || Ok(nix::unistd::close(file.into_raw_fd())?));
        }
        let read = self.measure("read what was written", || fs::read(&path));
        self.expect("what was written", read, &content);
        self.measure("stat", || fs::metadata(&path));
        if let Some(mut file) = self.measure("open to append", || OpenOptions::new().append(true).open(&path))
        {
            self.measure("append", || file.write_all(b"more"));
            self.measure("fsync", || file.sync_all());
            self.measure("close", || Ok(nix::unistd::close(file.into_raw_fd())?));
        }
        self.measure("rename", || fs::rename(&path, &renamed));
        self.measure("list", || Ok(fs::read_dir(dir)?.count()));
        if !round.is_multiple_of(4) {
            self.measure("unlink", || fs::remove_file(&renamed));
        }
        self.read_history(history, round % history.files);
    }

    fn read_history(&mut self, history: &History, at: usize) {
        let Some(mut file) = self.measure("open an old file", || File::open(history.path(at))) else {
            return;
        };
        let mut bytes = Vec::new();
        let read = self.measure("read an old file", || file.read_to_end(&mut bytes)).map(|_| bytes);
        self.expect("an old file", read, &history.content(at));
    }
}
