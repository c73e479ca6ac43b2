//! The plain in-memory model: what a local disk would hold.

use std::collections::BTreeMap;
use std::fmt;

use bridgefs::bridge::BridgeErrorKind;
use bridgefs::ledger::RenameMode;
use bridgefs::object::NanoTime;
use bytes::Bytes;

/// A content with a name for messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob(pub Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes #{:08x}", self.0.len(), crc32fast::hash(&self.0))
    }
}

impl Blob {
    /// A content that no other tag has.
    pub fn unique(tag: u64, len: usize) -> Blob {
        let mut word = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.truncate(len);
        Blob(bytes.into())
    }
}

/// A file.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// What a commit has acknowledged; `None` before the first.
    pub acked: Option<Blob>,
    /// What was written after, in order.
    pub newer: Vec<Blob>,
    /// What a store must hold though the host is lost: one of these. Empty before the first ack.
    pub stored: Vec<Blob>,
    /// It was committed through the mount, so both stores must have it in the end.
    pub written: bool,
    /// Permission bits, if the mount has set or seen them.
    pub mode: Option<u32>,
    /// The mtime of the last commit, unless the bridge committed by itself since.
    pub mtime: Option<NanoTime>,
}

impl File {
    /// What a reader sees who looks at the file itself.
    pub fn latest(&self) -> Blob {
        self.newer.last().or(self.acked.as_ref()).cloned().unwrap_or(Blob(Bytes::new()))
    }

    /// Whether a read may answer this: what was acknowledged, or something newer.
    pub fn may_be(&self, found: &[u8]) -> bool {
        let empty = self.acked.is_none() && found.is_empty();
        empty || self.acked.iter().chain(&self.newer).any(|blob| blob.0 == found)
    }

    /// A commit has acknowledged what was written last.
    pub fn committed(&mut self, mtime: NanoTime) {
        self.acked = Some(self.latest());
        self.not_yet_stored();
        self.newer.clear();
        self.written = true;
        self.mtime = Some(mtime);
    }

    /// A store may hold an acknowledged version or what was written since.
    fn not_yet_stored(&mut self) {
        if !self.stored.is_empty() {
            self.stored.extend(self.newer.iter().cloned());
        }
    }

    /// The bridge has shown that this is the content now: from here on it is.
    pub fn settle(&mut self, found: &[u8]) {
        if self.newer.is_empty() && self.acked.is_some() {
            return;
        }
        if self.acked.as_ref().is_none_or(|acked| acked.0 != found) {
            self.mtime = None;
        }
        self.acked = Some(Blob(Bytes::copy_from_slice(found)));
        self.not_yet_stored();
        self.newer.clear();
        self.written = true;
    }
}

/// Which file it is, under whatever names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(u64);

/// One name of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The file; its other names say the same.
    pub file: FileId,
    /// It is a further name, so both stores must have it although the file was never written.
    pub linked: bool,
    /// It was there at the last ack, so a store must hold an object of its own for it though the host is lost.
    pub stored: bool,
}

/// What stands under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Dir,
    /// A symlink to these bytes, which no other symlink has: two names with the same ones are one symlink.
    Symlink(Vec<u8>),
    /// A name of a file.
    File(Name),
}

impl Entry {
    /// Whether both are names of the same file or symlink.
    fn is_same_node(&self, other: &Entry) -> bool {
        match (self, other) {
            (Entry::File(one), Entry::File(other)) => one.file == other.file,
            (Entry::Symlink(one), Entry::Symlink(other)) => one == other,
            (Entry::Dir | Entry::Symlink(_) | Entry::File(_), _) => false,
        }
    }
}

/// The answer of a model operation: what a local disk would say.
pub type Verdict<T = ()> = Result<T, BridgeErrorKind>;

/// Everything by path.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Path to entry; the root is not among them.
    pub entries: BTreeMap<String, Entry>,
    /// Every file that ever was: one without a name is found by nobody.
    files: BTreeMap<FileId, File>,
}

impl Tree {
    /// What stands there.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The file that stands there.
    pub fn file(&mut self, path: &str) -> Option<&mut File> {
        match self.entries.get(path) {
            Some(Entry::File(name)) => self.files.get_mut(&name.file),
            Some(Entry::Dir | Entry::Symlink(_)) | None => None,
        }
    }

    /// The file of a name.
    pub fn file_of(&self, name: &Name) -> &File {
        &self.files[&name.file]
    }

    /// Every path of what stands there: one, but for further names.
    pub fn names(&self, path: &str) -> Vec<&str> {
        let Some(entry) = self.get(path) else { return Vec::new() };
        let same = |(other, there): &(&String, &Entry)| other.as_str() == path || there.is_same_node(entry);
        self.entries.iter().filter(same).map(|(path, _)| path.as_str()).collect()
    }

    /// A store has confirmed the content of the file that stands there, under every name that it has now.
    pub fn stored(&mut self, path: &str) {
        let Some(file) = self.file(path) else { return };
        file.stored = file.acked.iter().cloned().collect();
        for path in self.names(path).into_iter().map(str::to_owned).collect::<Vec<_>>() {
            if let Some(Entry::File(name)) = self.entries.get_mut(&path) {
                name.stored = true;
            }
        }
    }

