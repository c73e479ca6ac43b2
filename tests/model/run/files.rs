//! Contents: writing, committing, waiting for the ack, reading.

use bridgefs::bridge::{AtLimit, BridgeError, BridgeErrorKind, ContentTimes};
use bridgefs::cache::Lease;
use bridgefs::clock::Instant;
use bridgefs::ledger::Node;
use bridgefs::object::{Ino, Kind, Side, Version};
use bridgefs::stage::Stage;

use super::{Check, Did, Run};
use crate::step::{End, How, Path, Trouble};
use crate::tree::{Blob, File};

impl Run {
    pub(crate) async fn write(&mut self, path: Path, how: How, len: usize, end: End) -> Check {
        let Did::Yes(Some(parent)) = self.parent(path).await? else { return Ok(()) };
        let full = path.full();
        let found = match self.find(&full).await? {
            Did::NotNow => return Ok(()),
            Did::Yes(found) => found,
        };
        let lease = match found {
            None if how == How::Truncate => return Ok(()),
            None => match self.create_file(parent, path).await? {
                Some(lease) => lease,
                None => return Ok(()),
            },
            Some(node) if node.kind != Kind::File => return Ok(()),
            Some(node) => match self.lease_of(&full, &node, how).await? {
                Some(lease) => lease,
                None => return Ok(()),
            },
        };
        let blob = self.change(&lease, how, len).await?;
        if let Some(file) = self.tree.file(&full) {
            file.newer.push(blob);
        }
        let lease = self.dirty.entry(lease.ino()).or_insert(lease).clone();
        match end {
            End::Dirty => {
                // The bridge may commit it by itself, at a time of its own.
                if let Some(file) = self.tree.file(&full) {
                    file.mtime = None;
                }
                Ok(())
            }
            End::Commit | End::Ack => self.commit(&full, lease, end).await,
        }
    }

    async fn create_file(&mut self, parent: Ino, path: Path) -> Check<Option<Lease>> {
        let (full, bridge) = (path.full(), self.world.bridge());
        let made = bridge.create(parent, path.name, self.new_node(Kind::File, None)).await;
        let Did::Yes(made) = self.judge(&format!("creating `{full}`"), made)? else { return Ok(None) };
        let node = made.map_err(|kind| format!("creating `{full}`: {kind:?}"))?;
        let file = File { written: true, mode: Some(0o644), ..File::default() };
        self.tree.insert_file(&full, file).expect("a lookup found nothing there");
        let lease = bridge.stage_empty(node.ino).map_err(|e| format!("stage_empty of `{full}`: {e}"))?;
        Ok(Some(lease))
    }

    /// The staged file of a file that is there, brought in as far as the change needs it.
    async fn lease_of(&mut self, full: &str, node: &Node, how: How) -> Check<Option<Lease>> {
        let bridge = self.world.bridge();
        let staged = bridge.staged(node.ino).map_err(|e| format!("staged file of `{full}`: {e}"))?;
        if let Some(lease) = staged {
            return Ok(Some(lease));
        }
        let healthy = self.must_be_readable(full).await;
        let opened = bridge.open(node.ino).await;
        let staged = match opened {
            Ok(content) => {
                let keep = if how == How::Whole { 0 } else { content.size() };
                bridge.stage(&content, keep).await
            }
            Err(e) => Err(e),
        };
        match staged {
            Ok(lease) => {
                if how == How::Whole
                    && let Some(file) = self.tree.file(full)
                {
                    file.newer.push(Blob(bytes::Bytes::new()));
                }
                Ok(Some(lease))
            }
            Err(e) => {
                self.may_fail(&format!("bringing `{full}` in"), &e, healthy)?;
                Ok(None)
            }
        }
    }

