//! Extended attributes with the programs that use them, and what else ends a file's privileges. Most of it runs
//! on the native disk too: what the kernel's own file system prints is right.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use bridgefs::object::{Side, Xattrs};

use crate::rig::Rig;

/// Runs a script in a directory -> what it printed, errors and all.
fn run(at: &Path, script: &str) -> String {
    let script = format!("exec 2>&1\n{script}");
    let output =
        Command::new("bash").args(["-uc", &script]).current_dir(at).output().expect("bash is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a script in the mount and in a directory on the native disk, as anybody may enter both.
fn same_as_native(rig: &Rig, script: &str) -> String {
    let native = tempfile::tempdir().expect("a directory");
    for at in [native.path(), rig.root(), rig.root().parent().expect("a directory")] {
        fs::set_permissions(at, fs::Permissions::from_mode(0o777)).expect("opened");
    }
    let expected = run(native.path(), script);
    assert!(!expected.is_empty(), "the script says nothing:\n{script}");
    pretty_equal(&run(rig.root(), script), &expected);
    expected
}

fn pretty_equal(mount: &str, native: &str) {
    for (mount, native) in mount.lines().zip(native.lines()) {
        assert_eq!(mount, native, "the mount is left");
    }
    assert_eq!(mount.lines().count(), native.lines().count(), "{mount}");
}

/// The extended attributes of an object, once both stores have all; its metadata is the same on both.
fn stored(rig: &Rig, key: &str) -> Xattrs {
    rig.drain();
    let metadata = |side| {
        let objects = rig.stores[side].snapshot();
        let objects: BTreeMap<_, _> =
            objects.into_iter().map(|(key, (_, meta))| (key.to_string(), meta.user)).collect();
        objects[key].clone()
    };
    assert_eq!(metadata(Side::Old), metadata(Side::New), "both stores hold the same");
    Xattrs::from_metadata(&metadata(Side::Old)).expect("ours")
}

#[test]
fn attributes_are_set_listed_and_removed_as_on_the_native_disk() {
    let rig = Rig::new();
    let printed = same_as_native(
        &rig,
        "umask 022; touch file; mkdir dir; ln -s file link; mkfifo pipe; mknod null c 1 3
         for node in file dir; do
             setfattr -n user.text -v 'some text' $node; setfattr -n user.empty $node
             setfattr -n user.binary -v 0x00ff0a3d $node
         done
         for node in file dir link pipe null; do
             setfattr -hn trusted.x -v 1 $node; setfattr -hn security.x -v 2 $node
             setfattr -hn user.refused-but-here -v 3 $node; setfattr -hn system.nothing -v 4 $node
             getfattr -hd -m - -e hex $node
         done
         setfattr -n user.text -v other file; getfattr --only-values -n user.text file; echo
         setfattr -x user.text file; setfattr -x user.text file; getfattr -n user.text file
         getfattr -d file dir; mv file dir/moved; getfattr -d dir/moved
         su -s /bin/bash nobody -c 'getfattr -d -m - dir/moved; setfattr -n user.mine dir/moved
             setfattr -n trusted.x -v 2 dir/moved; getfattr -n trusted.x dir/moved
             setfattr -n security.x -v 2 dir/moved; getfattr -n security.x dir/moved'",
    );
    for word in ["user.binary=0x00ff0a3d", "trusted.x=0x31", "Operation not permitted", "No such attribute"] {
        assert!(printed.contains(word), "{word}:\n{printed}");
    }
}

#[test]
fn sizes_and_flags_are_answered_as_on_the_native_disk() {
    let rig = Rig::new();
    let printed = same_as_native(
        &rig,
        r#"cat > t.py <<'END'
import errno, os
def tell(what, call):
    try: print(what, call())
    except OSError as e: print(what, errno.errorcode[e.errno])
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def raw(call, *args):
    done = getattr(libc, call)(*args)
    if done < 0: raise OSError(ctypes.get_errno(), call)
    return done
open('f', 'w').close()
tell('create', lambda: os.setxattr('f', 'user.a', b'12345', os.XATTR_CREATE))
tell('again', lambda: os.setxattr('f', 'user.a', b'1', os.XATTR_CREATE))
tell('absent', lambda: os.setxattr('f', 'user.b', b'1', os.XATTR_REPLACE))
tell('there', lambda: os.setxattr('f', 'user.a', b'123456', os.XATTR_REPLACE))
tell('both', lambda: os.setxattr('f', 'user.c', b'1', os.XATTR_CREATE | os.XATTR_REPLACE))
tell('flag', lambda: os.setxattr('f', 'user.c', b'1', 4))
buffer = ctypes.create_string_buffer(100)
for size in [0, 5, 6, 100]:
    tell('get into %d' % size, lambda: raw('getxattr', b'f', b'user.a', buffer, ctypes.c_size_t(size)))
for size in [0, 6, 7, 100]:
    tell('list into %d' % size, lambda: raw('listxattr', b'f', buffer, ctypes.c_size_t(size)))
tell('no name', lambda: os.setxattr('f', 'user.', b'1'))
tell('long', lambda: os.setxattr('f', 'user.' + 'x' * 250, b'1'))
tell('too long', lambda: os.setxattr('f', 'user.' + 'x' * 251, b'1'))
tell('large', lambda: os.setxattr('f', 'user.l', b'1' * 20000))
tell('too large', lambda: os.setxattr('f', 'user.l', b'1' * 65537))
tell('namespace', lambda: os.setxattr('f', 'nobody.x', b'1'))
tell('none', lambda: os.getxattr('f', 'user.none'))
tell('gone', lambda: os.removexattr('f', 'user.none'))
before = os.stat('f')
os.setxattr('f', 'user.a', b'2')
after = os.stat('f')
print('ctime', after.st_ctime_ns > before.st_ctime_ns, 'mtime', after.st_mtime_ns == before.st_mtime_ns)
fd = os.open('f', os.O_RDWR)
os.unlink('f')
tell('orphan', lambda: os.getxattr(fd, 'user.a'))
tell('orphan', lambda: os.setxattr(fd, 'user.new', b'1', os.XATTR_CREATE))
tell('orphan', lambda: os.setxattr(fd, 'user.new', b'1', os.XATTR_CREATE))
tell('orphan', lambda: os.removexattr(fd, 'user.a'))
tell('orphan', lambda: [n for n in os.listxattr(fd) if n == 'user.new'])
END
python3 t.py"#,
    );
    for word in [
        "again EEXIST",
        "absent ENODATA",
        "get into 5 ERANGE",
        "list into 6 ERANGE",
        "large ENOSPC",
        "too large E2BIG",
    ] {
        assert!(printed.contains(word), "{word}:\n{printed}");
    }
}

#[test]
fn attributes_reach_both_stores_with_every_kind_of_node_but_a_directory() {
    let rig = Rig::new();
    rig.shell(
        "echo content > file; ln -s file link; mkfifo pipe; mkdir dir; setfattr -n user.d -v 1 dir
         for node in file link pipe; do setfattr -hn trusted.x -v $node $node; done",
    );
    for node in ["file", "link", "pipe"] {
        assert_eq!(stored(&rig, node).get(b"trusted.x"), Some(node.as_bytes()));
    }
    rig.shell("setfattr -x trusted.x file");
    assert!(stored(&rig, "file").is_empty());
    let keys: Vec<_> = rig.stores.old.snapshot().into_keys().map(|key| key.to_string()).collect();
    assert_eq!(keys, ["file", "link", "pipe"]);
}

#[test]
fn what_does_not_fit_beside_an_object_is_refused_with_enospc() {
    let rig = Rig::new();
    let printed = run(
        rig.root(),
        "touch f; setfattr -n user.a -v $(printf %0900d 1) f && echo kept
         setfattr -n user.b -v $(printf %0200d 1) f; getfattr f; mkdir d
         setfattr -n user.a -v $(printf %060000d 1) d && getfattr --only-values -n user.a d | wc -c",
    );
    assert_eq!(printed, "kept\nsetfattr: f: No space left on device\n# file: f\nuser.a\n\n60000\n");
    assert_eq!(stored(&rig, "f").get(b"user.a").map(<[u8]>::len), Some(900));
}

#[test]
fn access_control_lists_are_refused_and_programs_go_on_without() {
    let rig = Rig::new();
    let source = tempfile::tempdir().expect("a directory");
    run(
        source.path(),
        "mkdir tree && echo content > tree/f && ln -s f tree/l && setfattr -n user.a -v 1 tree/f tree
         setfattr -n trusted.b -v 2 tree/f && chmod 640 tree/f",
    );
    let from = source.path().display();
    let printed = run(
        rig.root(),
        &format!(
            "touch f; setfattr -n system.posix_acl_access -v 0x0200000001000600ffffffff04000400ffffffff20000400ffffffff f
             getfattr -n system.posix_acl_access f
             cp -a {from}/tree copied && getfattr -d -m - copied/f
             rsync -aAX {from}/tree/ synced/ && getfattr -d -m - synced/f
             tar -C {from} --acls --xattrs --xattrs-include='*' -cf t.tar tree && mkdir tarred &&
                 tar -C tarred --xattrs --xattrs-include='*' -xpf t.tar && getfattr -d -m - tarred/tree/f
             ls -l copied > /dev/null; stat -c %a copied/f synced/f tarred/tree/f"
        ),
    );
    let attributes = |at: &str| format!("# file: {at}\ntrusted.b=\"2\"\nuser.a=\"1\"\n\n");
    let expected = format!(
        "setfattr: f: Operation not supported\nf: system.posix_acl_access: Operation not supported\n{}{}{}640\n640\n640\n",
        attributes("copied/f"),
        attributes("synced/f"),
        attributes("tarred/tree/f"),
    );
    assert_eq!(printed, expected);
    let without = Ramfs::new();
    let script = format!(
        "tar -C {from} --acls -cf t.tar tree && tar --acls -xpf t.tar; rsync -aA {from}/tree/ synced/"
    );
    assert_eq!(run(rig.root(), &script), run(without.0.path(), &script));
}

/// A file system that has no access control lists.
struct Ramfs(tempfile::TempDir);

impl Ramfs {
    fn new() -> Ramfs {
        let at = tempfile::tempdir().expect("a directory");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), at.path(), Some("ramfs"), flags, None::<&str>).expect("mounted");
        Ramfs(at)
    }
}

