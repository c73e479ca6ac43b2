//! Whether set-ID bits and device nodes do anything.

use std::fs;

use bridgefs::fuse::MountOptions;

use crate::rig::{Rig, Setup};

/// What a stranger becomes by a set-ID program, and whether a device opens.
fn tried(suid_and_dev: bool) -> (String, Option<i32>) {
    let mount = MountOptions { suid_and_dev, ..MountOptions::default() };
    let rig = Rig::with(Setup { mount, ..Setup::default() });
    rig.let_all_in();
    rig.shell("cp /usr/bin/id . && chmod 6755 id && mknod null c 1 3 && chmod 666 null");
    let ids = rig.shell("setpriv --reuid 65534 --regid 65534 --clear-groups bash -c './id -u; ./id -g'");
    (ids, fs::write(rig.at("null"), "gone").err().and_then(|error| error.raw_os_error()))
}

#[test]
fn set_id_programs_and_devices_have_no_effect_unless_it_is_asked_for() {
    assert_eq!(tried(false), ("65534\n65534\n".to_owned(), Some(libc::EACCES)));
    assert_eq!(tried(true), ("0\n0\n".to_owned(), None));
}
