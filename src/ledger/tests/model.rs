//! Random operations against a plain model: two maps for the stores, one for the tree. A store takes
//! uploads whose receipt may come late or never, and an outside client puts objects of its own.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::*;

/// What a case does; the numbers choose among what is there.
#[derive(Debug, Clone, Copy)]
enum Op {
    Create(usize, usize),
    MakeDir(usize, usize),
    Write(usize),
    Remove(usize),
    Rename(usize, usize, usize, usize),
    Link(usize, usize, usize),
    Upload(usize, usize),
    Receipt(usize),
    Delete(usize),
    Outside(usize, usize),
    Scan(usize, usize),
    Adopt(usize),
    Flip(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0..1000_usize;
    prop_oneof![
        3 => (n(), n()).prop_map(|(a, b)| Op::Create(a, b)),
        2 => (n(), n()).prop_map(|(a, b)| Op::MakeDir(a, b)),
        4 => n().prop_map(Op::Write),
        3 => n().prop_map(Op::Remove),
        5 => (n(), n(), n(), n()).prop_map(|(a, b, c, d)| Op::Rename(a, b, c, d)),
        3 => (n(), n(), n()).prop_map(|(a, b, c)| Op::Link(a, b, c)),
        5 => (n(), n()).prop_map(|(a, b)| Op::Upload(a, b)),
        4 => n().prop_map(Op::Receipt),
        4 => n().prop_map(Op::Delete),
        1 => (n(), n()).prop_map(|(a, b)| Op::Outside(a, b)),
        3 => (n(), n()).prop_map(|(a, b)| Op::Scan(a, b)),
        3 => n().prop_map(Op::Adopt),
        1 => (n(), n()).prop_map(|(a, b)| Op::Flip(a, b)),
    ]
}

/// An upload that has arrived and whose receipt has not.
struct Arrived {
    ino: Ino,
    link: LinkId,
    side: Side,
    receipt: NewReceipt,
}

/// A listing of one directory: as old as its scan.
struct Pages {
    scan: Scan,
    dir: Ino,
    side: Side,
    found: Vec<Found>,
    /// Objects of the outside client below the directory at that time, as key and tag.
    outside: Vec<(String, String)>,
}

struct World {
    fixture: Fixture,
    /// Path to number, kind and version.
    tree: BTreeMap<String, (Ino, Kind, u64)>,
    given: BTreeSet<Ino>,
    stores: HashMap<Side, BTreeMap<String, String>>,
    arrived: Vec<Arrived>,
    pages: Vec<Pages>,
    adopted: BTreeSet<String>,
    outside: usize,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn pick<T>(items: &[T], number: usize) -> Option<&T> {
    items.get(number.checked_rem(items.len())?)
}

impl World {
    fn new() -> World {
        World {
            fixture: Fixture::new(),
            tree: BTreeMap::new(),
            given: BTreeSet::new(),
            stores: Side::BOTH.into_iter().map(|side| (side, BTreeMap::new())).collect(),
            arrived: Vec::new(),
            pages: Vec::new(),
            adopted: BTreeSet::new(),
            outside: 0,
        }
    }

    fn paths(&self, wanted: impl Fn(Kind) -> bool) -> Vec<String> {
        let chosen = self.tree.iter().filter(|(_, (_, kind, _))| wanted(*kind));
        chosen.map(|(path, _)| path.clone()).collect()
    }

    /// A path in some directory, taken or not.
    fn some_path(&self, dir: usize, name: usize) -> String {
        let mut dirs = self.paths(|kind| kind == Kind::Directory);
        dirs.push(String::new());
        let dir = &dirs[dir % dirs.len()];
        let name = NAMES[name % NAMES.len()];
        if dir.is_empty() || dir.matches('/').count() > 2 { name.to_owned() } else { format!("{dir}/{name}") }
    }

