//! The command line that mount(8) makes, by way of the helper `mount.fuse` of the package fuse3:
//! `bridgefs SOURCE MOUNTPOINT -o LIST`, to mount (a line of fstab, a unit of systemd) and to remount. It names
//! no verb, so it is told by its shape.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::Outcome;
use super::mount::Mount;
use crate::config::suggestion;
use crate::fuse::{self, MountFlags};

/// Words for mount(8) and systemd, and those that say what every mount of ours does anyway.
const FOR_OTHERS: [&str; 17] = [
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "nofail",
    "_netdev",
    "_rnetdev",
    "remount",
    "default_permissions",
    "allow_other",
    "loud",
];

/// Beginnings of such words.
const FOR_OTHERS_FROM: [&str; 5] = ["x-", "X-", "comment=", "uhelper=", "helper="];

/// What the mount table says of a FUSE mount, and mount(8) repeats when it remounts.
const OF_THE_TABLE: [&str; 4] = ["user_id=", "group_id=", "max_read=", "blksize="];

/// One call of mount(8).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountCall {
    source: PathBuf,
    mountpoint: PathBuf,
    flags: MountFlags,
    is_remount: bool,
}

impl MountCall {
    /// What mount(8) wants; `None` where the command line is a person's, and names a verb (or misspells one).
    pub(super) fn read(
        words: &[OsString],
        is_verb: impl Fn(&str) -> bool,
    ) -> Option<anyhow::Result<MountCall>> {
        let [source, mountpoint, options @ ..] = words else { return None };
        let name = source.to_string_lossy();
        if name.starts_with('-') || is_verb(&name) || !is_place(Path::new(mountpoint)) {
            return None;
        }
        let has_list = options.first().is_some_and(|word| word.to_string_lossy().starts_with('-'));
        (has_list || Path::new(source).is_file())
            .then(|| MountCall::read_options(source, mountpoint, options))
    }

    fn read_options(
        source: &OsString,
        mountpoint: &OsString,
        options: &[OsString],
    ) -> anyhow::Result<MountCall> {
        let mut list: Vec<String> = Vec::new();
        let mut is_sloppy = false;
        let mut words = options.iter().map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            match &*word {
                "-o" => match words.next() {
                    Some(more) => list.extend(more.split(',').map(str::to_owned)),
                    None => bail!("`-o` needs a list of options"),
                },
                "-s" => is_sloppy = true,
                "-n" | "-v" => {}
                _ => bail!(
                    "`{word}` is not known; mount(8) calls `bridgefs SOURCE MOUNTPOINT [-nsv] [-o LIST]`"
                ),
            }
        }
        let is_remount = list.iter().any(|word| word == "remount");
        let mut flags = MountFlags::default();
        for word in &list {
            if !flags.take(word) && !is_for_others(word, is_remount) && !is_sloppy {
                bail!("there is no mount option \"{word}\"{}", suggestion(word, &known()));
            }
        }
        Ok(MountCall { source: source.into(), mountpoint: mountpoint.into(), flags, is_remount })
    }

    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        if self.is_remount {
            fuse::remount(&self.mountpoint, self.flags)?;
            return Ok(Outcome::Done);
        }
        Mount::with_flags(self.source, self.mountpoint, self.flags).run()
    }
}

/// Also a mount whose daemon is dead, into which nothing can look.
fn is_place(path: &Path) -> bool {
    path.is_dir() || std::path::absolute(path).is_ok_and(|path| fuse::is_mounted(&path).unwrap_or(false))
}

fn is_for_others(word: &str, is_remount: bool) -> bool {
    let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| word.starts_with(beginning));
    word.is_empty()
        || FOR_OTHERS.contains(&word)
        || begins(&FOR_OTHERS_FROM)
        || (is_remount && begins(&OF_THE_TABLE))
}

fn known() -> Vec<&'static str> {
    MountFlags::words().chain(FOR_OTHERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(words: &[&str]) -> Option<Result<MountCall, String>> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let call = MountCall::read(&words, |word| word == "status");
        call.map(|call| call.map_err(|error| error.to_string()))
    }

    fn read(list: &str) -> Result<MountCall, String> {
        called(&["/etc/x.toml", "/tmp", "-o", list]).expect("the shape of mount(8)")
    }

    #[test]
    fn the_shape_tells_mount_from_a_person() {
        for person in [
            &["status", "/tmp", "-o", "rw"][..],
            &["--help", "/tmp", "-o", "rw"],
            &["umuont", "/tmp"],
            &["/etc/x.toml", "/no/such/place", "-o", "rw"],
            &["/etc/x.toml"],
            &[],
        ] {
            assert_eq!(called(person), None, "{person:?}");
        }
        assert!(called(&["/proc/self/maps", "/tmp"]).is_some(), "a file and a directory");
        assert!(called(&["bridgefs", "/tmp", "-n", "-v", "-o", "remount"]).is_some());
    }

    #[test]
    fn what_mount_and_systemd_put_in_is_taken() {
        let list = "rw,defaults,_netdev,nofail,noauto,user,x-systemd.automount,comment=a,relatime,,dev,suid";
        let call = read(list).expect("taken");
        assert!(!call.is_remount);
        let mut flags = MountFlags::default();
        assert!(flags.take("relatime"));
        assert_eq!(call.flags, flags);
        let list = "rw,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other,remount,ro";
        assert!(read(list).expect("taken").is_remount);
    }

    #[test]
    fn an_unknown_option_names_itself_and_the_nearest() {
        let said = read("rw,noexce").expect_err("refused");
        assert_eq!(said, "there is no mount option \"noexce\"; did you mean \"noexec\"?");
        assert!(read("user_id=5").expect_err("refused").contains("\"user_id=5\""), "only of a remount");
        let sloppy = called(&["/etc/x.toml", "/tmp", "-s", "-o", "noexce"]).expect("the shape");
        assert!(sloppy.is_ok());
        let said = called(&["/etc/x.toml", "/tmp", "-o"]).expect("the shape").expect_err("refused");
        assert!(said.contains("needs a list"), "{said}");
        let said = called(&["/etc/x.toml", "/tmp", "-t", "nfs"]).expect("the shape").expect_err("refused");
        assert!(said.contains("`-t`"), "{said}");
    }
}
