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

/// Prints an errno's name, or that it worked.
const BESIDE: &str = r#"
import ctypes, errno, fcntl, os
libc = ctypes.CDLL(None, use_errno=True)
open("f", "wb").write(b"0123456789"); os.mkdir("d")
def told(work):
    try: work()
    except OSError as e: return errno.errorcode[e.errno]
    return "done"
def whiteout():
    if libc.renameat2(-100, b"f", -100, b"g", 4) != 0: raise OSError(ctypes.get_errno(), "")
f = os.open("f", os.O_RDWR | os.O_APPEND)
for request in (0x80086601, 0x801c581f): print(told(lambda: fcntl.ioctl(f, request, bytearray(32))))
print(told(lambda: fcntl.ioctl(f, 0xc020660b, bytearray(32))), told(whiteout), os.stat("d").st_size)
os.pwritev(f, [b"ZZ"], 1, 0x20)
print(open("f").read())
"#;

#[test]
fn what_ext4_has_beside_that_is_refused() {
    let rig = Rig::new();
    let said = rig.shell(&format!("python3 - <<'E'\n{BESIDE}\nE"));
    let said: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(said, ["ENOTTY", "ENOTTY", "ENOTSUP", "EINVAL", "0", "0123456789ZZ"]);
}
