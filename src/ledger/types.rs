//! The rows of the ledger as the rest of the program sees them.

use serde::{Deserialize, Serialize};

use crate::object::{
    Attrs, ContentDigest, ETag, Ino, Key, Kind, LinkId, NanoTime, PerSide, Position, Privileges, Receipt,
    Side, Version, XattrMode, Xattrs,
};
use crate::stage::Stage;

/// A file, directory or symlink of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its number, for ever.
    pub ino: Ino,
    /// The name that it was found under: `parent` and `name` are of this one.
    pub link: LinkId,
    /// How many names it has; 1 for a directory.
    pub links: u32,
    /// Where the name stands in its directory.
    pub position: Position,
    /// The directory it stands in; the root's parent is the root.
    pub parent: Ino,
    /// Its name there; empty for the root.
    pub name: Box<str>,
    /// What it is.
    pub kind: Kind,
    /// Mode, owner, group, mtime.
    pub attrs: Attrs,
    /// Last access.
    pub atime: NanoTime,
    /// Last change of attributes or content.
    pub ctime: NanoTime,
    /// Length of the committed content in bytes; of the target for a symlink; 0 for a directory.
    pub size: u64,
    /// The committed content.
    pub version: Version,
    /// Grows with each change of `attrs`; a replica remembers which one it carries.
    pub attr_version: u64,
    /// Where a symlink points.
    pub target: Option<Box<[u8]>>,
    /// How we know of it.
    pub origin: Origin,
    /// Directories: every name below it is in the ledger, so a name that is not is absent.
    pub complete: bool,
    /// When a store last confirmed it; decides about the coherence TTL.
    pub checked_at: NanoTime,
}

/// How a node came into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Made through this mount: all attributes are known.
    Mount,
    /// Found by a listing: size and time are known, attributes are defaults until it is opened.
    Listed,
    /// Found, and its metadata read.
    Read,
    /// Found on one store while the one that knows every name could not be asked: nothing of it is changed through the
    /// mount but its name, and it is what that store says as soon as it answers.
    Unproven,
}

/// The [`attr_version`](Replica::attr_version) of an object whose attributes may be those of any moment: never a node's.
pub const ATTRS_UNKNOWN: u64 = i64::MAX.unsigned_abs();

/// What one store holds of a node under one of its names, as far as we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Whose object it is.
    pub name: LinkId,
    /// What the store confirmed, with the key it stands under.
    pub receipt: Receipt,
    /// Which attributes its metadata carries; may be [`ATTRS_UNKNOWN`].
    pub attr_version: u64,
    /// What is known of its content.
    pub state: ReplicaState,
    /// When the receipt was given.
    pub received_at: NanoTime,
}

/// What is known of a replica's content beyond its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// The store said that it has it.
    Copied,
    /// Read back and equal, at this time.
    Verified(NanoTime),
    /// The store answered that it is not there, or is something else, against its receipt. Not read.
    Mismatched,
}

/// A name, all that the stores have of it, and what they still must be brought to: at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameState {
    /// What the name stands for.
    pub node: Node,
    /// The key of its object.
    pub key: Key,
    /// What each store confirmed.
    pub replicas: PerSide<Option<Replica>>,
    /// What each store is still to get.
    pub intents: PerSide<Option<Intent>>,
    /// Whose object stands under the key on each store, if it is another name's that the store has yet to move.
    pub occupants: PerSide<Option<LinkId>>,
}

/// A durable record that a store must be brought to a node's current version, key and attributes. One
/// per name and side: a newer change takes the place of an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Which name.
    pub link: LinkId,
    /// Where.
    pub side: Side,
    /// How often it was tried since the last success or change.
    pub attempts: u32,
    /// Not before this time.
    pub due: NanoTime,
    /// When the first change that is not there yet was made.
    pub since: NanoTime,
    /// Why the last try failed.
    pub error: Option<String>,
    /// Why it will never succeed without a person, if so.
    pub blocked: Option<BlockReason>,
    /// Which change asked for it.
    pub stamp: Stamp,
}

/// Says which change a row comes from: each change gives it another one. Who looks, acts on a store and comes back
/// to say that it is done says what it had looked at; if something was changed meanwhile, it is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub(super) i64);

