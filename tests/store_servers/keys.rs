//! Odd keys, one by one, and listings of many.

use std::collections::{BTreeMap, BTreeSet};

use bridgefs::object::Key;
use bridgefs::store::{
    ByteRange, Condition, ErrorKind, ListRequest, ObjectMeta, SharedStore, StoreError, StoreResult,
};
use futures::TryStreamExt;

use crate::servers::{self, Kind, Server};

/// Keys that some program once got wrong.
const KEYS: &[&str] = &[
    "a b",
    "a+b",
    "a%b",
    "a%20b",
    "a%2Fb",
    "a#b",
    "a?b",
    "a&b=c;d",
    "a\"b'c",
    "a\\b",
    "ä",
    "a\u{308}",
    "日本語/🙂",
    ".hidden",
    "trailing.",
    "a:b|c*<d>",
    "line\nbreak",
    "tab\tb",
    "bell\u{7}",
    "a//b",
    "//a",
    "/a",
    "dir/",
    " a",
    "a ",
    "[b]{c}^`",
    "$a,@b!(c)",
    "~a-_.b",
    "a\u{7f}",
    "a/../b",
    "./a",
    "\u{feff}a",
    "ﬁ",
];

/// Keys that a server does not keep: server, key. A key that is kept after all fails the test too.
const NOT_KEPT: &[(Kind, &str)] = &[
    (Kind::Moto, "line\nbreak"),
    (Kind::SeaweedFs, "//a"),
    (Kind::SeaweedFs, "/a"),
    (Kind::SeaweedFs, "a//b"),
    (Kind::SeaweedFs, "a\\b"),
    (Kind::SeaweedFs, "dir/"),
];

/// Keys that the store refuses before a request, because they could not be kept: that is not a lie.
fn refused(store: &SharedStore, key: &str) -> bool {
    store.check_key(&Key::new(key).expect("not empty")).is_err()
}

/// Asks up to three times: a busy server ends connections, and what it does with keys is what these tests ask. Whatever
/// is asked here may be done twice.
async fn steadily<T, F: Future<Output = StoreResult<T>>>(ask: impl Fn() -> F) -> StoreResult<T> {
    for _ in 0..2 {
        match ask().await {
            Err(error) if error.kind() == ErrorKind::Unavailable => println!("once more: {error}"),
            answer => return answer,
        }
    }
    ask().await
}

/// Puts, reads and lists one key in a bucket of its own prefix; an error says what went wrong.
async fn keep(store: &SharedStore, raw: &str) -> Result<(), String> {
    let text = |error: StoreError| error.to_string();
    let key = Key::new(raw).expect("not empty");
    let body = format!("the object {raw:?}");
    let meta = ObjectMeta::default();
    steadily(|| store.put(&key, body.clone().into(), &meta, &Condition::Always)).await.map_err(text)?;
    let get = async || store.get(&key, ByteRange::All, None).await?.body.try_collect::<Vec<_>>().await;
    let pieces = steadily(get).await.map_err(text)?;
    let listed = all_keys(store, 1000).await;
    steadily(|| store.delete(&key, None)).await.map_err(text)?;
    if pieces.concat() != body.as_bytes() {
        return Err("other bytes came back".to_owned());
    }
    if listed != BTreeSet::from([key]) {
        return Err(format!("listed as {listed:?}"));
    }
    Ok(())
}

async fn all_keys(store: &SharedStore, max_entries: u32) -> BTreeSet<Key> {
    let mut request = ListRequest { prefix: String::new(), one_level: false, max_entries, token: None };
    let mut keys = BTreeSet::new();
    loop {
        let page = steadily(|| store.list(&request)).await.expect("a page");
        for object in page.objects {
            assert!(keys.insert(object.key), "no key comes twice");
        }
        request.token = page.next;
        if request.token.is_none() {
            return keys;
        }
    }
}

async fn keeps_odd_keys(kind: Kind) {
    let server = Server::shared(kind);
    let (mut broken, mut kept, mut refusals) = (BTreeMap::new(), 0, 0);
    let bucket = server.fresh_bucket().await.with("stall_timeout", "30s");
    for (number, raw) in KEYS.iter().enumerate() {
        // A prefix for each, so that what one key becomes cannot hide behind another.
        let place = servers::Place { url: format!("{}/p{number}", bucket.url), ..bucket.clone() };
        let store = place.connect().shared();
        if refused(&store, raw) {
            refusals += 1;
        } else if let Err(why) = keep(&store, raw).await {
            broken.insert(*raw, why);
        } else {
            kept += 1;
        }
    }
    println!("{kind:?}: {kept} keys kept, {refusals} refused, not kept: {broken:#?}");
    let known: BTreeSet<&str> =
        NOT_KEPT.iter().filter(|(server, _)| *server == kind).map(|(_, key)| *key).collect();
    assert_eq!(broken.into_keys().collect::<BTreeSet<_>>(), known, "{kind:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_keeps_odd_keys() {
    keeps_odd_keys(Kind::SeaweedFs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_odd_keys() {
    keeps_odd_keys(Kind::Moto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_keeps_odd_keys() {
    keeps_odd_keys(Kind::Azurite).await;
}

/// The pages of 2,500 keys are together exactly those keys, and a store with a prefix sees only its own.
async fn lists_many(kind: Kind) {
    const COUNT: usize = 2500;
    let place = Server::shared(kind).fresh_bucket().await.with("stall_timeout", "30s");
    let outside = place.connect().shared();
    let mut inside = place.clone();
    inside.url.push_str("/a prefix+");
    let store = inside.connect().shared();
    let meta = ObjectMeta::default();
    for stray in ["a prefix", "a prefix+x", "b"] {
        let key = Key::new(stray).expect("not empty");
        outside.put(&key, "stray".into(), &meta, &Condition::Always).await.expect("put");
    }
    let wanted: BTreeSet<Key> =
        (0..COUNT).map(|n| Key::new(format!("d{}/f {n:04}", n % 7)).expect("not empty")).collect();
    let puts = wanted.iter().map(|key| steadily(|| store.put(key, "x".into(), &meta, &Condition::Always)));
    let puts = futures::stream::StreamExt::buffer_unordered(futures::stream::iter(puts), 16);
    puts.try_collect::<Vec<_>>().await.expect("all are put");
    assert_eq!(all_keys(&store, 1000).await, wanted, "{kind:?}, pages of 1000");
    assert_eq!(all_keys(&store, 333).await, wanted, "{kind:?}, pages of 333");
    assert_eq!(all_keys(&outside, 1000).await.len(), COUNT + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_lists_thousands() {
    lists_many(Kind::SeaweedFs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_lists_thousands() {
    lists_many(Kind::Moto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_lists_thousands() {
    lists_many(Kind::Azurite).await;
}
