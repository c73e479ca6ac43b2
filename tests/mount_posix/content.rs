//! Content through the kernel: append, truncate, files without a name.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use bridgefs::bridge::{AckPolicy, BridgeSettings};

use crate::rig::{Rig, Setup};

#[test]
fn two_processes_that_append_lose_no_line() {
    let rig = Rig::new();
    rig.shell(
        "touch log
         append() { for i in $(seq 1000); do echo \"$1 $i\" >> log; done; }
         append a & append b & wait
         [ $(wc -l < log) = 2000 ] && [ $(sort -u log | wc -l) = 2000 ]",
    );
}

#[test]
fn two_open_descriptors_that_append_lose_no_line() {
    let rig = Rig::new();
    let path = rig.at("log");
    std::thread::scope(|scope| {
        for who in ["a", "b"] {
            let mut log = OpenOptions::new().append(true).create(true).open(&path).expect("opened");
            scope.spawn(move || {
                for i in 0..1000 {
                    log.write_all(format!("{who} {i}\n").as_bytes()).expect("appended");
                }
            });
        }
    });
    let text = fs::read_to_string(&path).expect("read");
    assert_eq!(text.lines().count(), 2000);
    assert_eq!(text.lines().collect::<std::collections::BTreeSet<_>>().len(), 2000);
}

#[test]
fn truncation_by_open_by_path_and_by_descriptor() {
    let rig = Rig::new();
    let path = rig.at("f");
    fs::write(&path, "0123456789").expect("written");
    drop(File::create(&path).expect("emptied"));
    assert_eq!(fs::metadata(&path).expect("there").len(), 0);
    fs::write(&path, "0123456789").expect("written");
    rig.shell("truncate -s 4 f");
    assert_eq!(fs::read(&path).expect("read"), b"0123");
    rig.shell("truncate -s 6 f");
    assert_eq!(fs::read(&path).expect("read"), b"0123\0\0");
    let file = OpenOptions::new().write(true).open(&path).expect("opened");
    file.set_len(2).expect("cut");
    assert_eq!(fs::metadata(&path).expect("there").len(), 2);
    file.write_at(b"x", 5).expect("written");
    assert_eq!(file.metadata().expect("open").len(), 6);
    drop(file);
    assert_eq!(fs::read(&path).expect("read"), b"01\0\0\0x");
}

#[test]
fn a_file_lives_on_without_its_name_until_it_is_closed() {
    let rig = Rig::new();
    let path = rig.at("f");
    fs::write(&path, "content").expect("written");
    rig.drain();
    let mut open = OpenOptions::new().read(true).write(true).open(&path).expect("opened");
    fs::remove_file(&path).expect("removed");
    assert!(!path.exists());
    let mut text = String::new();
    open.read_to_string(&mut text).expect("read");
    assert_eq!(text, "content");
    assert_eq!(open.metadata().expect("open").nlink(), 0);
    open.write_all(b" and more").expect("written");
    open.seek(SeekFrom::Start(0)).expect("back");
    text.clear();
    open.read_to_string(&mut text).expect("read");
    assert_eq!(text, "content and more");
    drop(open);
    rig.drain();
    assert!(rig.stores[bridgefs::object::Side::Old].snapshot().is_empty());
}

#[test]
fn who_has_a_replaced_file_open_goes_on_with_it() {
    let rig = Rig::new();
    let (old, new) = (rig.at("old"), rig.at("new"));
    fs::write(&old, "old").expect("written");
    fs::write(&new, "new").expect("written");
    let mut open = File::open(&old).expect("opened");
    fs::rename(&new, &old).expect("renamed");
    let mut text = String::new();
    open.read_to_string(&mut text).expect("read");
    assert_eq!(text, "old");
    assert_eq!(fs::read_to_string(&old).expect("read"), "new");
}

/// Runs `work` beside a thread that does `meanwhile` again and again -> how often that was.
fn beside(meanwhile: impl Fn() + Sync, work: impl FnOnce()) -> u64 {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut times = 0;
            while !over.load(Ordering::SeqCst) {
                meanwhile();
                times += 1;
            }
            times
        });
        work();
        over.store(true, Ordering::SeqCst);
        other.join().expect("it went well, too")
    })
}

#[test]
fn a_file_that_is_replaced_again_and_again_can_always_be_opened() {
    let rig = Rig::new();
    let path = rig.at("f");
    fs::write(&path, "content").expect("written");
    let replace = |times| {
        for _ in 0..times {
            fs::write(rig.at("new"), "content").expect("written");
            fs::rename(rig.at("new"), &path).expect("renamed");
        }
    };
    let opened = beside(
        || assert_eq!(fs::read_to_string(&path).expect("one or the other is there"), "content"),
        || replace(40),
    );
    assert!(opened > 0);
    let cut = beside(
        || OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(7)).expect("there"),
        || replace(20),
    );
    assert!(cut > 0);
    symlink("f", rig.at("link")).expect("linked");
    let followed = beside(
        || drop(File::open(rig.at("link")).expect("there")),
        || {
            for _ in 0..100 {
                symlink("f", rig.at("next")).expect("linked");
                fs::rename(rig.at("next"), rig.at("link")).expect("renamed");
            }
        },
    );
    assert!(followed > 0);
}

