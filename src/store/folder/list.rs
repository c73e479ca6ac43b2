//! A page of keys in byte order, by walking. Of each directory only the names of one page are held, so that the
//! size of a folder does not show in memory.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};

use super::call::Call;
use super::path::{Chain, PRIVATE, open_directory, open_file, refusal};
use super::record::{describe, own_time};
use super::root::OpenRoot;
use crate::object::Key;
use crate::store::{ErrorKind, ListPage, ListRequest, ListToken, ListedObject, StoreResult, Stranger};

/// What a name in a directory is to a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File,
    Directory,
    /// No object, and why.
    Stranger(&'static str),
}

const LINK: &str = "a symbolic link";
const SPECIAL: &str = "a pipe, socket or device";
const NO_OBJECTS: &str = "a directory with nothing but links, devices or names that are not UTF-8";

struct Walk<'r> {
    call: &'r Call,
    request: &'r ListRequest,
    page: ListPage,
    last: Option<String>,
}

/// What a directory holds, with all below it; the later of two wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Contents {
    Nothing,
    Strangers,
    Objects,
}

/// Whether there is more to walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Left,
    Full,
}

/// One page. Links, devices and names that are not UTF-8 can be no objects, but are told of; what is ours is not.
pub(super) fn list(call: &Call, root: &OpenRoot, request: &ListRequest) -> StoreResult<ListPage> {
    let directory = request.prefix.rsplit_once('/').map(|(directory, _)| directory);
    let segments: Vec<&str> = directory.map(|directory| directory.split('/').collect()).unwrap_or_default();
    // A prefix that no key of ours can have is the start of nothing.
    if directory.is_some_and(|raw| Key::new(raw).map_or(true, |key| refusal(&key).is_some())) {
        return Ok(ListPage::default());
    }
    let Some(chain) = Chain::open(call, root.reopen(call)?, &segments)? else {
        return Ok(ListPage::default());
    };
    let below = directory.map(|directory| format!("{directory}/")).unwrap_or_default();
    let mut walk = Walk { call, request, page: ListPage::default(), last: None };
    if walk.directory(chain.last(), &below)? == Room::Full {
        walk.page.next = walk.last.map(ListToken);
    }
    Ok(walk.page)
}

