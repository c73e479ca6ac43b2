//! Times of access: kept here only, no store hears of them.

use super::{Ledger, LedgerResult, nodes};
use crate::object::{Ino, NanoTime};

impl Ledger {
    /// Lazy. A node was read at `now`. Changes nothing if its last access is not `before` any more: then
    /// somebody set it, or noted a read, meanwhile. Not a change of attributes: ctime stays. A node that
    /// is gone needs no time.
    pub async fn accessed(&self, ino: Ino, before: NanoTime, now: NanoTime) -> LedgerResult<()> {
        self.lazy(move |tx| match nodes::find(tx.conn, ino)? {
            Some(node) if node.atime == before => nodes::update(tx.conn, &super::Node { atime: now, ..node }),
            Some(_) | None => Ok(()),
        })
        .await
    }
}
