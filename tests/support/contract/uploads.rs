//! What an upload in parts must do.

use bridgefs::object::ETag;
use bridgefs::store::{Condition, ObjectMeta, PartReceipt, StoreResult, UploadId};
use bytes::Bytes;

use super::{NOT_FOUND, REFUSED, Room, assert_kind, meta, noise};

async fn part(room: &Room, upload: &UploadId, number: u32, body: &Bytes) -> PartReceipt {
    let sent = room.store.put_part(&room.key("object"), upload, number, body.clone()).await;
    let receipt = sent.expect("a part");
    assert_eq!(receipt.number, number);
    receipt
}

/// An upload appears whole, at its completion, whatever the order in which its parts came.
pub async fn uploads(room: &Room) {
    let (store, key) = (&room.store, room.key("object"));
    let part_bytes = usize::try_from(store.capabilities().part_bytes_min).expect("fits").max(1000);
    let bodies = [noise(part_bytes, 3), noise(part_bytes + 1, 4), noise(17, 5)];
    let info = meta(&[("mode", "100755")]);
    let upload = store.start_upload(&key, &info).await.expect("start");
    let third = part(room, &upload, 3, &bodies[2]).await;
    part(room, &upload, 1, &noise(part_bytes, 6)).await;
    let second = part(room, &upload, 2, &bodies[1]).await;
    let first = part(room, &upload, 1, &bodies[0]).await;
    assert_kind(store.head(&key).await, NOT_FOUND, "an upload is not visible before it is completed");
    let completed =
        store.complete_upload(&key, &upload, &[first, second, third], &info, &Condition::Always).await;
    let etag = completed.expect("complete");
    assert!(room.read("object").await == bodies.concat(), "the parts in order, the last sent of each number");
    let head = store.head(&key).await.expect("head");
    assert_eq!(head.etag, etag, "completion returns the tag that head says");
    if store.capabilities().metadata {
        assert_eq!(head.meta, info, "an upload keeps its metadata");
    }
}

async fn upload_if(room: &Room, body: &'static str, condition: &Condition) -> StoreResult<ETag> {
    let (store, key, info) = (&room.store, room.key("object"), ObjectMeta::default());
    let upload = store.start_upload(&key, &info).await.expect("start");
    let receipt = part(room, &upload, 1, &body.into()).await;
    store.complete_upload(&key, &upload, &[receipt], &info, condition).await
}

/// A completion whose condition does not hold changes nothing.
pub async fn conditional_uploads(room: &Room) {
    if !room.store.capabilities().conditional_complete {
        return;
    }
    let first = upload_if(room, "first", &Condition::Absent).await.expect("nothing is there");
    assert_kind(upload_if(room, "no", &Condition::Absent).await, REFUSED, "something is there");
    let matching = Condition::Matches(first);
    upload_if(room, "second", &matching).await.expect("it matches");
    assert_kind(upload_if(room, "no", &matching).await, REFUSED, "a replaced state does not match");
    assert_eq!(room.read("object").await, "second", "a refused completion changes nothing");
}

/// An upload that was given up leaves nothing and cannot go on.
pub async fn aborted_uploads(room: &Room) {
    let (store, key, info) = (&room.store, room.key("object"), ObjectMeta::default());
    let upload = store.start_upload(&key, &info).await.expect("start");
    let receipt = part(room, &upload, 1, &"x".into()).await;
    store.abort_upload(&key, &upload).await.expect("abort");
    assert_kind(store.head(&key).await, NOT_FOUND, "an aborted upload is not visible");
    if store.abort_upload(&key, &upload).await.is_err() {
        // Where the store keeps uploads apart from parts, a completion after the end is an error.
        let late = store.complete_upload(&key, &upload, &[receipt], &info, &Condition::Always).await;
        assert!(late.is_err(), "an aborted upload cannot be completed");
        assert_kind(store.head(&key).await, NOT_FOUND, "an aborted upload stays invisible");
    }
}
