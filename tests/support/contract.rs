//! The contract of the `Store` trait: what every implementation must do, asked of each by the same code.
//!
//! What a store says it cannot do (`capabilities()`, `check_key`) is not asked of it. A check panics with the
//! sentence that is broken. Each check works under a prefix of its own, so that it runs on a bucket that holds
//! other things, and twice on the same bucket.

pub mod listing;
pub mod uploads;

use std::collections::BTreeSet;

use bridgefs::object::{ETag, Key};
use bridgefs::store::{
    ByteRange, Condition, ErrorKind, HttpHeader, ListPage, ListRequest, ObjectMeta, SharedStore, StoreError,
    StoreResult,
};
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;

/// Asks everything of `store`, under a fresh random prefix.
pub async fn check(store: SharedStore) {
    check_under(store, &format!("contract-{:016x}", rand::random::<u64>())).await;
}

/// Asks everything of `store` below `prefix` (no slash at its end), where nothing may stand yet.
pub async fn check_under(store: SharedStore, prefix: &str) {
    let at = |name: &str| Room { store: SharedStore::clone(&store), prefix: format!("{prefix}/{name}") };
    store.probe().await.expect("a store that is up answers the probe");
    missing_objects(&at("missing")).await;
    round_trips(&at("round")).await;
    odd_keys(&at("odd")).await;
    ranges(&at("ranges")).await;
    pinned_reads(&at("pinned")).await;
    tags(&at("tags")).await;
    conditional_puts(&at("conditions")).await;
    create_race(&at("race")).await;
    replace_race(&at("replace-race")).await;
    metadata(&at("metadata")).await;
    uploads::uploads(&at("uploads")).await;
    uploads::conditional_uploads(&at("conditional-uploads")).await;
    uploads::aborted_uploads(&at("aborted")).await;
    copies(&at("copies")).await;
    deletions(&at("deletions")).await;
    listing::listing_pages(&at("pages")).await;
    listing::listing_levels(&at("levels")).await;
}

/// A prefix of a store that belongs to one check.
pub struct Room {
    /// The store that is asked.
    pub store: SharedStore,
    /// Everything of this check stands below it; no slash at its end.
    pub prefix: String,
}

impl Room {
    /// A key of this check.
    pub fn key(&self, name: &str) -> Key {
        Key::new(format!("{}/{name}", self.prefix)).expect("not empty")
    }

    /// Puts `body` under `name` unconditionally.
    pub async fn put(&self, name: &str, body: impl Into<Bytes>) -> ETag {
        let (key, meta) = (self.key(name), ObjectMeta::default());
        self.store.put(&key, body.into(), &meta, &Condition::Always).await.expect("an unconditional put")
    }

    async fn put_if(&self, name: &str, body: &'static str, condition: &Condition) -> StoreResult<ETag> {
        self.store.put(&self.key(name), body.into(), &ObjectMeta::default(), condition).await
    }

    /// The whole content, read back; the length is compared with what the store says.
    pub async fn read(&self, name: &str) -> Bytes {
        let download = self.store.get(&self.key(name), ByteRange::All, None).await.expect("a get");
        let size = download.info.size;
        let body = collect(download.body).await.expect("a whole body");
        assert_eq!(body.len() as u64, size, "the size that get says is that of the bytes");
        body
    }

    /// All pages of a listing, with at most `page` entries each.
    pub async fn list(&self, below: &str, one_level: bool, page: u32) -> Vec<ListPage> {
        let mut request = ListRequest {
            prefix: format!("{}/{below}", self.prefix),
            one_level,
            max_entries: page,
            token: None,
        };
        let mut pages = Vec::new();
        loop {
            let answer = self.store.list(&request).await.expect("a page");
            assert!(pages.len() < 1000, "a listing comes to an end");
            request.token = answer.next.clone();
            pages.push(answer);
            if request.token.is_none() {
                return pages;
            }
        }
    }
}

async fn collect(body: bridgefs::store::Body) -> StoreResult<Bytes> {
    let append = |mut whole: BytesMut, piece: Bytes| async move {
        whole.extend_from_slice(&piece);
        Ok(whole)
    };
    Ok(body.try_fold(BytesMut::new(), append).await?.freeze())
}

