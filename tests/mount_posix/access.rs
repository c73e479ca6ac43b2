//! Times of access through the kernel, which keeps attributes and pages of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;

use bridgefs::fuse::{MountFlags, MountOptions, remount};
use bridgefs::object::Ino;

use crate::rig::{Rig, Setup};

/// Prints whether a time of access is another one than before the commands.
const SEEN: &str = "
    seen() { local path=$1; shift; local before=$(stat -c %x \"$path\"); \"$@\" > /dev/null
             [ \"$before\" = \"$(stat -c %x \"$path\")\" ] && echo hidden || echo seen; }
";

fn told(rig: &Rig, script: &str) -> Vec<String> {
    rig.shell(&format!("{SEEN}{script}")).lines().map(str::to_owned).collect()
}

#[test]
fn a_first_read_shows_at_once_in_stat_and_the_next_one_does_not() {
    let rig = Rig::new();
    let script = "
        echo content > f
        seen f cat f
        seen f cat f
        echo more >> f; seen f cat f; seen f cat f
        chmod 600 f; seen f cat f; seen f cat f
        touch -a -d 2001-01-01 f; seen f cat f; seen f cat f
        touch -a -d 2100-01-01 f; seen f cat f";
    let expected = ["seen", "hidden", "seen", "hidden", "seen", "hidden", "seen", "hidden", "hidden"];
    assert_eq!(told(&rig, script), expected);
}

#[test]
fn a_read_is_seen_however_it_is_done_unless_it_asks_not_to_be() {
    let rig = Rig::new();
    let script = "
        echo content > f
        seen f dd if=f iflag=noatime status=none
        seen f dd if=f iflag=direct status=none
        touch f; seen f cp f copy
        touch f; seen f cmp f copy
        chmod 640 f; exec 3<> f; seen f cat <&3; exec 3>&-
        touch f; seen f python3 -c 'import mmap; f = open(\"f\"); mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[0]'
        chmod 600 f; exec 3< f; rm f
        [ $(stat -L -c %X /proc/self/fd/3) -le $(date +%s) ]; before=$(stat -L -c %x /proc/self/fd/3)
        cat <&3 > /dev/null; [ \"$before\" != \"$(stat -L -c %x /proc/self/fd/3)\" ] && echo seen";
    let expected = ["hidden", "seen", "seen", "seen", "seen", "seen", "seen"];
    assert_eq!(told(&rig, script), expected);
}

/// The descriptor stays open; without O_DIRECT the kernel would answer its second read by itself.
#[test]
fn a_change_of_attributes_or_names_makes_the_next_read_of_an_open_descriptor_count() {
    let rig = Rig::new();
    let script = "
        echo content > f
        exec 3< f
        again() { dd if=/proc/self/fd/3 of=/dev/null iflag=direct status=none; }
        seen f again; seen f again
        setfattr -n user.a -v 1 f; seen f again; seen f again
        ln f g; seen f again
        mv f h; seen g again
        rm h; seen g again; seen g again
        chmod 600 g; seen g again";
    let expected = ["seen", "hidden", "seen", "hidden", "seen", "seen", "seen", "hidden", "seen"];
    assert_eq!(told(&rig, script), expected);
}

#[test]
fn a_listing_and_a_followed_link_are_seen() {
    let rig = Rig::new();
    let script = "
        mkdir d; echo content > d/f; ln -s d/f link
        seen d ls d; seen d ls d
        touch d/g; seen d ls d
        seen link cat link; seen link cat link; seen link readlink link";
    assert_eq!(told(&rig, script), ["seen", "hidden", "seen", "seen", "hidden", "hidden"]);
}

/// What the ledger has is asked: the kernel of a read-only mount does not ask again after a read.
#[test]
fn a_read_only_mount_notes_nothing_until_it_is_writable_again() {
    let mut flags = MountFlags::default();
    assert!(flags.take("ro"));
    let mount = MountOptions { flags, ..MountOptions::default() };
    let rig = Rig::with(Setup { keys: vec!["d/f".to_owned()], mount, ..Setup::default() });
    let nodes = ["", "d", "d/f"].map(|name| Ino(fs::metadata(rig.at(name)).expect("there").ino()));
    let times = || nodes.map(|ino| rig.runtime.block_on(rig.fs.getattr(ino)).expect("there").atime);
    let read = || {
        rig.shell("ls . d; cat d/f d/f");
        times()
    };
    let before = times();
    assert_eq!(read(), before);
    remount(rig.root(), MountFlags::default()).expect("remounted");
    assert_ne!(read()[2], before[2], "it is read again");
}
