//! What the contract does not ask: lost answers, mixed uploads, content types, what the probe leaves.

use bridgefs::object::{ETag, Key};
use bridgefs::store::remote::PROBE_PREFIX;
use bridgefs::store::{ByteRange, Condition, ErrorKind, HttpHeader, ListRequest, ObjectMeta, SharedStore};
use bytes::Bytes;
use futures::TryStreamExt;

use crate::servers::{Kind, Server};

fn key(raw: &str) -> Key {
    Key::new(raw).expect("not empty")
}

async fn read(store: &SharedStore, key: &Key) -> Bytes {
    let download = store.get(key, ByteRange::All, None).await.expect("a get");
    download.body.try_collect::<Vec<_>>().await.expect("a body").concat().into()
}

fn marked(operation: &str) -> ObjectMeta {
    let user = [("bridgefs_op".to_owned(), operation.to_owned())].into();
    let headers = [(HttpHeader::ContentType, "text/x-test"), (HttpHeader::ContentEncoding, "gzip")];
    ObjectMeta { headers: headers.map(|(header, value)| (header, value.to_owned())).into(), user }
}

/// A put whose answer was lost is repeated, is refused, and is then known as our own by its operation id.
async fn lost_answer(kind: Kind) {
    let store = Server::shared(kind).fresh_bucket().await.connect().shared();
    let (key, meta) = (key("a"), marked("bridge.1.7"));
    let first = store.put(&key, "content".into(), &meta, &Condition::Absent).await.expect("it arrives");
    let again = store.put(&key, "content".into(), &meta, &Condition::Absent).await;
    assert_eq!(again.expect_err("it is there").kind(), ErrorKind::PreconditionFailed, "{kind:?}");
    let info = store.head(&key).await.expect("head");
    assert_eq!((info.etag, info.meta.user), (first, meta.user), "{kind:?}");
}

/// Two uploads of one key at once: each completes with its own parts only.
async fn mixed_uploads(kind: Kind) {
    let store = Server::shared(kind).fresh_bucket().await.with("stall_timeout", "30s").connect().shared();
    let (key, meta) = (key("a"), ObjectMeta::default());
    let one = store.start_upload(&key, &meta).await.expect("start");
    let two = store.start_upload(&key, &meta).await.expect("start");
    let part_one = store.put_part(&key, &one, 1, "one".into()).await.expect("part");
    let part_two = store.put_part(&key, &two, 1, "two".into()).await.expect("part");
    let always = Condition::Always;
    store.complete_upload(&key, &one, &[part_one], &meta, &always).await.expect("complete");
    assert_eq!(read(&store, &key).await, "one", "{kind:?}");
    match store.complete_upload(&key, &two, &[part_two], &meta, &always).await {
        Ok(_) => assert_eq!(read(&store, &key).await, "two", "{kind:?}"),
        // Azure drops all waiting blocks of a blob when a list is put: the second upload begins again.
        Err(error) => {
            assert_eq!((kind, error.kind()), (Kind::Azurite, ErrorKind::PreconditionFailed), "{error}");
        }
    }
}

/// New metadata keeps the content type unless it names another.
async fn content_types(kind: Kind) {
    let store = Server::shared(kind).fresh_bucket().await.connect().shared();
    let key = key("a");
    let etag = store.put(&key, "x".into(), &marked("1"), &Condition::Always).await.expect("put");
    let silent = ObjectMeta::of_user(marked("2").user);
    let etag = store.set_meta(&key, &etag, &silent).await.expect("set_meta");
    assert_eq!(store.head(&key).await.expect("head").meta, marked("2"), "{kind:?}");
    let mut other = marked("3");
    other.headers.insert(HttpHeader::ContentType, "text/other".to_owned());
    let etag = store.set_meta(&key, &etag, &other).await.expect("set_meta");
    let info = store.head(&key).await.expect("head");
    assert_eq!((info.meta, info.etag), (other, etag), "{kind:?}");
}

