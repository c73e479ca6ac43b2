//! Servers that stall or die: every call ends, and says that the answer is unknown.

use std::net::TcpListener;
use std::time::Duration;

use bridgefs::clock;

use bridgefs::object::Key;
use bridgefs::store::{ByteRange, Condition, ErrorKind, ListRequest, ObjectMeta, SharedStore};

use crate::servers::{Kind, Place, Server};

/// Far longer than the deadlines in these tests, far shorter than for ever.
const HANGS: Duration = Duration::from_secs(60);

/// Every kind of call ends, and says that the answer is unknown.
async fn everything_is_unavailable(store: &SharedStore, key: &Key) {
    clock::timeout(HANGS, every_call_is_unavailable(store, key)).await.expect("no call hangs");
}

async fn every_call_is_unavailable(store: &SharedStore, key: &Key) {
    let all = ListRequest { prefix: String::new(), one_level: false, max_entries: 9, token: None };
    let meta = ObjectMeta::default();
    // A mutation without an answer may happen later: it must not touch what the test looks at.
    let lost = Key::new("lost").expect("not empty");
    let errors = [
        store.head(key).await.map(drop).expect_err("no answer"),
        store.get(key, ByteRange::All, None).await.map(drop).expect_err("no answer"),
        store.put(&lost, "x".into(), &meta, &Condition::Always).await.map(drop).expect_err("no answer"),
        store.delete(&lost, None).await.map(drop).expect_err("no answer"),
        store.list(&all).await.map(drop).expect_err("no answer"),
        store.probe().await.expect_err("no answer"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

async fn survives(kind: Kind) {
    let mut server = Server::start(kind);
    let place = server.fresh_bucket().await.with("stall_timeout", "1s");
    let store = place.connect().shared();
    let (key, meta) = (Key::new("a").expect("not empty"), ObjectMeta::default());
    let patient = place.clone().with("stall_timeout", "30s").connect().shared();
    patient.put(&key, "before".into(), &meta, &Condition::Always).await.expect("it is up");

    let lost = Key::new("lost").expect("not empty");
    server.pause();
    everything_is_unavailable(&store, &key).await;
    let late = store.put(&lost, "x".into(), &meta, &Condition::Always).await.expect_err("no answer");
    assert!(late.may_yet_happen(), "the server has it, and may do it when it goes on: {late}");
    server.resume();
    // A connection that waited through the stall may rightly be reset once: a new store has none.
    let patient = place.clone().with("stall_timeout", "30s").connect().shared();
    assert_eq!(patient.head(&key).await.expect("it is back").size, 6);

    server.kill();
    everything_is_unavailable(&store, &key).await;
    let never = store.put(&lost, "x".into(), &meta, &Condition::Always).await.expect_err("refused");
    assert!(!never.may_yet_happen(), "nobody listens: {never}");
    if kind != Kind::Moto {
        // Moto has no disk.
        server.restart();
        // A new one: a connection of before the crash may rightly be unavailable once more.
        let patient = place.with("stall_timeout", "30s").connect().shared();
        assert_eq!(patient.head(&key).await.expect("it is back").size, 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seaweedfs_that_stalls_or_dies_is_unavailable_until_it_is_back() {
    survives(Kind::SeaweedFs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moto_that_stalls_or_dies_is_unavailable() {
    survives(Kind::Moto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_azurite_that_stalls_or_dies_is_unavailable_until_it_is_back() {
    survives(Kind::Azurite).await;
}

/// A host that hangs while it receives: its kernel takes what it has room for, and then nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stops_moving_ends_long_before_the_slowest_line_would_be_through() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let place = Place { url: "s3://bucket".to_owned(), options: [].into() };
    let place = place.with("endpoint", &endpoint).with("allow_http", "true").with("skip_signature", "true");
    let store = place.connect().shared();
    let (key, meta) = (Key::new("a").expect("not empty"), ObjectMeta::default());
    let put = store.put(&key, vec![0; 8 << 20].into(), &meta, &Condition::Always);
    let error = clock::timeout(HANGS, put).await.expect("it ends").expect_err("nobody reads it");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.may_yet_happen(), "{error}");
}