/// An open for reading that is to show as an access once made the kernel drop a page into which a `write` had just
/// put its bytes, before they had been sent.
#[test]
fn what_was_written_is_read_back_beside_programs_that_open_and_read_the_file() {
    let settings = BridgeSettings { ack: AckPolicy::Journal, ..BridgeSettings::default() };
    let rig = Rig::with(Setup { settings, ..Setup::default() });
    let path = rig.at("f");
    fs::write(&path, [b'.'; 4000]).expect("written");
    let kept = File::open(&path).expect("opened");
    let mut seen = [0; 8];
    let reads = beside(
        || assert_eq!(fs::read(&path).expect("read").len(), 4000),
        || {
            for turn in 0..3000 {
                let bytes = format!("{turn:08}");
                let file = OpenOptions::new().write(true).open(&path).expect("opened");
                file.write_all_at(bytes.as_bytes(), 16).expect("written");
                drop(file);
                kept.read_exact_at(&mut seen, 16).expect("read");
                assert_eq!(seen, bytes.as_bytes());
            }
        },
    );
    assert!(reads > 0);
}

#[test]
fn a_write_shows_at_once_in_stat_through_any_name() {
    let rig = Rig::new();
    let path = rig.at("f");
    let file = File::create(&path).expect("made");
    for size in 1..50_u64 {
        file.write_at(b"x", size - 1).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").len(), size);
    }
}

#[test]
fn blocks_and_sizes_of_large_files_are_right_after_a_new_read() {
    let rig = Rig::new();
    let path = rig.at("large");
    let bytes: Vec<u8> = (0..5_000_003_u32).map(|i| (i % 251) as u8).collect();
    fs::write(&path, &bytes).expect("written");
    rig.drain();
    rig.shell("sync; echo 3 > /proc/sys/vm/drop_caches");
    assert_eq!(fs::read(&path).expect("read"), bytes);
    let file = OpenOptions::new().write(true).open(&path).expect("opened");
    file.write_at(b"in the middle", 2_500_000).expect("written");
    drop(file);
    let mut expected = bytes;
    expected[2_500_000..2_500_013].copy_from_slice(b"in the middle");
    assert!(fs::read(&path).expect("read") == expected, "a write in the middle leaves the rest");
}

#[test]
fn a_file_without_a_name_is_emptied_through_proc() {
    let rig = Rig::new();
    let path = rig.at("log");
    fs::write(&path, "fills the disk").expect("written");
    let mut open = OpenOptions::new().append(true).open(&path).expect("opened");
    fs::remove_file(&path).expect("removed");
    let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    drop(OpenOptions::new().write(true).truncate(true).open(descriptor).expect("emptied"));
    assert_eq!(open.metadata().expect("open").len(), 0);
    open.write_all(b"on").expect("written");
    assert_eq!(open.metadata().expect("open").len(), 2);
}

/// Descriptors that open nothing, and working directories: the kernel asks for attributes of what has no name.
#[test]
fn what_was_removed_has_attributes_while_a_descriptor_or_a_process_is_at_it_as_on_the_native_disk() {
    let rig = Rig::new();
    let script = r#"
import os, errno, stat
def tried(what):
    try: return what()
    except OSError as e: return errno.errorcode[e.errno]
os.chdir(os.environ["AT"])
def shown(info): return (info.st_nlink, info.st_size if stat.S_ISREG(info.st_mode) else 0, oct(info.st_mode))
def opened(path, flags=0): return os.open(path, os.O_PATH | flags)
open("f", "w").write("hello"); fd = opened("f"); os.unlink("f")
print("file", tried(lambda: shown(os.fstat(fd))))
print("mode", tried(lambda: os.chmod(f"/proc/self/fd/{fd}", 0o600)), tried(lambda: shown(os.fstat(fd))))
print("times", tried(lambda: os.utime(f"/proc/self/fd/{fd}", (5, 6))), tried(lambda: os.fstat(fd).st_mtime))
print("owner", tried(lambda: os.chown(f"/proc/self/fd/{fd}", 7, 8)), tried(lambda: os.fstat(fd).st_uid))
print("name", tried(lambda: os.link(f"/proc/self/fd/{fd}", "g", follow_symlinks=True)))
open("r", "w").write("hello"); fd = opened("r"); open("s", "w").close(); os.rename("s", "r")
print("replaced", tried(lambda: shown(os.fstat(fd))), tried(lambda: os.stat("r").st_nlink))
open("w", "w").write("x"); both = os.open("w", os.O_WRONLY); fd = opened("w"); os.unlink("w")
os.write(both, b"written"); os.close(both)
print("closed", tried(lambda: shown(os.fstat(fd))))
os.symlink("x", "l"); fd = opened("l", os.O_NOFOLLOW); os.unlink("l")
print("link", tried(lambda: shown(os.fstat(fd))))
os.mkdir("d"); fd = opened("d"); os.rmdir("d")
print("directory", tried(lambda: shown(os.fstat(fd))))
os.mkdir("cwd"); os.chdir("cwd"); os.rmdir("../cwd")
print("cwd", tried(lambda: shown(os.stat("."))), tried(lambda: os.listdir(".")), tried(lambda: os.stat("..").st_ino > 0))
print("new", tried(lambda: open("f", "w")), tried(lambda: os.mkdir("d")), tried(lambda: os.symlink("x", "l")))
print("mode", tried(lambda: os.chmod(".", 0o700)), tried(lambda: shown(os.stat("."))))
"#;
    rig.same_as_native(|dir| {
        let output = Command::new("python3")
            .args(["-c", script])
            .env("AT", dir)
            .output()
            .expect("python3 is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    });
}
