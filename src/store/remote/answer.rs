//! What a server answered: headers, bounded documents, object descriptions, refusals.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, ETAG, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use object_store::client::{HttpResponse, HttpResponseBody};

use super::failure::{self, Refusal};
use super::times;
use super::xml;
use crate::clock;
use crate::object::{ETag, Key};
use crate::store::{ErrorKind, HttpHeader, HttpHeaders, ObjectInfo, ObjectMeta, StoreError, StoreResult};

/// The largest listing that is read. A hostile server could otherwise fill the memory.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;
/// The most of a refusal that is read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// An answer whose header has arrived.
#[derive(Debug)]
pub(super) struct Answer {
    operation: &'static str,
    key: Option<Key>,
    status: StatusCode,
    headers: HeaderMap,
    body: HttpResponseBody,
    stall: Duration,
}

impl Answer {
    pub(super) fn new(
        operation: &'static str,
        key: Option<Key>,
        response: HttpResponse,
        stall: Duration,
    ) -> Answer {
        let (parts, body) = response.into_parts();
        Answer { operation, key, status: parts.status, headers: parts.headers, body, stall }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// A header, if it is there and readable.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The bytes that follow.
    pub(super) fn into_body(self) -> HttpResponseBody {
        self.body
    }

    /// An error of `kind` about this answer.
    pub(super) fn error(&self, kind: ErrorKind, detail: impl Into<String>) -> StoreError {
        let error = StoreError::new(kind, self.operation, detail);
        match &self.key {
            Some(key) => error.on(key),
            None => error,
        }
    }

    /// The answer, or the error that its status and code mean.
    pub(super) async fn into_success(self) -> StoreResult<Answer> {
        if self.status.is_success() {
            return Ok(self);
        }
        let (operation, key, status) = (self.operation, self.key.clone(), self.status);
        let refusal = self.into_refusal().await;
        let error = refusal.into_error(operation, status);
        Err(match &key {
            Some(key) => error.on(key),
            None => error,
        })
    }

    /// What the store says of a failure: the body if there is one, else its headers.
    pub(super) async fn into_refusal(self) -> Refusal {
        let mut by_header = Refusal {
            code: self.header("x-ms-error-code").unwrap_or_default().to_owned(),
            message: String::new(),
            request_id: self.request_id(),
        };
        // A refusal whose text cannot be read is still that refusal, by its status.
        let text = self.into_text(REFUSAL_BYTES_MAX).await.unwrap_or_default();
        if let Ok(body) = xml::parse::<xml::ErrorBody>(&text) {
            let body = Refusal::from(body);
            by_header.message = body.message;
            by_header.code = if body.code.is_empty() { by_header.code } else { body.code };
            if by_header.request_id.is_empty() {
                by_header.request_id = body.request_id;
            }
        }
        by_header
    }

    fn request_id(&self) -> String {
        let names = ["x-amz-request-id", "x-ms-request-id", "x-guploader-uploadid"];
        names.iter().find_map(|name| self.header(name)).unwrap_or_default().to_owned()
    }

    /// The document of the answer. S3 may answer 200 and then an `<Error>`, because it had to begin the
    /// answer before it knew: that is the error it names.
    pub(super) async fn into_document<T: xml::Document>(self) -> StoreResult<T> {
        let (operation, key, request_id) = (self.operation, self.key.clone(), self.request_id());
        let on_key = |error: StoreError| match &key {
            Some(key) => error.on(key),
            None => error,
        };
        let text = self.into_text(DOCUMENT_BYTES_MAX).await?;
        xml::parse::<T>(&text).map_err(|error| {
            if let Ok(body) = xml::parse::<xml::ErrorBody>(&text) {
                let refusal = Refusal { request_id, ..Refusal::from(body) };
                return on_key(refusal.into_error(operation, StatusCode::INTERNAL_SERVER_ERROR));
            }
            let detail = format!("the answer is not what was asked for: {error}");
            on_key(StoreError::new(ErrorKind::Corrupt, operation, detail).caused_by(error))
        })
    }

    /// Reads the whole body as text, at most `bytes_max`.
    pub(super) async fn into_text(self, bytes_max: usize) -> StoreResult<String> {
        let operation = self.operation;
        let corrupt = |detail: String| StoreError::new(ErrorKind::Corrupt, operation, detail);
        let bytes = self.into_bytes(bytes_max).await?;
        String::from_utf8(bytes.into())
            .map_err(|error| corrupt("the answer is not UTF-8".into()).caused_by(error))
    }

    async fn into_bytes(self, bytes_max: usize) -> StoreResult<Bytes> {
        let operation = self.operation;
        let mut chunks = self.body.bytes_stream();
        let mut all = BytesMut::new();
        loop {
            let Ok(next) = clock::timeout(self.stall, chunks.next()).await else {
                let detail = format!("the answer stalled for {:?}", self.stall);
                return Err(StoreError::new(ErrorKind::Unavailable, operation, detail));
            };
            let Some(chunk) = next else { return Ok(all.freeze()) };
            all.extend_from_slice(&chunk.map_err(|error| failure::broken(operation, error))?);
            if all.len() > bytes_max {
                let detail = format!("the answer is longer than {bytes_max} bytes");
                return Err(StoreError::new(ErrorKind::Corrupt, operation, detail));
            }
        }
    }

    /// The tag in the header.
    pub(super) fn etag(&self) -> StoreResult<ETag> {
        let raw = self.headers.get(ETAG).and_then(|value| value.to_str().ok());
        let raw = raw.ok_or_else(|| self.error(ErrorKind::Corrupt, "the answer has no ETag"))?;
        Ok(ETag::new(raw))
    }

    /// The length that the answer promises for its body.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The description of the object of `size` bytes, user metadata being in headers that start with
    /// `meta_prefix`.
    pub(super) fn object_info(&self, size: u64, etag: ETag, meta_prefix: &str) -> StoreResult<ObjectInfo> {
        let modified = self.header(LAST_MODIFIED.as_str()).and_then(times::http_date);
        let modified =
            modified.ok_or_else(|| self.error(ErrorKind::Corrupt, "the answer has no valid date"))?;
        Ok(ObjectInfo { size, etag, modified, meta: self.meta(meta_prefix) })
    }

    fn meta(&self, prefix: &str) -> ObjectMeta {
        let user = self.headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(prefix)?;
            // Other tools may have left bytes that are no text: the object is readable all the same.
            Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        });
        ObjectMeta { headers: http_headers(&self.headers), user: user.collect() }
    }
}

