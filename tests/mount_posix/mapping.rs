//! A mapping of a file, for tests.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;

/// The beginning of a file, shared with all who have it open.
pub(crate) struct Mapping {
    at: *mut u8,
    len: usize,
}

impl Mapping {
    /// Maps the first `len` bytes of a file that is open for reading and writing.
    pub(crate) fn shared(file: &File, len: usize) -> Mapping {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; the result is checked.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Mapping { at: at.cast(), len }
    }

    pub(crate) fn get(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: inside of the mapping, which lives as long as this; others may write at any time.
        unsafe { ptr::read_volatile(self.at.add(at)) }
    }

    pub(crate) fn set(&self, at: usize, byte: u8) {
        assert!(at < self.len);
        // SAFETY: as in `get`; the mapping is writable.
        unsafe { ptr::write_volatile(self.at.add(at), byte) }
    }

    pub(crate) fn bytes(&self, from: usize, to: usize) -> Vec<u8> {
        (from..to).map(|at| self.get(at)).collect()
    }

    pub(crate) fn sync(&self) {
        // SAFETY: the whole mapping, which is there.
        let done = unsafe { libc::msync(self.at.cast(), self.len, libc::MS_SYNC) };
        assert_eq!(done, 0, "msync: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length, and nobody uses it after this.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}
