//! Changes of the tree: each is one transaction of the ledger; the stores follow.

use crate::bridge::replicate::Hold;
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, blocking, change, router};
use crate::ledger::{AttrChange, Entry, NewNode, Node, Origin, Removed, RenameMode, Renamed};
use crate::object::{Ino, Key, Kind, LinkId, OWN_PREFIX, PerSide, Position};
use crate::store::ErrorKind;

/// Looks for the attributes of one object, which may be on its way to another key at the first ones.
const LOOKS_MAX: u32 = 3;

/// The longest key, in bytes, that a cloud holds.
const CLOUD_KEY_BYTES_MAX: usize = 1024;
/// The longest path, in bytes, that a program can name (`PATH_MAX`, without the zero at its end).
const KEY_BYTES_MAX: usize = 4095;

/// A node that left the tree.
#[derive(Debug)]
pub struct Unlinked {
    /// The node and what the stores hold of it.
    pub removed: Removed,
    /// While it lives the stores keep the content, for files that are still open.
    pub hold: Option<Hold>,
}

/// A name that nothing had when it was asked for, and that the stores can hold.
#[derive(Debug)]
pub struct FreeName {
    parent: Ino,
    name: String,
    key: Key,
}

/// A rename that was done.
#[derive(Debug)]
pub struct RenameDone {
    /// The node under its new name.
    pub moved: Node,
    /// What stood there before.
    pub replaced: Option<Unlinked>,
    /// The other node of an exchange, under its new name.
    pub exchanged: Option<Node>,
}

impl Bridge {
    /// A node of the tree.
    pub async fn node(&self, ino: Ino) -> BridgeResult<Option<Node>> {
        Ok(blocking(|| self.ledger.node(ino))?)
    }

    /// Makes a node. A file begins without content; its first commit sends it to the stores.
    pub async fn create(&self, parent: Ino, name: &str, node: NewNode) -> BridgeResult<Node> {
        let key = self.free_key(parent, name).await?;
        let is_fixed = node.kind.is_fixed();
        change::begin()?;
        let node = self.ledger.create(parent, name, node).await?;
        if is_fixed {
            self.replicator.quiet.disturbed(node.ino);
            self.wake_for(Some(&key));
        }
        Ok(node)
    }

    /// Asks the stores all that a further name for a node needs to be known.
    pub async fn prepare_link(&self, ino: Ino, parent: Ino, name: &str) -> BridgeResult<FreeName> {
        let key = self.free_key(parent, name).await?;
        self.read_attrs(ino).await?;
        Ok(FreeName { parent, name: name.to_owned(), key })
    }

    /// Gives a file, or anything else that is no directory, a further name -> the node under that name. On
    /// each store it becomes an object of its own, copied there from another name where that is possible. Waits for
    /// no store.
    pub async fn link(&self, ino: Ino, to: FreeName) -> BridgeResult<Node> {
        self.replicator.quiet.disturbed(ino);
        change::begin()?;
        let node = self.ledger.link(ino, to.parent, &to.name, self.clock.now()).await?;
        self.wake_for(Some(&to.key));
        Ok(node)
    }

    /// Changes attributes; the stores get them as metadata, later, without the content.
    pub async fn set_attrs(&self, ino: Ino, attrs: AttrChange) -> BridgeResult<Node> {
        self.read_attrs(ino).await?;
        self.replicator.quiet.disturbed(ino);
        change::begin()?;
        let node = self.ledger.set_attrs(ino, attrs).await?;
        self.wake_when_quiet();
        Ok(node)
    }

    /// The attributes of an object that was only listed are guesses. One that is changed writes all of
    /// them to the stores, so the others must be known first: else its owner would be lost unseen.
    pub(crate) async fn read_attrs(&self, ino: Ino) -> BridgeResult<()> {
        let Some(node) = blocking(|| self.ledger.node(ino))? else { return Ok(()) };
        if node.kind == Kind::Directory || !is_guessed(&node) {
            return Ok(());
        }
        for _ in 0..LOOKS_MAX {
            if !is_guessed(&self.look_again(node.clone()).await?) {
                return Ok(());
            }
        }
        let now = blocking(|| self.ledger.readable_node(ino))?;
        if let Some((node, replicas)) = now
            && !replicas.iter().any(|(_, r)| r.as_ref().is_some_and(|r| router::is_current(r, &node)))
        {
            return Err(self.nowhere(ino, node.version)?);
        }
        let detail = "the store that has it cannot be asked for its attributes, and they are needed";
        Err(BridgeError::new(BridgeErrorKind::Unavailable, detail))
    }

