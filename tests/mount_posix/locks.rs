//! Locks between processes and threads of this host, against the native disk.

use std::path::Path;
use std::process::Command;

use crate::rig::Rig;

/// Tells what each kind of lock does, a line a try. `elsewhere` is another process, `inherited` one that has the
/// holder's own descriptor; answers come through pipes, so nothing is raced.
const TRIES: &str = r#"
import errno, fcntl, os, signal, struct, threading
SHARED, EXCLUSIVE, NONE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
OFD_SETLK = 37
WORDS = {SHARED: fcntl.LOCK_SH, EXCLUSIVE: fcntl.LOCK_EX, NONE: fcntl.LOCK_UN}

def lock(kind, fd, how=EXCLUSIVE, start=0, length=0):
    try:
        if kind == "flock":
            fcntl.flock(fd, WORDS[how] | fcntl.LOCK_NB)
        else:
            what = struct.pack("hhqqi4x", how, os.SEEK_SET, start, length, 0)
            fcntl.fcntl(fd, fcntl.F_SETLK if kind == "fcntl" else OFD_SETLK, what)
        return "granted"
    except OSError as error:
        return "EAGAIN" if error.errno == errno.EACCES else errno.errorcode[error.errno]

def opened(name="f"):
    return os.open(name, os.O_RDWR | os.O_CREAT)

def elsewhere(work):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(theirs, str(work()).encode())
        os._exit(0)
    os.close(theirs)
    said = os.read(ours, 1000).decode()
    os.waitpid(child, 0)
    os.close(ours)
    return said

def in_thread(work):
    said = []
    thread = threading.Thread(target=lambda: said.append(work()))
    thread.start()
    thread.join()
    return said[0]

class Holder:
    """Another process that holds a lock until it is killed."""
    def __init__(self, kind):
        ready, told = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            fd = opened()
            os.write(told, lock(kind, fd).encode())
            signal.pause()
        os.close(told)
        assert os.read(ready, 100) == b"granted"
    def kill(self):
        os.kill(self.child, 9)
        os.waitpid(self.child, 0)

KINDS = ["fcntl", "ofd", "flock"]
for kind in KINDS:
    def tell(what, said):
        print(f"{kind}: {what}: {said}")
    fd = opened()
    tell("taken", lock(kind, fd))
    tell("by another process", elsewhere(lambda: lock(kind, opened())))
    tell("by another thread", in_thread(lambda: lock(kind, opened())))
    tell("with the inherited descriptor", elsewhere(lambda: lock(kind, fd)))
    os.close(fd)
    tell("after close", elsewhere(lambda: lock(kind, opened())))
    fd = opened()
    tell("shared", lock(kind, fd, SHARED))
    tell("shared by another", elsewhere(lambda: lock(kind, opened(), SHARED)))
    tell("exclusive by another", elsewhere(lambda: lock(kind, opened())))
    tell("raised", lock(kind, fd))
    tell("shared by another then", elsewhere(lambda: lock(kind, opened(), SHARED)))
    os.rename("f", "g")
    tell("under the new name", elsewhere(lambda: lock(kind, opened("g"))))
    tell("the old name is another file", elsewhere(lambda: lock(kind, opened("f"))))
    os.unlink("f")
    os.rename("g", "f")
    os.pwrite(fd, b"content", 0)
    os.fsync(fd)
    tell("after write and fsync", elsewhere(lambda: lock(kind, opened())))
    tell("given back", lock(kind, fd, NONE))
    tell("by another after that", elsewhere(lambda: lock(kind, opened())))
    os.close(fd)
    holder = Holder(kind)
    tell("held by another", lock(kind, (fd := opened())))
    holder.kill()
    tell("after it was killed", lock(kind, fd))
    os.close(fd)

for held in KINDS:
    fd = opened()
    lock(held, fd)
    for wanted in KINDS:
        print(f"{wanted} while {held} is held: {elsewhere(lambda: lock(wanted, opened()))}")
    os.close(fd)

for kind in ["fcntl", "ofd"]:
    fd = opened()
    print(f"{kind}: bytes 0 to 9:", lock(kind, fd, EXCLUSIVE, 0, 10))
    print(f"{kind}: bytes 9 to 18 elsewhere:", elsewhere(lambda: lock(kind, opened(), EXCLUSIVE, 9, 10)))
    print(f"{kind}: bytes 10 to 19 elsewhere:", elsewhere(lambda: lock(kind, opened(), EXCLUSIVE, 10, 10)))
    os.close(fd)

fd = opened()
lock("fcntl", fd)
os.close(opened())
print("fcntl: after the close of another descriptor:", elsewhere(lambda: lock("fcntl", opened())))
ask = struct.pack("hhqqi4x", EXCLUSIVE, os.SEEK_SET, 0, 0, 0)
lock("fcntl", fd)
def holder():
    how, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(opened(), fcntl.F_GETLK, ask))
    return f"{how == EXCLUSIVE} {pid == os.getppid()}"
print("fcntl: F_GETLK names the holder:", elsewhere(holder))
"#;

fn tries(dir: &Path) -> Vec<String> {
    let output = Command::new("python3").args(["-c", TRIES]).current_dir(dir).output().expect("python3");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.lines().map(str::to_owned).collect()
}

#[test]
fn locks_hold_between_processes_and_threads_of_this_host_as_on_the_native_disk() {
    let rig = Rig::new();
    rig.same_as_native(|dir| {
        let told = tries(dir);
        for expected in [
            "flock: by another process: EAGAIN",
            "flock: by another thread: EAGAIN",
            "ofd: by another thread: EAGAIN",
            "fcntl: by another thread: granted",
            "fcntl: under the new name: EAGAIN",
            "ofd: after it was killed: granted",
            "fcntl: after the close of another descriptor: granted",
            "flock while fcntl is held: granted",
            "ofd while fcntl is held: EAGAIN",
            "fcntl: F_GETLK names the holder: True True",
        ] {
            assert!(told.iter().any(|line| line == expected), "{expected} is not in {told:#?}");
        }
        told
    });
}
