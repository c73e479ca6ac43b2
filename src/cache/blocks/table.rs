//! Which blocks of one version are there. In memory from the first use until eviction.

use parking_lot::Mutex;

/// What is known of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockState {
    /// Not there.
    Absent,
    /// One thread is bringing it in or taking it out, and settles it.
    Busy,
    /// Said to be there, with this checksum; not looked at by this process.
    Unchecked(u32),
    /// There, and seen or written by this process.
    Good(u32),
}

/// The blocks of one version. The lock is never held across I/O.
#[derive(Debug)]
pub(super) struct Table(Mutex<Box<[BlockState]>>);

impl Table {
    pub(super) fn new(states: Vec<BlockState>) -> Table {
        Table(Mutex::new(states.into()))
    }

    /// A block beyond the end is absent.
    pub(super) fn get(&self, block: u64) -> BlockState {
        let states = self.0.lock();
        let state = usize::try_from(block).ok().and_then(|block| states.get(block).copied());
        state.unwrap_or(BlockState::Absent)
    }

    /// From `from` to `to`, if it is `from` -> whether it was.
    pub(super) fn change(&self, block: u64, from: BlockState, to: BlockState) -> bool {
        let mut states = self.0.lock();
        let state = usize::try_from(block).ok().and_then(|block| states.get_mut(block));
        match state {
            Some(state) if *state == from => {
                *state = to;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The blocks that are there, with their checksums, in order.
    pub(super) fn present(&self) -> Vec<(u64, u32)> {
        let states = self.0.lock();
        let there = (0..).zip(states.iter()).filter_map(|(block, state)| match state {
            BlockState::Unchecked(sum) | BlockState::Good(sum) => Some((block, *sum)),
            BlockState::Absent | BlockState::Busy => None,
        });
        there.collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        let states = self.0.lock();
        states.iter().all(|state| matches!(state, BlockState::Absent | BlockState::Busy))
    }

    /// The blocks of a range that are not there.
    pub(super) fn missing(&self, blocks: std::ops::Range<u64>) -> Vec<u64> {
        let absent = |block: &u64| matches!(self.get(*block), BlockState::Absent | BlockState::Busy);
        blocks.filter(absent).collect()
    }
}
