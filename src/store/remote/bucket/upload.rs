//! Uploads in parts.

use std::fmt::Write;

use bytes::Bytes;
use http::Method;

use super::flavor::Header;
use super::objects::{missing_is_no_match, with_md5};
use super::{Bucket, Flavor};
use crate::object::{ETag, Key};
use crate::store::remote::Checksums;
use crate::store::remote::request::Request;
use crate::store::remote::xml;
use crate::store::{Condition, ObjectMeta, PartReceipt, StoreResult, UploadId};

impl Bucket {
    pub(super) async fn initiate(
        &self,
        operation: &'static str,
        key: &Key,
        meta: &ObjectMeta,
        more: &[Header],
    ) -> StoreResult<UploadId> {
        let mut request = self.on_object(operation, Method::POST, key, &[("uploads", "")])?;
        request = request.headers(more.iter().cloned());
        for (name, value) in self.meta_headers(meta) {
            request = request.header(&name, &value);
        }
        let initiated: xml::Initiated = self.wire.send(request).await?.into_document().await?;
        Ok(UploadId(initiated.upload_id))
    }

    /// Parts carry an MD5, not a CRC: a CRC must be agreed on when the upload begins, and stores that
    /// imitate S3 refuse parts over that. An MD5 is understood everywhere.
    pub(super) async fn upload_part(
        &self,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        let query = [("partNumber", &*number.to_string()), ("uploadId", &*upload.0)];
        let mut request = self.on_object("put_part", Method::PUT, key, &query)?;
        if self.checksums == Checksums::Auto {
            request = with_md5(request, &body);
        }
        let answer = self.wire.send(request.body(body)).await?;
        Ok(PartReceipt { number, tag: answer.etag()?.as_str().to_owned() })
    }

    pub(super) async fn complete(
        &self,
        operation: &'static str,
        key: &Key,
        upload: &UploadId,
        parts: &[PartReceipt],
        condition: &Condition,
    ) -> StoreResult<ETag> {
        let request = self.on_object(operation, Method::POST, key, &[("uploadId", &upload.0)])?;
        let request = request
            .headers(self.flavor.write_condition(condition))
            .header("content-type", "application/xml")
            .body(completion(parts).into())
            .patient();
        // An upload that is not there may have been completed before, and the answer lost: "not found"
        // would be taken for the object.
        let sent = self.wire.send(request).await;
        let answer = sent.map_err(|error| missing_is_no_match(operation, key, error))?;
        let generation = self.flavor.generation(&answer);
        let completed: xml::Tagged = answer.into_document().await?;
        match self.flavor {
            Flavor::Aws => Ok(ETag::new(&completed.etag)),
            // The answer is not documented to name the generation.
            Flavor::Google => match generation {
                Some(generation) => Ok(generation),
                None => Ok(self.head_object(key).await?.etag),
            },
        }
    }

    pub(super) async fn abort(&self, key: &Key, upload: &UploadId) -> StoreResult<()> {
        self.wire.send(self.abort_request(key, upload)?).await.map(drop)
    }

    pub(super) fn abort_request(&self, key: &Key, upload: &UploadId) -> StoreResult<Request> {
        self.on_object("abort_upload", Method::DELETE, key, &[("uploadId", &upload.0)])
    }
}

/// The list of parts, in the order of their numbers.
fn completion(parts: &[PartReceipt]) -> String {
    let mut sorted: Vec<&PartReceipt> = parts.iter().collect();
    sorted.sort_by_key(|part| part.number);
    let mut text = String::from("<CompleteMultipartUpload>");
    for part in sorted {
        let tag = quick_xml::escape::escape(part.tag.as_str());
        write!(text, "<Part><PartNumber>{}</PartNumber><ETag>\"{tag}\"</ETag></Part>", part.number)
            .expect("a String takes all");
    }
    text.push_str("</CompleteMultipartUpload>");
    text
}

#[cfg(test)]
mod tests {
    use super::completion;
    use crate::store::PartReceipt;

    #[test]
    fn parts_are_completed_in_the_order_of_their_numbers() {
        let part = |number, tag: &str| PartReceipt { number, tag: tag.to_owned() };
        assert_eq!(
            completion(&[part(2, "b"), part(1, "a&")]),
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"a&amp;\"</ETag></Part>\
             <Part><PartNumber>2</PartNumber><ETag>\"b\"</ETag></Part></CompleteMultipartUpload>"
        );
    }
}