impl Drop for Ramfs {
    fn drop(&mut self) {
        nix::mount::umount(self.0.path()).expect("unmounted");
    }
}

#[test]
fn names_of_the_bridge_itself_are_not_set_and_copies_go_on() {
    let rig = Rig::new();
    let source = tempfile::tempdir().expect("a directory");
    run(
        source.path(),
        "echo content > f; setfattr -n user.bridgefs.object -v 1 f; setfattr -n user.a -v 1 f",
    );
    let printed = run(
        rig.root(),
        &format!(
            "touch f; setfattr -n user.bridgefs.x -v 1 f; setfattr -x user.bridgefs.x f; getfattr -n user.bridgefs.x f
             cp -a {from} copied && getfattr -d copied && cp {from} m && mv {from} moved && getfattr -d moved",
            from = source.path().join("f").display()
        ),
    );
    assert_eq!(
        printed,
        "setfattr: f: Operation not supported\nsetfattr: f: Operation not supported\n\
         f: user.bridgefs.x: No such attribute\n\
         # file: copied\nuser.a=\"1\"\n\n# file: moved\nuser.a=\"1\"\n\n"
    );
}

/// Every way to change a file, by root, by a member of its group and by a stranger, for every sort of set-ID bits,
/// with a capability: the mode afterwards, and whether the capability is left.
const PRIVILEGES: &str = r#"cat > t.py <<'END'
import mmap, os, sys
CAPABILITY = bytes.fromhex('0100000200040000000000000000000000000000')
def forked(uid, gid, groups, work):
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
            work(); os._exit(0)
        except OSError as e:
            os.write(1, ('  ' + e.strerror + '\n').encode()); os._exit(1)
    os.waitpid(child, 0)
