//! Set-user-ID and set-group-ID bits, against what the native disk does with them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::thread;

use nix::fcntl::{FallocateFlags, copy_file_range, fallocate};

use crate::mapping::Mapping;
use crate::rig::Rig;

/// On whose behalf a thread works.
#[derive(Debug, Clone, Copy)]
struct Who {
    name: &'static str,
    uid: u32,
    groups: [u32; 2],
}

/// Owns no file, and is in no group that a file has.
const NOBODY: Who = Who { name: "nobody", uid: 65_534, groups: [65_534, 65_533] };
/// Owns the files, and is in their group and in one more.
const OWNER: Who = Who { name: "owner", uid: 1000, groups: [2000, 3000] };
const ROOT: Who = Who { name: "root", uid: 0, groups: [0, 0] };

/// Runs `work` as somebody, on a thread of its own: to the kernel each thread is who it says it is.
fn run_as<T: Send>(who: Who, work: impl FnOnce() -> T + Send) -> T {
    let run = || {
        // SAFETY: calls without pointers but to an array that lives on; of this thread only, unlike the
        // functions of the C library of these names.
        let done = unsafe {
            [
                libc::syscall(libc::SYS_setgroups, who.groups.len(), who.groups.as_ptr()),
                libc::syscall(libc::SYS_setresgid, who.groups[0], who.groups[0], who.groups[0]),
                libc::syscall(libc::SYS_setresuid, who.uid, who.uid, who.uid),
            ]
        };
        assert_eq!(done, [0; 3], "{}", io::Error::last_os_error());
        work()
    };
    thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
}

fn read_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn write(path: &Path) -> io::Result<()> {
    read_write(path)?.write_all_at(b"x", 0)
}

fn write_nothing(path: &Path) -> io::Result<()> {
    read_write(path)?.write_at(b"", 0).map(drop)
}

fn write_direct(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // Aligned as the native disk needs it.
    let mut buffer = vec![0; 8192];
    let skip = buffer.as_ptr().align_offset(4096);
    buffer[skip] = 1;
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
    file.write_all_at(&buffer[skip..skip + 4096], 0)
}

fn shorten(path: &Path) -> io::Result<()> {
    read_write(path)?.set_len(3)
}

fn keep_length(path: &Path) -> io::Result<()> {
    let file = read_write(path)?;
    file.set_len(file.metadata()?.len())
}

fn truncate_by_name(path: &Path) -> io::Result<()> {
    Ok(nix::unistd::truncate(path, 3)?)
}

fn truncate_by_open(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).truncate(true).open(path).map(drop)
}

fn allocate(path: &Path) -> io::Result<()> {
    Ok(fallocate(read_write(path)?, FallocateFlags::empty(), 0, 100_000)?)
}

fn punch(path: &Path) -> io::Result<()> {
    let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(read_write(path)?, how, 0, 3)?)
}

fn copy(path: &Path) -> io::Result<()> {
    let source = File::open(path.with_file_name("source"))?;
    let copied = copy_file_range(source, None, read_write(path)?, None, 4)?;
    assert_eq!(copied, 4);
    Ok(())
}

fn write_through_a_mapping(path: &Path) -> io::Result<()> {
    let mut mapping = Mapping::shared(&read_write(path)?, 7);
    mapping.set(0, 65);
    mapping.sync();
    Ok(())
}

fn touch(path: &Path) -> io::Result<()> {
    read_write(path)?.set_modified(std::time::UNIX_EPOCH)
}

fn set_mode(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o6777))
}

/// Of the last two the group cannot execute: whether the set-group-ID bit goes depends on the groups of who writes.
const MODES: [u32; 6] = [0o6777, 0o4666, 0o4777, 0o2777, 0o6767, 0o2767];

type Change = fn(&Path) -> io::Result<()>;

const CONTENT: [(&str, Change); 12] = [
    ("write", write),
    ("write nothing", write_nothing),
    ("write directly", write_direct),
    ("ftruncate", shorten),
    ("ftruncate to the same length", keep_length),
    ("truncate", truncate_by_name),
    ("O_TRUNC", truncate_by_open),
    ("fallocate", allocate),
    ("punch", punch),
    ("copy_file_range", copy),
    ("a store through a mapping", write_through_a_mapping),
    ("utimens", touch),
];

