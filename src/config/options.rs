//! The option names of object_store, per kind of store: what may stand in a `[stores.NAME]` table.

use std::collections::BTreeMap;
use std::fmt;

/// Options every remote store takes.
const CLIENT: &[&str] = &[
    "allow_http",
    "allow_invalid_certificates",
    "disable_system_certificates",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "randomize_addresses",
];

const S3: &[&str] = &[
    "access_key_id",
    "endpoint",
    "imdsv1_fallback",
    "metadata_endpoint",
    "region",
    "request_payer",
    "role_arn",
    "role_session_name",
    "s3_express",
    "secret_access_key",
    "server_side_encryption",
    "session_token",
    "skip_signature",
    "sse_bucket_key_enabled",
    "sse_customer_key_base64",
    "sse_kms_key_id",
    "unsigned_payload",
    "virtual_hosted_style_request",
    "web_identity_token_file",
];

const AZURE: &[&str] = &[
    "account_key",
    "account_name",
    "authority_host",
    "authority_id",
    "client_id",
    "client_secret",
    "credential_type",
    "encryption_key",
    "endpoint",
    "federated_token_file",
    "msi_endpoint",
    "msi_resource_id",
    "object_id",
    "sas_token",
    "skip_signature",
    "tenant_id",
    "token",
    "use_azure_cli",
    "use_emulator",
];

const GOOGLE: &[&str] = &[
    "application_credentials",
    "base_url",
    "bearer_token",
    "service_account",
    "service_account_key",
    "service_account_path",
    "skip_signature",
];

/// A provider of remote object stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Google,
}

impl Provider {
    /// The scheme of its URLs.
    pub const fn scheme(self) -> &'static str {
        match self {
            Provider::S3 => "s3",
            Provider::Azure => "az",
            Provider::Google => "gs",
        }
    }

    /// The option names that its stores take, without our own tuning.
    pub fn options(self) -> Vec<&'static str> {
        let own = match self {
            Provider::S3 => S3,
            Provider::Azure => AZURE,
            Provider::Google => GOOGLE,
        };
        own.iter().chain(CLIENT).copied().collect()
    }
}

/// Whether the value of this option must never be shown.
pub(super) fn is_secret(option: &str) -> bool {
    const SECRETS: [&str; 11] = [
        "secret_access_key",
        "session_token",
        "sse_customer_key_base64",
        "account_key",
        "client_secret",
        "encryption_key",
        "sas_token",
        "token",
        "bearer_token",
        "service_account_key",
        "proxy_url",
    ];
    SECRETS.contains(&option)
}

/// The options of one store. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions(pub(super) BTreeMap<String, String>);

impl StoreOptions {
    /// Names and values, secrets included: only for the store that they are for.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of one option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(name, value)| (name, if is_secret(name) { "(hidden)" } else { value }));
        f.debug_map().entries(shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_secret() {
        let options = StoreOptions(BTreeMap::from([
            ("secret_access_key".to_owned(), "hush".to_owned()),
            ("region".to_owned(), "eu-west-1".to_owned()),
        ]));
        let shown = format!("{options:?}");
        assert!(!shown.contains("hush") && shown.contains("eu-west-1"), "{shown}");
    }
}