    /// Removes a name of what is no directory. With `still_open` the content of the last one stays on the
    /// stores until the hold is dropped.
    pub async fn unlink(&self, parent: Ino, name: &str, still_open: bool) -> BridgeResult<Unlinked> {
        let Some(node) = self.lookup(parent, name).await? else {
            return Err(BridgeError::new(BridgeErrorKind::NotFound, format!("`{name}` is not there")));
        };
        let last = node.links == 1;
        let hold = (still_open && last).then(|| self.hold(&node)).transpose()?;
        change::begin()?;
        let removed = self.ledger.unlink(Entry { parent, name }, self.clock.now()).await?;
        self.forget(&removed, still_open);
        Ok(Unlinked { removed, hold })
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, parent: Ino, name: &str) -> BridgeResult<Removed> {
        if let Some(node) = self.lookup(parent, name).await? {
            self.require_empty(&node).await?;
        }
        change::begin()?;
        let removed = self.ledger.rmdir(Entry { parent, name }, self.clock.now()).await?;
        self.discovery.forget(removed.node.ino);
        Ok(removed)
    }

    /// Renames a file or a directory with all that is in it.
    pub async fn rename(
        &self,
        from: (Ino, &str),
        to: (Ino, &str),
        mode: RenameMode,
        target_open: bool,
    ) -> BridgeResult<RenameDone> {
        let Some(source) = self.lookup(from.0, from.1).await? else {
            return Err(BridgeError::new(BridgeErrorKind::NotFound, format!("`{}` is not there", from.1)));
        };
        let target = self.lookup(to.0, to.1).await?;
        let (from_key, to_key) = (self.child_key(from.0, from.1)?, self.child_key(to.0, to.1)?);
        self.check_key(&to_key)?;
        self.prepare_trees(&source, target.as_ref(), mode, &from_key, &to_key).await?;
        let hold = match &target {
            Some(node) if target_open && node.kind == Kind::File && node.links == 1 => Some(self.hold(node)?),
            Some(_) | None => None,
        };
        let _route = self.flips.read().await;
        self.replicator.quiet.disturbed(source.ino);
        let renamed = self.rename_in_ledger(from, to, mode, &from_key, &to_key).await?;
        let replaced = match renamed.replaced {
            Some(removed) => {
                self.forget(&removed, hold.is_some());
                Some(Unlinked { removed, hold })
            }
            None => None,
        };
        self.wake_for(Some(&to_key));
        Ok(RenameDone { moved: renamed.moved, replaced, exchanged: renamed.exchanged })
    }

    /// The link count of a directory: 2 and its subdirectories; 1, which programs take for "not counted",
    /// while not all of them are known.
    pub fn directory_links(&self, dir: &Node) -> BridgeResult<u32> {
        if !self.knows_all(dir) {
            return Ok(1);
        }
        Ok(blocking(|| self.ledger.subdirectories(dir.ino))?.saturating_add(2))
    }

    /// The position of the last name in a directory, once all of its names are known.
    pub fn last_position(&self, dir: Ino) -> BridgeResult<Option<Position>> {
        if !self.knows_all(&self.directory(dir)?) {
            return Ok(None);
        }
        Ok(Some(blocking(|| self.ledger.last_position(dir))?))
    }

    /// Everything done so far survives a power failure when this returns.
    pub async fn sync_namespace(&self) -> BridgeResult<()> {
        Ok(self.ledger.sync().await?)
    }

    async fn rename_in_ledger(
        &self,
        from: (Ino, &str),
        to: (Ino, &str),
        mode: RenameMode,
        from_key: &Key,
        to_key: &Key,
    ) -> BridgeResult<Renamed> {
        let routes = [from_key, to_key].map(|key| self.routing(Some(key)).route);
        if mode == RenameMode::Exchange && routes[0] != routes[1] {
            return Err(cross_slice(from_key, to_key));
        }
        let from = Entry { parent: from.0, name: from.1 };
        let to = Entry { parent: to.0, name: to.1 };
        change::begin()?;
        Ok(self.ledger.rename(from, to, mode, self.clock.now()).await?)
    }

