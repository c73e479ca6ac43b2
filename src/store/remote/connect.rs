//! From an address and options to a line: object_store reads the options and the environment and finds
//! the credentials; the requests are ours.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{ClientConfigKey, HttpClient, HttpConnector, ReqwestConnector};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ClientOptions, RetryConfig};
use parking_lot::Mutex;

use super::address::{Address, Scheme};
use super::azure::Container;
use super::bucket::{Bucket, Flavor, Quirks};
use super::options::{self, Tuning};
use super::request::Wire;
use super::sign::{Payload, Signer};
use super::{Dialect, encode};
use crate::store::{ErrorKind, StoreError, StoreResult};

const USER_AGENT: &str = concat!("bridgefs/", env!("CARGO_PKG_VERSION"));

/// Prepares a store; sends nothing.
pub(super) fn connect(
    name: &str,
    address: Address,
    options: &BTreeMap<String, String>,
) -> StoreResult<Dialect> {
    install_crypto();
    let (tuning, theirs) = options::split(address.scheme, options)?;
    let setup = Setup { name, address, tuning };
    let dialect = match setup.address.scheme {
        Scheme::S3 => setup.s3(&theirs),
        Scheme::Azure => setup.azure(&theirs),
        Scheme::Google => setup.google(&theirs),
    };
    dialect.map_err(|error| refused(&error))
}

/// TLS needs a process-wide choice of cryptography; whoever chose first is right.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // A lost race means that it is installed.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
}

fn refused(error: &object_store::Error) -> StoreError {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text = source.to_string();
    }
    StoreError::new(ErrorKind::Unsupported, "open", text)
}

fn invalid(detail: &str) -> object_store::Error {
    object_store::Error::Generic { store: "bridgefs", source: detail.into() }
}

struct Setup<'a> {
    name: &'a str,
    address: Address,
    tuning: Tuning,
}

