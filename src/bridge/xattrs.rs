//! Extended attributes: in the ledger, and part of an object's metadata.

use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, blocking, change};
use crate::ledger::{NewXattr, Node};
use crate::object::{CAPABILITY, Ino, Xattrs};

impl Bridge {
    /// The value of one attribute.
    ///
    /// The kernel and `ls` ask for `security.*` of every file that they see. Of an object that was only
    /// listed it is therefore absent, as its owner and mode are guesses; anything else is asked for.
    pub async fn xattr(&self, ino: Ino, name: &[u8]) -> BridgeResult<Box<[u8]>> {
        if !name.starts_with(b"security.") {
            self.read_attrs(ino).await?;
        }
        let value = blocking(|| self.ledger.xattr(ino, name))?;
        value.ok_or_else(|| BridgeError::new(BridgeErrorKind::NoAttribute, "there is no such attribute"))
    }

    /// All of a node. Those of an object that was only listed are read from its metadata first: a backup
    /// that lists them must not be told that there are none.
    pub async fn xattrs(&self, ino: Ino) -> BridgeResult<Xattrs> {
        self.read_attrs(ino).await?;
        let xattrs = blocking(|| self.ledger.xattrs(ino))?;
        if xattrs.is_empty() && blocking(|| self.ledger.node(ino))?.is_none() {
            return Err(gone());
        }
        Ok(xattrs)
    }

    /// Sets one; the stores get it as metadata, later, without the content.
    pub async fn set_xattr(&self, ino: Ino, new: NewXattr) -> BridgeResult<()> {
        self.read_attrs(ino).await?;
        self.replicator.quiet.disturbed(ino);
        change::begin()?;
        self.ledger.set_xattr(ino, new, self.clock.now()).await?;
        self.wake_when_quiet();
        Ok(())
    }

    /// Removes one, from the stores too.
    pub async fn remove_xattr(&self, ino: Ino, name: &[u8]) -> BridgeResult<()> {
        self.read_attrs(ino).await?;
        self.replicator.quiet.disturbed(ino);
        change::begin()?;
        self.ledger.remove_xattr(ino, name, self.clock.now()).await?;
        self.wake_when_quiet();
        Ok(())
    }

    /// A node with its attributes as they are, not as they are guessed, and whether it has the attribute
    /// `security.capability`.
    pub async fn privileges(&self, ino: Ino) -> BridgeResult<(Node, bool)> {
        self.read_attrs(ino).await?;
        let node = blocking(|| self.ledger.node(ino))?.ok_or_else(gone)?;
        Ok((node, blocking(|| self.ledger.xattr(ino, CAPABILITY))?.is_some()))
    }
}

fn gone() -> BridgeError {
    BridgeError::new(BridgeErrorKind::NotFound, "it is gone")
}
