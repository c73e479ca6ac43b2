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
        // An answer to HEAD has no body that could name a code. From S3 it is 400 for a session token that has expired, or
        // for an object with a key of its own: it says nothing of what the store can hold.
        let is_unexplained = operation == "head" && status == StatusCode::BAD_REQUEST && self.code.is_empty();
        let kind = match is_unexplained {
            true => ErrorKind::Denied,
            false => kind_of(status, &self.code, &self.message),
        };
        StoreError::new(kind, operation, self.describe(status, kind))
    }

    fn describe(&self, status: StatusCode, kind: ErrorKind) -> String {
        let by_status = || advice_for_status(status).filter(|_| kind == ErrorKind::Denied);
        let advice = advice(&self.code).or_else(by_status);
        let mut text = advice.map(|advice| format!("{advice}: ")).unwrap_or_default();
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

/// What is wrong and how a person mends it. Whoever shows the error adds no guess of its own: many causes share
/// one kind.
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "NoSuchBucket" => "the bucket does not exist; make it first, or correct `url` and `endpoint`",
        "ContainerNotFound" => "the container does not exist; make it first, or correct `url` and `endpoint`",
        "ContainerBeingDeleted" => "the container is being deleted; wait until it is gone, and make it anew",
        "ContainerDisabled" => "the container is disabled; enable it with the provider",
        "InvalidAccessKeyId" => "the store does not know this access key; correct `access_key_id`",
        "SignatureDoesNotMatch" => "the secret key is wrong; correct the credentials",
        "AuthenticationFailed" => "the credentials are wrong or have expired; correct or renew them",
        "ExpiredToken" | "TokenRefreshRequired" => "the credentials have expired; renew them",
        "RequestTimeTooSkewed" => "the clock of this host is wrong; set it (timedatectl set-ntp true)",
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            "the bucket is in another region; correct `region` and `endpoint`"
        }
        _ => return None,
    })
}

/// As [`advice`], of a denial whose code says no more than its status, or that has none.
fn advice_for_status(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        401 | 403 => {
            Some("these credentials may not do this; the bridge must read, write, list and delete there")
        }
        400 => {
            Some("the store refuses and does not say why; session credentials may have expired: renew them")
        }
        300..=399 => Some("the store answers elsewhere; correct `region` and `endpoint`"),
        _ => None,
    }
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
        "RequestTimeTooSkewed"
        | "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        // S3 says so with 400.
        | "ExpiredToken"
        | "TokenRefreshRequired"
        | "InvalidToken" => ErrorKind::Denied,
        _ => return None,
    })
}

fn by_status(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        404 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::PreconditionFailed,
        401 | 403 | 407 | 300..=399 => ErrorKind::Denied,
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
            (400, "ExpiredToken", ErrorKind::Denied),
            (400, "", ErrorKind::Unsupported),
            (400, "InvalidArgument", ErrorKind::Unsupported),
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

    fn text_of(status: u16, code: &str) -> String {
        let refusal =
            Refusal { code: code.to_owned(), message: "Explained".to_owned(), request_id: "77".to_owned() };
        let status = StatusCode::from_u16(status).expect("valid");
        refusal.into_error("head", status).to_string()
    }

    #[test]
    fn the_text_has_code_message_and_request_but_starts_with_what_a_person_mends() {
        assert_eq!(
            text_of(404, "NoSuchBucket"),
            "head: denied: the bucket does not exist; make it first, or correct `url` and `endpoint`: 404, \
             NoSuchBucket, Explained (request 77)"
        );
    }

    #[test]
    fn a_head_without_a_reason_says_nothing_of_the_object() {
        for (operation, kind) in [("head", ErrorKind::Denied), ("put", ErrorKind::Unsupported)] {
            let error = Refusal::default().into_error(operation, StatusCode::BAD_REQUEST);
            assert_eq!(error.kind(), kind, "{operation}");
        }
    }

    #[test]
    fn only_a_refusal_of_the_credentials_blames_them() {
        for (status, code, mend) in [
            (404, "NoSuchBucket", "make it first"),
            (404, "ContainerNotFound", "make it first"),
            (409, "ContainerBeingDeleted", "make it anew"),
            (301, "PermanentRedirect", "correct `region`"),
            (400, "AuthorizationHeaderMalformed", "correct `region`"),
            (307, "", "correct `region`"),
            (403, "RequestTimeTooSkewed", "set-ntp"),
        ] {
            let text = text_of(status, code);
            assert!(text.contains(mend) && !text.contains("credentials"), "{text}");
        }
        assert!(!text_of(403, "InvalidObjectState").contains("credentials"), "an archived object");
        for (status, code) in [(403, "AccessDenied"), (403, ""), (401, ""), (400, "ExpiredToken"), (400, "")]
        {
            let text = text_of(status, code);
            assert!(text.contains("credentials"), "{text}");
        }
    }
}
