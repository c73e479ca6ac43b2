//! What the kernel itself looks after on a mount, in the words of `mount -o`, when it is made and while it is
//! there.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::mountpoint::{self, FS_TYPE, MountError};

/// The words: which flag, and whether the word sets it.
const WORDS: [(&str, MsFlags, bool); 20] = [
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("atime", MsFlags::MS_NOATIME, false),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
    ("silent", MsFlags::MS_SILENT, true),
];

/// What a mount does not have stays away when it is changed: `mount.fuse` writes `suid,dev` into every list
/// that does not name their opposites, so they are nobody's wish.
const NEVER_WEAKER: [(&str, MsFlags); 2] = [("nosuid", MsFlags::MS_NOSUID), ("nodev", MsFlags::MS_NODEV)];

/// The flags of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountFlags(MsFlags);

impl Default for MountFlags {
    fn default() -> MountFlags {
        MountFlags(MsFlags::empty())
    }
}

impl MountFlags {
    /// Every word that [`MountFlags::take`] knows.
    pub fn words() -> impl Iterator<Item = &'static str> {
        WORDS.iter().map(|(word, _, _)| *word)
    }

    /// Obeys one word of `mount -o`; a later one undoes an earlier one. False: it is none of ours.
    pub fn take(&mut self, word: &str) -> bool {
        let found = WORDS.iter().find(|(known, _, _)| *known == word);
        found.inspect(|(_, flag, is_set)| self.0.set(*flag, *is_set)).is_some()
    }

    /// Whether changes of names are to be on the disk when they are answered.
    pub fn sync_names(self) -> bool {
        self.0.intersects(MsFlags::MS_SYNCHRONOUS | MsFlags::MS_DIRSYNC)
    }

    /// For mount(2), with these as well.
    pub(super) fn with(self, more: MsFlags) -> MsFlags {
        self.0 | more
    }
}

/// Gives a mount that is there other flags. `nosuid` and `nodev` stay where they are.
pub fn remount(path: &Path, wanted: MountFlags) -> Result<(), MountError> {
    let path = mountpoint::absolute(path)?;
    let other = |what, source| MountError::Other { what, path: path.clone(), source };
    let mounted = mountpoint::mounted_at(&path).map_err(|e| other("reading /proc/self/mountinfo", e))?;
    let Some(line) = mounted.filter(|line| line.fs_type == FS_TYPE) else {
        return Err(MountError::NotOurs(path));
    };
    let kept = NEVER_WEAKER.iter().filter(|(word, _)| line.has(word));
    let kept = kept.fold(MsFlags::empty(), |all, (_, flag)| all | *flag);
    let flags = wanted.with(kept | MsFlags::MS_REMOUNT);
    mount(None::<&str>, &path, None::<&str>, flags, None::<&str>).map_err(|errno| {
        if errno == Errno::EBUSY {
            MountError::Written(path.clone())
        } else if matches!(errno, Errno::EPERM | Errno::EACCES) {
            MountError::NotPermitted(errno.into())
        } else {
            other("remount", io::Error::from(errno))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_an_unknown_one_changes_nothing() {
        let mut flags = MountFlags::default();
        for word in ["ro", "nosuid", "noexec", "rw", "suid", "dev"] {
            assert!(flags.take(word), "{word}");
        }
        assert!(!flags.take("raed-only"));
        assert_eq!(flags, MountFlags(MsFlags::MS_NOEXEC));
        assert_eq!(flags.with(MsFlags::MS_NODEV), MsFlags::MS_NOEXEC | MsFlags::MS_NODEV);
    }
}