impl Setup<'_> {
    fn s3(self, options: &BTreeMap<&str, &str>) -> object_store::Result<Dialect> {
        let mut builder = AmazonS3Builder::from_env();
        for (name, value) in options {
            builder = builder.with_config(AmazonS3ConfigKey::from_str(name)?, *value);
        }
        builder = builder.with_bucket_name(&self.address.bucket);
        let get = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
        let is = |key| get(key).is_some_and(|value| value == "true");
        let client_options = self.client_options(|key| get(AmazonS3ConfigKey::Client(key)));
        let region = get(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = get(AmazonS3ConfigKey::S3Endpoint).or_else(|| get(AmazonS3ConfigKey::Endpoint));
        let bucket = &self.address.bucket;
        let base_url = match (endpoint, is(AmazonS3ConfigKey::VirtualHostedStyleRequest)) {
            // As with object_store: the endpoint of a virtual-hosted bucket names the bucket.
            (Some(endpoint), true) => trim(&endpoint),
            (Some(endpoint), false) => format!("{}/{bucket}", trim(&endpoint)),
            (None, true) => format!("https://{bucket}.s3.{region}.amazonaws.com"),
            (None, false) => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        };
        check_transport(&base_url, &client_options)?;
        let unsigned = is(AmazonS3ConfigKey::UnsignedPayload) || base_url.starts_with("https:");
        let payload = if unsigned { Payload::Unsigned } else { Payload::Signed };
        let requester_pays = is(AmazonS3ConfigKey::RequestPayer);
        let signed = !is(AmazonS3ConfigKey::SkipSignature);
        let client = ReqwestConnector::default().connect(&client_options)?;
        let builder = builder.with_client_options(client_options).with_retry(few_retries());
        let signer = if signed {
            let credentials = Arc::clone(builder.build()?.credentials());
            Signer::Aws { credentials, region, payload, requester_pays }
        } else {
            Signer::Nobody
        };
        Ok(self.bucket(Flavor::Aws, base_url, client, signer))
    }

    fn google(self, options: &BTreeMap<&str, &str>) -> object_store::Result<Dialect> {
        let mut builder = GoogleCloudStorageBuilder::from_env();
        for (name, value) in options {
            builder = builder.with_config(GoogleConfigKey::from_str(name)?, *value);
        }
        builder = builder.with_bucket_name(&self.address.bucket);
        let get = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
        let client_options = self.client_options(|key| get(GoogleConfigKey::Client(key)));
        let host =
            get(GoogleConfigKey::BaseUrl).unwrap_or_else(|| "https://storage.googleapis.com".to_owned());
        let base_url = format!("{}/{}", trim(&host), self.address.bucket);
        let signed = get(GoogleConfigKey::SkipSignature).is_none_or(|value| value != "true");
        let client = ReqwestConnector::default().connect(&client_options)?;
        let builder = builder.with_client_options(client_options).with_retry(few_retries());
        let signer = if signed {
            Signer::Google { credentials: Arc::clone(builder.build()?.credentials()) }
        } else {
            Signer::Nobody
        };
        Ok(self.bucket(Flavor::Google, base_url, client, signer))
    }

    fn azure(self, options: &BTreeMap<&str, &str>) -> object_store::Result<Dialect> {
        let mut builder = MicrosoftAzureBuilder::from_env();
        for (name, value) in options {
            builder = builder.with_config(AzureConfigKey::from_str(name)?, *value);
        }
        builder = builder.with_container_name(&self.address.bucket);
        let get = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
        let is = |key| get(key).is_some_and(|value| value == "true");
        let mut client_options = self.client_options(|key| get(AzureConfigKey::Client(key)));
        let emulated = is(AzureConfigKey::UseEmulator);
        let account = match get(AzureConfigKey::AccountName) {
            Some(account) => account,
            None if emulated => "devstoreaccount1".to_owned(),
            None => return Err(invalid("`account_name` is missing")),
        };
        // The environment may have it, which no check of the configuration sees.
        if let Some(key) = get(AzureConfigKey::AccessKey) {
            let problem = options::check_value("az", "account_key", &key);
            problem.map_err(|problem| invalid(&format!("`account_key`: {problem}")))?;
        }
        let host = match get(AzureConfigKey::Endpoint) {
            Some(endpoint) => trim(&endpoint),
            None if emulated => format!("http://127.0.0.1:10000/{account}"),
            None if is(AzureConfigKey::UseFabricEndpoint) => {
                format!("https://{account}.blob.fabric.microsoft.com")
            }
            None => format!("https://{account}.blob.core.windows.net"),
        };
        if emulated {
            client_options = client_options.with_allow_http(true);
        }
        let base_url = format!("{host}/{}", encode::path(&self.address.bucket));
        check_transport(&base_url, &client_options)?;
        let signed = !is(AzureConfigKey::SkipSignature);
        let client = ReqwestConnector::default().connect(&client_options)?;
        let builder = builder.with_client_options(client_options).with_retry(few_retries());
        let signer = if signed {
            Signer::Azure { credentials: Arc::clone(builder.build()?.credentials()), account }
        } else {
            Signer::Nobody
        };
        Ok(Dialect::Container(Arc::new(Container {
            wire: self.wire(client, signer),
            base_url,
            prefix: self.address.prefix,
            checksums: self.tuning.checksums,
            learned: Mutex::new(Container::PROMISED),
        })))
    }

    fn bucket(self, flavor: Flavor, base_url: String, client: HttpClient, signer: Signer) -> Dialect {
        Dialect::Bucket(Arc::new(Bucket {
            wire: self.wire(client, signer),
            flavor,
            base_url,
            bucket: self.address.bucket,
            prefix: self.address.prefix,
            checksums: self.tuning.checksums,
            learned: Mutex::new((Bucket::PROMISED, Quirks::PROMISED)),
            seen: Mutex::new(None),
        }))
    }

    fn wire(&self, client: HttpClient, signer: Signer) -> Wire {
        Wire { store: self.name.to_owned(), client, signer, stall: self.tuning.stall_timeout }
    }

    /// The options of the HTTP client. It has no timeout of its own for a whole request: a large download
    /// that makes progress never ends by the clock.
    fn client_options(&self, get: impl Fn(ClientConfigKey) -> Option<String>) -> ClientOptions {
        let mut client = ClientOptions::new();
        for key in options::CLIENT {
            if let Some(value) = get(*key) {
                client = client.with_config(*key, value);
            }
        }
        client
            .with_timeout_disabled()
            .with_connect_timeout(self.tuning.connect_timeout)
            .with_user_agent(HeaderValue::from_static(USER_AGENT))
    }
}

fn trim(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

/// Refuses `http://` without leave, in words instead of a failed request.
fn check_transport(url: &str, options: &ClientOptions) -> object_store::Result<()> {
    let allowed = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|value| value == "true");
    if url.starts_with("https://") || (url.starts_with("http://") && allowed) {
        return Ok(());
    }
    if url.starts_with("http://") {
        return Err(invalid(
            "the endpoint is http://: bytes would travel unprotected; set `allow_http = true` to allow it",
        ));
    }
    Err(invalid("the endpoint must start with https:// or http://"))
}

/// Retries of token requests; requests for objects are never repeated here.
fn few_retries() -> RetryConfig {
    RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(8), ..RetryConfig::default() }
}
