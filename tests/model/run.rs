//! Runs a case: each step on the bridge and on the model, and compares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bridgefs::bridge::{Bridge, BridgeError, BridgeErrorKind, Content, Hold};
use bridgefs::cache::Lease;
use bridgefs::clock::{Instant, sleep, timeout};
use bridgefs::ledger::{AttrChange, NewNode, Node, RenameMode};
use bridgefs::object::{Attrs, Ino, Key, Kind, PerSide, Side, Version};
use bridgefs::stage::Stage;
use bridgefs::store::ObjectMeta;

use crate::step::{End, How, Op, Path, Setup, Step, Trouble};
use crate::tree::{Blob, Entry, File, Tree, Verdict};
use crate::world::{Choice, World};

/// A broken promise, or `Ok`.
pub type Check<T = ()> = Result<T, String>;

/// No operation may take longer, whatever the stores do (P10).
const HUNG: Duration = Duration::from_secs(400);

/// After so long without faults a store is used again.
const CONVALESCENCE: Duration = Duration::from_secs(25);

/// A file that is open though its name may be gone.
struct Pinned {
    content: Content,
    expected: Blob,
    hold: Option<Hold>,
    /// Its name was removed without a hold, or overwritten: its bytes may be gone.
    doomed: bool,
}

/// A case that runs.
pub struct Run {
    setup: Setup,
    pub(crate) world: World,
    pub(crate) tree: Tree,
    dirty: BTreeMap<Ino, Lease>,
    pins: Vec<Pinned>,
    pub(crate) stage: Stage,
    sick: PerSide<Option<Trouble>>,
    /// Since when a store is without faults.
    well_since: PerSide<Instant>,
    tags: u64,
}

/// What an operation on the bridge led to.
enum Did<T> {
    Yes(T),
    /// A store could not be asked, and that was to be expected: nothing happened.
    NotNow,
}

impl Run {
    /// A fresh world with its history, started.
    pub async fn new(setup: Setup) -> Check<Run> {
        let choice = Choice { ack: setup.ack, unproven: setup.unproven };
        let world = World::new(setup.seed, choice);
        let now = Instant::now();
        let mut run = Run {
            setup,
            world,
            tree: Tree::default(),
            dirty: BTreeMap::new(),
            pins: Vec::new(),
            stage: Stage::Off,
            sick: PerSide::default(),
            well_since: PerSide { old: now, new: now },
            tags: 0,
        };
        if setup.history {
            run.make_history();
        }
        run.world.start().await?;
        run.set_stage(setup.stage, 100).await?;
        sleep(Duration::from_secs(1)).await;
        Ok(run)
    }

    fn make_history(&mut self) {
        for (path, described) in [("f", false), ("h/a", true), ("h/b", false), ("a/c/d", false)] {
            let blob = self.blob(if described { 700 } else { 3001 });
            let mut meta = ObjectMeta::default();
            let mut mode = None;
            if described {
                let attrs = Attrs { mode: 0o640, uid: 7, gid: 8, mtime: 1_600_000_000_000_000_000 };
                meta.user = attrs.to_metadata(Kind::File);
                mode = Some(0o640);
            }
            let key = Key::new(path).expect("a key");
            self.world.stores.old.raw.bypass_put(&key, blob.0.clone(), meta);
            let file = File { acked: Some(blob), newer: Vec::new(), written: false, mode, mtime: None };
            for (at, _) in path.match_indices('/') {
                self.tree.entries.insert(path[..at].to_owned(), Entry::Dir);
            }
            self.tree.entries.insert(path.to_owned(), Entry::File(file));
        }
    }

    fn blob(&mut self, len: usize) -> Blob {
        self.tags += 1;
        Blob::unique(self.tags, len)
    }

    /// Whether a failure to reach a store is to be expected now.
    fn is_troubled(&self, side: Side) -> bool {
        self.sick[side].is_some() || self.well_since[side].elapsed() < CONVALESCENCE
    }

    fn any_trouble(&self) -> bool {
        Side::BOTH.into_iter().any(|side| self.is_troubled(side))
    }

    /// Whether a name may be unknown: only old knows history, and only it can be asked.
    fn names_may_be_unknown(&self) -> bool {
        self.setup.history && self.is_troubled(Side::Old)
    }

    fn corrupting(&self) -> bool {
        Side::BOTH
            .into_iter()
            .any(|side| matches!(self.sick[side], Some(Trouble::Flipped | Trouble::Truncated)))
    }

