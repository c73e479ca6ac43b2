//! What a refusal means: the store's status and error code, mapped to what the caller does next.

use http::StatusCode;
use object_store::client::{HttpError, HttpErrorKind};

use crate::store::{ErrorKind, StoreError};

/// An answer that is no success.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusal {
    /// The store's own code (`NoSuchKey`), empty if it sent none.
    pub(super) code: String,
    /// Its explanation.
    pub(super) message: String,
    /// Its name for the request, for the provider's support.
    pub(super) request_id: String,
}

impl Refusal {
    /// The error of `operation`, for an answer with this status.
    pub(super) fn into_error(self, operation: &'static str, status: StatusCode) -> StoreError {
        let kind = kind_of(status, &self.code, &self.message);
        StoreError::new(kind, operation, self.describe(status))
    }

    fn describe(&self, status: StatusCode) -> String {
        let mut text = advice(&self.code).map(|advice| format!("{advice}: ")).unwrap_or_default();
        text.push_str(status.as_str());
        for part in [self.code.as_str(), self.message.as_str()] {
            if !part.is_empty() {
                text.push_str(", ");
                text.push_str(part);
            }
        }
        if !self.request_id.is_empty() {
            text.push_str(&format!(" (request {})", self.request_id));
        }
        text
    }
}

/// A sentence for what a person must mend.
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "NoSuchBucket" => "the bucket does not exist",
        "ContainerNotFound" => "the container does not exist",
        "ContainerBeingDeleted" => "the container is being deleted",
        "InvalidAccessKeyId" => "the store does not know this access key",
        "SignatureDoesNotMatch" => "the secret key is wrong",
        "AuthenticationFailed" => "the credentials are wrong or have expired",
        "ExpiredToken" | "TokenRefreshRequired" => "the credentials have expired",
        "RequestTimeTooSkewed" => "the clock of this host is wrong",
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            "the bucket is in another region"
        }
        _ => return None,
    })
}

/// The kind of a refusal. The code says more than the status, where there is one.
pub(super) fn kind_of(status: StatusCode, code: &str, message: &str) -> ErrorKind {
    by_code(code, message).unwrap_or_else(|| by_status(status))
}

fn by_code(code: &str, message: &str) -> Option<ErrorKind> {
    Some(match code {
        "NoSuchKey" | "BlobNotFound" | "NoSuchUpload" | "NoSuchVersion" | "ResourceNotFound" => {
            ErrorKind::NotFound
        }
        // Never "not found": an absent bucket says nothing about the object that should be in it.
        "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled" => {
            ErrorKind::Denied
        }
        "PreconditionFailed"
        | "ConditionalRequestConflict"
        | "BlobAlreadyExists"
        | "ConditionNotMet"
        | "TargetConditionNotMet"
        | "SourceConditionNotMet"
        | "OperationAborted"
        // The blocks of an upload are gone: another one of the same blob was completed in between.
        | "InvalidBlockList" => ErrorKind::PreconditionFailed,
        "InvalidObjectState"
        | "BlobArchived"
        | "BlobImmutableDueToPolicy"
        | "BlobBeingRehydrated"
        | "LeaseIdMissing"
        | "ObjectUnderActiveHold"
        | "RetentionPolicyNotMet" => ErrorKind::Locked,
        "AccessDenied" if message.contains("object lock") || message.contains("WORM") => ErrorKind::Locked,
        "SlowDown" | "ServerBusy" | "TooManyRequests" | "Throttling" | "RequestLimitExceeded" => {
            ErrorKind::Throttled
        }
        // The bytes were spoilt on the way, or came too slowly: sending them again may help.
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch"
        | "Md5Mismatch"
        | "RequestTimeout"
        | "IncompleteBody"
        | "InternalError"
        | "OperationTimedOut" => ErrorKind::Unavailable,
        "EntityTooLarge"
        | "KeyTooLongError"
        | "KeyTooLong"
        | "EntityTooSmall"
        | "InvalidBlobOrBlock"
        | "RequestBodyTooLarge"
        | "MetadataTooLarge"
        | "InvalidResourceName"
        | "OutOfRangeInput"
        | "InvalidURI"
        | "InvalidObjectName"
        | "NotImplemented"
        | "BlockCountExceedsLimit" => ErrorKind::Unsupported,
        "InvalidRange" => ErrorKind::Corrupt,
        "RequestTimeTooSkewed" | "PermanentRedirect" | "AuthorizationHeaderMalformed" => ErrorKind::Denied,
        _ => return None,
    })
}