/// Why a store will not take an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockReason {
    /// The store cannot hold the name, or the size.
    Unsupported,
    /// Object lock, legal hold or archive tier.
    Locked,
    /// Every copy of the content is gone.
    SourceLost,
    /// The content was lost here before any store had it.
    GivenUp,
}

impl BlockReason {
    /// The word of the reason, in `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            BlockReason::Unsupported => "unsupported",
            BlockReason::Locked => "locked",
            BlockReason::SourceLost => "source-lost",
            BlockReason::GivenUp => "given-up",
        }
    }
}

/// A deletion that one store has not confirmed, or that a scan in flight could still contradict. A key
/// with a trailing slash hides a whole prefix (a removed or renamed directory).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Where.
    pub side: Side,
    /// What is gone.
    pub key: Key,
    /// The state that is to be deleted, where known: a newer object is not ours to delete.
    pub etag: Option<ETag>,
    /// The state that a receipt named, where it may have another one by now: what replaces it expects this one.
    pub last_etag: Option<ETag>,
    /// How often it was tried.
    pub attempts: u32,
    /// Not before this time.
    pub due: NanoTime,
    /// When it was deleted through the mount.
    pub since: NanoTime,
    /// Why the last try failed.
    pub error: Option<String>,
    /// Confirmed, waiting to be dropped; deferred while the slice does not write this side.
    pub state: TombstoneState,
    /// Which deletion it is.
    pub stamp: Stamp,
}

/// How far a deletion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TombstoneState {
    /// The store must still delete it.
    Pending,
    /// The slice's stage does not write this store: the name is hidden, the object stays for now.
    Deferred,
    /// The store will not let go of it (locked).
    Blocked,
}

/// A path prefix that moves as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Without leading or trailing slash; empty is the default slice.
    pub prefix: String,
    /// Where it is.
    pub stage: Stage,
    /// In stage live: how many percent of the keys prefer new.
    pub read_percent: u8,
    /// Since when it is in this stage.
    pub since: NanoTime,
    /// History is proven to be complete on new. Until then old is asked for names nobody told us.
    pub backfill_complete: bool,
}

/// What kind of thing a person must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// A store does not have, or no longer has, what its receipt says.
    Missing,
    /// Bytes differ from what was promised.
    Mismatch,
    /// Someone changed a bucket without the mount.
    Bypass,
    /// A key that is no path: not shown, not lost.
    IllegalKey,
    /// A store cannot hold an object.
    Blocked,
    /// A store refuses our credentials.
    Denied,
    /// The ledger or the cache was damaged and mended, or local content was lost.
    Damage,
}

/// Something a person must know. One per kind, side and key; repeats are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its number.
    pub id: u64,
    /// What.
    pub kind: FindingKind,
    /// On which side, if on one.
    pub side: Option<String>,
    /// About which key, if about one.
    pub key: Option<String>,
    /// What happened, what it means for the data, what to do.
    pub detail: String,
    /// First seen.
    pub first_at: NanoTime,
    /// Last seen.
    pub last_at: NanoTime,
    /// How often.
    pub count: u64,
    /// Whether it is over (repaired or acknowledged).
    pub closed: bool,
}

/// A finding as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFinding {
    /// What.
    pub kind: FindingKind,
    /// On which side, if on one.
    pub side: Option<Side>,
    /// About which key, if about one.
    pub key: Option<Key>,
    /// What happened, what it means for the data, what to do.
    pub detail: String,
}

/// A line of the append-only log: who did what, when, why, decided on which numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: NanoTime,
    /// Who: a user name, or `bridgefs`.
    pub who: String,
    /// What, as a short verb phrase.
    pub what: String,
    /// Why, and the numbers.
    pub why: String,
}

/// A node to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// What it is.
    pub kind: Kind,
    /// Mode, owner, group, mtime.
    pub attrs: Attrs,
    /// Also atime and ctime.
    pub now: NanoTime,
    /// Where a symlink points.
    pub target: Option<Box<[u8]>>,
}

/// A change of attributes; `None` leaves a field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttrChange {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last access: kept in the ledger only.
    pub atime: Option<NanoTime>,
    /// Last change of content.
    pub mtime: Option<NanoTime>,
    /// What becomes of set-ID bits and capabilities; after `mode`.
    pub privileges: Privileges,
    /// Time of this change.
    pub ctime: NanoTime,
}