const OWNERSHIP: [(&str, Change); 7] = [
    ("to another group", |path| chown(path, None, Some(3000))),
    ("to the same group", |path| chown(path, None, Some(2000))),
    ("to nobody", |path| chown(path, None, None)),
    ("to another user", |path| chown(path, Some(1234), None)),
    ("to root", |path| chown(path, Some(0), Some(0))),
    ("without following", |path| lchown(path, None, Some(3000))),
    ("mode", set_mode),
];

/// Tells what becomes of the modes of files when somebody does something to them.
fn try_all(dir: &Path, changes: &[(&str, Change)]) -> Vec<String> {
    fs::set_permissions(dir, Permissions::from_mode(0o777)).expect("open to all");
    fs::write(dir.join("source"), "source").expect("written");
    let path = dir.join("f");
    let mut told = Vec::new();
    for (name, change) in changes {
        for who in [NOBODY, OWNER, ROOT] {
            for mode in MODES {
                fs::write(&path, "content").expect("written");
                chown(&path, Some(1000), Some(2000)).expect("given");
                fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
                let done = run_as(who, || change(&path).map_err(|error| error.raw_os_error()));
                let meta = fs::metadata(&path).expect("there");
                let (after, uid, gid) = (meta.mode() & 0o7777, meta.uid(), meta.gid());
                told.push(format!("{name} by {}: {mode:o} {done:?} {after:o} {uid}:{gid}", who.name));
                fs::remove_file(&path).expect("removed");
            }
        }
    }
    told
}

/// The directories above are the test's own.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.let_all_in();
    rig
}

#[test]
fn a_change_of_content_clears_the_bits_as_on_the_native_disk() {
    let rig = rig();
    rig.same_as_native(|dir| {
        let told = try_all(dir, &CONTENT);
        assert!(told.iter().any(|line| line == "write by nobody: 6777 Ok(()) 777 1000:2000"), "{told:#?}");
        told
    });
}

#[test]
fn a_change_of_owner_or_mode_clears_the_bits_as_on_the_native_disk() {
    let rig = rig();
    rig.same_as_native(|dir| {
        let told = try_all(dir, &OWNERSHIP);
        let cleared = "to another group by owner: 6777 Ok(()) 777 1000:3000";
        assert!(told.iter().any(|line| line == cleared), "{told:#?}");
        told
    });
}

#[test]
fn the_group_bit_is_for_members_and_directories_keep_theirs_as_on_the_native_disk() {
    let rig = rig();
    rig.same_as_native(|dir| {
        let mut told = Vec::new();
        let mut tell = |what: &str, path: &Path| {
            let meta = fs::symlink_metadata(path).expect("there");
            told.push(format!("{what}: {:o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid()));
        };
        for (what, group) in [("a member", 3000), ("no member", 4000)] {
            for mode in [0o6777, 0o2766] {
                let path = dir.join("f");
                fs::write(&path, "content").expect("written");
                chown(&path, Some(1000), Some(group)).expect("given");
                run_as(OWNER, || fs::set_permissions(&path, Permissions::from_mode(mode))).expect("set");
                tell(what, &path);
            }
        }
        let path = dir.join("d");
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(0o6777)).expect("set");
        chown(&path, Some(1000), Some(2000)).expect("given");
        tell("a directory", &path);
        run_as(OWNER, || chown(&path, None, Some(3000))).expect("given");
        tell("a directory given by its owner", &path);
        let link = dir.join("link");
        symlink("f", &link).expect("made");
        lchown(&link, Some(1000), Some(3000)).expect("given");
        tell("a link", &link);
        tell("what it points to", &dir.join("f"));
        told
    });
}

/// Whether `chown` that changes nothing sets the time of change. Asked more than once, because the native disk's
/// clock has ticks.
#[test]
fn a_change_of_owner_to_nobody_else_sets_the_time_of_change_as_on_the_native_disk() {
    let rig = Rig::new();
    rig.let_all_in();
    rig.same_as_native(|dir| {
        fs::write(dir.join("c"), "content").expect("written");
        fs::create_dir(dir.join("cd")).expect("made");
        symlink("c", dir.join("cl")).expect("made");
        let moves = |name: &str| {
            let path = dir.join(name);
            let time =
                || fs::symlink_metadata(&path).map(|meta| (meta.ctime(), meta.ctime_nsec())).expect("there");
            let before = time();
            let moved = (0..10_000).any(|_| {
                lchown(&path, None, None).expect("done");
                time() != before
            });
            format!("{name} {moved}")
        };
        ["c", "cd", "cl"].map(moves).into()
    });
}
