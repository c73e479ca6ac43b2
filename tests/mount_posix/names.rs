//! Names, directories and attributes through the kernel.

use std::ffi::{CString, OsStr};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use bridgefs::clock::sleep;
use bridgefs::fuse::{MountError, MountOptions, Unmount, mount};
use bridgefs::object::{Key, Side};
use bridgefs::stage::Stage;
use bridgefs::store::{ObjectMeta, Store};

use crate::rig::Rig;

fn renameat2(from: &Path, to: &Path, flags: u32) -> io::Result<()> {
    let path = |p: &Path| CString::new(p.as_os_str().as_bytes()).expect("no zero byte");
    let (from, to) = (path(from), path(to));
    // SAFETY: both are zero-terminated strings that live until the call returns.
    let done = unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.expect_err("it is refused").raw_os_error()
}

#[test]
fn the_name_that_bridges_keep_for_themselves_is_not_shown_and_cannot_be_made() {
    let keys = [".bridgefs/owner", ".bridgefs/probe/left", "a"].map(str::to_owned);
    let rig = Rig::over(keys.into_iter());
    let own = rig.at(".bridgefs");
    assert_eq!(errno(fs::metadata(&own)), Some(libc::ENOENT));
    let listed = fs::read_dir(rig.root()).expect("listed").map(|entry| entry.expect("an entry").file_name());
    assert_eq!(listed.collect::<Vec<_>>(), ["a"]);
    assert_eq!(errno(fs::create_dir(&own)), Some(libc::EINVAL));
    assert_eq!(errno(fs::write(&own, "x")), Some(libc::EINVAL));
    assert_eq!(errno(fs::rename(rig.at("a"), &own)), Some(libc::EINVAL));
}

#[test]
fn rename_without_replacing_and_with_exchange() {
    let rig = Rig::new();
    let (a, b, c) = (rig.at("a"), rig.at("b"), rig.at("c"));
    fs::write(&a, "a").expect("written");
    fs::write(&b, "b").expect("written");
    assert_eq!(errno(renameat2(&a, &b, libc::RENAME_NOREPLACE)), Some(libc::EEXIST));
    renameat2(&a, &b, libc::RENAME_EXCHANGE).expect("exchanged");
    assert_eq!(fs::read_to_string(&a).expect("read"), "b");
    assert_eq!(fs::read_to_string(&b).expect("read"), "a");
    assert_eq!(errno(renameat2(&a, &c, libc::RENAME_EXCHANGE)), Some(libc::ENOENT));
    renameat2(&a, &c, libc::RENAME_NOREPLACE).expect("renamed");
    assert!(!a.exists() && c.exists());
    assert_eq!(errno(renameat2(&b, &c, libc::RENAME_WHITEOUT)), Some(libc::EINVAL));
}

#[test]
fn directories_are_renamed_replaced_and_refused_as_posix_says() {
    let rig = Rig::new();
    rig.shell("mkdir -p a/x b c && touch a/x/f file c/full");
    assert_eq!(errno(fs::rename(rig.at("a"), rig.at("file"))), Some(libc::ENOTDIR));
    assert_eq!(errno(fs::rename(rig.at("file"), rig.at("a"))), Some(libc::EISDIR));
    assert_eq!(errno(fs::rename(rig.at("a"), rig.at("c"))), Some(libc::ENOTEMPTY));
    assert_eq!(errno(fs::rename(rig.at("a"), rig.at("a/x/below"))), Some(libc::EINVAL));
    assert_eq!(errno(fs::remove_dir(rig.at("c"))), Some(libc::ENOTEMPTY));
    fs::rename(rig.at("a"), rig.at("b")).expect("an empty directory is replaced");
    assert!(rig.at("b/x/f").exists() && !rig.at("a").exists());
}

