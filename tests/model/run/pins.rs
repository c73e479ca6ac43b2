//! Files that are open for reading, also after their name is gone.

use bridgefs::bridge::{BridgeErrorKind, Content, Hold};
use bridgefs::object::{Ino, Kind};

use super::{Check, Did, Run};
use crate::step::Path;
use crate::tree::Blob;

/// A file that is open though its name may be gone.
pub(crate) struct Pinned {
    content: Content,
    expected: Blob,
    pub(super) hold: Option<Hold>,
    /// Its name was removed without a hold, or overwritten: its bytes may be gone.
    doomed: bool,
}

impl Run {
    pub(crate) fn drop_pins(&mut self) {
        for pin in std::mem::take(&mut self.pins) {
            let ino = pin.content.ino();
            drop(pin);
            if !self.is_open(ino) {
                self.world.bridge().released(ino);
            }
        }
    }

    pub(crate) fn is_open(&self, ino: Ino) -> bool {
        self.dirty.contains_key(&ino) || self.pins.iter().any(|pin| pin.content.ino() == ino)
    }

    /// A node has left the tree.
    pub(crate) fn left(&mut self, ino: Ino, hold: Option<Hold>) {
        self.dirty.remove(&ino);
        let mut hold = hold;
        for pin in self.pins.iter_mut().filter(|pin| pin.content.ino() == ino) {
            match hold.take() {
                Some(hold) => pin.hold = Some(hold),
                None => pin.doomed = pin.hold.is_none(),
            }
        }
        drop(hold);
        if !self.is_open(ino) {
            self.world.bridge().released(ino);
        }
    }

    pub(crate) async fn pin(&mut self, path: Path) -> Check {
        let full = path.full();
        match self.find(&full).await? {
            Did::Yes(Some(node)) if node.kind == Kind::File => self.pin_node(&full, node.ino).await,
            Did::Yes(_) | Did::NotNow => Ok(()),
        }
    }

    /// Opens a file for reading, if its content is on the stores: what is staged is read by a lease.
    pub(crate) async fn pin_node(&mut self, full: &str, ino: Ino) -> Check {
        let bridge = self.world.bridge();
        let Some(file) = self.tree.file(full) else { return Ok(()) };
        let expected = file.latest();
        if !file.newer.is_empty() || bridge.staged(ino).is_ok_and(|staged| staged.is_some()) {
            return Ok(());
        }
        let healthy = self.must_be_readable(full).await;
        match bridge.open(ino).await {
            Ok(content) => {
                self.pins.push(Pinned { content, expected, hold: None, doomed: false });
                Ok(())
            }
            Err(e) => self.may_fail(&format!("open of `{full}`"), &e, healthy),
        }
    }

    /// P2: an open file reads the version that it was opened at, or an error, never another one.
    pub(crate) async fn read_pins(&mut self) -> Check {
        let bridge = self.world.bridge();
        for pin in &self.pins {
            let len = pin.expected.0.len();
            match bridge.read(&pin.content, 0, len).await {
                Ok(bytes) if bytes == pin.expected.0 => {}
                Ok(bytes) => {
                    let found = Blob(bytes);
                    return Err(format!("P2: an open file reads {found:?} instead of {:?}", pin.expected));
                }
                // An overwritten version may be gone; an unlinked one is held.
                Err(e) if e.kind() == BridgeErrorKind::Stale && (pin.hold.is_none() || pin.doomed) => {}
                Err(e) if self.any_trouble() && e.kind() == BridgeErrorKind::Unavailable => {}
                Err(e) if self.corrupting() => drop(e),
                Err(e) => return Err(format!("P2: an open file cannot be read: {:?}: {e}", e.kind())),
            }
        }
        Ok(())
    }
}
