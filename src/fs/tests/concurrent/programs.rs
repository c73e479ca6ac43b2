//! What runs at the same time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::super::rig::ALICE;
use super::name::{Asked, Name, Thing};
use crate::bridge::{Bridge, BridgeErrorKind};
use crate::clock::sleep;
use crate::fs::{Access, FileInfo, Fs, FsError, Place, SetAttrs, Truncate};
use crate::ledger::RenameMode;
use crate::object::Ino;
use crate::stage::Stage;

const CHANGES: usize = 60;
const MOVES: usize = 6;

/// Directories with the names in them, and which of those each writer changes.
pub(super) struct World {
    pub(super) top: Ino,
    pub(super) directories: Vec<(Ino, Vec<Arc<Name>>)>,
    pub(super) own: Vec<Vec<Arc<Name>>>,
    /// What was done, for whoever has to find out why it went wrong.
    pub(super) log: Mutex<Vec<String>>,
}

impl World {
    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.log.lock().push(what.to_string());
    }
}

/// A program that asks until all changes are made.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) fs: Arc<Fs>,
    pub(super) world: Arc<World>,
    pub(super) over: Arc<AtomicBool>,
}

impl Asking {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    /// Looks names up, and reads what it finds.
    pub(super) async fn look_up(self, mut random: SmallRng) {
        while self.goes_on() {
            let (_, names) = &self.world.directories[random.random_range(0..self.world.directories.len())];
            let name = &names[random.random_range(0..names.len())];
            let asked = name.ask();
            let found = self.fs.lookup(name.parent, &name.name).await.expect("asked");
            let state = name
                .answer(asked, found.map(|info| info.ino))
                .unwrap_or_else(|wrong| panic!("lookup: {wrong}"));
            if let Some((thing, info)) = state.zip(found) {
                self.read(name, asked, &thing, info).await;
            }
        }
    }

    async fn read(&self, name: &Name, asked: Asked, thing: &Thing, info: FileInfo) {
        let whole = thing.is_whole();
        let opened = match self.fs.open(info.ino, Access::Read, Truncate::Keep).await {
            Ok(opened) => opened,
            Err(error) if is_gone(&error) => {
                assert!(!name.is_unchanged(asked), "`{}` was there all the while", name.name);
                return;
            }
            Err(error) => panic!("`{}` is opened: {error}", name.name),
        };
        let read = self.fs.read(opened.handle, 0, 1 << 20).await.expect("read");
        assert!(thing.allows(&read, whole), "`{}` has {:?}", name.name, String::from_utf8_lossy(&read));
        self.fs.release(opened.handle).await.expect("closed");
    }

    /// Lists one directory, again and again.
    pub(super) async fn list(self, directory: usize, mut random: SmallRng) {
        let (ino, names) = &self.world.directories[directory];
        while self.goes_on() {
            let asked: Vec<Asked> = names.iter().map(|name| name.ask()).collect();
            let listed = self.listed(*ino, random.random_range(1..names.len())).await;
            for (name, asked) in names.iter().zip(asked) {
                let seen = listed.get(&*name.name).map_or(&[][..], Vec::as_slice);
                if let Some(stood) = name.since(asked) {
                    assert_eq!(seen.len(), usize::from(stood), "times that `{}` is listed", name.name);
                }
                for ino in seen {
                    name.answer(asked, Some(*ino)).unwrap_or_else(|wrong| panic!("readdir: {wrong}"));
                }
            }
        }
    }

    async fn listed(&self, directory: Ino, page: usize) -> HashMap<String, Vec<Ino>> {
        let handle = self.fs.opendir(directory).await.expect("opened");
        let (mut listed, mut position) = (HashMap::<String, Vec<Ino>>::new(), 0);
        loop {
            let entries = self.fs.readdir(handle, position, page).await.expect("listed");
            let Some(last) = entries.last() else { break };
            position = last.next;
            for entry in entries {
                listed.entry(entry.name.into()).or_default().push(entry.info.ino);
            }
        }
        self.fs.releasedir(handle).await.expect("closed");
        listed
    }
}

/// Removed, or replaced and forgotten, since it was found.
fn is_gone(error: &FsError) -> bool {
    matches!(error.bridge_kind(), Some(BridgeErrorKind::NotFound | BridgeErrorKind::Stale))
}

