//! Runs a case: each step on the bridge and on the model, and compares.

mod files;
mod names;
mod pins;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bridgefs::bridge::{AckPolicy, Bridge, BridgeError, BridgeErrorKind};
use bridgefs::cache::Lease;
use bridgefs::clock::{Instant, sleep, timeout};
use bridgefs::ledger::Node;
use bridgefs::object::{Attrs, Ino, Key, Kind, PerSide, Side};
use bridgefs::stage::Stage;
use bridgefs::store::ObjectMeta;
use bytes::Bytes;

use crate::step::{Op, Path, Setup, Step, Trouble};
use crate::tree::{Blob, Entry, File, Tree};
use crate::world::{Choice, World};
use pins::Pinned;

/// A broken promise, or `Ok`.
pub type Check<T = ()> = Result<T, String>;

/// No operation may take longer, whatever the stores do (P10).
const HUNG: Duration = Duration::from_secs(400);

/// After so long without faults a store is used again.
const CONVALESCENCE: Duration = Duration::from_secs(25);

/// A case that runs.
pub struct Run {
    setup: Setup,
    pub(crate) world: World,
    pub(crate) tree: Tree,
    dirty: BTreeMap<Ino, Lease>,
    pins: Vec<Pinned>,
    pub(crate) stage: Stage,
    /// The stage that comes while an operation runs.
    next_stage: Option<Stage>,
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
            next_stage: None,
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
            let file = File { acked: Some(blob), mode, ..File::default() };
            for (at, _) in path.match_indices('/') {
                self.tree.entries.insert(path[..at].to_owned(), Entry::Dir);
            }
            self.tree.insert_file(path, file).expect("each is another path");
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
            Step::CrashLate(ms) => {
                self.forget_handles();
                self.world.kill().await?;
                self.world.start().await?;
                sleep(Duration::from_millis(*ms)).await;
                self.world.release_late().await;
            }
            Step::Restart => self.restart().await?,
            Step::Stage(stage, percent) => self.set_stage(*stage, *percent).await?,
            Step::ClockJump(seconds) => self.world.jump(*seconds),
            Step::CheckAll => self.check_all().await?,
        }
        self.check_host_loss()?;
        self.check_order()
    }

    /// P1: were the host lost now, a store would have what it acknowledged, or something newer, under some
    /// key (a rename may not have reached it): as an object of its own for each name that was there at the ack.
    pub(crate) fn check_host_loss(&self) -> Check {
        if self.setup.ack == AckPolicy::Journal {
            return Ok(());
        }
        let objects = PerSide::from_fn(|side| self.world.stores[side].objects());
        for (path, entry) in &self.tree.entries {
            let Entry::File(name) = entry else { continue };
            let file = self.tree.file_of(name);
            if file.stored.is_empty() {
                continue;
            }
            let is_it = |bytes: &Bytes| file.stored.iter().chain(&file.newer).any(|blob| blob.0 == *bytes);
            let all = objects.iter().flat_map(|(_, objects)| objects);
            let keys: BTreeSet<&Key> =
                all.filter(|(_, (bytes, _))| is_it(bytes)).map(|(key, _)| key).collect();
            let names = self.tree.names(path);
            let is_stored = |name: &&&str| match self.tree.get(name) {
                Some(Entry::File(name)) => name.stored,
                Some(Entry::Dir | Entry::Symlink(_)) | None => false,
            };
            if keys.len() < names.iter().filter(is_stored).count().max(1) {
                let lost = format!("a loss of the host now would lose `{path}`");
                return Err(format!("P1: {lost} of {names:?}: {:?}, stores have {keys:?}", file.stored));
            }
        }
        Ok(())
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
        let set = set.map_err(|late| format!("P8: a change of stage hangs: {late}"))?;
        set.map_err(|e| format!("P8: set_stage {stage}: {e}"))?;
        self.stage = stage;
        Ok(())
    }

    async fn op_timed(&mut self, op: &Op) -> Check {
        // Boxed: the future of an operation with all its branches is large.
        let done = timeout(HUNG, Box::pin(self.op(op))).await;
        done.map_err(|late| format!("P10: {op:?} has not ended after {HUNG:?}: {late}"))?
    }

    async fn flip_during(&mut self, op: &Op, stage: Stage, ms: u64) -> Check {
        let bridge = self.world.bridge();
        self.next_stage = Some(stage);
        let flip = async {
            sleep(Duration::from_millis(ms)).await;
            bridge.set_stage("", stage, 100, "the model", "a test").await
        };
        let (done, flipped) = tokio::join!(self.op_timed(op), flip);
        done.map_err(|e| format!("P8 (the stage changed to {stage} meanwhile): {e}"))?;
        flipped.map_err(|e| format!("P8: set_stage {stage}: {e}"))?;
        (self.stage, self.next_stage) = (stage, None);
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
        let status = self.world.bridge().status().map_err(|e| format!("status: {e}"))?;
        self.world.stop().await?;
        self.world.release_late().await;
        // The next reads ask a store.
        if status.staged_files == 0 {
            self.world.forget_cache();
        }
        self.world.start().await
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
                    self.check_node(&at, entry, &found)?;
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
            Op::Link { from, to } => self.link(*from, *to).await,
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

    pub(crate) fn bridge(&self) -> Arc<Bridge> {
        self.world.bridge()
    }

    /// Whether an answer of that store is waited for while all is well: a primary's always (reads prefer
    /// it), a secondary's only when both must acknowledge.
    pub(crate) fn waits_for(&self, side: Side) -> bool {
        self.setup.ack == AckPolicy::Both || self.stage.route().primary == side
    }

    /// No handle is open and nothing is dirty any more.
    pub(crate) async fn close_all(&mut self) -> Check {
        self.commit_dirty().await?;
        self.drop_pins();
        Ok(())
    }
}

/// What an operation that was cut off may have led to.
fn apply(tree: &mut Tree, op: &Op) {
    let done = match op {
        Op::Unlink { path, .. } => tree.unlink(&path.full()),
        Op::Link { from, to } => tree.link(&from.full(), &to.full()),
        Op::Rename { from, to, mode, .. } => tree.rename(&from.full(), &to.full(), *mode),
        Op::Mkdir(path) => tree.insert(&path.full(), Entry::Dir),
        Op::Rmdir(path) => tree.rmdir(&path.full()),
        Op::Write { .. }
        | Op::CommitDirty
        | Op::Read(_)
        | Op::ReadPart(_)
        | Op::Lookup(_)
        | Op::List(_)
        | Op::Symlink(_)
        | Op::Chmod(..)
        | Op::Sync
        | Op::Pin(_)
        | Op::ReadPins
        | Op::DropPins => Ok(()),
    };
    // What the model refuses the bridge refuses as well.
    let _ = done;
}
