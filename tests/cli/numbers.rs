//! Inode numbers over the life of a bridge.

use std::fs;

use nix::sys::signal::{Signal, kill};

use crate::place::Place;

/// Backup programs and NFS know files by their numbers.
#[test]
fn a_file_has_its_inode_number_after_a_restart_and_after_a_kill() {
    let place = Place::new();
    fs::create_dir(place.at("old/found")).expect("made");
    fs::write(place.at("old/found/f"), "was there").expect("written");
    assert_eq!(place.mount().0, 0);
    place.shell(
        "mnt",
        "mkdir -p d/e; echo 1 > d/f; ln d/f d/g; ln -s f d/link; mkfifo d/pipe; mv d/e d/e2; echo 2 > gone",
    );
    let numbers = || place.shell("mnt", "find . -printf '%i %p\\n' | sort -k 2");
    let first = numbers();
    assert_eq!(first.lines().count(), 10, "{first}");
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
    assert_eq!(place.mount().0, 0);
    assert_eq!(numbers(), first, "after a restart");
    kill(place.daemon_pid(), Signal::SIGKILL).expect("killed");
    while fs::metadata(place.at("mnt")).is_ok() {}
    assert_eq!(place.mount().0, 0);
    assert_eq!(numbers(), first, "after a kill");
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
}
