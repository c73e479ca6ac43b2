use std::fmt;

/// The number of a node (file, directory, symlink) in the ledger and, unchanged, its inode number in
/// the kernel. Given once and never again, not even after the node is deleted. The root is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory.
    pub const ROOT: Ino = Ino(1);
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of one name of a node. The first name has the number of its node; each further hard link has
/// one of its own, from the same range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

impl LinkId {
    /// The first name of a node.
    pub const fn first(ino: Ino) -> LinkId {
        LinkId(ino.0)
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a name stands in its directory: the cookie of `readdir`, which stays good while names come and go. A new
/// name stands behind all others; one that is given to another node stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);

impl Position {
    /// Before the first name.
    pub const START: Position = Position(0);

    /// Of a name when it is made.
    pub const fn of(link: LinkId) -> Position {
        Position(link.0)
    }
}

/// The version of a node's content: grows by one with each committed change. 0 is a file that was
/// created and whose content has never been committed; no store may hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

impl Version {
    /// Created, never committed.
    pub const UNCOMMITTED: Version = Version(0);
    /// The first committed content, and the version of an object found in a store.
    pub const FIRST: Version = Version(1);

    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Version {
        Version(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
