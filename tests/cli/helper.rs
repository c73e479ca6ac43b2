//! mount(8) and fstab, by way of the program `mount.fuse3` of the package fuse3.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::process::Command as Program;

use crate::place::{Place, contains, said};

/// Calls the helper as mount(8) does. mount(8) itself takes PATH away, and would call a `bridgefs` that is installed.
fn mount_fuse(place: &Place, source: &str, list: &str) -> (i32, String) {
    let program = assert_cmd::cargo::cargo_bin("bridgefs");
    let folder = program.parent().expect("in a folder");
    let output = Program::new("/sbin/mount.fuse3")
        .args([source, &place.text("mnt"), "-o", list, "-t", "fuse.bridgefs"])
        .env("PATH", folder)
        .env("BRIDGEFS_RUN_DIR", place.at("run"))
        .output()
        .expect("these tests need the package fuse3");
    (output.status.code().unwrap_or(-1), said(&output))
}

/// The mount's line of the mount table: its own options, and those of the file system.
fn options(place: &Place) -> (String, String) {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    let at = place.text("mnt");
    let line = table.lines().find(|line| line.split(' ').nth(4) == Some(&at)).expect("mounted");
    let field = |number: usize| line.split(' ').nth(number).expect("a field").to_owned();
    (field(5), line.rsplit(' ').next().expect("a field").to_owned())
}

fn is_read_only(done: io::Result<()>) -> bool {
    done.is_err_and(|error| error.raw_os_error() == Some(libc::EROFS))
}

#[test]
fn mount_calls_with_a_line_of_fstab_and_remounts_as_an_operator_does() {
    let place = Place::new();
    let (code, message) =
        mount_fuse(&place, &place.text("bridge.toml"), "rw,_netdev,nofail,x-systemd.x=1,user");
    assert_eq!((code, message.as_str()), (0, ""));
    let file = place.at("mnt/f");
    fs::write(&file, "first").expect("written");
    assert!(options(&place).0.starts_with("rw,nosuid,nodev"), "{:?}", options(&place));

    let writer = OpenOptions::new().append(true).open(&file).expect("opened");
    // What mount(8) repeats from the mount table, and what it puts in.
    let table = "rw,user_id=0,group_id=0,default_permissions,allow_other";
    let read_only = format!("{table},remount,ro");
    let (code, message) = mount_fuse(&place, "bridgefs", &read_only);
    assert_eq!(code, 1, "{message}");
    contains(&message, "cannot be made read-only: files are open for writing");
    drop(writer);
    let (code, message) = mount_fuse(&place, "bridgefs", &read_only);
    assert_eq!((code, message.as_str()), (0, ""));
    assert!(options(&place).0.starts_with("ro,nosuid,nodev"), "{:?}", options(&place));
    assert!(is_read_only(fs::write(&file, "second")));
    assert!(is_read_only(fs::remove_file(&file)));
    assert_eq!(fs::read_to_string(&file).expect("reads go on"), "first");

    let (code, message) = mount_fuse(&place, "bridgefs", &format!("{table},noexec,remount"));
    assert_eq!((code, message.as_str()), (0, ""));
    assert!(options(&place).0.starts_with("rw,nosuid,nodev,noexec"), "{:?}", options(&place));
    fs::write(&file, "second").expect("writes go on");
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
    assert_eq!(fs::read_to_string(place.at("old/f")).expect("there"), "second");
}

#[test]
fn a_bridge_is_mounted_read_only_and_in_any_other_way_the_kernel_knows() {
    let place = Place::new();
    fs::write(place.at("old/f"), "was there").expect("written");
    let list = "ro,noexec,sync,noatime";
    let (code, message) = mount_fuse(&place, &place.text("bridge.toml"), list);
    assert_eq!((code, message.as_str()), (0, ""));
    let (own, of_the_file_system) = options(&place);
    assert_eq!(own, "ro,nosuid,nodev,noexec,noatime");
    assert!(of_the_file_system.starts_with("ro,sync,"), "{of_the_file_system}");
    assert_eq!(fs::read_to_string(place.at("mnt/f")).expect("read"), "was there");
    assert!(is_read_only(File::create(place.at("mnt/g")).map(drop)));
    let (code, message) = mount_fuse(&place, "bridgefs", "rw,sync,remount");
    assert_eq!(code, 0, "{message}");
    let requests = || place.requests()("fsync");
    let before = requests();
    let mut file = File::create(place.at("mnt/g")).expect("made");
    file.write_all(b"acknowledged when it returns").expect("written");
    assert_eq!(requests() - before, 1);
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_mounted() {
    let place = Place::new();
    let config = place.text("bridge.toml");
    let (code, message) = mount_fuse(&place, &config, "rw,noexce");
    assert_eq!(code, 1, "{message}");
    contains(&message, "bridgefs: there is no mount option \"noexce\"; did you mean \"noexec\"?");
    let (code, message) = mount_fuse(&place, &config, "rw,cache=5");
    assert_eq!(code, 1, "{message}");
    contains(&message, "there is no mount option \"cache=5\"");
    let (code, message) = mount_fuse(&place, &place.text("none.toml"), "rw");
    assert_eq!(code, 1);
    contains(&message, "none.toml: cannot read the configuration");
    let (code, message) = mount_fuse(&place, "bridgefs", "ro,remount");
    assert_eq!(code, 1);
    contains(&message, "is no bridgefs mount; nothing was done");
    assert!(!place.is_mounted());
}

/// fstab names a bridge whose last daemon was killed.
#[test]
fn a_dead_mount_is_taken_over_by_mount_too() {
    let place = Place::new();
    let config = place.text("bridge.toml");
    assert_eq!(mount_fuse(&place, &config, "rw").0, 0);
    fs::write(place.at("mnt/f"), "kept").expect("acknowledged");
    nix::sys::signal::kill(place.daemon_pid(), nix::sys::signal::Signal::SIGKILL).expect("killed");
    while fs::metadata(place.at("mnt")).is_ok() {}
    let (code, message) = mount_fuse(&place, &config, "rw");
    assert_eq!((code, message.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(place.at("mnt/f")).expect("there"), "kept");
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
}