#[test]
fn symbolic_links_keep_their_target_byte_by_byte() {
    let rig = Rig::new();
    let link = rig.at("link");
    symlink("../ü/nowhere at all", &link).expect("made");
    assert_eq!(fs::read_link(&link).expect("read"), Path::new("../ü/nowhere at all"));
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    fs::write(rig.at("target"), "through").expect("written");
    symlink("target", rig.at("good")).expect("made");
    assert_eq!(fs::read_to_string(rig.at("good")).expect("read"), "through");
}

#[test]
fn a_setgid_directory_passes_its_group_on() {
    let rig = Rig::new();
    rig.shell("mkdir d && chgrp 1234 d && chmod 2775 d && touch d/f && mkdir d/sub");
    assert_eq!(fs::metadata(rig.at("d/f")).expect("there").gid(), 1234);
    let sub = fs::metadata(rig.at("d/sub")).expect("there");
    assert_eq!((sub.gid(), sub.mode() & 0o7000), (1234, 0o2000));
}

#[test]
fn owner_mode_and_times_are_kept() {
    let rig = Rig::new();
    rig.shell("touch f && chmod 4751 f && chown 12:34 f && chmod 4751 f && touch -d @1000000000.5 f");
    let meta = fs::metadata(rig.at("f")).expect("there");
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (12, 34, 0o4751));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000_000, 500_000_000));
    rig.shell("setpriv --reuid 99 --clear-groups true && chmod 666 f && chmod u+s f");
    rig.shell("setpriv --reuid 99 --clear-groups sh -c 'echo x >> f'");
    assert_eq!(fs::metadata(rig.at("f")).expect("there").mode() & 0o7777, 0o666, "setuid is gone");
}

#[test]
fn a_directory_shows_its_changes_in_its_times() {
    let rig = Rig::new();
    rig.shell("mkdir d && touch -d @1000 d");
    assert_eq!(fs::metadata(rig.at("d")).expect("there").mtime(), 1000);
    fs::write(rig.at("d/f"), "").expect("made");
    assert!(fs::metadata(rig.at("d")).expect("there").mtime() > 1000);
}

#[test]
fn names_of_255_bytes_and_unicode_and_those_that_no_store_has() {
    let rig = Rig::new();
    let longest = "ü".repeat(127) + "x";
    for name in [longest.as_str(), " leading", "trailing ", "a+b%20#c?", ".hidden", "日本語", "new\u{301}"]
    {
        fs::write(rig.at(name), name).expect(name);
        assert_eq!(fs::read_to_string(rig.at(name)).expect(name), name);
    }
    let shown: Vec<_> = fs::read_dir(rig.root()).expect("listed").map(|e| e.expect("an entry")).collect();
    assert_eq!(shown.len(), 7);
    assert_eq!(errno(fs::write(rig.at(&(longest + "y")), "")), Some(libc::ENAMETOOLONG));
    let latin = rig.root().join(OsStr::from_bytes(b"caf\xe9"));
    assert_eq!(errno(fs::write(latin, "")), Some(libc::EILSEQ));
}

#[test]
fn pipes_sockets_and_devices_are_empty_objects_with_their_mode() {
    let rig = Rig::new();
    rig.shell("mkfifo pipe && mknod zero c 1 5 && mknod disk b 7 300 && chmod 600 disk");
    let socket = std::os::unix::net::UnixListener::bind(rig.at("socket")).expect("bound");
    rig.shell("(echo through > pipe &) && [ \"$(cat pipe)\" = through ]");
    assert_eq!(
        rig.shell("stat -c '%F %t %T' pipe zero disk socket"),
        "fifo 0 0\ncharacter special file 1 5\nblock special file 7 12c\nsocket 0 0\n"
    );
    drop(socket);
    rig.drain();
    for (key, mode, device) in [
        ("pipe", "10644", None),
        ("zero", "20644", Some("105")),
        ("disk", "60600", Some("10072c")),
        ("socket", "140755", None),
    ] {
        for side in Side::BOTH {
            let store = &rig.stores[side];
            let info = rig.runtime.block_on(store.head(&Key::new(key).expect("a key"))).expect("there");
            assert_eq!(info.size, 0, "{key}");
            assert_eq!(info.meta.user["mode"], mode, "{key}");
            assert_eq!(info.meta.user.get("rdev").map(String::as_str), device, "{key}");
        }
    }
    rig.shell("mv pipe p2 && rm p2 zero disk socket && [ -z \"$(ls)\" ]");
}