def opened(flags, work):
    fd = os.open('f', flags)
    try: work(fd)
    finally: os.close(fd)
def mapped(fd):
    with mmap.mmap(fd, 4096) as m: m[0] = 65; m.flush()
def direct(fd):
    with mmap.mmap(-1, 4096) as m: os.pwritev(fd, [m], 0)
def writes_and_stats(fd):
    os.write(fd, b'x'); show('  at once'); os.write(fd, b'x')
def show(what):
    try: capability = bool(os.getxattr('f', 'security.capability'))
    except OSError: capability = False
    print(what, oct(os.stat('f').st_mode & 0o7777), capability, flush=True)
WAYS = {
    'read': lambda: opened(os.O_RDONLY, lambda fd: os.read(fd, 10)),
    'open': lambda: opened(os.O_RDWR, lambda fd: None),
    'write': lambda: opened(os.O_WRONLY, writes_and_stats),
    'append': lambda: opened(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b'x')),
    'direct': lambda: opened(os.O_WRONLY | os.O_DIRECT, direct),
    'map': lambda: opened(os.O_RDWR, mapped),
    'truncate': lambda: os.truncate('f', 5),
    'ftruncate': lambda: opened(os.O_WRONLY, lambda fd: os.ftruncate(fd, 5)),
    'O_TRUNC': lambda: opened(os.O_WRONLY | os.O_TRUNC, lambda fd: None),
    'chown -1 -1': lambda: os.chown('f', -1, -1),
    'chown': lambda: os.chown('f', os.stat('f').st_uid, os.stat('f').st_gid),
    'chgrp': lambda: os.chown('f', -1, 4000),
    'utime': lambda: os.utime('f'),
    'chmod': lambda: os.chmod('f', os.stat('f').st_mode & 0o7777),
}
USERS = {'root': (0, 0, []), 'owner': (1000, 3000, []), 'member': (1001, 2000, []),
         'further member': (1001, 3000, [2000]), 'stranger': (1001, 3000, [3001])}