    /// One step. An error is a broken promise.
    pub async fn step(&mut self, step: &Step) -> Check {
        match step {
            Step::Do(op) => self.op_timed(op).await?,
            Step::CrashDuring(op, ms) => self.crash_during(op, *ms).await?,
            Step::FlipDuring(op, stage, ms) => self.flip_during(op, *stage, *ms).await?,
            Step::Run(ms) => sleep(Duration::from_millis(*ms)).await,
            Step::Trouble(side, trouble) => {
                // Nobody can see a flipped bit in an object that came without any checksum.
                let unseen = self.setup.history && *trouble == Trouble::Flipped;
                let trouble = if unseen { &Trouble::Truncated } else { trouble };
                self.world.heal(*side);
                self.world.trouble(*side, *trouble);
                self.sick[*side] = Some(*trouble);
            }
            Step::Heal(side) => self.heal(*side),
            Step::ReleaseLate => self.world.release_late().await,
            Step::Crash => self.crash().await?,
            Step::Restart => self.restart().await?,
            Step::Stage(stage, percent) => self.set_stage(*stage, *percent).await?,
            Step::ClockJump(seconds) => self.world.jump(*seconds),
            Step::CheckAll => self.check_all().await?,
        }
        self.check_order()
    }

    /// P4: no store was given an older version after a newer one.
    fn check_order(&self) -> Check {
        for (side, store) in self.world.stores.iter() {
            if let Some(wrong) = store.wrong().first() {
                return Err(format!("P4: on {side}, {wrong}"));
            }
        }
        Ok(())
    }

    pub(crate) fn heal(&mut self, side: Side) {
        self.world.heal(side);
        if self.sick[side].take().is_some() {
            self.well_since[side] = Instant::now();
        }
    }

    pub(crate) async fn set_stage(&mut self, stage: Stage, percent: u8) -> Check {
        let bridge = self.world.bridge();
        let set = timeout(HUNG, bridge.set_stage("", stage, percent, "the model", "a test")).await;
        let set = set.map_err(|_| "P8: a change of stage hangs".to_owned())?;
        set.map_err(|e| format!("P8: set_stage {stage}: {e}"))?;
        self.stage = stage;
        Ok(())
    }

    async fn op_timed(&mut self, op: &Op) -> Check {
        // Boxed: the future of an operation with all its branches is large.
        let done = timeout(HUNG, Box::pin(self.op(op))).await;
        done.map_err(|_| format!("P10: {op:?} has not ended after {HUNG:?}"))?
    }

    async fn flip_during(&mut self, op: &Op, stage: Stage, ms: u64) -> Check {
        let bridge = self.world.bridge();
        let flip = async {
            sleep(Duration::from_millis(ms)).await;
            bridge.set_stage("", stage, 100, "the model", "a test").await
        };
        let (done, flipped) = tokio::join!(self.op_timed(op), flip);
        done.map_err(|e| format!("P8 (the stage changed to {stage} meanwhile): {e}"))?;
        flipped.map_err(|e| format!("P8: set_stage {stage}: {e}"))?;
        self.stage = stage;
        Ok(())
    }

    async fn crash_during(&mut self, op: &Op, ms: u64) -> Check {
        let before = self.tree.clone();
        let mut after = self.tree.clone();
        std::mem::swap(&mut self.tree, &mut after);
        let done = timeout(Duration::from_millis(ms), Box::pin(self.op(op))).await;
        match done {
            Ok(done) => {
                done?;
                return self.crash().await;
            }
            Err(_elapsed) => {}
        }
        let reached = std::mem::replace(&mut self.tree, before);
        // What the operation would have led to, had it been allowed to end.
        let mut ended = reached.clone();
        apply(&mut ended, op);
        Side::BOTH.into_iter().for_each(|side| self.heal(side));
        self.crash().await?;
        sleep(CONVALESCENCE).await;
        let candidates = [reached, ended];
        let mut wrong = String::new();
        let before = std::mem::take(&mut self.tree);
        for candidate in candidates.into_iter().chain([before]) {
            self.tree = candidate;
            match self.check_all().await {
                Ok(()) => return Ok(()),
                Err(why) => wrong = format!("{wrong}\n    {why}"),
            }
        }
        Err(format!("P1: after a crash during {op:?} neither the state before nor after is there:{wrong}"))
    }

    async fn crash(&mut self) -> Check {
        self.forget_handles();
        self.world.kill().await?;
        self.world.release_late().await;
        self.world.start().await
    }