#[test]
fn thousands_of_files_are_made_listed_once_each_and_removed() {
    let rig = Rig::new();
    rig.shell("mkdir d && cd d && seq 2000 | xargs -n 500 -P 4 touch");
    rig.shell("[ $(ls -A d | wc -l) = 2000 ] && [ $(ls -f d | sort | uniq -d | wc -l) = 0 ]");
    assert_eq!(rig.shell("ls -l d | wc -l"), "2001\n");
    rig.shell("rm -rf d && [ -z \"$(ls)\" ]");
}

#[test]
fn a_directory_of_100_000_objects_is_listed_completely() {
    let rig = Rig::over((0..100_000).map(|i| format!("big/f{i:06}")));
    let names = rig.shell("ls -f big | sort | uniq | grep -c ^f");
    assert_eq!(names, "100000\n");
    assert_eq!(rig.shell("ls -l big | grep -c f0"), "100000\n");
}

#[test]
fn a_directory_of_thousands_is_renamed_at_once_and_read_while_its_objects_move() {
    let rig = Rig::over((0..3000).map(|i| format!("big/d{}/f{i}", i % 7)));
    fs::write(rig.at("big/new"), "new").expect("written");
    fs::rename(rig.at("big"), rig.at("moved")).expect("renamed");
    assert!(rig.bridge.left().expect("read").pending > 0, "the objects are still to be moved");
    for i in 0..3000 {
        assert_eq!(fs::read(rig.at(&format!("moved/d{}/f{i}", i % 7))).expect("read"), b"x", "{i}");
    }
    assert_eq!(errno(fs::read_dir(rig.at("big"))), Some(libc::ENOENT));
    rig.drain();
    for side in Side::BOTH {
        let keys: Vec<String> = rig.stores[side].snapshot().into_keys().map(|key| key.to_string()).collect();
        assert_eq!(keys.len(), 3001, "{side}");
        assert!(keys.iter().all(|key| key.starts_with("moved/")), "{side}");
    }
}

#[test]
fn a_removed_directory_that_is_open_is_empty_and_has_attributes() {
    let rig = Rig::new();
    rig.shell("mkdir d && cd d && rmdir ../d && stat -c %h . > /dev/null && [ -z \"$(ls)\" ]");
}

#[test]
fn a_mountpoint_is_taken_once_and_a_dead_mount_is_cleaned() {
    let rig = Rig::new();
    let again = || {
        let (fs, runtime) = (std::sync::Arc::clone(&rig.fs), rig.runtime.handle().clone());
        mount(fs, rig.root(), &MountOptions::default(), runtime)
    };
    assert!(matches!(again(), Err(MountError::AlreadyMounted(_))));
    fs::write(rig.at("f"), "kept").expect("written");
    let open = fs::File::open(rig.at("f")).expect("opened");
    assert!(matches!(rig.mounted().unmount(Unmount::Clean), Err(MountError::Busy(_))));
    drop(open);
    abort(rig.root());
    assert_eq!(errno(fs::read_dir(rig.root())), Some(libc::ENOTCONN));
    let second = again().expect("the dead mount is taken away");
    assert_eq!(fs::read_to_string(rig.at("f")).expect("read"), "kept");
    second.unmount(Unmount::Clean).expect("unmounted");
    rig.runtime.block_on(second.wait()).expect("ended");
}

