//! Names: making, removing, renaming, listing.

use std::collections::BTreeMap;

use bridgefs::bridge::Unlinked;
use bridgefs::ledger::{AttrChange, NewNode, NewXattr, Node, RenameMode};
use bridgefs::object::{Attrs, Ino, Kind, Position, XattrMode};

use super::{Check, Did, Run};
use crate::step::Path;
use crate::tree::{Entry, Verdict};

impl Run {
    pub(crate) async fn make(&mut self, path: Path, kind: Kind) -> Check {
        let Did::Yes(Some(parent)) = self.parent(path).await? else { return Ok(()) };
        let (full, bridge) = (path.full(), self.world.bridge());
        let target = (kind == Kind::Symlink).then(|| format!("to-{}", self.world.now()).into_bytes());
        let node = self.new_node(kind, target.clone());
        let made = bridge.create(parent, path.name, node).await;
        let Did::Yes(made) = self.judge(&format!("making {kind:?} `{full}`"), made)? else { return Ok(()) };
        let entry = target.map_or(Entry::Dir, Entry::Symlink);
        same(&format!("making {kind:?} `{full}`"), made.map(|_| ()), self.tree.insert(&full, entry))
    }

    pub(crate) fn new_node(&self, kind: Kind, target: Option<Vec<u8>>) -> NewNode {
        let now = self.world.now();
        let attrs = Attrs { mode: 0o644, uid: 1000, gid: 1000, mtime: now };
        NewNode { kind, attrs, now, target: target.map(Into::into) }
    }

    pub(crate) async fn list(&mut self, dir: &str) -> Check {
        let ino = if dir.is_empty() {
            Ino::ROOT
        } else {
            match self.find(dir).await? {
                Did::Yes(Some(node)) if node.kind == Kind::Directory => node.ino,
                Did::Yes(_) | Did::NotNow => return Ok(()),
            }
        };
        self.check_list(dir, ino).await.map(|_| ())
    }

    /// P3, P11: exactly the names of the model, or an error.
    pub(crate) async fn check_list(&mut self, dir: &str, ino: Ino) -> Check<Vec<Node>> {
        let bridge = self.world.bridge();
        let (mut after, mut nodes) = (Position::START, Vec::new());
        loop {
            let page = bridge.list(ino, after, 3).await;
            let Did::Yes(page) = self.judge(&format!("listing of `/{dir}`"), page)? else {
                return Ok(Vec::new());
            };
            let page = page.map_err(|kind| format!("listing of `/{dir}`: {kind:?}"))?;
            let Some(last) = page.last() else { break };
            after = last.position;
            nodes.extend(page);
        }
        let mut found: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
        found.sort_unstable();
        let known = self.tree.children(dir);
        if found != known {
            return Err(format!("P11/P3: `/{dir}` has {known:?}, the listing shows {found:?}"));
        }
        Ok(nodes)
    }

    /// Everything that can be seen, against the model.
    pub(crate) async fn check_all(&mut self) -> Check {
        let mut todo = vec![(String::new(), Ino::ROOT)];
        let mut inos = BTreeMap::new();
        while let Some((dir, ino)) = todo.pop() {
            for node in self.check_list(&dir, ino).await? {
                let full =
                    if dir.is_empty() { node.name.to_string() } else { format!("{dir}/{}", node.name) };
                let entry = self.tree.get(&full).expect("the names are the same");
                self.check_node(&full, entry, &node)?;
                if let Entry::File(name) = entry
                    && *inos.entry(name.file).or_insert(node.ino) != node.ino
                {
                    let names = self.tree.names(&full);
                    return Err(format!("P2: {names:?} are one file, but `{full}` is node {}", node.ino));
                }
                if node.kind == Kind::Directory {
                    todo.push((full, node.ino));
                } else if node.kind == Kind::File {
                    self.check_file(&full, node.ino).await?;
                }
            }
        }
        Ok(())
    }

    /// What a node says of itself, under this name as under every other.
    pub(crate) fn check_node(&self, path: &str, entry: &Entry, node: &Node) -> Check {
        let same = match entry {
            Entry::Dir => node.kind == Kind::Directory,
            Entry::File(_) => node.kind == Kind::File,
            Entry::Symlink(target) => node.kind == Kind::Symlink && node.target.as_deref() == Some(target),
        };
        if !same {
            return Err(format!("P2: `{path}` is {entry:?}, the bridge says {node:?}"));
        }
        let names = self.tree.names(path);
        if node.links as usize != names.len() {
            return Err(format!("P2: `{path}` has the names {names:?}, the bridge says {}", node.links));
        }
        Ok(())
    }

    pub(crate) async fn link(&mut self, from: Path, to: Path) -> Check {
        let Did::Yes(Some(parent)) = self.parent(to).await? else { return Ok(()) };
        let (from_full, to_full) = (from.full(), to.full());
        let Did::Yes(Some(node)) = self.find(&from_full).await? else { return Ok(()) };
        let what = format!("link of `{from_full}` to `{to_full}`");
        let bridge = self.world.bridge();
        let done = match bridge.prepare_link(node.ino, parent, to.name).await {
            Ok(to) => bridge.link(node.ino, to).await,
            Err(error) => Err(error),
        };
        let Did::Yes(done) = self.judge(&what, done)? else { return Ok(()) };
        let modelled = self.tree.link(&from_full, &to_full);
        same(&what, done.as_ref().map(|_| ()).map_err(|kind| *kind), modelled)?;
        let Ok(further) = done else { return Ok(()) };
        if further.ino != node.ino {
            return Err(format!("{what}: node {} became {}", node.ino, further.ino));
        }
        let entry = self.tree.get(&to_full).expect("it was just made");
        self.check_node(&to_full, entry, &further)
    }

