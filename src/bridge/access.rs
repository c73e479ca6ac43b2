//! Reads that are noted: in the ledger, and nowhere else.

use crate::bridge::{Bridge, BridgeResult};
use crate::object::{Ino, NanoTime};

impl Bridge {
    /// A node was read at `now`, if its last access is still `before`. Asks no store.
    pub async fn accessed(&self, ino: Ino, before: NanoTime, now: NanoTime) -> BridgeResult<()> {
        Ok(self.ledger.accessed(ino, before, now).await?)
    }
}