    /// A directory moves with everything below it, so all of that must be known; a directory that is
    /// replaced must be known to be empty.
    async fn prepare_trees(
        &self,
        source: &Node,
        target: Option<&Node>,
        mode: RenameMode,
        from_key: &Key,
        to_key: &Key,
    ) -> BridgeResult<()> {
        let exchanged = target.filter(|_| mode == RenameMode::Exchange);
        for moved in [Some(source), exchanged].into_iter().flatten() {
            Bridge::require_proven_name(moved)?;
            if moved.kind == Kind::Directory {
                let splits = self.router.splits(from_key) || self.router.splits(to_key);
                if splits || self.routing(Some(from_key)).route != self.routing(Some(to_key)).route {
                    return Err(cross_slice(from_key, to_key));
                }
                self.load_tree(moved.ino).await?;
            }
        }
        match target {
            Some(node)
                if mode == RenameMode::Replace && node.kind == Kind::Directory && node.ino != source.ino =>
            {
                self.require_empty(node).await
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn require_empty(&self, node: &Node) -> BridgeResult<()> {
        if node.kind == Kind::Directory && !self.list(node.ino, Position::START, 1).await?.is_empty() {
            return Err(BridgeError::new(BridgeErrorKind::NotEmpty, format!("`{}` has entries", node.name)));
        }
        Ok(())
    }

    /// Keeps the objects of a node's last name where they are until the hold is dropped.
    fn hold(&self, node: &Node) -> BridgeResult<Hold> {
        let replicas = blocking(|| self.ledger.replicas(node.link))?;
        Ok(self.replicator.hold(node.ino, replicas))
    }

    /// Local traces of a removed node, unless it has another name or a file is still open on them.
    fn forget(&self, removed: &Removed, still_open: bool) {
        let ino = removed.node.ino;
        self.replicator.wake_all();
        if removed.links_left > 0 {
            self.acks.wake(ino);
            // The name that went may have been the last one that a store was to get.
            self.released(ino);
            return;
        }
        if !still_open {
            // The name is gone, whatever becomes of this: the next start removes what has no node.
            if let Err(error) = blocking(|| self.cache.discard(ino)) {
                tracing::warn!(%ino, %error, "the staged file of a removed file stays until the next start");
            }
            self.cache.forget(ino);
        }
        self.staging.forget(ino);
        self.acks.wake(ino);
    }

    pub(crate) fn child_key(&self, parent: Ino, name: &str) -> BridgeResult<Key> {
        if name.len() > 255 {
            return Err(BridgeError::new(BridgeErrorKind::NameTooLong, "a name has at most 255 bytes"));
        }
        if parent == Ino::ROOT {
            let illegal = |e| BridgeError::new(BridgeErrorKind::IllegalName, format!("{e}"));
            return Key::new(name).map_err(illegal);
        }
        match blocking(|| self.ledger.key_of(LinkId::first(parent)))? {
            Some(directory) => Ok(directory.join(name)),
            None => Err(BridgeError::new(BridgeErrorKind::NotFound, "the directory is gone")),
        }
    }

    /// The key of a name that nothing has yet and that the stores can hold.
    async fn free_key(&self, parent: Ino, name: &str) -> BridgeResult<Key> {
        if self.lookup(parent, name).await?.is_some() {
            return Err(BridgeError::new(BridgeErrorKind::Exists, format!("`{name}` is there already")));
        }
        let key = self.child_key(parent, name)?;
        self.check_key(&key)?;
        Ok(key)
    }

    /// Refuses a name that no store which must hold it can hold. A name that only one of them cannot
    /// hold is taken: that store's replica becomes a finding, the other has it.
    fn check_key(&self, key: &Key) -> BridgeResult<()> {
        if key.is_own() {
            let detail = format!("`{OWN_PREFIX}` is kept for the bridge itself, in every store");
            return Err(BridgeError::new(BridgeErrorKind::IllegalName, detail).on(key));
        }
        if key.as_str().len() > KEY_BYTES_MAX {
            let detail =
                format!("the path has {} bytes; a key has at most {KEY_BYTES_MAX}", key.as_str().len());
            return Err(BridgeError::new(BridgeErrorKind::NameTooLong, detail));
        }
        let verdicts = PerSide::from_fn(|side| self.handle(side).store.check_key(key));
        let mut refusal = None;
        for side in self.routing(Some(key)).route.write_sides() {
            match &verdicts[side] {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Unsupported => refusal = Some((side, e.to_string())),
                Err(_) => return Ok(()),
            }
        }
        match refusal {
            Some((side, why)) => {
                let detail = format!("no store that must hold this name can; {side}: {why}");
                let too_long = key.as_str().len() > CLOUD_KEY_BYTES_MAX;
                let kind = if too_long { BridgeErrorKind::NameTooLong } else { BridgeErrorKind::IllegalName };
                Err(BridgeError::new(kind, detail).on(key))
            }
            None => Ok(()),
        }
    }
}

/// Whether the attributes of a node are defaults that no store has confirmed.
fn is_guessed(node: &Node) -> bool {
    match node.origin {
        Origin::Listed | Origin::Unproven => true,
        Origin::Mount | Origin::Read => false,
    }
}

fn cross_slice(from: &Key, to: &Key) -> BridgeError {
    let detail = format!("`{from}` and `{to}` are in slices that are moved apart: copy instead");
    BridgeError::new(BridgeErrorKind::CrossSlice, detail)
}