/// What a daemon's sudden death does to its mount.
fn abort(root: &Path) {
    let minor = fs::metadata(root).expect("there").dev() & 0xff;
    let control = format!("/sys/fs/fuse/connections/{minor}/abort");
    if !Path::new(&control).exists() {
        let made = std::process::Command::new("mount")
            .args(["-t", "fusectl", "fusectl", "/sys/fs/fuse/connections"])
            .status();
        assert!(made.is_ok_and(|status| status.success()), "the control file system is needed");
    }
    fs::write(control, "1").expect("aborted");
}

#[test]
fn a_file_without_a_name_from_the_start_is_refused() {
    let rig = Rig::new();
    for flags in [libc::O_WRONLY, libc::O_RDWR | libc::O_EXCL] {
        let made = nix::fcntl::open(
            rig.root(),
            nix::fcntl::OFlag::from_bits_retain(libc::O_TMPFILE | flags),
            nix::sys::stat::Mode::S_IRUSR,
        );
        assert_eq!(made.expect_err("refused"), nix::errno::Errno::EOPNOTSUPP);
    }
    assert_eq!(rig.shell("ls -A"), "");
}

/// `mv` copies then.
#[test]
fn between_slices_that_are_moved_apart_a_directory_and_an_exchange_are_exdev_and_a_file_is_renamed() {
    let rig = Rig::new();
    rig.shell("mkdir -p apart here/d && echo f > here/f && echo x > here/d/x && echo g > apart/g");
    rig.drain();
    let apart = rig.bridge.set_stage("apart", Stage::Complete, 100, "test", "test");
    rig.runtime.block_on(apart).expect("a slice of its own");
    let rename = |from: &str, to: &str| errno(fs::rename(rig.at(from), rig.at(to)));
    assert_eq!(rename("here/d", "apart/d"), Some(libc::EXDEV));
    assert_eq!(rename("apart", "other"), Some(libc::EXDEV));
    let exchanged = renameat2(&rig.at("here/f"), &rig.at("apart/g"), libc::RENAME_EXCHANGE);
    assert_eq!(errno(exchanged), Some(libc::EXDEV));
    rig.shell("[ $(cat here/f here/d/x apart/g | tr -d '\\n') = fxg ]");
    rig.shell("mv here/d apart/ && [ ! -e here/d ] && [ $(cat apart/d/x) = x ]");
    fs::rename(rig.at("here/f"), rig.at("apart/f")).expect("renamed");
    assert_eq!(fs::read(rig.at("apart/f")).expect("there"), b"f\n");
}

#[test]
fn a_name_that_only_one_store_could_show_is_asked_for_again_as_soon_as_the_other_answers() {
    let rig = Rig::over(["d/other".to_owned(), "d/f".to_owned()].into_iter());
    for key in ["d/f", "d/gone"] {
        rig.stores.new.bypass_put(&Key::new(key).expect("a key"), &b"stale"[..], ObjectMeta::default());
    }
    assert!(rig.at("d").is_dir());
    rig.faults.old.down();
    for name in ["d/f", "d/gone"] {
        assert_eq!(fs::read(rig.at(name)).expect("shown"), b"stale");
    }
    rig.faults.old.up();
    // The breaker finds out by itself; the kernel would believe what it was told for much longer.
    let is_asked = (0..200).any(|_| {
        rig.runtime.block_on(sleep(Duration::from_millis(100)));
        fs::metadata(rig.at("d/f")).expect("there").len() == 1
    });
    assert!(is_asked, "within 20 seconds");
    fs::set_permissions(rig.at("d/f"), Permissions::from_mode(0o600)).expect("changed");
    assert_eq!(errno(fs::metadata(rig.at("d/gone"))), Some(libc::ENOENT));
    let mut names: Vec<_> =
        fs::read_dir(rig.at("d")).expect("read").map(|e| e.expect("read").file_name()).collect();
    names.sort();
    assert_eq!(names, ["f", "other"]);
}