    async fn restart(&mut self) -> Check {
        self.commit_dirty().await?;
        self.drop_pins();
        self.world.stop().await?;
        self.world.release_late().await;
        self.world.start().await
    }

    fn drop_pins(&mut self) {
        for pin in std::mem::take(&mut self.pins) {
            let ino = pin.content.ino();
            drop(pin);
            if !self.is_open(ino) {
                self.world.bridge().released(ino);
            }
        }
    }

    fn forget_handles(&mut self) {
        self.dirty.clear();
        self.pins.clear();
    }

    /// What an error of a namespace operation or a commit means.
    fn judge<T>(&self, what: &str, answer: Result<T, BridgeError>) -> Check<Did<Result<T, BridgeErrorKind>>> {
        match answer {
            Ok(value) => Ok(Did::Yes(Ok(value))),
            Err(e) if e.kind() == BridgeErrorKind::Unavailable => {
                if self.names_may_be_unknown() {
                    Ok(Did::NotNow)
                } else {
                    Err(format!("P9: {what} failed though nothing of it needs a sick store: {e}"))
                }
            }
            Err(e)
                if matches!(
                    e.kind(),
                    BridgeErrorKind::Damaged | BridgeErrorKind::NoSpace | BridgeErrorKind::Stale
                ) =>
            {
                Err(format!("{what} failed: {:?}: {e}", e.kind()))
            }
            Err(e) => Ok(Did::Yes(Err(e.kind()))),
        }
    }

    /// Finds a node by its path, comparing each step with the model.
    async fn find(&self, path: &str) -> Check<Did<Option<Node>>> {
        let bridge = self.world.bridge();
        let mut ino = Ino::ROOT;
        let mut at = String::new();
        let mut node = None;
        for name in path.split('/') {
            if !at.is_empty() {
                at.push('/');
            }
            at.push_str(name);
            let known = self.tree.get(&at);
            let found = match self.judge(&format!("lookup of `{at}`"), bridge.lookup(ino, name).await)? {
                Did::NotNow => return Ok(Did::NotNow),
                Did::Yes(Ok(found)) => found,
                Did::Yes(Err(kind)) => return Err(format!("lookup of `{at}`: {kind:?}")),
            };
            let found = match (known, found) {
                (None, None) => return Ok(Did::Yes(None)),
                (None, Some(found)) => {
                    return Err(format!("P3: `{at}` is not there, but a lookup finds {found:?}"));
                }
                (Some(entry), None) => {
                    return Err(format!("P1: `{at}` is {entry:?}, but a lookup finds nothing"));
                }
                (Some(entry), Some(found)) => {
                    check_kind(&at, entry, &found)?;
                    found
                }
            };
            ino = found.ino;
            let is_dir = found.kind == Kind::Directory;
            node = Some(found);
            if !is_dir && at != path {
                return Ok(Did::Yes(None));
            }
        }
        Ok(Did::Yes(node))
    }

    /// The directory of a path, if it is one in the model and the bridge.
    async fn parent(&self, path: Path) -> Check<Did<Option<Ino>>> {
        if path.dir.is_empty() {
            return Ok(Did::Yes(Some(Ino::ROOT)));
        }
        match self.find(path.dir).await? {
            Did::NotNow => Ok(Did::NotNow),
            Did::Yes(Some(node)) if node.kind == Kind::Directory => Ok(Did::Yes(Some(node.ino))),
            Did::Yes(_) => Ok(Did::Yes(None)),
        }
    }

    async fn op(&mut self, op: &Op) -> Check {
        match op {
            Op::Write { path, how, len, end } => self.write(*path, *how, *len, *end).await,
            Op::CommitDirty => self.commit_dirty().await,
            Op::Read(path) | Op::ReadPart(path) => self.read(*path, matches!(op, Op::ReadPart(_))).await,
            Op::Lookup(path) => self.find(&path.full()).await.map(|_| ()),
            Op::List(dir) => self.list(dir).await,
            Op::Unlink { path, open } => self.unlink(*path, *open).await,
            Op::Rename { from, to, mode, open } => self.rename(*from, *to, *mode, *open).await,
            Op::Mkdir(path) => self.make(*path, Kind::Directory).await,
            Op::Rmdir(path) => self.rmdir(*path).await,
            Op::Symlink(path) => self.make(*path, Kind::Symlink).await,
            Op::Chmod(path, mode) => self.chmod(*path, *mode).await,
            Op::Sync => self.world.bridge().sync_namespace().await.map_err(|e| format!("sync: {e}")),
            Op::Pin(path) => self.pin(*path).await,
            Op::ReadPins => self.read_pins().await,
            Op::DropPins => {
                self.drop_pins();
                Ok(())
            }
        }
    }