    fn locked(&self, side: Side, path: &str) -> bool {
        self.arrived.iter().any(|one| one.side == side && one.receipt.receipt.key.as_str() == path)
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Create(dir, name) => self.create(&self.some_path(dir, name), Kind::File),
            Op::MakeDir(dir, name) => self.create(&self.some_path(dir, name), Kind::Directory),
            Op::Write(file) => self.write(file),
            Op::Remove(node) => self.remove(node),
            Op::Rename(node, dir, name, how) => self.rename(node, &self.some_path(dir, name), how),
            Op::Link(file, dir, name) => self.link(file, &self.some_path(dir, name)),
            Op::Upload(file, side) => self.upload(file, Side::BOTH[side % 2]),
            Op::Receipt(number) => self.receipt(number),
            Op::Delete(number) => self.delete(number),
            Op::Outside(dir, side) => self.put_outside(&self.some_path(dir, 0), Side::BOTH[side % 2]),
            Op::Scan(dir, side) => self.scan(dir, Side::BOTH[side % 2]),
            Op::Adopt(number) => self.adopt(number),
            Op::Flip(slice, stage) => self.flip(slice, stage),
        }
    }

    /// Some names are a slice of their own.
    fn flip(&mut self, slice: usize, stage: usize) {
        let stages = [Stage::Off, Stage::DualWrite, Stage::Complete];
        self.fixture.stage(["", "a", "b"][slice % 3], stages[stage % 3]);
    }

    fn create(&mut self, path: &str, kind: Kind) {
        if self.tree.contains_key(path) {
            return;
        }
        let node = self.fixture.make(path, kind);
        assert!(self.given.insert(node.ino), "{path} got a number that was given before");
        self.tree.insert(path.to_owned(), (node.ino, kind, 0));
    }

    fn write(&mut self, file: usize) {
        let files = self.paths(|kind| kind == Kind::File);
        let Some(path) = pick(&files, file) else { return };
        let ino = self.tree[path].0;
        let version = self.fixture.write(ino);
        for entry in self.tree.values_mut().filter(|entry| entry.0 == ino) {
            entry.2 += 1;
            assert_eq!(version, Version(entry.2));
        }
    }

    fn link(&mut self, file: usize, to: &str) {
        let files = self.paths(|kind| kind == Kind::File);
        let Some(path) = pick(&files, file) else { return };
        let entry = self.tree[path];
        let (parent, name) = self.fixture.place(to);
        let linked = run(self.fixture.link(entry.0, parent, &name, NOW));
        assert_eq!(linked.is_ok(), !self.tree.contains_key(to), "{path} as {to}");
        if let Ok(node) = linked {
            assert_eq!(
                node.links as usize,
                self.tree.values().filter(|other| other.0 == entry.0).count() + 1
            );
            self.tree.insert(to.to_owned(), entry);
        }
    }

    /// The sides that hold the current content of a node under any of its names.
    fn sides_with(&self, ino: Ino) -> Vec<Side> {
        let version = |name| self.fixture.named(name).expect("read").expect("there").version;
        let names = self.fixture.names(ino);
        let has = |side: &Side| {
            names.iter().any(|name| {
                let replica = self.fixture.replicas(*name).expect("read")[*side].clone();
                replica.is_some_and(|replica| replica.receipt.version == version(*name))
            })
        };
        Side::BOTH.into_iter().filter(has).collect()
    }

    fn remove(&mut self, node: usize) {
        let all = self.paths(|_| true);
        let Some(path) = pick(&all, node) else { return };
        let full = self.tree.keys().any(|other| other.starts_with(&format!("{path}/")));
        let ino = self.tree[path].0;
        let before = self.sides_with(ino);
        let result = if self.tree[path].1.is_directory() {
            self.fixture.remove_dir(path).map(|_| ())
        } else {
            self.fixture.rm(path).map(|_| ())
        };
        assert_eq!(result.is_err(), full, "{path}");
        if !full {
            self.tree.remove(path);
        }
        if self.tree.values().any(|entry| entry.0 == ino) {
            assert_eq!(self.sides_with(ino), before, "no store loses a content that has another name");
        }
    }

    fn rename(&mut self, node: usize, to: &str, how: usize) {
        let all = self.paths(|_| true);
        let Some(from) = pick(&all, node).cloned() else { return };
        let mode = [RenameMode::Replace, RenameMode::Exchange, RenameMode::NoReplace][how % 3];
        let expected = self.expected(&from, to, mode);
        let result = self.fixture.try_mv(&from, to, mode);
        assert_eq!(result.is_ok(), expected, "{from} to {to} {mode:?}: {result:?}");
        let one_file = self.tree.get(to).is_some_and(|target| target.0 == self.tree[&from].0);
        if expected && !one_file {
            self.move_paths(&from, to, mode);
        }
    }

