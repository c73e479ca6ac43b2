//! Blocks that the disk had no room for.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;

use super::names::Name;

/// At most so many, of 1 MiB each, whatever the number of open files.
const BLOCKS_MAX: usize = 64;

/// The last blocks that found no room, in memory. Without them a full disk would turn each small read
/// into the fetch of a whole block.
#[derive(Debug, Default)]
pub(super) struct Homeless(Mutex<VecDeque<(Name, u64, Bytes)>>);

impl Homeless {
    pub(super) fn keep(&self, name: Name, block: u64, data: Bytes) {
        let mut blocks = self.0.lock();
        blocks.retain(|(n, b, _)| (*n, *b) != (name, block));
        if blocks.len() == BLOCKS_MAX {
            blocks.pop_front();
        }
        blocks.push_back((name, block, data));
    }

    pub(super) fn find(&self, name: Name, block: u64) -> Option<Bytes> {
        let blocks = self.0.lock();
        blocks.iter().find(|(n, b, _)| (*n, *b) == (name, block)).map(|(_, _, data)| data.clone())
    }

    /// Nobody uses the version any more.
    pub(super) fn forget(&self, name: Name) {
        self.0.lock().retain(|(n, _, _)| *n != name);
    }
}