LEFT_OUT = ('write', 'append', 'direct')
BORING = ('read', 'open', 'utime', 'chmod', 'map')
for mode in (0o777, 0o4777, 0o2777, 0o2767, 0o6777, 0o6767):
    for capable in (False, True):
        for user, (uid, gid, groups) in USERS.items():
            for way, work in WAYS.items():
                # The kernel tells us of a root's write and of `chown(-1, -1)` in the same way, and it takes the
                # capability itself before it asks whether that one is allowed.
                if user == 'root' and capable and mode & 0o6000 and way in LEFT_OUT: continue
                if way == 'chown -1 -1' and capable and mode & 0o6000 and user not in ('root', 'owner'): continue
                if user == 'further member' and not mode & 0o2000: continue
                if way in BORING and (mode != 0o6777 or not capable): continue
                with open('f', 'wb') as f: f.write(b'c' * 8192)
                os.chown('f', 1000, 2000); os.chmod('f', mode)
                if capable: os.setxattr('f', 'security.capability', CAPABILITY)
                forked(uid, gid, groups, work)
                show('%o %s %s %s:' % (mode, capable, user, way))
                os.unlink('f')
END
python3 t.py"#;

#[test]
fn set_id_bits_and_capabilities_end_as_on_the_native_disk() {
    let printed = same_as_native(&Rig::new(), PRIVILEGES);
    for line in [
        "4777 False stranger write: 0o777 False",
        "4777 False root write: 0o4777 False",
        "777 True owner truncate: 0o777 False",
        "2767 False member append: 0o2767 False",
        "2767 False stranger append: 0o767 False",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}:\n{printed}");
    }
}

#[test]
fn a_capability_is_set_shown_and_ended_by_the_programs_for_it() {
    let printed = same_as_native(
        &Rig::new(),
        "cp /bin/true f; setcap cap_net_raw+ep f; getcap f; cp -a f g; getcap g; echo >> f; getcap f
         chown 7 g; getcap g; setcap -r f",
    );
    assert!(printed.contains("f cap_net_raw=ep"), "{printed}");
}