/// An extended attribute to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewXattr {
    /// With its namespace.
    pub name: Box<[u8]>,
    /// Any bytes, also none.
    pub value: Box<[u8]>,
    /// Whether it must be there already.
    pub mode: XattrMode,
}

/// The sides that a change goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) old: bool,
    pub(super) new: bool,
}

impl Targets {
    pub(super) fn contains(self, side: Side) -> bool {
        match side {
            Side::Old => self.old,
            Side::New => self.new,
        }
    }
}

/// A committed change of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Its length.
    pub size: u64,
    /// When it was changed.
    pub mtime: NanoTime,
    /// When the content or an attribute was changed; never makes the node's older.
    pub ctime: NanoTime,
}

/// An object or a prefix that a store showed directly below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name below the directory.
    pub name: Box<str>,
    /// What it is there.
    pub what: FoundKind,
}

/// What was found under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundKind {
    /// Keys stand below it.
    Directory,
    /// An object.
    Object(FoundObject),
}

/// An object that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundObject {
    /// File or symlink (known only when its metadata was read).
    pub kind: Kind,
    /// A symlink's target, when its content was read.
    pub target: Option<Box<[u8]>>,
    /// Length in bytes.
    pub size: u64,
    /// Its tag.
    pub etag: ETag,
    /// From its metadata, or defaults with the store's time.
    pub attrs: Attrs,
    /// Our digest, if its metadata carries one.
    pub digest: Option<crate::object::Digest>,
    /// From its metadata, when that was read.
    pub xattrs: Xattrs,
}

/// Where found things were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOn {
    /// The store that showed them.
    pub side: Side,
    /// How much of them is known.
    pub origin: Origin,
    /// When.
    pub now: NanoTime,
}

/// A store's confirmation, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReceipt {
    /// What it confirmed.
    pub receipt: Receipt,
    /// Which attributes the metadata carries.
    pub attr_version: u64,
    /// Digest and block checksums, if all bytes were seen.
    pub content: Option<ContentDigest>,
    /// The object of the same node that it was made of on the same store, by a copy or by a change of its metadata. If
    /// that turned out wrong meanwhile, so is this.
    pub made_of: Option<Receipt>,
    /// When.
    pub now: NanoTime,
}

/// What recording a receipt led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptOutcome {
    /// The store is up to date with the node; its intent is gone.
    Satisfied,
    /// The node changed meanwhile: the intent stays.
    Behind,
    /// The node was deleted meanwhile: a tombstone stands for the key.
    Gone,
}

/// How a rename treats its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// An existing target is replaced.
    Replace,
    /// An existing target is an error.
    NoReplace,
    /// Both exist and swap.
    Exchange,
}

/// A name that was removed from the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The node as it was, under the name that is gone.
    pub node: Node,
    /// How many names it still has; with none left it is gone too.
    pub links_left: u32,
    /// Its extended attributes as they were; none while it has another name.
    pub xattrs: Xattrs,
}

/// A directory entry to be renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The directory.
    pub parent: Ino,
    /// The name in it.
    pub name: &'a str,
}

/// Counts for `status`, from one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Regular files and symlinks known.
    pub files: u64,
    /// Directories known.
    pub directories: u64,
    /// Bytes of the known files.
    pub bytes: u64,
    /// Per side: old, then new.
    pub sides: [SideSummary; 2],
    /// Files whose content was lost here before any store had it.
    pub given_up: u64,
    /// Open findings.
    pub findings: u64,
}

/// Counts for one side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideSummary {
    /// Nodes whose current version it holds.
    pub current: u64,
    /// Intents that wait.
    pub pending: u64,
    /// Bytes of those.
    pub pending_bytes: u64,
    /// When the oldest of them was made.
    pub oldest_pending: Option<NanoTime>,
    /// Intents that a person must look at, but for those of files that were given up.
    pub blocked: u64,
    /// Intents that have failed again and again, and are tried again.
    pub failing: u64,
    /// Why one of those failed last.
    pub failing_error: Option<String>,
    /// Deletions that wait.
    pub deletions: u64,
}