    pub(crate) async fn unlink(&mut self, path: Path, open: bool) -> Check {
        let Did::Yes(Some(parent)) = self.parent(path).await? else { return Ok(()) };
        let full = path.full();
        let found = match self.find(&full).await? {
            Did::NotNow => return Ok(()),
            Did::Yes(found) => found,
        };
        let ino = found.as_ref().map(|node| node.ino);
        let open = open || ino.is_some_and(|ino| self.is_open(ino));
        if open && let Some(node) = found.filter(|node| node.kind == Kind::File) {
            self.pin_node(&full, node.ino).await?;
        }
        let done = self.world.bridge().unlink(parent, path.name, open).await;
        let Did::Yes(done) = self.judge(&format!("unlink of `{full}`"), done)? else { return Ok(()) };
        let left = self.tree.names(&full).len().saturating_sub(1);
        let modelled = self.tree.unlink(&full);
        same(&format!("unlink of `{full}`"), done.as_ref().map(|_| ()).map_err(|k| *k), modelled)?;
        match done {
            Ok(unlinked) => self.lost_name(&full, unlinked, left),
            Err(_) => Ok(()),
        }
    }

    /// A node has lost a name, and is gone if that was the last one.
    fn lost_name(&mut self, full: &str, gone: Unlinked, left: usize) -> Check {
        if gone.removed.links_left as usize != left {
            let said = gone.removed.links_left;
            return Err(format!("P3: `{full}` leaves {left} other names, the bridge says {said}"));
        }
        if left == 0 {
            self.left(gone.removed.node.ino, gone.hold);
        }
        Ok(())
    }

    pub(crate) async fn rename(&mut self, from: Path, to: Path, mode: RenameMode, open: bool) -> Check {
        let Did::Yes(Some(old_parent)) = self.parent(from).await? else { return Ok(()) };
        let Did::Yes(Some(new_parent)) = self.parent(to).await? else { return Ok(()) };
        let (from_full, to_full) = (from.full(), to.full());
        let Did::Yes(_) = self.find(&from_full).await? else { return Ok(()) };
        let Did::Yes(target) = self.find(&to_full).await? else { return Ok(()) };
        let target = target.filter(|node| node.kind == Kind::File).map(|node| node.ino);
        let open = target.is_some_and(|ino| open || self.is_open(ino));
        if open
            && mode == RenameMode::Replace
            && from_full != to_full
            && let Some(ino) = target
        {
            self.pin_node(&to_full, ino).await?;
        }
        let bridge = self.world.bridge();
        let done = bridge.rename((old_parent, from.name), (new_parent, to.name), mode, open).await;
        let what = format!("rename of `{from_full}` to `{to_full}` ({mode:?})");
        let Did::Yes(done) = self.judge(&what, done)? else { return Ok(()) };
        let left = self.tree.names(&to_full).len().saturating_sub(1);
        let before = self.tree.clone();
        let modelled = self.tree.rename(&from_full, &to_full, mode);
        if modelled.is_err() {
            self.tree = before;
        }
        // Where several rules forbid a rename, which one is named is nobody's concern.
        let said = done.as_ref().map(|_| ()).map_err(|kind| *kind);
        if said.is_ok() || modelled.is_ok() {
            same(&what, said, modelled)?;
        }
        match done.map(|done| done.replaced) {
            Ok(Some(unlinked)) => self.lost_name(&to_full, unlinked, left),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    pub(crate) async fn rmdir(&mut self, path: Path) -> Check {
        let Did::Yes(Some(parent)) = self.parent(path).await? else { return Ok(()) };
        let full = path.full();
        let done = self.world.bridge().rmdir(parent, path.name).await;
        let Did::Yes(done) = self.judge(&format!("rmdir of `{full}`"), done)? else { return Ok(()) };
        same(&format!("rmdir of `{full}`"), done.map(|_| ()), self.tree.rmdir(&full))
    }

    pub(crate) async fn chmod(&mut self, path: Path, mode: u32) -> Check {
        let full = path.full();
        let Did::Yes(Some(node)) = self.find(&full).await? else { return Ok(()) };
        let change = AttrChange { mode: Some(mode), ctime: self.world.now(), ..AttrChange::default() };
        let done = self.world.bridge().set_attrs(node.ino, change).await;
        let Did::Yes(done) = self.judge(&format!("chmod of `{full}`"), done)? else { return Ok(()) };
        let changed = done.map_err(|kind| format!("chmod of `{full}`: {kind:?}"))?;
        if changed.attrs.mode != mode {
            return Err(format!("chmod of `{full}` to {mode:o} answers {:o}", changed.attrs.mode));
        }
        if let Some(file) = self.tree.file(&full) {
            file.mode = Some(mode);
        }
        // One name comes and goes, so that removals have to reach the stores too.
        let (name, odd): (&[u8], _) = (b"user.mode", mode % 2 == 1);
        let value = format!("{mode:o}").into_bytes().into();
        let new = NewXattr { name: name.into(), value, mode: XattrMode::Set };
        let done = match odd && self.world.bridge().xattr(node.ino, name).await.is_ok() {
            true => self.world.bridge().remove_xattr(node.ino, name).await,
            false => self.world.bridge().set_xattr(node.ino, new).await,
        };
        let Did::Yes(done) = self.judge(&format!("setxattr of `{full}`"), done)? else { return Ok(()) };
        done.map_err(|kind| format!("setxattr of `{full}`: {kind:?}"))
    }
}

/// The bridge and the model say the same.
fn same(what: &str, bridge: Verdict, model: Verdict) -> Check {
    if bridge == model {
        Ok(())
    } else {
        Err(format!("{what}: the bridge says {bridge:?}, a local disk says {model:?}"))
    }
}