/// `Expires` is kept by S3, and is nothing to Azure, which takes the object without it.
async fn expiry(kind: Kind) {
    let store = Server::shared(kind).fresh_bucket().await.connect().shared();
    let key = key("a");
    let when = HttpHeader::Expires;
    let mut dated = marked("1");
    dated.headers.insert(when, "Thu, 01 Dec 2044 16:00:00 GMT".to_owned());
    let etag = store.put(&key, "x".into(), &dated, &Condition::Always).await.expect("put");
    let silent = ObjectMeta::of_user(dated.user.clone());
    store.set_meta(&key, &etag, &silent).await.expect("set_meta");
    if kind == Kind::Azurite {
        dated.headers.remove(&when);
    }
    assert_eq!(store.head(&key).await.expect("head").meta, dated, "{kind:?}");
}

/// A copy that may not replace either does it exactly or says that it cannot.
async fn careful_copies(kind: Kind) {
    let (store, report) = Server::shared(kind).fresh_bucket().await.open().await;
    let (from, to) = (key("from"), key("to"));
    let etag = store.put(&from, "new".into(), &marked("1"), &Condition::Always).await.expect("put");
    match store.copy(&from, &etag, &to, &Condition::Absent).await {
        Ok(copied) => {
            let info = store.head(&to).await.expect("head");
            assert_eq!((info.etag, info.meta), (copied.clone(), marked("1")), "{kind:?}");
            let again = store.copy(&from, &etag, &to, &Condition::Matches(ETag::new("7"))).await;
            assert_eq!(again.expect_err("another state").kind(), ErrorKind::PreconditionFailed);
            store.copy(&from, &etag, &to, &Condition::Matches(copied)).await.expect("it matches");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{kind:?}: {error}");
            assert!(!report.capabilities.conditional_complete, "{kind:?} could have used an upload");
        }
    }
}

/// A store that was not probed believes nothing: a careful copy goes by an upload whose parts the server
/// copies, and is as exact.
async fn careful_copies_by_parts(kind: Kind) {
    let place = Server::shared(kind).fresh_bucket().await.with("stall_timeout", "30s");
    let (_, report) = place.open().await;
    let remote = place.connect();
    remote.assume(report.capabilities);
    let store = remote.shared();
    if !report.capabilities.conditional_complete {
        return;
    }
    for (name, body) in [("full", "content"), ("empty", "")] {
        let (from, to) = (key(name), key(&format!("copy of {name}")));
        let etag = store.put(&from, body.into(), &marked("1"), &Condition::Always).await.expect("put");
        let copied = store.copy(&from, &etag, &to, &Condition::Absent).await.expect("copy");
        let info = store.head(&to).await.expect("head");
        assert_eq!((info.etag, info.meta), (copied.clone(), marked("1")), "{kind:?} {name}");
        assert_eq!(read(&store, &to).await, body, "{kind:?} {name}");
        let again = store.copy(&from, &etag, &to, &Condition::Absent).await;
        assert_eq!(again.expect_err("it is there").kind(), ErrorKind::PreconditionFailed, "{kind:?} {name}");
        let stale = store.copy(&from, &ETag::new("7"), &key("other"), &Condition::Absent).await;
        assert_eq!(
            stale.expect_err("another state").kind(),
            ErrorKind::PreconditionFailed,
            "{kind:?} {name}"
        );
        store.copy(&from, &etag, &to, &Condition::Matches(copied)).await.expect("it matches");
    }
}

/// The probe finds the clock and leaves nothing.
async fn clean_probe(kind: Kind) {
    let (store, report) = Server::shared(kind).fresh_bucket().await.open().await;
    let skew = report.clock_skew.expect("the server says a date");
    assert!(skew.abs() < 60_000_000_000, "{kind:?}: the same host, {skew} ns apart");
    let prefix = PROBE_PREFIX.to_owned();
    let left = ListRequest { prefix, one_level: false, max_entries: 100, token: None };
    assert_eq!(store.list(&left).await.expect("a page").objects, [], "{kind:?}");
}

macro_rules! on_each_server {
    ($($check:ident),*) => {$(
        mod $check {
            use crate::servers::Kind;

            #[tokio::test(flavor = "multi_thread")]
            async fn on_seaweedfs() {
                super::$check(Kind::SeaweedFs).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_moto() {
                super::$check(Kind::Moto).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_azurite() {
                super::$check(Kind::Azurite).await;
            }
        }
    )*};
}

on_each_server!(
    lost_answer,
    mixed_uploads,
    content_types,
    expiry,
    careful_copies,
    careful_copies_by_parts,
    clean_probe
);