    /// The names in a directory.
    pub fn children(&self, dir: &str) -> Vec<String> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let names = self.entries.keys().filter_map(|path| path.strip_prefix(&prefix));
        names.filter(|rest| !rest.contains('/')).map(str::to_owned).collect()
    }

    /// Makes something new.
    pub fn insert(&mut self, path: &str, entry: Entry) -> Verdict {
        if self.entries.contains_key(path) {
            return Err(BridgeErrorKind::Exists);
        }
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Makes a new file.
    pub fn insert_file(&mut self, path: &str, file: File) -> Verdict {
        let id = FileId(self.files.len() as u64);
        self.insert(path, Entry::File(Name { file: id, linked: false, stored: false }))?;
        self.files.insert(id, file);
        Ok(())
    }

    /// Gives a file or symlink a further name.
    pub fn link(&mut self, from: &str, to: &str) -> Verdict {
        if self.entries.contains_key(to) {
            return Err(BridgeErrorKind::Exists);
        }
        let further = match self.get(from) {
            None => return Err(BridgeErrorKind::NotFound),
            Some(Entry::Dir) => return Err(BridgeErrorKind::IsADirectory),
            Some(Entry::File(name)) => Entry::File(Name { file: name.file, linked: true, stored: false }),
            Some(Entry::Symlink(target)) => Entry::Symlink(target.clone()),
        };
        self.insert(to, further)
    }

    /// Removes a name of a file or symlink.
    pub fn unlink(&mut self, path: &str) -> Verdict {
        match self.get(path) {
            None => Err(BridgeErrorKind::NotFound),
            Some(Entry::Dir) => Err(BridgeErrorKind::IsADirectory),
            Some(Entry::File(_) | Entry::Symlink(_)) => {
                self.entries.remove(path);
                Ok(())
            }
        }
    }

    /// Removes an empty directory.
    pub fn rmdir(&mut self, path: &str) -> Verdict {
        match self.get(path) {
            None => Err(BridgeErrorKind::NotFound),
            Some(Entry::File(_) | Entry::Symlink(_)) => Err(BridgeErrorKind::NotADirectory),
            Some(Entry::Dir) if !self.children(path).is_empty() => Err(BridgeErrorKind::NotEmpty),
            Some(Entry::Dir) => {
                self.entries.remove(path);
                Ok(())
            }
        }
    }

    /// Renames as POSIX says: two names of one file both stay.
    pub fn rename(&mut self, from: &str, to: &str, mode: RenameMode) -> Verdict {
        use BridgeErrorKind::{Exists, IsADirectory, Loop, NotADirectory, NotEmpty, NotFound};
        let source = self.get(from).ok_or(NotFound)?.clone();
        let target = self.get(to).cloned();
        match mode {
            RenameMode::NoReplace if target.is_some() => return Err(Exists),
            RenameMode::Exchange if target.is_none() => return Err(NotFound),
            RenameMode::NoReplace | RenameMode::Exchange | RenameMode::Replace => {}
        }
        if from == to || target.as_ref().is_some_and(|target| target.is_same_node(&source)) {
            return Ok(());
        }
        let inside = |path: &str, dir: &str| path.starts_with(&format!("{dir}/"));
        if inside(to, from) || (mode == RenameMode::Exchange && inside(from, to)) {
            return Err(Loop);
        }
        match (&source, &target) {
            (Entry::Dir, Some(Entry::Dir))
                if mode == RenameMode::Replace && !self.children(to).is_empty() =>
            {
                return Err(NotEmpty);
            }
            (Entry::Dir, Some(Entry::File(_) | Entry::Symlink(_))) if mode == RenameMode::Replace => {
                return Err(NotADirectory);
            }
            (Entry::File(_) | Entry::Symlink(_), Some(Entry::Dir)) if mode == RenameMode::Replace => {
                return Err(if inside(from, to) { NotEmpty } else { IsADirectory });
            }
            _ => {}
        }
        let moved = self.take(from);
        let other = self.take(to);
        self.put(to, moved);
        if mode == RenameMode::Exchange {
            self.put(from, other);
        }
        Ok(())
    }

    /// Takes an entry with all below it out: the rest of the path to the entry.
    fn take(&mut self, path: &str) -> Vec<(String, Entry)> {
        let below = format!("{path}/");
        let inside = |p: &String| p.as_str() == path || p.starts_with(&below);
        let paths: Vec<String> = self.entries.keys().filter(|p| inside(p)).cloned().collect();
        let cut = |p: String, entry| (p[path.len()..].to_owned(), entry);
        paths.into_iter().filter_map(|p| self.entries.remove(&p).map(|entry| cut(p, entry))).collect()
    }

    fn put(&mut self, path: &str, entries: Vec<(String, Entry)>) {
        self.entries.extend(entries.into_iter().map(|(rest, entry)| (format!("{path}{rest}"), entry)));
    }
}
