/// What a cache may use, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// The most that cached versions take, in bytes of disk.
    pub bytes_max: u64,
    /// What cached versions leave free on the disk.
    pub keep_free: KeepFree,
    /// Where writers begin to wait, in bytes of disk.
    pub staged_bytes_max: u64,
    /// The ledger's bridge id. A directory of another bridge is refused if it holds staged files (they may
    /// be the only copy), emptied if it holds only blocks.
    pub volume: String,
}

/// Free space to leave on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepFree {
    /// So many bytes.
    Bytes(u64),
    /// So much of the disk, 0 to 100.
    Percent(u8),
}

/// What the cache holds and has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Disk taken by cached versions.
    pub bytes: u64,
    /// Cached versions.
    pub files: u64,
    /// Reads that were answered.
    pub hits: u64,
    /// Blocks that had to be fetched.
    pub misses: u64,
    /// Versions removed or thinned out to make room.
    pub evictions: u64,
    /// Blocks and indexes that were damaged, dropped and left to be fetched again.
    pub bad_blocks: u64,
    /// Disk taken by staged files, fills and snapshots.
    pub staged_bytes: u64,
    /// Staged files.
    pub staged_files: u64,
}

/// What became of a staged file that was to become a cached version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// It is no longer staged.
    Done,
    /// Somebody holds a lease: it stays staged.
    Leased,
    /// It is not the content that was named: it stays staged.
    Changed,
    /// There is no staged file.
    Absent,
}

/// The disk that the cache is on, as an ordinary user may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// All of it, in bytes.
    pub bytes_total: u64,
    /// What may still be taken, in bytes.
    pub bytes_free: u64,
    /// Inodes in all.
    pub files_total: u64,
    /// Inodes that may still be taken.
    pub files_free: u64,
}
