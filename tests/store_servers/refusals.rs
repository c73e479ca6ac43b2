//! What a person gets who made a mistake in the configuration: one clear sentence, of the right kind.

use bridgefs::object::Key;
use bridgefs::store::remote::{self, RemoteStore};
use bridgefs::store::{ByteRange, Condition, ErrorKind, ListRequest, ObjectMeta};

use crate::servers::{Kind, Place, Server};

/// Opening fails with this kind, and the message has these words.
async fn refuses(place: &Place, kind: ErrorKind, words: &[&str]) {
    let error = remote::open("test", &place.url, &place.options).await.expect_err("cannot be opened");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is in: {text}");
    }
    for secret in ["secret", "Eby8vdM02", "Signature="] {
        let configured = place.options.values().any(|value| value.contains(secret));
        assert!(!configured || !text.contains(secret), "no secret is in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_denied_and_said() {
    let seaweedfs = Server::shared(Kind::SeaweedFs).fresh_bucket().await;
    refuses(&seaweedfs.with("secret_access_key", "wrong"), ErrorKind::Denied, &["the secret key is wrong"])
        .await;
    let azurite = Server::shared(Kind::Azurite).fresh_bucket().await;
    let azurite = azurite.with("account_key", "d3Jvbmc=");
    refuses(&azurite, ErrorKind::Denied, &["403"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_access_key_is_denied_and_said() {
    let place = Server::shared(Kind::SeaweedFs).fresh_bucket().await.with("access_key_id", "nobody");
    refuses(&place, ErrorKind::Denied, &["does not know this access key"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_never_a_missing_object() {
    for (kind, words) in [
        (Kind::SeaweedFs, "the bucket does not exist"),
        (Kind::Moto, "the bucket does not exist"),
        (Kind::Azurite, "the container does not exist"),
    ] {
        let place = Server::shared(kind).place(&format!("never-created-{:016x}", rand::random::<u64>()));
        refuses(&place, ErrorKind::Denied, &[words]).await;
        let store = place.connect().shared();
        let key = Key::new("a").expect("not empty");
        let all = ListRequest { prefix: String::new(), one_level: false, max_entries: 9, token: None };
        let errors = [
            store.head(&key).await.map(drop).expect_err("no bucket"),
            store.get(&key, ByteRange::All, None).await.map(drop).expect_err("no bucket"),
            store.list(&all).await.map(drop).expect_err("no bucket"),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Denied, "{kind:?}: {error}");
        }
        let put = store.put(&key, "x".into(), &ObjectMeta::default(), &Condition::Always).await;
        match put {
            // SeaweedFS makes the bucket. It must stay the last request of this test.
            Ok(_) => assert_eq!(kind, Kind::SeaweedFs),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Denied, "{kind:?}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_unavailable_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let place = Server::shared(Kind::Moto).place("bucket").with("endpoint", &endpoint);
    refuses(&place, ErrorKind::Unavailable, &["cannot connect", "refused"]).await;
    let place = place.with("endpoint", "http://no-such-host.invalid");
    refuses(&place, ErrorKind::Unavailable, &["cannot connect"]).await;
}

#[tokio::test]
async fn mistakes_in_the_options_are_found_without_a_request() {
    let place = Place { url: "s3://bucket".to_owned(), options: [].into() };
    let refused = |place: Place| {
        let error = RemoteStore::connect("test", &place.url, &place.options).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        error.to_string()
    };
    assert!(refused(place.clone().with("regoin", "x")).contains("did you mean `region`?"));
    assert!(refused(place.clone().with("stall_timeout", "soon")).contains("`stall_timeout` is a duration"));
    assert!(refused(place.clone().with("endpoint", "http://127.0.0.1:1")).contains("allow_http"));
    let ftp = Place { url: "ftp://bucket".to_owned(), ..place };
    assert!(refused(ftp).contains("`ftp://` is no cloud store"));
    let azure = Place { url: "az://container".to_owned(), options: [].into() };
    assert!(refused(azure).contains("account_name"));
}