    fn expected(&self, from: &str, to: &str, mode: RenameMode) -> bool {
        let inside = |path: &str, dir: &str| path.starts_with(&format!("{dir}/"));
        let Some(target) = self.tree.get(to) else {
            return mode != RenameMode::Exchange && !inside(to, from);
        };
        if mode == RenameMode::NoReplace || from == to {
            return mode != RenameMode::NoReplace;
        }
        if mode == RenameMode::Exchange {
            return !inside(to, from) && !inside(from, to);
        }
        let empty = !self.tree.keys().any(|path| inside(path, to));
        (self.tree[from].1 == target.1) && empty && !inside(to, from)
    }

    fn move_paths(&mut self, from: &str, to: &str, mode: RenameMode) {
        let is_at = |path: &str, top: &str| path == top || path.starts_with(&format!("{top}/"));
        if mode != RenameMode::Exchange {
            self.tree.retain(|path, _| !is_at(path, to));
        }
        let before = std::mem::take(&mut self.tree);
        for (path, entry) in before {
            let renamed = if is_at(&path, from) {
                format!("{to}{}", &path[from.len()..])
            } else if is_at(&path, to) {
                format!("{from}{}", &path[to.len()..])
            } else {
                path
            };
            self.tree.insert(renamed, entry);
        }
    }

    fn upload(&mut self, file: usize, side: Side) {
        let files = self.paths(|kind| kind == Kind::File);
        let Some(path) = pick(&files, file).cloned() else { return };
        let node = self.fixture.at(&path).expect("there");
        let wanted = self.fixture.intent(node.link, side).expect("read").is_some();
        let occupied = self.fixture.occupant(side, &key(&path)).expect("read").is_some();
        if !wanted || occupied || self.locked(side, &path) {
            return;
        }
        let receipt = receipt_of(&node, &path);
        self.stores.get_mut(&side).expect("a store").insert(path, receipt.receipt.etag.to_string());
        self.arrived.push(Arrived { ino: node.ino, link: node.link, side, receipt });
    }

    fn receipt(&mut self, number: usize) {
        if self.arrived.is_empty() {
            return;
        }
        let one = self.arrived.remove(number % self.arrived.len());
        let outcome =
            run(self.fixture.receipt((one.ino, one.link), one.side, one.receipt)).expect("recorded");
        let there = self.tree.values().any(|(ino, _, _)| *ino == one.ino);
        let named = self.fixture.named(one.link).expect("read").is_some();
        assert!(outcome == ReceiptOutcome::Gone || there, "a removed file is wanted again");
        assert!(outcome != ReceiptOutcome::Gone || !named, "an upload of what is there was given up");
    }

    fn delete(&mut self, number: usize) {
        let side = Side::BOTH[number % 2];
        let due = self.fixture.due_tombstones(side, NOW, 100).expect("read");
        let Some(grave) = pick(&due, number / 2) else { return };
        let path = grave.key.as_str();
        if self.locked(side, path) {
            return;
        }
        let store = self.stores.get_mut(&side).expect("a store");
        let ours = |tag: &String| grave.etag.as_ref().is_none_or(|etag| etag.as_str() == tag);
        if store.get(path).is_some_and(ours) {
            store.remove(path);
        }
        run(self.fixture.tombstone_done(grave)).expect("done");
    }

    /// Under a name that the mount does not use, so that it is always a new object.
    fn put_outside(&mut self, near: &str, side: Side) {
        self.outside += 1;
        let path = format!("{near}-outside{}", self.outside);
        self.stores.get_mut(&side).expect("a store").insert(path, format!("outside{}", self.outside));
    }

