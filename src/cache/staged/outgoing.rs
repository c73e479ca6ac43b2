//! A staged file on its way into the cache.

use std::sync::Arc;

use super::content::Content;
use super::{Slot, StagedArea};
use crate::cache::Promotion;
use crate::object::Ino;

/// What stands in the way of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) enum Refusal {
    Leased,
    Changed,
    Absent,
}

impl From<Refusal> for Promotion {
    fn from(refusal: Refusal) -> Promotion {
        match refusal {
            Refusal::Leased => Promotion::Leased,
            Refusal::Changed => Promotion::Changed,
            Refusal::Absent => Promotion::Absent,
        }
    }
}

/// A staged file that is on its way out: nobody can lease it. Dropped it is staged again, as it was.
#[derive(Debug)]
pub(in crate::cache) struct Outgoing<'a> {
    area: &'a StagedArea,
    content: Arc<Content>,
    gone: bool,
}

impl StagedArea {
    pub(in crate::cache) fn take_out(
        &self,
        ino: Ino,
        generation: u64,
        size: Option<u64>,
    ) -> Result<Outgoing<'_>, Refusal> {
        let mut slots = self.settled(ino);
        let content = match slots.get(&ino) {
            None | Some(Slot::Busy) => return Err(Refusal::Absent),
            Some(Slot::Open { .. }) => return Err(Refusal::Leased),
            Some(Slot::Closed(content)) => Arc::clone(content),
        };
        if content.stable() != Some(generation) || size.is_some_and(|size| content.len() != size) {
            return Err(Refusal::Changed);
        }
        slots.insert(ino, Slot::Busy);
        Ok(Outgoing { area: self, content, gone: false })
    }
}

impl Outgoing<'_> {
    /// The name is no longer in the staged directory.
    pub(in crate::cache) fn gone(mut self) {
        self.gone = true;
    }
}

impl Drop for Outgoing<'_> {
    fn drop(&mut self) {
        let slot = (!self.gone).then(|| Slot::Closed(Arc::clone(&self.content)));
        self.area.settle(self.content.ino, slot);
    }
}
