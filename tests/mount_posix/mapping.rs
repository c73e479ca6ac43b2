//! A mapping of a file, for tests, in a process of its own: a store can wait for the mount while it holds the lock
//! of its process's memory, and the threads of the mount, which are of the test's process, may need that lock.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Maps without Python's own module, which would keep a descriptor of the file.
const PROGRAM: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
path, size = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_RDWR)
if sys.argv[3] == "lengthened":
    os.ftruncate(fd, size)
at = libc.mmap(None, size, 3, 1, fd, 0)
assert at != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
memory = (ctypes.c_ubyte * size).from_address(at)
print("ready", flush=True)
for line in sys.stdin:
    order, first, second, third = line.split()
    first, second, third = int(first), int(second), int(third)
    if order == "set":
        for place in range(first, second, third >> 8):
            memory[place] = third & 255
    elif order == "close":
        os.close(fd)
    elif order == "sync":
        assert libc.msync(at, size, 4) == 0, os.strerror(ctypes.get_errno())
    else:
        sys.stdout.buffer.write(bytes(memory[first:second]))
    print("done", flush=True)
libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(size))
"#;

/// The beginning of a file, shared with all who have it open.
pub(crate) struct Mapping {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    len: usize,
}

impl Mapping {
    /// Maps the first `len` bytes of a file that is open for reading and writing.
    pub(crate) fn shared(file: &File, len: usize) -> Mapping {
        Mapping::of(file, len, "as it is")
    }

    /// The same after making it so long, through the descriptor that the mapping is made of: one of the test's own is
    /// closed in each process that any test starts, which commits what was changed through it.
    pub(crate) fn lengthened(file: &File, len: usize) -> Mapping {
        Mapping::of(file, len, "lengthened")
    }

    fn of(file: &File, len: usize, how: &str) -> Mapping {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("it has a name");
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", PROGRAM]).arg(path).args([&len.to_string(), how]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut mapping = Mapping { child, orders, answers, len };
        mapping.expect("ready");
        mapping
    }

    /// Closes the descriptor that it was made of, which else is open as long as it lasts.
    pub(crate) fn close(&mut self) {
        self.order("close 0 0 0");
        self.expect("done");
    }

    pub(crate) fn get(&mut self, at: usize) -> u8 {
        self.bytes(at, at + 1)[0]
    }

    pub(crate) fn set(&mut self, at: usize, byte: u8) {
        self.set_each((at, at + 1), 1, byte);
    }

    /// Stores a byte at the first place of a range and at each `step` after it.
    pub(crate) fn set_each(&mut self, (from, to): (usize, usize), step: usize, byte: u8) {
        assert!(to <= self.len);
        self.order(&format!("set {from} {to} {}", step << 8 | usize::from(byte)));
        self.expect("done");
    }

    /// The same, if need be to the death of the process that stores.
    pub(crate) fn set_each_or_die(mut self, (from, to): (usize, usize), step: usize, byte: u8) {
        self.order(&format!("set {from} {to} {}", step << 8 | usize::from(byte)));
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("read");
        assert!(["", "done\n"].contains(&answer.as_str()), "{answer}");
    }

    pub(crate) fn bytes(&mut self, from: usize, to: usize) -> Vec<u8> {
        assert!(to <= self.len);
        self.order(&format!("get {from} {to} 0"));
        let mut bytes = vec![0; to - from];
        self.answers.read_exact(&mut bytes).expect("read");
        self.expect("done");
        bytes
    }

    pub(crate) fn sync(&mut self) {
        self.order("sync 0 0 0");
        self.expect("done");
    }

    fn order(&mut self, line: &str) {
        let orders = self.orders.as_mut().expect("it runs");
        writeln!(orders, "{line}").and_then(|()| orders.flush()).expect("told");
    }

    fn expect(&mut self, answer: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("read");
        assert_eq!(line.trim_end(), answer, "the process that maps has ended");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Err(error) = self.child.wait() {
            tracing::warn!(%error, "the process that maps");
        }
    }
}