impl Walk<'_> {
    fn entries_max(&self) -> usize {
        usize::try_from(self.request.max_entries.max(1)).unwrap_or(usize::MAX)
    }

    /// Walks `directory`, whose keys start with `below`, until the page is full.
    fn directory(&mut self, directory: &OwnedFd, below: &str) -> StoreResult<Room> {
        let mut after: Option<String> = None;
        loop {
            let batch = self.next_names(directory, below, after.as_deref())?;
            let Some((last, _)) = batch.last_key_value() else { return Ok(Room::Left) };
            after = Some(last.clone());
            let is_last = batch.len() <= self.entries_max();
            for (full, entry) in batch {
                if self.visit(directory, below, full, entry)? == Room::Full {
                    return Ok(Room::Full);
                }
            }
            if is_last {
                return Ok(Room::Left);
            }
        }
    }

    /// The next names in byte order of their keys (a directory's with its slash), one page at most.
    fn next_names(
        &self,
        directory: &OwnedFd,
        below: &str,
        after: Option<&str>,
    ) -> StoreResult<BTreeMap<String, Entry>> {
        let failed = |error: Errno| self.call.io("listing a directory", error);
        let fresh = open_directory(directory, ".").map_err(failed)?;
        let mut listing = Dir::from_fd(fresh).map_err(failed)?;
        let mut names = BTreeMap::new();
        for found in listing.iter() {
            let found = found.map_err(failed)?;
            let name = found.file_name().to_string_lossy();
            if matches!(&*name, "." | "..") || (below.is_empty() && name == PRIVATE) {
                continue;
            }
            let (name, entry) = if found.file_name().to_str().is_ok() {
                let Some(entry) = kind(directory, &name, found.file_type()).map_err(failed)? else {
                    continue;
                };
                (name, entry)
            } else {
                (escaped(found.file_name()).into(), Entry::Stranger("a name that is not UTF-8"))
            };
            let slash = if entry == Entry::Directory { "/" } else { "" };
            let full = format!("{below}{name}{slash}");
            if after.is_none_or(|after| full.as_str() > after) && self.wants(&full, entry) {
                names.insert(full, entry);
                if names.len() > self.entries_max() + 1 {
                    names.pop_last();
                }
            }
        }
        Ok(names)
    }

    /// Whether this entry, or something in it, is of the request and after its token.
    fn wants(&self, full: &str, entry: Entry) -> bool {
        let goes_into = entry == Entry::Directory && !self.request.one_level;
        let token = self.request.token.as_ref().map(|token| token.0.as_str());
        let is_new = token.is_none_or(|token| full > token || (goes_into && token.starts_with(full)));
        is_new && full.starts_with(&self.request.prefix)
    }

    fn visit(&mut self, parent: &OwnedFd, below: &str, full: String, entry: Entry) -> StoreResult<Room> {
        let name = full.strip_prefix(below).expect("the names of a directory start with its own");
        match (entry, self.request.one_level) {
            (Entry::Stranger(what), _) => {
                self.add(full, |page, place| page.strangers.push(Stranger { place, what }))
            }
            (Entry::File, _) => {
                let Some(object) = self.object(parent, name, &full)? else { return Ok(Room::Left) };
                self.add(full, |page, _| page.objects.push(object))
            }
            (Entry::Directory, true) => match self.contents(parent, name.trim_end_matches('/'))? {
                Contents::Nothing => Ok(Room::Left),
                Contents::Strangers => {
                    self.add(full, |page, place| page.strangers.push(Stranger { place, what: NO_OBJECTS }))
                }
                Contents::Objects => self.add(full, |page, full| page.prefixes.push(full)),
            },
            (Entry::Directory, false) => match self.enter(parent, name.trim_end_matches('/'))? {
                Some(directory) => self.directory(&directory, &full),
                None => Ok(Room::Left),
            },
        }
    }

    /// Adds an entry if there is room for it; so a full page is known to have a successor.
    fn add(&mut self, full: String, add: impl FnOnce(&mut ListPage, String)) -> StoreResult<Room> {
        let page = &self.page;
        if page.objects.len() + page.prefixes.len() + page.strangers.len() >= self.entries_max() {
            return Ok(Room::Full);
        }
        self.last = Some(full.clone());
        add(&mut self.page, full);
        Ok(Room::Left)
    }

    /// The object; `None` if it went since its name was read.
    fn object(&self, parent: &OwnedFd, name: &str, full: &str) -> StoreResult<Option<ListedObject>> {
        let opened = open_file(parent, name);
        let Some(file) = opened.map_err(|error| self.call.io(&format!("opening `{full}`"), error))? else {
            return Ok(None);
        };
        let key = Key::new(full).expect("a name is not empty");
        match describe(self.call, &file) {
            Ok(info) => {
                let (size, etag, modified) = (info.size, Some(info.etag), info.modified);
                Ok(Some(ListedObject { key, size, etag, modified }))
            }
            // Whoever reads it is told; it hides none of its neighbours.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let stat = file.metadata().map_err(|error| self.call.io("reading the metadata", error))?;
                Ok(Some(ListedObject { key, size: stat.size(), etag: None, modified: own_time(&stat) }))
            }
            Err(error) => Err(error),
        }
    }

    /// The directory; `None` if it went since its name was read.
    fn enter(&self, parent: &OwnedFd, name: &str) -> StoreResult<Option<OwnedFd>> {
        match open_directory(parent, name) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(error) => Err(self.call.io(&format!("opening the directory `{name}`"), error)),
        }
    }

    /// What stands below: an empty directory is nothing in a store.
    fn contents(&self, parent: &OwnedFd, name: &str) -> StoreResult<Contents> {
        let Some(directory) = self.enter(parent, name)? else { return Ok(Contents::Nothing) };
        let failed = |error: Errno| self.call.io("listing a directory", error);
        let mut listing = Dir::from_fd(open_directory(&directory, ".").map_err(failed)?).map_err(failed)?;
        let mut all = Contents::Nothing;
        for found in listing.iter() {
            let found = found.map_err(failed)?;
            let Ok(name) = found.file_name().to_str() else {
                all = all.max(Contents::Strangers);
                continue;
            };
            if matches!(name, "." | "..") {
                continue;
            }
            let one = match kind(&directory, name, found.file_type()).map_err(failed)? {
                Some(Entry::File) => Contents::Objects,
                Some(Entry::Directory) => self.contents(&directory, name)?,
                Some(Entry::Stranger(_)) => Contents::Strangers,
                None => Contents::Nothing,
            };
            all = all.max(one);
            if all == Contents::Objects {
                break;
            }
        }
        Ok(all)
    }
}

/// A name that is not UTF-8, as people can write it.
fn escaped(name: &CStr) -> String {
    name.to_bytes().escape_ascii().to_string()
}

/// What the entry is, if it is still there; file systems that do not say it in the directory are asked for the file.
fn kind(directory: &OwnedFd, name: &str, told: Option<Type>) -> nix::Result<Option<Entry>> {
    match told {
        Some(Type::File) => Ok(Some(Entry::File)),
        Some(Type::Directory) => Ok(Some(Entry::Directory)),
        Some(Type::Symlink) => Ok(Some(Entry::Stranger(LINK))),
        Some(Type::Fifo | Type::Socket | Type::CharacterDevice | Type::BlockDevice) => {
            Ok(Some(Entry::Stranger(SPECIAL)))
        }
        None => match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFREG => Entry::File,
                SFlag::S_IFDIR => Entry::Directory,
                SFlag::S_IFLNK => Entry::Stranger(LINK),
                _ => Entry::Stranger(SPECIAL),
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        },
    }
}
