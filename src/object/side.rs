use std::fmt;
use std::ops::{Index, IndexMut};

/// One of the two stores, by its fixed part in the migration: the one that is left or the one that
/// is gone to. The *roles* (primary, secondary) are given by the stage and swap; sides never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The store the migration leaves.
    Old,
    /// The store the migration goes to.
    New,
}

impl Side {
    /// Both sides, old first.
    pub const BOTH: [Side; 2] = [Side::Old, Side::New];

    /// The other side.
    pub const fn other(self) -> Side {
        match self {
            Side::Old => Side::New,
            Side::New => Side::Old,
        }
    }

    /// The word used in the ledger, in metrics and in messages: `old` or `new`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Side::Old => "old",
            Side::New => "new",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value for each side, indexed by [`Side`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerSide<T> {
    /// The value of the old side.
    pub old: T,
    /// The value of the new side.
    pub new: T,
}

impl<T> PerSide<T> {
    /// Makes the value of each side with `make`.
    pub fn from_fn(mut make: impl FnMut(Side) -> T) -> Self {
        PerSide { old: make(Side::Old), new: make(Side::New) }
    }

    /// Both values with their sides, old first.
    pub fn iter(&self) -> impl Iterator<Item = (Side, &T)> {
        [(Side::Old, &self.old), (Side::New, &self.new)].into_iter()
    }

    /// Maps each value.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> PerSide<U> {
        PerSide { old: f(self.old), new: f(self.new) }
    }
}

impl<T> Index<Side> for PerSide<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        match side {
            Side::Old => &self.old,
            Side::New => &self.new,
        }
    }
}

impl<T> IndexMut<Side> for PerSide<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Old => &mut self.old,
            Side::New => &mut self.new,
        }
    }
}
