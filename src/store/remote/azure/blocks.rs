//! Uploads in parts. Azure knows no upload: blocks wait at the blob until a list names them. Our token is
//! part of every block id, so that two uploads of one key cannot mix their blocks.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::Method;

use super::{Container, with_meta, write_condition};
use crate::object::{ETag, Key};
use crate::store::{Condition, ErrorKind, ObjectMeta, PartReceipt, StoreError, StoreResult, UploadId};

/// A new token.
pub(super) fn new_upload() -> UploadId {
    UploadId(format!("{:016x}", rand::random::<u64>()))
}

/// The id of a block: the same for a repetition of the same part. All ids of a blob have one length, as
/// Azure demands, and all their characters are safe in XML.
fn block_id(upload: &UploadId, number: u32) -> String {
    BASE64.encode(format!("{}-{number:08}", upload.0))
}

impl Container {
    pub(super) async fn put_block(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        let tag = block_id(upload, number);
        let request = self.on_blob("put_part", Method::PUT, key, &[("comp", "block"), ("blockid", &tag)])?;
        self.wire.send(self.with_checksum(request, body)).await?;
        Ok(PartReceipt { number, tag })
    }

    pub(super) async fn put_block_list(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[PartReceipt],
        meta: &ObjectMeta,
        condition: &Condition,
    ) -> StoreResult<ETag> {
        if let Some(stranger) = parts.iter().find(|part| part.tag != block_id(upload, part.number)) {
            let detail = format!("part {} belongs to another upload", stranger.number);
            return Err(StoreError::new(ErrorKind::Unsupported, "complete_upload", detail).on(key));
        }
        let request = self.on_blob("complete_upload", Method::PUT, key, &[("comp", "blocklist")])?;
        let request = with_meta(request, meta)
            .headers(write_condition(condition))
            .header("content-type", "application/xml")
            .body(block_list(parts).into())
            .patient();
        self.wire.send(request).await?.etag()
    }
}

/// The blocks in the order of their numbers; `Latest` takes those that were sent, not those of the blob
/// that is there.
fn block_list(parts: &[PartReceipt]) -> String {
    let mut sorted: Vec<&PartReceipt> = parts.iter().collect();
    sorted.sort_by_key(|part| part.number);
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for part in sorted {
        write!(text, "<Latest>{}</Latest>", part.tag).expect("a String takes all");
    }
    text.push_str("</BlockList>");
    text
}

#[cfg(test)]
mod tests {
    use super::{UploadId, block_id, block_list, new_upload};
    use crate::store::PartReceipt;

    #[test]
    fn a_repeated_part_has_the_same_id_and_another_upload_another() {
        let upload = UploadId("00000000000000aa".to_owned());
        assert_eq!(block_id(&upload, 1), block_id(&upload, 1));
        assert_ne!(block_id(&upload, 1), block_id(&new_upload(), 1));
        assert_eq!(block_id(&upload, 1).len(), block_id(&upload, 50_000).len());
    }

    #[test]
    fn blocks_are_listed_in_order() {
        let part = |number, tag: &str| PartReceipt { number, tag: tag.to_owned() };
        let text = block_list(&[part(2, "b"), part(1, "a")]);
        assert!(text.ends_with("<BlockList><Latest>a</Latest><Latest>b</Latest></BlockList>"), "{text}");
    }
}