/// One program's changes of its own names.
pub(super) async fn change(fs: Arc<Fs>, world: Arc<World>, writer: usize, mut random: SmallRng) {
    let own = &world.own[writer];
    for number in 0..CHANGES {
        let one = &own[random.random_range(0..own.len())];
        let other = &own[random.random_range(0..own.len())];
        let Some(thing) = one.state() else {
            world.note(format_args!("create {one}"));
            create(&fs, one, format!("content {number} of writer {writer}")).await;
            world.note(format_args!("created {one}"));
            continue;
        };
        // Learned by asking, like everything else.
        let found = fs.lookup(one.parent, &one.name).await.expect("asked").expect("its own name");
        assert!(thing.is(found.ino), "`{}` is another node than it was", one.name);
        let dice = random.random_range(0..8);
        world.note(format_args!("{dice} {one} ({}), {other} ({})", thing.ino(), other.state().is_some()));
        match (dice, other.state()) {
            (0, _) => unlink(&fs, one).await,
            (1, _) => chmod(&fs, &thing, random.random_range(0o600..0o700)).await,
            (2..4, None) => link(&fs, one, other).await,
            // Not between slices in different stages.
            (2..4, Some(_)) if !Arc::ptr_eq(one, other) && one.parent == other.parent => {
                rename(&fs, one, other, RenameMode::Exchange).await;
            }
            _ => rename(&fs, one, other, RenameMode::Replace).await,
        }
    }
}

async fn create(fs: &Arc<Fs>, name: &Name, content: String) {
    let thing = Thing::new(content.into_bytes(), false);
    name.begin(Some(Arc::clone(&thing)));
    let made = fs.create(name.parent, &name.name, 0o644, ALICE).await.expect("made");
    name.end();
    assert!(thing.is(made.info.ino), "somebody saw another node under `{}`", name.name);
    let (begin, rest) = thing.content.split_at(7);
    fs.write(made.handle, Place::At(0), begin).await.expect("written");
    fs.write(made.handle, Place::End, rest).await.expect("written");
    fs.flush(made.handle).await.expect("flushed");
    fs.release(made.handle).await.expect("released");
    thing.whole.store(true, Ordering::SeqCst);
}

async fn unlink(fs: &Arc<Fs>, name: &Name) {
    name.begin(None);
    fs.unlink(name.parent, &name.name).await.expect("removed");
    name.end();
}

async fn chmod(fs: &Arc<Fs>, thing: &Thing, mode: u32) {
    let change = SetAttrs { mode: Some(mode), ..SetAttrs::default() };
    let info = fs.setattr(thing.ino(), None, change).await.expect("changed");
    assert_eq!(info.mode, mode);
}

async fn link(fs: &Arc<Fs>, from: &Name, to: &Name) {
    let thing = from.state().expect("there");
    to.begin(Some(Arc::clone(&thing)));
    fs.link(thing.ino(), to.parent, &to.name).await.expect("linked");
    to.end();
}

async fn rename(fs: &Arc<Fs>, from: &Name, to: &Name, mode: RenameMode) {
    let (moved, replaced) = (from.state().expect("there"), to.state());
    // Two names of one node stay as they are.
    if replaced.as_ref().is_none_or(|replaced| !Arc::ptr_eq(replaced, &moved)) {
        from.begin(if mode == RenameMode::Exchange { replaced } else { None });
        to.begin(Some(moved));
    }
    fs.rename((from.parent, &from.name), (to.parent, &to.name), mode).await.expect("renamed");
    from.end();
    to.end();
}

/// Changes the stage of one directory again and again, and leaves it where both stores are written.
pub(super) async fn flip(bridge: Arc<Bridge>, slice: String, over: Arc<AtomicBool>) {
    use Stage::{Complete, DualWrite, Live, Off, RampDown, Shadow};
    for stage in [Live, Complete, RampDown, Off, Shadow].into_iter().cycle() {
        bridge.set_stage(&slice, stage, 50, "test", "test").await.expect("flipped");
        if over.load(Ordering::SeqCst) {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    bridge.set_stage(&slice, DualWrite, 100, "test", "test").await.expect("flipped");
}

/// Moves a directory away and back, with all that others are doing in it.
pub(super) async fn move_a_directory(fs: Arc<Fs>, world: Arc<World>) {
    for (from, to) in [("0", "moved"), ("moved", "0")].into_iter().cycle().take(MOVES) {
        world.note(format_args!("move {from} to {to}"));
        fs.rename((world.top, from), (world.top, to), RenameMode::Replace).await.expect("moved");
        let found = fs.lookup(world.top, to).await.expect("asked").expect("there");
        assert_eq!(found.ino, world.directories[0].0);
        assert_eq!(fs.lookup(world.top, from).await.expect("asked"), None);
    }
}