    async fn change(&mut self, lease: &Lease, how: How, len: usize) -> Check<Blob> {
        let data = self.blob(len);
        let bridge = self.world.bridge();
        let disk = |e: std::io::Error| format!("a write to a staged file: {e}");
        bridge.reserve(len as u64, AtLimit::Refuse).await.map_err(|e| format!("reserve: {e}"))?;
        let size = lease.len();
        match how {
            How::Whole => {
                lease.set_len(0).map_err(disk)?;
                lease.write_at(0, &data.0).map_err(disk)?;
            }
            How::InPlace => lease.write_at(size / 2, &data.0).map_err(disk)?,
            How::Append => drop(lease.append(&data.0).map_err(disk)?),
            How::Truncate => lease.set_len(size / 3).map_err(disk)?,
        }
        let whole = usize::try_from(lease.len()).expect("small");
        Ok(Blob(lease.read_at(0, whole).map_err(disk)?))
    }

    async fn commit(&mut self, full: &str, lease: Lease, end: End) -> Check {
        let (ino, bridge, mtime) = (lease.ino(), self.world.bridge(), self.world.now());
        let version = bridge
            .commit(&lease, ContentTimes { mtime, ctime: mtime })
            .await
            .map_err(|e| format!("commit of `{full}`: {e}"))?;
        if let Some(file) = self.tree.file(full) {
            file.committed(mtime);
        }
        self.dirty.remove(&ino);
        drop(lease);
        if end == End::Ack {
            self.wait_for_ack(full, ino, version).await?;
        }
        bridge.released(ino);
        Ok(())
    }

    async fn wait_for_ack(&mut self, full: &str, ino: Ino, version: Version) -> Check {
        let bridge = self.world.bridge();
        let start = Instant::now();
        // With one store healthy and written, the ack comes; else it may not.
        // An unlinked file that is open and not brought in keeps its key; the file system brings it in.
        let is_held = self.pins.iter().any(|pin| pin.hold.is_some());
        let healthy = |stage: Stage| stage.route().write_sides().any(|side| !self.is_troubled(side));
        let healthy_target = healthy(self.stage) && self.next_stage.is_none_or(healthy);
        match bridge.acknowledged(ino, version).await {
            Ok(()) => {
                self.tree.stored(full);
            }
            Err(e)
                if e.kind() == BridgeErrorKind::Unavailable
                    && (is_held || !(healthy_target && self.is_plain_outage())) => {}
            Err(e) => return Err(format!("P9: the ack of `{full}` failed after {:?}: {e}", start.elapsed())),
        }
        Ok(())
    }

    /// Whether nothing is wrong but that at most one store does not answer at all.
    fn is_plain_outage(&self) -> bool {
        let plain = |side: Side| match self.sick[side] {
            None => !self.is_troubled(side),
            Some(Trouble::Down | Trouble::Stall) => true,
            Some(_) => false,
        };
        Side::BOTH.into_iter().all(plain) && !Side::BOTH.into_iter().all(|side| self.sick[side].is_some())
    }

    pub(crate) async fn commit_dirty(&mut self) -> Check {
        while let Some((ino, lease)) = self.dirty.pop_first() {
            let bridge = self.world.bridge();
            let node = bridge.node(ino).await.map_err(|e| format!("node {ino}: {e}"))?;
            let Some(_) = node else { continue };
            let full = self.path_of(ino).await?;
            self.commit(&full, lease, End::Commit).await?;
        }
        Ok(())
    }

