//! The options of one store, as they stand in its `[stores.NAME]` table.

use std::collections::BTreeMap;
use std::fmt;

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
}

/// Whether the value of this option must never be shown. Long spellings (`aws_secret_access_key`) end alike.
pub(super) fn is_secret(option: &str) -> bool {
    const ENDINGS: [&str; 10] = [
        "access_key",
        "master_key",
        "customer_key_base64",
        "account_key",
        "client_secret",
        "encryption_key",
        "sas_key",
        "token",
        "service_account_key",
        "proxy_url",
    ];
    ENDINGS.iter().any(|ending| option.ends_with(ending))
}

/// The options of one store. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions(pub(super) BTreeMap<String, String>);

impl StoreOptions {
    /// All of them, secrets included: only for the store that they are for.
    pub fn reveal(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Names and values, secrets included.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
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
