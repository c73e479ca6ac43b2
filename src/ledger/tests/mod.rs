//! What users of the ledger rely on.

mod access;
mod bench_size;
pub(super) mod costs;
mod given_up;
mod links;
mod model;
mod removal;
mod replication;
mod scans;
mod tree;

mod xattrs;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use super::*;
use crate::clock::Clock;
use crate::object::{
    Attrs, ETag, Ino, Key, Kind, LinkId, NanoTime, Position, Receipt, Side, Version, Xattrs,
};
use crate::stage::Stage;

const NOW: NanoTime = 1_000;
const ATTRS: Attrs = Attrs { mode: 0o644, uid: 1, gid: 2, mtime: NOW };

/// A ledger in a directory that goes with it.
struct Fixture {
    ledger: Option<Ledger>,
    dir: tempfile::TempDir,
}

fn options(mode: LedgerMode, sync: bool) -> LedgerOptions {
    LedgerOptions { mode, sync, clock: Clock::Manual(Arc::new(AtomicI64::new(NOW))) }
}

fn open_at(dir: &Path) -> Ledger {
    Ledger::open(dir, options(LedgerMode::Inline, false)).expect("opens")
}

/// Inline writes are done when their future is first polled, so that a test needs no runtime.
fn run<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(future)
}

impl Fixture {
    /// In which everything goes to both sides.
    fn new() -> Fixture {
        let fixture = Fixture::off();
        fixture.stage("", Stage::DualWrite);
        fixture
    }

    /// In which everything goes to the old side.
    fn off() -> Fixture {
        let dir = tempfile::tempdir().expect("a directory");
        Fixture { ledger: Some(open_at(dir.path())), dir }
    }

    fn stage(&self, prefix: &str, stage: Stage) {
        let slice = Slice {
            prefix: prefix.to_owned(),
            stage,
            read_percent: 100,
            since: NOW,
            backfill_complete: false,
        };
        let what = format!("/{prefix}: {stage}");
        let event = Event { at: NOW, who: "test".to_owned(), what, why: "test".to_owned() };
        run(self.set_slice(slice, event)).expect("set");
    }

    fn reopen(&mut self) {
        self.ledger = None;
        self.ledger = Some(open_at(self.dir.path()));
    }

    fn make(&self, path: &str, kind: Kind) -> Node {
        let (parent, name) = self.place(path);
        let target = (kind == Kind::Symlink).then(|| b"target".as_slice().into());
        run(self.create(parent, &name, NewNode { kind, attrs: ATTRS, now: NOW, target })).expect("created")
    }

    /// A committed file of 10 bytes.
    fn file(&self, path: &str) -> Node {
        let node = self.make(path, Kind::File);
        self.write(node.ino);
        self.at(path).expect("there")
    }

    fn dir(&self, path: &str) -> Node {
        self.make(path, Kind::Directory)
    }

    fn write(&self, ino: Ino) -> Version {
        run(self.commit(ino, Commit { size: 10, mtime: NOW, ctime: NOW })).expect("committed")
    }

    /// The store confirms the node's current state under its current key.
    fn confirm(&self, ino: Ino, side: Side) -> ReceiptOutcome {
        let key = self.key_of(LinkId::first(ino)).expect("read").expect("in the tree");
        self.confirm_at(ino, side, key.as_str())
    }

    fn confirm_at(&self, ino: Ino, side: Side, at: &str) -> ReceiptOutcome {
        let node = self.node(ino).expect("read").expect("there");
        run(self.receipt((ino, node.link), side, receipt_of(&node, at))).expect("recorded")
    }

    fn at(&self, path: &str) -> Option<Node> {
        self.resolve(&key(path)).expect("read")
    }

    fn place(&self, path: &str) -> (Ino, String) {
        match path.rsplit_once('/') {
            Some((dir, name)) => (self.at(dir).expect("the directory is there").ino, name.to_owned()),
            None => (Ino::ROOT, path.to_owned()),
        }
    }

