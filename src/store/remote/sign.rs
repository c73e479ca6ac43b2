//! Whose name a request is sent in: object_store's credential providers and request signers.

use std::time::Duration;

use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider};
use object_store::client::HttpRequest;
use object_store::gcp::GcpCredentialProvider;

use super::encode;
use crate::clock;
use crate::store::{ErrorKind, StoreError, StoreResult};

/// How long fetching a token (metadata service, OAuth) may take.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);

/// Signs requests.
#[derive(Debug, Clone)]
pub(super) enum Signer {
    /// Not at all: a public bucket, or a test.
    Nobody,
    /// AWS Signature Version 4.
    Aws { credentials: AwsCredentialProvider, region: String, payload: Payload, requester_pays: bool },
    /// Azure shared key, SAS or bearer token.
    Azure { credentials: AzureCredentialProvider, account: String },
    /// Google OAuth bearer token.
    Google { credentials: GcpCredentialProvider },
}

/// Whether the SHA-256 of the body is part of the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// It is: on an unencrypted connection nothing else protects the bytes.
    Signed,
    /// It is not: TLS protects them and the checksum header finds our own mistakes.
    Unsigned,
}

impl Signer {
    /// Adds the headers (or, with a SAS token, the query) that prove who asks.
    pub(super) async fn sign(&self, operation: &'static str, request: &mut HttpRequest) -> StoreResult<()> {
        if matches!(self, Signer::Azure { .. }) {
            require_ascii(operation, request)?;
        }
        in_time(operation, self.sign_with_credentials(request)).await
    }

    /// What must follow the URL of a copy's source, so that the store may read it there: only a SAS token is
    /// not taken from the request itself. It is a secret.
    pub(super) async fn source_query(&self, operation: &'static str) -> StoreResult<String> {
        let Signer::Azure { credentials, .. } = self else { return Ok(String::new()) };
        let credential = in_time(operation, credentials.get_credential()).await?;
        let AzureCredential::SASToken(pairs) = &*credential else { return Ok(String::new()) };
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        Ok(format!("?{}", encode::query(&pairs)))
    }

    async fn sign_with_credentials(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        match self {
            Signer::Nobody => Ok(()),
            Signer::Aws { credentials, region, payload, requester_pays } => {
                let credential = credentials.get_credential().await?;
                AwsAuthorizer::new(&credential, "s3", region)
                    .with_sign_payload(*payload == Payload::Signed)
                    .with_request_payer(*requester_pays)
                    .try_authorize(request, None)
            }
            Signer::Azure { credentials, account } => {
                let credential = credentials.get_credential().await?;
                AzureAuthorizer::new(&credential, account).try_authorize(request)
            }
            Signer::Google { credentials } => {
                let credential = credentials.get_credential().await?;
                let bearer = format!("Bearer {}", credential.bearer);
                let value = http::HeaderValue::from_str(&bearer).map_err(|source| {
                    object_store::Error::Generic { store: "GCS", source: Box::new(source) }
                })?;
                request.headers_mut().insert(http::header::AUTHORIZATION, value);
                Ok(())
            }
        }
    }
}

/// Azure takes ASCII only, and the signer of object_store panics at anything else.
fn require_ascii(operation: &'static str, request: &HttpRequest) -> StoreResult<()> {
    match request.headers().iter().find(|(_, value)| value.to_str().is_err()) {
        None => Ok(()),
        Some((name, _)) => {
            let detail = format!("Azure takes no value of `{name}` that is not ASCII");
            Err(StoreError::new(ErrorKind::Unsupported, operation, detail))
        }
    }
}

/// Waits for credentials, but not for ever.
async fn in_time<T>(
    operation: &'static str,
    credentials: impl Future<Output = object_store::Result<T>>,
) -> StoreResult<T> {
    let Ok(got) = clock::timeout(CREDENTIALS_TIMEOUT, credentials).await else {
        let detail = format!("no credentials within {CREDENTIALS_TIMEOUT:?}");
        return Err(StoreError::new(ErrorKind::Unavailable, operation, detail));
    };
    got.map_err(|error| {
        let detail = format!("cannot get credentials: {error}");
        StoreError::new(ErrorKind::Unavailable, operation, detail).caused_by(error)
    })
}