    fn scan(&mut self, dir: usize, side: Side) {
        let mut dirs = self.paths(|kind| kind == Kind::Directory);
        dirs.push(String::new());
        let path = &dirs[dir % dirs.len()];
        let (dir, prefix) = match self.tree.get(path) {
            Some((ino, _, _)) => (*ino, format!("{path}/")),
            None => (Ino::ROOT, String::new()),
        };
        let scan = self.fixture.begin_scan();
        let (mut names, mut found_here, mut outside) = (BTreeSet::new(), Vec::new(), Vec::new());
        for (key, tag) in &self.stores[&side] {
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            if tag.starts_with("outside") {
                outside.push((key.clone(), tag.clone()));
            }
            let name = rest.split_inclusive('/').next().expect("not empty");
            if names.insert(name.to_owned()) {
                let mut one = found(name);
                if let FoundKind::Object(object) = &mut one.what {
                    object.etag = ETag::new(tag);
                }
                found_here.push(one);
            }
        }
        self.pages.push(Pages { scan, dir, side, found: found_here, outside });
    }

    /// Only what the outside client put there, and nobody has seen before, may come in.
    fn adopt(&mut self, number: usize) {
        if self.pages.is_empty() {
            return;
        }
        let pages = self.pages.remove(number % self.pages.len());
        if !self.given.contains(&pages.dir) && pages.dir != Ino::ROOT
            || self.fixture.node(pages.dir).expect("read").is_none()
        {
            return;
        }
        let on = FoundOn { side: pages.side, origin: Origin::Listed, now: NOW };
        let nodes = run(self.fixture.adopt(pages.dir, pages.found, on, pages.scan.id())).expect("adopted");
        for node in nodes.iter().filter(|node| self.given.insert(node.ino)) {
            let path = self.fixture.key_of(node.link).expect("read").expect("in the tree").to_string();
            let below = format!("{path}/");
            let reason = pages
                .outside
                .iter()
                .find(|(key, tag)| (*key == path || key.starts_with(&below)) && !self.adopted.contains(tag));
            let Some((key, tag)) = reason else { panic!("{path} came back on {}", pages.side) };
            if *key == path {
                self.adopted.insert(tag.clone());
            }
            let version = if node.kind == Kind::Directory { 0 } else { 1 };
            self.tree.insert(path, (node.ino, node.kind, version));
        }
    }

    fn assert_agrees(&self) {
        let mut seen = BTreeMap::new();
        let mut todo = vec![(Ino::ROOT, String::new())];
        while let Some((dir, prefix)) = todo.pop() {
            for node in self.fixture.children(dir, Position::START, 1000).expect("read") {
                let path = format!("{prefix}{}", node.name);
                assert_eq!(self.fixture.key_of(node.link).expect("read"), Some(key(&path)));
                if node.kind == Kind::Directory {
                    todo.push((node.ino, format!("{path}/")));
                }
                seen.insert(path, (node.ino, node.kind, node.version.0));
            }
        }
        assert_eq!(seen, self.tree);
    }

    /// What the ledger says of a store is so, and what it does not say of it is never shown.
    fn assert_stores_are_known(&self) {
        for (side, store) in &self.stores {
            for (path, tag) in store.iter().filter(|(_, tag)| !tag.starts_with("outside")) {
                let known = self.tree.contains_key(path) || self.fixture.hidden(*side, path);
                assert!(known, "{path} ({tag}) would come back on {side}");
            }
            for path in self.tree.keys() {
                let link = self.fixture.at(path).expect("there").link;
                let Some(replica) = self.fixture.replicas(link).expect("read")[*side].clone() else {
                    continue;
                };
                let at = replica.receipt.key.as_str();
                if !self.locked(*side, at) {
                    let there = store.get(at).map(String::as_str);
                    assert_eq!(there, Some(replica.receipt.etag.as_str()), "{path} at {at} on {side}");
                }
            }
        }
    }
}

fn cases() -> u32 {
    std::env::var("BRIDGEFS_CASES").ok().and_then(|raw| raw.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_leave_what_the_model_says(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        for op in ops {
            let is_flip = matches!(op, Op::Flip(..));
            costs::walks();
            world.apply(op);
            let walked = costs::walks();
            prop_assert!(is_flip || walked.is_empty(), "{op:?} walks through a table: {walked:#?}");
            world.assert_stores_are_known();
        }
        world.assert_agrees();
        world.fixture.assert_clean();
        let before = world.tree.clone();
        // A crash: receipts that were on their way never come, scans are forgotten.
        world.pages.clear();
        world.fixture.reopen();
        prop_assert_eq!(&before, &world.tree);
        world.assert_agrees();
        world.assert_stores_are_known();
        world.fixture.assert_clean();
    }
}
