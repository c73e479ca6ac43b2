//! A program that writes, remembers what it was promised, and looks afterwards.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Files that a writer keeps; more are removed again.
const FILES_MAX: usize = 12;
/// Length of most files, in bytes.
const SMALL_MAX: usize = 64 << 10;
/// Length of a few files: long enough to be uploaded in parts.
const LARGE: usize = 9 << 20;

/// What the operation that a crash interrupted may have left.
#[derive(Debug)]
enum Doubt {
    /// Anything between the two, byte by byte: what was not acknowledged may be there in part.
    Content { name: String, before: Option<Vec<u8>>, after: Vec<u8> },
    /// Done or not done.
    Rename { from: String, to: String },
    /// Done or not done.
    Unlink { name: String },
}

/// How a writer learns that its bytes are safe.
#[derive(Debug, Clone, Copy)]
enum Ack {
    Fsync,
    Close,
}

/// One writer with a directory of its own.
#[derive(Debug)]
pub(crate) struct Writer {
    name: String,
    dir: PathBuf,
    rng: SmallRng,
    /// What was acknowledged.
    files: BTreeMap<String, Vec<u8>>,
    doubt: Option<Doubt>,
    made: u64,
    /// Operations that were acknowledged.
    pub(crate) acked: u64,
}

impl Writer {
    /// A writer in `name` below the mountpoint.
    pub(crate) fn new(mountpoint: &Path, name: String, seed: u64) -> Writer {
        let dir = mountpoint.join(&name);
        let rng = SmallRng::seed_from_u64(seed);
        Writer { name, dir, rng, files: BTreeMap::new(), doubt: None, made: 0, acked: 0 }
    }

    /// The files that must be there, by key.
    pub(crate) fn acked_files(&self) -> impl Iterator<Item = (String, &[u8])> {
        self.files.iter().map(|(name, content)| (format!("{}/{name}", self.name), content.as_slice()))
    }

    /// Works until an operation fails; returns that failure. What it was doing stays in doubt.
    pub(crate) fn work(&mut self) -> io::Error {
        loop {
            match self.step() {
                Ok(()) => self.acked += 1,
                Err(error) => return error,
            }
        }
    }

    fn step(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        match self.rng.random_range(0..100) {
            _ if self.files.len() < 3 => self.create(),
            _ if self.files.len() > FILES_MAX => self.unlink(),
            0..20 => self.create(),
            20..45 => self.append(),
            45..65 => self.overwrite(),
            65..75 => self.replace(),
            75..90 => self.rename(),
            _ => self.unlink(),
        }
    }

    fn create(&mut self) -> io::Result<()> {
        self.made += 1;
        let name = format!("file {}.bin", self.made);
        let len = if self.rng.random_ratio(1, 100) { LARGE } else { self.rng.random_range(0..SMALL_MAX) };
        let content = self.bytes(len);
        self.change(name, content, |file, content| file.write_all_at(content, 0))
    }

    fn append(&mut self) -> io::Result<()> {
        let (name, mut content) = self.pick();
        let old = content.len();
        let len = self.rng.random_range(1..8192);
        content.extend(self.bytes(len));
        self.change(name, content, |file, content| file.write_all_at(&content[old..], old as u64))
    }

    fn overwrite(&mut self) -> io::Result<()> {
        let (name, mut content) = self.pick();
        let start = self.rng.random_range(0..=content.len());
        let len = self.rng.random_range(1..8192);
        let end = start + len;
        let bytes = self.bytes(len);
        content.resize(content.len().max(end), 0);
        content[start..end].copy_from_slice(&bytes);
        self.change(name, content, |file, content| file.write_all_at(&content[start..end], start as u64))
    }

    /// Truncated and written anew, as most programs save.
    fn replace(&mut self) -> io::Result<()> {
        let (name, _) = self.pick();
        let len = self.rng.random_range(0..SMALL_MAX);
        let content = self.bytes(len);
        self.change(name, content, |file, content| {
            file.set_len(0)?;
            file.write_all_at(content, 0)
        })
    }