/// The headers that the store keeps for the object. A value that is no text stays one that a request refuses: a
/// change of metadata, which has to send it again, then fails instead of losing it.
fn http_headers(answered: &HeaderMap) -> HttpHeaders {
    let value_of = |header: HttpHeader| {
        let value = String::from_utf8_lossy(answered.get(header.name())?.as_bytes()).into_owned();
        let value = match header {
            HttpHeader::ContentEncoding => without_framing(&value),
            HttpHeader::ContentType
            | HttpHeader::CacheControl
            | HttpHeader::ContentDisposition
            | HttpHeader::ContentLanguage
            | HttpHeader::Expires => value,
        };
        (!value.is_empty()).then_some((header, value))
    };
    HttpHeader::ALL.into_iter().filter_map(value_of).collect()
}

/// Some servers keep the `aws-chunked` of a request's own framing; sent again, it would announce one that is
/// not there.
fn without_framing(encoding: &str) -> String {
    let codings = encoding.split(',').map(str::trim).filter(|coding| *coding != "aws-chunked");
    codings.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{http_headers, without_framing};
    use crate::store::HttpHeader;

    #[test]
    fn the_headers_of_an_object_are_those_that_it_was_put_with() {
        let table = [
            (HttpHeader::ContentType, "text/html; charset=utf-8"),
            (HttpHeader::CacheControl, "max-age=77"),
            (HttpHeader::ContentDisposition, "attachment; filename=\"a b.txt\""),
            (HttpHeader::ContentEncoding, "gzip"),
            (HttpHeader::ContentLanguage, "de, en"),
            (HttpHeader::Expires, "Thu, 01 Dec 1994 16:00:00 GMT"),
        ];
        let mut answered = HeaderMap::new();
        for (header, value) in table {
            answered.insert(header.name(), HeaderValue::from_static(value));
        }
        answered.insert("accept-ranges", HeaderValue::from_static("bytes"));
        assert_eq!(http_headers(&answered), table.map(|(header, value)| (header, value.to_owned())).into());
    }

    #[test]
    fn a_value_that_is_no_text_is_not_taken_for_absent() {
        let mut answered = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"attachment; filename=\xff").expect("HTTP allows it");
        answered.insert("content-disposition", value);
        let read = http_headers(&answered);
        let value = &read[&HttpHeader::ContentDisposition];
        assert!(value.contains(char::REPLACEMENT_CHARACTER), "a request refuses it: {value}");
    }

    #[test]
    fn the_framing_of_a_request_is_no_encoding_of_the_object() {
        let table =
            [("aws-chunked", ""), ("aws-chunked,gzip", "gzip"), ("gzip", "gzip"), ("br, gzip", "br, gzip")];
        for (answered, encoding) in table {
            assert_eq!(without_framing(answered), encoding);
        }
    }
}
