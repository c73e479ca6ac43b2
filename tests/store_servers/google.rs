//! The dialect of Google Cloud Storage, against a shim (`support/gcs_shim.rs`): that our requests are consistent
//! with its documentation, not that the real service agrees.

use bridgefs::object::Key;
use bridgefs::store::{Condition, ErrorKind, ObjectMeta};

use crate::gcs_shim;
use crate::servers::{Kind, Place, Server};

async fn fresh_bucket() -> Place {
    let moto = Server::shared(Kind::Moto);
    let place = moto.fresh_bucket().await;
    let base_url = gcs_shim::start(moto.field("endpoint")).await;
    let bucket = place.url.strip_prefix("s3://").expect("an S3 place");
    let options =
        [("base_url", base_url.as_str()), ("bearer_token", gcs_shim::TOKEN), ("stall_timeout", "30s")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Place { url: format!("gs://{bucket}"), options }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shim_keeps_the_contract() {
    let (store, report) = fresh_bucket().await.open().await;
    let able = report.capabilities;
    assert!(able.put_if_absent && able.put_if_match && able.conditional_complete && able.conditional_delete);
    assert!(able.conditional_get && able.metadata && able.checksums);
    crate::keeps_the_contract("Google shim", &[], store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tag_of_an_object_is_its_generation() {
    let store = fresh_bucket().await.connect().shared();
    let (key, meta) = (Key::new("a").expect("not empty"), ObjectMeta::default());
    let first = store.put(&key, "same".into(), &meta, &Condition::Absent).await.expect("put");
    let second =
        store.put(&key, "same".into(), &meta, &Condition::Matches(first.clone())).await.expect("put");
    assert_ne!(first, second, "the same bytes are another state");
    let numbers: Vec<u64> =
        [first, second].iter().map(|tag| tag.as_str().parse().expect("a generation")).collect();
    assert!(numbers[0] < numbers[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_denied() {
    let place = fresh_bucket().await.with("bearer_token", "wrong");
    let error = place.connect().shared().probe().await.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}