    /// The store confirms the deletion that is noted for this key.
    fn deleted(&self, side: Side, at: &str) {
        let grave = self.grave(side, at).expect("noted");
        run(self.tombstone_done(&grave)).expect("done");
    }

    fn intended(&self, link: LinkId, side: Side) -> Intent {
        self.intent(link, side).expect("read").expect("wanted")
    }

    fn held(&self, link: LinkId, side: Side) -> Replica {
        self.replicas(link).expect("read")[side].clone().expect("it holds one")
    }

    fn mv(&self, from: &str, to: &str) -> Renamed {
        self.try_mv(from, to, RenameMode::Replace).expect("renamed")
    }

    fn try_mv(&self, from: &str, to: &str, mode: RenameMode) -> LedgerResult<Renamed> {
        let ((from_dir, from), (to_dir, to)) = (self.place(from), self.place(to));
        let from = Entry { parent: from_dir, name: &from };
        run(self.rename(from, Entry { parent: to_dir, name: &to }, mode, NOW))
    }

    fn rm(&self, path: &str) -> LedgerResult<Removed> {
        let (parent, name) = self.place(path);
        run(self.unlink(Entry { parent, name: &name }, NOW))
    }

    fn remove_dir(&self, path: &str) -> LedgerResult<Removed> {
        let (parent, name) = self.place(path);
        run(self.rmdir(Entry { parent, name: &name }, NOW))
    }

    /// Every name of a node, the one with its own number first.
    fn names(&self, ino: Ino) -> Vec<LinkId> {
        let after = |name: &LinkId| self.name_after(ino, *name).expect("read");
        std::iter::successors(Some(LinkId::first(ino)), after).collect()
    }

    fn replica_key(&self, ino: Ino, side: Side) -> Option<String> {
        let replicas = self.replicas(LinkId::first(ino)).expect("read");
        replicas[side].as_ref().map(|replica| replica.receipt.key.to_string())
    }

    fn grave(&self, side: Side, path: &str) -> Option<Tombstone> {
        self.tombstone(side, &key(path)).expect("read")
    }

    fn hidden(&self, side: Side, path: &str) -> bool {
        self.is_hidden(side, &key(path)).expect("read")
    }

    fn list(&self, dir: Ino, names: &[&str], side: Side, scan: &Scan) -> Vec<Node> {
        let found = names.iter().map(|name| found(name)).collect();
        run(self.adopt(dir, found, FoundOn { side, origin: Origin::Listed, now: NOW }, scan.id()))
            .expect("adopted")
    }

    fn assert_clean(&self) {
        assert_eq!(self.check().expect("checked"), Vec::<String>::new());
    }
}

impl std::ops::Deref for Fixture {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        self.ledger.as_ref().expect("open")
    }
}

fn key(path: &str) -> Key {
    Key::new(path).expect("a key")
}

fn etag_of(node: &Node) -> ETag {
    ETag::new(&format!("{}-{}-{}", node.ino, node.version, node.attr_version))
}

fn receipt_of(node: &Node, at: &str) -> NewReceipt {
    let receipt =
        Receipt { key: key(at), version: node.version, etag: etag_of(node), size: node.size, digest: None };
    NewReceipt { receipt, attr_version: node.attr_version, content: None, made_of: None, now: NOW }
}

/// A name with a trailing slash is a directory.
fn found(name: &str) -> Found {
    match name.strip_suffix('/') {
        Some(name) => Found { name: name.into(), what: FoundKind::Directory },
        None => Found { name: name.into(), what: FoundKind::Object(found_object()) },
    }
}

fn found_object() -> FoundObject {
    FoundObject {
        kind: Kind::File,
        target: None,
        size: 7,
        etag: ETag::new("found"),
        attrs: ATTRS,
        digest: None,
        xattrs: Xattrs::default(),
    }
}

fn kind_of<T: std::fmt::Debug>(result: LedgerResult<T>) -> LedgerErrorKind {
    result.expect_err("refused").kind()
}