fn by_status(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        404 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::PreconditionFailed,
        401 | 403 | 300..=399 => ErrorKind::Denied,
        416 => ErrorKind::Corrupt,
        429 => ErrorKind::Throttled,
        408 | 500 | 502..=599 => ErrorKind::Unavailable,
        400..=499 | 501 => ErrorKind::Unsupported,
        _ => ErrorKind::Corrupt,
    }
}

/// The error of a request that got no whole answer. A URL is never part of the text: it may be signed.
pub(super) fn broken(operation: &'static str, error: HttpError) -> StoreError {
    let is_sent = error.kind() != HttpErrorKind::Connect;
    let detail = match error.kind() {
        HttpErrorKind::Connect => "cannot connect",
        HttpErrorKind::Timeout => "no answer in time",
        HttpErrorKind::Request | HttpErrorKind::Interrupted => "the connection broke",
        HttpErrorKind::Decode => "the answer cannot be decoded",
        HttpErrorKind::Unknown => "the request failed",
        _ => "the request failed",
    };
    let detail = format!("{detail}: {}", root_cause(&error));
    let failure = StoreError::new(ErrorKind::Unavailable, operation, detail).caused_by(error);
    if is_sent { failure } else { failure.settled() }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{Refusal, kind_of};
    use crate::store::ErrorKind;

    #[test]
    fn each_refusal_says_what_to_do_next() {
        let table = [
            (404, "NoSuchKey", ErrorKind::NotFound),
            (404, "", ErrorKind::NotFound),
            (404, "NoSuchBucket", ErrorKind::Denied),
            (404, "ContainerNotFound", ErrorKind::Denied),
            (412, "", ErrorKind::PreconditionFailed),
            (409, "ConditionalRequestConflict", ErrorKind::PreconditionFailed),
            (409, "BlobAlreadyExists", ErrorKind::PreconditionFailed),
            (409, "BlobImmutableDueToPolicy", ErrorKind::Locked),
            (403, "InvalidObjectState", ErrorKind::Locked),
            (403, "AccessDenied", ErrorKind::Denied),
            (401, "", ErrorKind::Denied),
            (429, "", ErrorKind::Throttled),
            (503, "SlowDown", ErrorKind::Throttled),
            (503, "ServerBusy", ErrorKind::Throttled),
            (503, "", ErrorKind::Unavailable),
            (500, "InternalError", ErrorKind::Unavailable),
            (408, "", ErrorKind::Unavailable),
            (400, "BadDigest", ErrorKind::Unavailable),
            (416, "InvalidRange", ErrorKind::Corrupt),
            (400, "EntityTooLarge", ErrorKind::Unsupported),
            (400, "KeyTooLongError", ErrorKind::Unsupported),
            (501, "NotImplemented", ErrorKind::Unsupported),
            (200, "InternalError", ErrorKind::Unavailable),
        ];
        for (status, code, kind) in table {
            let status = StatusCode::from_u16(status).expect("valid");
            assert_eq!(kind_of(status, code, ""), kind, "{status} {code}");
        }
    }

    #[test]
    fn the_text_has_code_message_and_request_but_starts_with_what_a_person_mends() {
        let refusal = Refusal {
            code: "NoSuchBucket".to_owned(),
            message: "The specified bucket does not exist".to_owned(),
            request_id: "77".to_owned(),
        };
        let text = refusal.into_error("head", StatusCode::NOT_FOUND).to_string();
        assert!(text.contains("the bucket does not exist: 404, NoSuchBucket"), "{text}");
        assert!(text.contains("(request 77)"), "{text}");
    }
}