    fn change(
        &mut self,
        name: String,
        after: Vec<u8>,
        write: impl FnOnce(&File, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let ack = if self.rng.random() { Ack::Fsync } else { Ack::Close };
        let path = self.dir.join(&name);
        let before = self.files.get(&name).cloned();
        self.doubt = Some(Doubt::Content { name: name.clone(), before, after: after.clone() });
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        write(&file, &after)?;
        acknowledge(file, ack)?;
        self.doubt = None;
        self.files.insert(name, after);
        Ok(())
    }

    fn rename(&mut self) -> io::Result<()> {
        let (from, content) = self.pick();
        let to = if self.rng.random() {
            self.pick().0
        } else {
            self.made += 1;
            format!("moved {}.bin", self.made)
        };
        self.doubt = Some(Doubt::Rename { from: from.clone(), to: to.clone() });
        fs::rename(self.dir.join(&from), self.dir.join(&to))?;
        self.doubt = None;
        self.files.remove(&from);
        self.files.insert(to, content);
        Ok(())
    }

    fn unlink(&mut self) -> io::Result<()> {
        let (name, _) = self.pick();
        self.doubt = Some(Doubt::Unlink { name: name.clone() });
        fs::remove_file(self.dir.join(&name))?;
        self.doubt = None;
        self.files.remove(&name);
        Ok(())
    }

    fn pick(&mut self) -> (String, Vec<u8>) {
        let at = self.rng.random_range(0..self.files.len());
        let (name, content) = self.files.iter().nth(at).expect("the index is within the map");
        (name.clone(), content.clone())
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill(&mut bytes[..]);
        bytes
    }

    /// Reads everything anew. What was acknowledged must be there; what was in doubt is settled by what is found.
    pub(crate) fn look(&mut self) {
        let found = self.read_all();
        if let Some(doubt) = self.doubt.take() {
            self.settle(doubt, &found);
        }
        let names: Vec<_> = found.keys().collect();
        assert_eq!(names, self.files.keys().collect::<Vec<_>>(), "the names in {}", self.name);
        for (name, content) in &self.files {
            assert_same(&format!("{}/{name}", self.name), &found[name], content);
        }
    }

    fn settle(&mut self, doubt: Doubt, found: &BTreeMap<String, Vec<u8>>) {
        match doubt {
            Doubt::Content { name, before, after } => match found.get(&name) {
                Some(content) => {
                    assert_between(&name, content, before.as_deref(), &after);
                    self.files.insert(name, content.clone());
                }
                None => assert!(before.is_none(), "{name} is lost, though an earlier state was acknowledged"),
            },
            Doubt::Rename { from, to } if from != to && !found.contains_key(&from) => {
                let content = self.files.remove(&from).expect("only a known file is renamed");
                self.files.insert(to, content);
            }
            Doubt::Unlink { name } if !found.contains_key(&name) => {
                self.files.remove(&name);
            }
            Doubt::Rename { .. } | Doubt::Unlink { .. } => {}
        }
    }

    fn read_all(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
            entries => entries.expect("the directory can be listed"),
        };
        let read = |entry: io::Result<fs::DirEntry>| {
            let name = entry.expect("the directory can be listed").file_name();
            let name = name.into_string().expect("our names are UTF-8");
            let content =
                fs::read(self.dir.join(&name)).unwrap_or_else(|e| panic!("{}/{name}: {e}", self.name));
            (name, content)
        };
        entries.map(read).collect()
    }
}

fn acknowledge(file: File, ack: Ack) -> io::Result<()> {
    match ack {
        Ack::Fsync => file.sync_all(),
        // Dropping a `File` hides what `close` says.
        Ack::Close => Ok(nix::unistd::close(file.into_raw_fd())?),
    }
}

fn assert_same(name: &str, found: &[u8], acked: &[u8]) {
    assert_eq!(found.len(), acked.len(), "the length of {name}");
    let differs = found.iter().zip(acked).position(|(found, acked)| found != acked);
    assert_eq!(differs, None, "the first byte of {name} that is not what was acknowledged");
}

/// A change that was not acknowledged may be there in part, but every byte is of one of the two states.
fn assert_between(name: &str, found: &[u8], before: Option<&[u8]>, after: &[u8]) {
    let before = before.unwrap_or_default();
    let len_max = before.len().max(after.len());
    assert!(found.len() <= len_max, "{name} has {} bytes, {len_max} at most", found.len());
    let strange = found.iter().enumerate().position(|(at, byte)| {
        // A hole before bytes that were written out of order reads as zero.
        *byte != 0 && before.get(at) != Some(byte) && after.get(at) != Some(byte)
    });
    assert_eq!(strange, None, "the first byte of {name} that nobody wrote there");
}