    async fn path_of(&self, ino: Ino) -> Check<String> {
        let bridge = self.world.bridge();
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let node = bridge.node(at).await.map_err(|e| format!("node {at}: {e}"))?;
            let node = node.ok_or_else(|| format!("node {at} is not there"))?;
            names.push(node.name.to_string());
            at = node.parent;
        }
        names.reverse();
        Ok(names.join("/"))
    }

    /// Whether a store that is well has the file, or it is here: then a read must succeed.
    pub(crate) async fn must_be_readable(&self, full: &str) -> bool {
        if !self.any_trouble() {
            return true;
        }
        if self.corrupting() {
            return false;
        }
        let Ok(status) = self.world.bridge().file_status(full).await else { return false };
        let has = |side: Side| {
            let replica = &status.replicas[usize::from(side == Side::New)];
            replica.state == "copied" && !self.is_troubled(side)
        };
        status.staged || Side::BOTH.into_iter().any(has)
    }

    pub(crate) fn may_fail(&self, what: &str, error: &BridgeError, must_work: bool) -> Check {
        let unknown = error.kind() == BridgeErrorKind::Unavailable;
        let corrupt = matches!(error.kind(), BridgeErrorKind::Damaged | BridgeErrorKind::Stale);
        let excused = !must_work && (unknown || (corrupt && self.corrupting()));
        if excused { Ok(()) } else { Err(format!("P2/P9: {what} failed: {:?}: {error}", error.kind())) }
    }

    /// The bytes of a file as the file system reads them; `None` if no store could be asked.
    async fn bytes_of(&self, full: &str, ino: Ino) -> Check<Option<Vec<u8>>> {
        let bridge = self.world.bridge();
        if let Some(lease) = bridge.staged(ino).map_err(|e| format!("staged file of `{full}`: {e}"))? {
            let len = usize::try_from(lease.len()).expect("small");
            return lease.read_at(0, len).map(|b| Some(b.to_vec())).map_err(|e| format!("`{full}`: {e}"));
        }
        let healthy = self.must_be_readable(full).await;
        let content = match bridge.open(ino).await {
            Ok(content) => content,
            Err(e) => return self.may_fail(&format!("open of `{full}`"), &e, healthy).map(|()| None),
        };
        let len = usize::try_from(content.size()).expect("small");
        match bridge.read(&content, 0, len).await {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(e) => self.may_fail(&format!("read of `{full}`"), &e, healthy).map(|()| None),
        }
    }

    pub(crate) async fn read(&mut self, path: Path, part: bool) -> Check {
        let full = path.full();
        let Did::Yes(Some(node)) = self.find(&full).await? else { return Ok(()) };
        if node.kind != Kind::File {
            return Ok(());
        }
        if part && !self.dirty.contains_key(&node.ino) {
            return self.read_part(&full, node.ino).await;
        }
        self.check_file(&full, node.ino).await
    }

    async fn read_part(&mut self, full: &str, ino: Ino) -> Check {
        let bridge = self.world.bridge();
        let Some(file) = self.tree.file(full) else { return Ok(()) };
        if !file.newer.is_empty() || bridge.staged(ino).is_ok_and(|staged| staged.is_some()) {
            return Ok(());
        }
        let expected = file.latest().0;
        let healthy = self.must_be_readable(full).await;
        let (from, len) = (expected.len() / 3, expected.len() / 2);
        let read = match bridge.open(ino).await {
            Ok(content) => bridge.read(&content, from as u64, len).await,
            Err(e) => Err(e),
        };
        match read {
            Ok(bytes) if bytes == expected.slice(from..from + len) => Ok(()),
            Ok(bytes) => Err(format!("P7: {} bytes of `{full}` from {from} are others", bytes.len())),
            Err(e) => self.may_fail(&format!("a partial read of `{full}`"), &e, healthy),
        }
    }

    /// P1, P2: the file has what was acknowledged, or what was written after.
    pub(crate) async fn check_file(&mut self, full: &str, ino: Ino) -> Check {
        let Some(found) = self.bytes_of(full, ino).await? else { return Ok(()) };
        let is_dirty = self.dirty.contains_key(&ino);
        let Some(file) = self.tree.file(full) else { return Ok(()) };
        if !file.may_be(&found) {
            let found = Blob(found.into());
            return Err(format!("P2: `{full}` reads {found:?}, but {file:?} was written"));
        }
        if !is_dirty {
            file.settle(&found);
        }
        Ok(())
    }
}
