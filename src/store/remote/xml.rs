//! The XML that the stores speak, as far as we read it. Names stay exactly as sent.

use quick_xml::DeError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde::de::Error as _;

use super::failure::Refusal;

/// A kind of document.
pub(super) trait Document: DeserializeOwned {
    /// The name of its root. Without this check a page of HTML would pass for an empty listing.
    const ROOTS: &'static [&'static str];
}

/// Reads a document; the error says why it is none.
pub(super) fn parse<T: Document>(text: &str) -> Result<T, DeError> {
    let text = text.trim_start_matches('\u{feff}');
    match root_name(text) {
        Some(root) if T::ROOTS.contains(&root) => quick_xml::de::from_str(text),
        Some(root) => Err(DeError::custom(format!("it is a `{root}`"))),
        None => Err(DeError::custom("it is no XML")),
    }
}

/// The name of the root element, after the declaration.
fn root_name(text: &str) -> Option<&str> {
    let mut rest = text.trim_start();
    while let Some(declaration) = rest.strip_prefix("<?") {
        rest = declaration.split_once("?>")?.1.trim_start();
    }
    let name = rest.strip_prefix('<')?;
    let end = name.find(|c: char| c.is_whitespace() || c == '>' || c == '/')?;
    name.get(..end)
}

/// `<Error>` of S3, Azure and Google.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    request_id: String,
}

impl Document for ErrorBody {
    const ROOTS: &'static [&'static str] = &["Error"];
}

impl From<ErrorBody> for Refusal {
    fn from(body: ErrorBody) -> Refusal {
        Refusal { code: body.code, message: body.message, request_id: body.request_id }
    }
}

/// What `CreateMultipartUpload` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Initiated {
    pub(super) upload_id: String,
}

impl Document for Initiated {
    const ROOTS: &'static [&'static str] = &["InitiateMultipartUploadResult"];
}

/// What `CompleteMultipartUpload`, `CopyObject` and `UploadPartCopy` answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tagged {
    #[serde(rename = "ETag")]
    pub(super) etag: String,
}

impl Document for Tagged {
    const ROOTS: &'static [&'static str] =
        &["CompleteMultipartUploadResult", "CopyObjectResult", "CopyPartResult"];
}

/// `ListBucketResult`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BucketListing {
    #[serde(default)]
    pub(super) contents: Vec<Content>,
    #[serde(default)]
    pub(super) common_prefixes: Vec<CommonPrefix>,
    pub(super) next_continuation_token: Option<String>,
    #[serde(default)]
    pub(super) is_truncated: bool,
    pub(super) encoding_type: Option<String>,
}

impl Document for BucketListing {
    const ROOTS: &'static [&'static str] = &["ListBucketResult"];
}

/// One object of a [`BucketListing`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Content {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) last_modified: String,
    #[serde(rename = "ETag")]
    pub(super) etag: Option<String>,
    /// Google only.
    pub(super) generation: Option<String>,
}

/// One folded prefix.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CommonPrefix {
    pub(super) prefix: String,
}

/// Azure's `EnumerationResults`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerListing {
    pub(super) blobs: Blobs,
    pub(super) next_marker: Option<String>,
}

impl Document for ContainerListing {
    const ROOTS: &'static [&'static str] = &["EnumerationResults"];
}

/// Blobs and prefixes, mixed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Blobs {
    #[serde(default)]
    pub(super) blob: Vec<Blob>,
    #[serde(default)]
    pub(super) blob_prefix: Vec<BlobPrefix>,
}

/// One blob.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Blob {
    pub(super) name: BlobName,
    pub(super) properties: BlobProperties,
}

/// One folded prefix.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BlobPrefix {
    pub(super) name: BlobName,
}

/// A name, percent-encoded if XML cannot hold it.
#[derive(Debug, Deserialize)]
pub(super) struct BlobName {
    #[serde(rename = "@Encoded")]
    pub(super) encoded: Option<bool>,
    #[serde(rename = "$text", default)]
    pub(super) text: String,
}

/// What a listing says of one blob.
#[derive(Debug, Deserialize)]
pub(super) struct BlobProperties {
    #[serde(rename = "Last-Modified")]
    pub(super) last_modified: String,
    #[serde(rename = "Content-Length")]
    pub(super) content_length: u64,
    #[serde(rename = "Etag")]
    pub(super) etag: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{BucketListing, ContainerListing, ErrorBody, parse};

    #[test]
    fn a_bucket_listing_keeps_names_as_sent() {
        let text = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><IsTruncated>true</IsTruncated>\
            <Contents><Key> a &amp; b </Key><Size>7</Size><LastModified>t</LastModified></Contents>\
            <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>\
            <Contents><Key>&#x1;</Key><Size>0</Size><LastModified>t</LastModified></Contents>\
            <NextContinuationToken>n</NextContinuationToken></ListBucketResult>";
        let listing: BucketListing = parse(text).expect("a listing");
        let keys: Vec<&str> = listing.contents.iter().map(|c| c.key.as_str()).collect();
        assert_eq!(keys, [" a & b ", "\u{1}"]);
        assert!(listing.is_truncated && listing.encoding_type.is_none());
    }

    #[test]
    fn a_container_listing_mixes_blobs_and_prefixes() {
        let text = "<EnumerationResults><Blobs><BlobPrefix><Name>d/</Name></BlobPrefix><Blob>\
            <Name Encoded=\"true\">a%01 </Name><Properties><Last-Modified>t</Last-Modified>\
            <Content-Length>3</Content-Length><Etag>0x1</Etag></Properties></Blob>\
            <BlobPrefix><Name> e/</Name></BlobPrefix></Blobs><NextMarker/></EnumerationResults>";
        let listing: ContainerListing = parse(text).expect("a listing");
        let blob = &listing.blobs.blob[0];
        assert_eq!((blob.name.text.as_str(), blob.name.encoded), ("a%01 ", Some(true)));
        assert_eq!(listing.blobs.blob_prefix[1].name.text, " e/");
        let empty: ContainerListing =
            parse("<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>").expect("empty");
        assert!(empty.blobs.blob.is_empty());
    }

    #[test]
    fn an_error_body_needs_no_field() {
        let error: ErrorBody = parse("<Error><Code>SlowDown</Code></Error>").expect("an error");
        assert_eq!(error.code, "SlowDown");
        assert!(parse::<ErrorBody>("<html></html>").is_err());
    }

    #[test]
    fn another_document_is_no_empty_listing() {
        for text in ["<html><body/></html>", "<Error><Code>x</Code></Error>", "", "<?xml version=\"1.0\"?>"] {
            assert!(parse::<BucketListing>(text).is_err(), "{text}");
        }
    }
}