/// Bytes in which a part that is missing, doubled or moved shows.
pub fn noise(len: usize, seed: u32) -> Bytes {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// These entries, and every header that all stores know. The encoding is true of no content here: no store and no
/// client may act on it.
fn meta(pairs: &[(&str, &str)]) -> ObjectMeta {
    let user = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let headers = [
        (HttpHeader::ContentType, "text/html; charset=utf-8"),
        (HttpHeader::CacheControl, "public, max-age=77"),
        (HttpHeader::ContentDisposition, "attachment; filename=\"a b.html\""),
        (HttpHeader::ContentEncoding, "gzip"),
        (HttpHeader::ContentLanguage, "de, en"),
    ];
    ObjectMeta { headers: headers.map(|(header, value)| (header, value.to_owned())).into(), user }
}

/// The headers of an object that was put without any: there may be a content type, which is the store's own.
fn has_no_headers(meta: &ObjectMeta) -> bool {
    meta.headers.keys().all(|header| *header == HttpHeader::ContentType)
}

/// Asserts that a call failed with one of `kinds`.
pub fn assert_kind<T: std::fmt::Debug>(result: StoreResult<T>, kinds: &[ErrorKind], sentence: &str) {
    match result {
        Ok(answer) => panic!("{sentence}: succeeded with {answer:?}"),
        Err(error) => assert!(kinds.contains(&error.kind()), "{sentence}: {error}"),
    }
}

const NOT_FOUND: &[ErrorKind] = &[ErrorKind::NotFound];
const REFUSED: &[ErrorKind] = &[ErrorKind::PreconditionFailed];
/// For a copy's target there is no capability: a store that cannot obey the condition says so.
const REFUSED_OR_CANNOT: &[ErrorKind] = &[ErrorKind::PreconditionFailed, ErrorKind::Unsupported];
/// Where nothing is there, a condition on what is there may be answered either way.
const GONE: &[ErrorKind] = &[ErrorKind::NotFound, ErrorKind::PreconditionFailed];

fn no_such_tag() -> ETag {
    ETag::new("0x0BAD0BAD0BAD0BA")
}

/// "Not found" is a positive answer, and only given when nothing is there.
pub async fn missing_objects(room: &Room) {
    let Room { store, .. } = room;
    let key = room.key("nothing");
    assert_kind(store.head(&key).await, NOT_FOUND, "head of a missing key is NotFound");
    assert_kind(store.get(&key, ByteRange::All, None).await, NOT_FOUND, "get of a missing key is NotFound");
    let part = ByteRange::Part { start: 0, len: 1 };
    assert_kind(store.get(&key, part, None).await, NOT_FOUND, "a range of a missing key is NotFound");
    room.put("here", "x").await;
    assert_kind(store.head(&key).await, NOT_FOUND, "a neighbour does not make a key exist");
    let copy = store.copy(&key, &no_such_tag(), &room.key("copy"), &Condition::Always).await;
    assert_kind(copy, GONE, "a copy of a missing key fails");
    let meta = ObjectMeta::default();
    assert_kind(store.set_meta(&key, &no_such_tag(), &meta).await, GONE, "metadata of a missing key");
    assert_kind(store.head(&room.key("copy")).await, NOT_FOUND, "a failed copy leaves nothing");
}

/// What was put is what is read, of any length; a second put replaces it, shorter or longer.
pub async fn round_trips(room: &Room) {
    for (name, len) in [("empty", 0), ("one", 1), ("small", 4096), ("large", (5 << 20) + 1)] {
        let body = noise(len, 1);
        let etag = room.put(name, body.clone()).await;
        assert!(room.read(name).await == body, "{name}: the bytes that were put are read");
        let info = room.store.head(&room.key(name)).await.expect("head");
        assert_eq!(info.size, len as u64, "{name}: head says the length");
        assert_eq!(info.etag, etag, "{name}: put returns the tag that head says");
    }
    room.put("large", "short now").await;
    assert_eq!(room.read("large").await, "short now", "a put replaces everything");
}

/// Each key that `check_key` admits is kept exactly and is another object than its neighbours.
pub async fn odd_keys(room: &Room) {
    let long = "n".repeat(255);
    let names = [
        "with space",
        "plus+plus",
        "per%cent",
        "per%25cent",
        "ha#sh",
        "ques?tion",
        "am&p=;",
        "quo\"te'",
        "back\\slash",
        "ümläut",
        "u\u{308}mlaut",
        "日本語",
        "🙂",
        ".hidden",
        "trailing.",
        "~tilde",
        "[br]{a}",
        "<xml>",
        "a:b|c*",
        "new\nline",
        "tab\there",
        "UPPER",
        "upper",
        long.as_str(),
        "deep/er/and/deeper/still",
        "a//b",
        "a/./b",
        "x/",
        " lead",
        "trail ",
        "$dollar`tick",
        "com,ma",
        "at@at",
    ];
    let held: Vec<&str> =
        names.into_iter().filter(|name| room.store.check_key(&room.key(name)).is_ok()).collect();
    for name in &held {
        room.put(name, name.to_string()).await;
    }
    for name in &held {
        assert_eq!(room.read(name).await, name.as_bytes(), "{name:?} is an object of its own");
    }
    let listed: BTreeSet<Key> =
        room.list("", false, 1000).await.into_iter().flat_map(|page| page.objects).map(|o| o.key).collect();
    let wanted: BTreeSet<Key> = held.iter().map(|name| room.key(name)).collect();
    assert_eq!(listed, wanted, "a listing says each key exactly");
    for name in &held {
        room.store.delete(&room.key(name), None).await.expect("each can be deleted");
    }
}

/// A range is exactly these bytes, with the information of the whole object.
pub async fn ranges(room: &Room) {
    let body = noise(700_001, 2);
    let etag = room.put("object", body.clone()).await;
    let size = body.len();
    for (start, len) in [(0, 1), (0, size), (1, 4096), (262_143, 2), (size - 1, 1), (300_000, 300_000)] {
        let range = ByteRange::Part { start: start as u64, len: len as u64 };
        let download = room.store.get(&room.key("object"), range, None).await.expect("a range");
        assert_eq!(download.info.size, size as u64, "the information is that of the whole object");
        assert_eq!(download.info.etag, etag, "a range says the tag");
        let part = collect(download.body).await.expect("the range");
        assert!(part == body[start..start + len], "{len} bytes from {start} are those bytes");
    }
}

/// A read that is pinned to a state gets that state or nothing.
pub async fn pinned_reads(room: &Room) {
    if !room.store.capabilities().conditional_get {
        return;
    }
    let key = room.key("object");
    let old = room.put("object", "first").await;
    let part = ByteRange::Part { start: 1, len: 2 };
    let pinned = room.store.get(&key, part, Some(&old)).await.expect("the state is there");
    assert_eq!(collect(pinned.body).await.expect("a body"), "ir");
    let new = room.put("object", "other").await;
    for range in [ByteRange::All, part] {
        assert_kind(room.store.get(&key, range, Some(&old)).await, REFUSED, "a replaced state is not served");
    }
    let now = room.store.get(&key, ByteRange::All, Some(&new)).await.expect("the new state is there");
    assert_eq!(now.info.etag, new);
    room.store.delete(&key, None).await.expect("delete");
    assert_kind(room.store.get(&key, ByteRange::All, Some(&new)).await, NOT_FOUND, "deleted is NotFound");
}

/// Other content has another tag, and head, get and listing agree on it.
pub async fn tags(room: &Room) {
    let first = room.put("object", "one").await;
    let second = room.put("object", "two").await;
    assert_ne!(first, second, "a put of other bytes changes the tag");
    let key = room.key("object");
    assert_eq!(room.store.head(&key).await.expect("head").etag, second);
    assert_eq!(room.store.head(&key).await.expect("head").etag, second, "a tag stands still");
    let get = room.store.get(&key, ByteRange::All, None).await.expect("get");
    assert_eq!(get.info.etag, second);
    let pages = room.list("", false, 10).await;
    let listed = &pages[0].objects[0];
    assert_eq!((listed.key.clone(), listed.size), (key, 3));
    assert!(listed.etag.as_ref().is_none_or(|tag| *tag == second), "a listing says the same tag or none");
}

/// A condition that does not hold changes nothing.
pub async fn conditional_puts(room: &Room) {
    let able = room.store.capabilities();
    if able.put_if_absent {
        room.put_if("object", "first", &Condition::Absent).await.expect("nothing is there");
        assert_kind(room.put_if("object", "no", &Condition::Absent).await, REFUSED, "something is there");
        assert_eq!(room.read("object").await, "first", "a refused put changes nothing");
    }
    if able.put_if_match {
        let first = room.put("object", "first, again").await;
        let second =
            room.put_if("object", "second", &Condition::Matches(first.clone())).await.expect("it matches");
        let late = room.put_if("object", "no", &Condition::Matches(first)).await;
        assert_kind(late, REFUSED, "a replaced state does not match");
        assert_eq!(room.read("object").await, "second", "a refused put changes nothing");
        room.store.delete(&room.key("object"), None).await.expect("delete");
        let gone = room.put_if("object", "no", &Condition::Matches(second)).await;
        assert_kind(gone, REFUSED, "a deleted state does not match");
        assert_kind(room.store.head(&room.key("object")).await, NOT_FOUND, "a refused put creates nothing");
    }
}

const RACERS: usize = 16;

/// Of sixteen simultaneous creations exactly one succeeds, and its bytes are there.
pub async fn create_race(room: &Room) {
    if room.store.capabilities().put_if_absent {
        race(room, Condition::Absent).await;
    }
}

/// Of sixteen simultaneous replacements of one state exactly one succeeds, and its bytes are there.
pub async fn replace_race(room: &Room) {
    if room.store.capabilities().put_if_match {
        let etag = room.put("object", "before").await;
        race(room, Condition::Matches(etag)).await;
    }
}

async fn race(room: &Room, condition: Condition) {
    let racer = |number: usize| {
        let (store, key, condition) =
            (SharedStore::clone(&room.store), room.key("object"), condition.clone());
        let body = Bytes::from(format!("racer {number}"));
        async move { store.put(&key, body, &ObjectMeta::default(), &condition).await }
    };
    let running: Vec<_> = (0..RACERS).map(|number| tokio::spawn(racer(number))).collect();
    let mut winners = Vec::new();
    for (number, racer) in running.into_iter().enumerate() {
        match racer.await.expect("no racer panics") {
            Ok(etag) => winners.push((number, etag)),
            Err(error) => assert_kind(Err::<(), StoreError>(error), REFUSED, "who loses is told so"),
        }
    }
    assert_eq!(winners.len(), 1, "exactly one wins: {winners:?}");
    let (number, etag) = &winners[0];
    assert_eq!(room.read("object").await, format!("racer {number}"), "the winner's bytes are there");
    assert_eq!(room.store.head(&room.key("object")).await.expect("head").etag, *etag);
}

/// Metadata stays with the object, is replaced whole by `set_meta`, and the content is not touched.
pub async fn metadata(room: &Room) {
    if !room.store.capabilities().metadata {
        return;
    }
    let (store, key) = (&room.store, room.key("object"));
    let first = meta(&[("mode", "100644"), ("mtime", "1700000000.123456789"), ("bridgefs_op", "a.1-2")]);
    let etag = store.put(&key, "content".into(), &first, &Condition::Always).await.expect("put");
    assert_eq!(store.head(&key).await.expect("head").meta, first, "head says what was put");
    let get = store.get(&key, ByteRange::All, None).await.expect("get");
    assert_eq!(get.info.meta, first, "get says what was put");
    let largest = meta(&[("bridgefs_xattrs", &"AQ+/".repeat(342)), ("mode", "100644"), ("uid", "7")]);
    let etag = store.set_meta(&key, &etag, &largest).await.expect("set_meta");
    assert_eq!(store.head(&key).await.expect("head").meta, largest, "as much as we ever send, and base64");
    let second = meta(&[("mode", "100600"), ("uid", "7")]);
    let changed = store.set_meta(&key, &etag, &second).await.expect("set_meta");
    let info = store.head(&key).await.expect("head");
    assert_eq!((&info.meta, &info.etag), (&second, &changed), "set_meta replaces the metadata whole");
    assert_eq!(room.read("object").await, "content", "set_meta leaves the content");
    let silent = ObjectMeta::of_user(first.user.clone());
    let etag = store.set_meta(&key, &changed, &silent).await.expect("set_meta");
    assert_eq!(store.head(&key).await.expect("head").meta, first, "a header that is not named stays");
    let mut other = first.clone();
    other.headers.insert(HttpHeader::CacheControl, "no-store".to_owned());
    let named = [(HttpHeader::CacheControl, "no-store".to_owned())].into();
    let one = ObjectMeta { headers: named, user: first.user.clone() };
    let changed = store.set_meta(&key, &etag, &one).await.expect("set_meta");
    let info = store.head(&key).await.expect("head");
    assert_eq!((&info.meta, &info.etag), (&other, &changed), "one that is named is replaced, and no other");
    assert_eq!(room.read("object").await, "content", "set_meta leaves the content");
    let other = room.put("object", "other content").await;
    assert_ne!(other, changed);
    let bare = store.head(&key).await.expect("head").meta;
    assert!(bare.user.is_empty() && has_no_headers(&bare), "a put without metadata removes it: {bare:?}");
    let late = store.set_meta(&key, &changed, &first).await;
    assert_kind(late, REFUSED, "metadata of a replaced state is not set");
    assert!(store.head(&key).await.expect("head").meta.user.is_empty(), "a refused set_meta changes nothing");
}

/// A copy is exactly the state that was named, with its metadata, and independent of its source.
pub async fn copies(room: &Room) {
    let (store, from, to) = (&room.store, room.key("source"), room.key("target"));
    let info = meta(&[("mode", "100640"), ("gid", "12")]);
    let source = store.put(&from, "copied".into(), &info, &Condition::Always).await.expect("put");
    let target = store.copy(&from, &source, &to, &Condition::Always).await.expect("copy");
    let head = store.head(&to).await.expect("head");
    assert_eq!(head.etag, target, "copy returns the tag that head says");
    if store.capabilities().metadata {
        assert_eq!(head.meta, info, "a copy keeps the metadata");
    }
    let newer = room.put("source", "replaced").await;
    assert_eq!(room.read("target").await, "copied", "a copy is independent of its source");
    let late = store.copy(&from, &source, &to, &Condition::Always).await;
    assert_kind(late, REFUSED, "a state that was replaced is not copied");
    let occupied = store.copy(&from, &newer, &to, &Condition::Absent).await;
    assert_kind(occupied, REFUSED_OR_CANNOT, "a copy does not overwrite when it must not");
    let stale = Condition::Matches(no_such_tag());
    assert_kind(store.copy(&from, &newer, &to, &stale).await, REFUSED_OR_CANNOT, "nor another state");
    assert_eq!(room.read("target").await, "copied", "a refused copy changes nothing");
}

/// What was deleted is gone at once; a condition that does not hold deletes nothing.
pub async fn deletions(room: &Room) {
    let (store, key) = (&room.store, room.key("dir/object"));
    let old = room.put("dir/object", "one").await;
    let new = room.put("dir/object", "two").await;
    if store.capabilities().conditional_delete {
        assert_kind(store.delete(&key, Some(&old)).await, REFUSED, "another state is not deleted");
        assert_eq!(room.read("dir/object").await, "two", "a refused deletion changes nothing");
        store.delete(&key, Some(&new)).await.expect("the state matches");
        assert_kind(store.head(&key).await, NOT_FOUND, "deleted is gone");
        match store.delete(&key, Some(&new)).await {
            Ok(()) => {}
            gone => assert_kind(gone, GONE, "a deleted state cannot be deleted"),
        }
        room.put("dir/object", "three").await;
    }
    store.delete(&key, None).await.expect("delete");
    assert_kind(store.head(&key).await, NOT_FOUND, "deleted is gone");
    assert_kind(store.get(&key, ByteRange::All, None).await, NOT_FOUND, "deleted is gone");
    assert!(room.list("", false, 10).await[0].objects.is_empty(), "deleted is not listed");
    match store.delete(&key, None).await {
        Ok(()) => {}
        gone => assert_kind(gone, NOT_FOUND, "a missing object is NotFound or success"),
    }
    room.put("dir/object", "four").await;
    assert_eq!(room.read("dir/object").await, "four", "a deleted key can be used again");
}