    async fn make(&mut self, path: Path, kind: Kind) -> Check {
        let Did::Yes(Some(parent)) = self.parent(path).await? else { return Ok(()) };
        let (full, bridge) = (path.full(), self.world.bridge());
        let target = (kind == Kind::Symlink).then(|| format!("to-{}", self.world.now()).into_bytes());
        let node = self.new_node(kind, target.clone());
        let made = bridge.create(parent, path.name, node).await;
        let Did::Yes(made) = self.judge(&format!("making {kind:?} `{full}`"), made)? else { return Ok(()) };
        let entry = target.map_or(Entry::Dir, Entry::Symlink);
        same(&format!("making {kind:?} `{full}`"), made.map(|_| ()), self.tree.insert(&full, entry))
    }

    fn new_node(&self, kind: Kind, target: Option<Vec<u8>>) -> NewNode {
        let now = self.world.now();
        let attrs = Attrs { mode: 0o644, uid: 1000, gid: 1000, mtime: now };
        NewNode { kind, attrs, now, target: target.map(Into::into) }
    }

    async fn write(&mut self, path: Path, how: How, len: usize, end: End) -> Check {
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
            End::Dirty => Ok(()),
            End::Commit | End::Ack => self.commit(&full, lease, end).await,
        }
    }

    async fn create_file(&mut self, parent: Ino, path: Path) -> Check<Option<Lease>> {
        let (full, bridge) = (path.full(), self.world.bridge());
        let made = bridge.create(parent, path.name, self.new_node(Kind::File, None)).await;
        let Did::Yes(made) = self.judge(&format!("creating `{full}`"), made)? else { return Ok(None) };
        let node = made.map_err(|kind| format!("creating `{full}`: {kind:?}"))?;
        let file = File { acked: None, newer: Vec::new(), written: true, mode: Some(0o644), mtime: None };
        self.tree.insert(&full, Entry::File(file)).expect("a lookup found nothing there");
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
        bridge.reserve(len as u64).await.map_err(|e| format!("reserve: {e}"))?;
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
        let version = bridge.commit(&lease, mtime).await.map_err(|e| format!("commit of `{full}`: {e}"))?;
        if let Some(file) = self.tree.file(full) {
            file.acked = Some(file.latest());
            file.newer.clear();
            file.written = true;
            file.mtime = Some(mtime);
        }
        self.dirty.remove(&ino);
        drop(lease);
        if end == End::Ack {
            self.wait_for_ack(full, ino, version).await?;
        }
        bridge.released(ino);
        Ok(())
    }

    async fn wait_for_ack(&self, full: &str, ino: Ino, version: Version) -> Check {
        let bridge = self.world.bridge();
        let start = Instant::now();
        // With one store healthy and written, the ack comes; else it may not.
        let healthy_target = self.stage.route().write_sides().any(|side| !self.is_troubled(side));
        match bridge.acknowledged(ino, version).await {
            Ok(()) => {}
            Err(e)
                if e.kind() == BridgeErrorKind::Unavailable
                    && !(healthy_target && self.is_plain_outage()) => {}
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

    async fn commit_dirty(&mut self) -> Check {
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
    async fn must_be_readable(&self, full: &str) -> bool {
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

    fn may_fail(&self, what: &str, error: &BridgeError, must_work: bool) -> Check {
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

    async fn read(&mut self, path: Path, part: bool) -> Check {
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
    async fn check_file(&mut self, full: &str, ino: Ino) -> Check {
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

    async fn list(&mut self, dir: &str) -> Check {
        let ino = if dir.is_empty() {
            Ino::ROOT
        } else {
            match self.find(dir).await? {
                Did::Yes(Some(node)) if node.kind == Kind::Directory => node.ino,
                _ => return Ok(()),
            }
        };
        self.check_list(dir, ino).await.map(|_| ())
    }

    /// P3, P11: exactly the names of the model, or an error.
    async fn check_list(&mut self, dir: &str, ino: Ino) -> Check<Vec<Node>> {
        let bridge = self.world.bridge();
        let (mut after, mut nodes) = (Ino(0), Vec::new());
        loop {
            let page = bridge.list(ino, after, 3).await;
            let Did::Yes(page) = self.judge(&format!("listing of `/{dir}`"), page)? else {
                return Ok(Vec::new());
            };
            let page = page.map_err(|kind| format!("listing of `/{dir}`: {kind:?}"))?;
            let Some(last) = page.last() else { break };
            after = last.ino;
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
        while let Some((dir, ino)) = todo.pop() {
            for node in self.check_list(&dir, ino).await? {
                let full =
                    if dir.is_empty() { node.name.to_string() } else { format!("{dir}/{}", node.name) };
                let entry = self.tree.get(&full).expect("the names are the same");
                check_kind(&full, entry, &node)?;
                match node.kind {
                    Kind::Directory => todo.push((full, node.ino)),
                    Kind::File => self.check_file(&full, node.ino).await?,
                    Kind::Symlink => {}
                }
            }
        }
        Ok(())
    }

    async fn unlink(&mut self, path: Path, open: bool) -> Check {
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
        let modelled = self.tree.unlink(&full);
        same(
            &format!("unlink of `{full}`"),
            done.as_ref().map(|_| ()).map_err(|k| *k),
            modelled.map(|_| ()),
        )?;
        if let (Ok(unlinked), Some(ino)) = (done, ino) {
            self.left(ino, unlinked.hold);
        }
        Ok(())
    }

    fn is_open(&self, ino: Ino) -> bool {
        self.dirty.contains_key(&ino) || self.pins.iter().any(|pin| pin.content.ino() == ino)
    }

    /// A node has left the tree.
    fn left(&mut self, ino: Ino, hold: Option<Hold>) {
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

    async fn rename(&mut self, from: Path, to: Path, mode: RenameMode, open: bool) -> Check {
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
        if let Ok(done) = done
            && let (Some(unlinked), Some(ino)) = (done.replaced, target)
        {
            self.left(ino, unlinked.hold);
        }
        Ok(())
    }

    async fn rmdir(&mut self, path: Path) -> Check {
        let Did::Yes(Some(parent)) = self.parent(path).await? else { return Ok(()) };
        let full = path.full();
        let done = self.world.bridge().rmdir(parent, path.name).await;
        let Did::Yes(done) = self.judge(&format!("rmdir of `{full}`"), done)? else { return Ok(()) };
        same(&format!("rmdir of `{full}`"), done.map(|_| ()), self.tree.rmdir(&full))
    }

    async fn chmod(&mut self, path: Path, mode: u32) -> Check {
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
        Ok(())
    }

    async fn pin(&mut self, path: Path) -> Check {
        let full = path.full();
        match self.find(&full).await? {
            Did::Yes(Some(node)) if node.kind == Kind::File => self.pin_node(&full, node.ino).await,
            _ => Ok(()),
        }
    }

    /// Opens a file for reading, if its content is on the stores: what is staged is read by a lease.
    async fn pin_node(&mut self, full: &str, ino: Ino) -> Check {
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
    async fn read_pins(&mut self) -> Check {
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

    pub(crate) fn bridge(&self) -> Arc<Bridge> {
        self.world.bridge()
    }

    /// No handle is open and nothing is dirty any more.
    pub(crate) async fn close_all(&mut self) -> Check {
        self.commit_dirty().await?;
        self.drop_pins();
        Ok(())
    }
}

fn check_kind(path: &str, entry: &Entry, node: &Node) -> Check {
    let same = match entry {
        Entry::Dir => node.kind == Kind::Directory,
        Entry::File(_) => node.kind == Kind::File,
        Entry::Symlink(target) => node.kind == Kind::Symlink && node.target.as_deref() == Some(target),
    };
    if same { Ok(()) } else { Err(format!("P2: `{path}` is {entry:?}, the bridge says {node:?}")) }
}

/// The bridge and the model say the same.
fn same(what: &str, bridge: Verdict, model: Verdict) -> Check {
    if bridge == model {
        Ok(())
    } else {
        Err(format!("{what}: the bridge says {bridge:?}, a local disk says {model:?}"))
    }
}

/// What an operation that was cut off may have led to.
fn apply(tree: &mut Tree, op: &Op) {
    let done = match op {
        Op::Unlink { path, .. } => tree.unlink(&path.full()).map(|_| ()),
        Op::Rename { from, to, mode, .. } => tree.rename(&from.full(), &to.full(), *mode),
        Op::Mkdir(path) => tree.insert(&path.full(), Entry::Dir),
        Op::Rmdir(path) => tree.rmdir(&path.full()),
        _ => Ok(()),
    };
    // What the model refuses the bridge refuses as well.
    drop(done);
}
