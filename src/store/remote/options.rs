//! The options of a store in the configuration: object_store's names and a few of our own.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::client::ClientConfigKey;
use object_store::gcp::GoogleConfigKey;

use super::address::Scheme;
use crate::store::{ErrorKind, StoreError, StoreResult};

/// Whether checksums travel with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksums {
    /// Those that the store checks.
    Auto,
    /// None, for stores that refuse the headers.
    None,
}

/// Our own options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    pub(super) checksums: Checksums,
    pub(super) connect_timeout: Duration,
    pub(super) stall_timeout: Duration,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            checksums: Checksums::Auto,
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(3),
        }
    }
}

/// Names of our own options.
const OURS: &[&str] = &["checksum", "connect_timeout", "stall_timeout"];

/// Options of the HTTP client that are good for every store.
pub(super) const CLIENT: &[ClientConfigKey] = &[
    ClientConfigKey::AllowHttp,
    ClientConfigKey::AllowInvalidCertificates,
    ClientConfigKey::NoSystemCertificates,
    ClientConfigKey::Http1Only,
    ClientConfigKey::Http2KeepAliveInterval,
    ClientConfigKey::Http2KeepAliveTimeout,
    ClientConfigKey::Http2KeepAliveWhileIdle,
    ClientConfigKey::Http2MaxFrameSize,
    ClientConfigKey::Http2Only,
    ClientConfigKey::PoolIdleTimeout,
    ClientConfigKey::PoolMaxIdlePerHost,
    ClientConfigKey::ProxyUrl,
    ClientConfigKey::ProxyCaCertificate,
    ClientConfigKey::ProxyExcludes,
    ClientConfigKey::RandomizeAddresses,
];

const S3: &[&str] = &[
    "access_key_id",
    "secret_access_key",
    "session_token",
    "region",
    "endpoint",
    "virtual_hosted_style_request",
    "unsigned_payload",
    "skip_signature",
    "request_payer",
    "imdsv1_fallback",
    "metadata_endpoint",
    "role_arn",
    "role_session_name",
    "web_identity_token_file",
    "endpoint_url_sts",
    "container_credentials_relative_uri",
    "container_credentials_full_uri",
    "container_authorization_token_file",
];
const AZURE: &[&str] = &[
    "account_name",
    "account_key",
    "sas_token",
    "bearer_token",
    "client_id",
    "client_secret",
    "tenant_id",
    "authority_host",
    "endpoint",
    "use_emulator",
    "use_fabric_endpoint",
    "msi_endpoint",
    "object_id",
    "msi_resource_id",
    "federated_token_file",
    "use_azure_cli",
    "skip_signature",
    "credential_type",
];
const GOOGLE: &[&str] = &[
    "service_account",
    "service_account_key",
    "application_credentials",
    "bearer_token",
    "base_url",
    "skip_signature",
];

/// Options that are true or false, of any provider and of the HTTP client.
const SWITCHES: &[&str] = &[
    "allow_http",
    "allow_invalid_certificates",
    "disable_system_certificates",
    "http1_only",
    "http2_keep_alive_while_idle",
    "http2_only",
    "randomize_addresses",
    "virtual_hosted_style_request",
    "unsigned_payload",
    "skip_signature",
    "request_payer",
    "imdsv1_fallback",
    "use_emulator",
    "use_fabric_endpoint",
    "use_azure_cli",
];

/// Options whose value is base64.
const BASE64: &[&str] = &["account_key"];

/// The names of the options that a store with this URL scheme (`s3`, `az`, `gs`) takes; empty for a scheme
/// that is no remote store. Longer spellings of object_store (`aws_region`) are understood too.
pub fn known_options(scheme: &str) -> Vec<&'static str> {
    Scheme::from_str(scheme).map(names).unwrap_or_default()
}

fn names(scheme: Scheme) -> Vec<&'static str> {
    let own = match scheme {
        Scheme::S3 => S3,
        Scheme::Azure => AZURE,
        Scheme::Google => GOOGLE,
    };
    own.iter().chain(OURS).copied().chain(CLIENT.iter().map(client_name)).collect()
}

fn client_name(key: &'static ClientConfigKey) -> &'static str {
    key.as_ref()
}

/// Refuses an option that a store with this URL scheme does not take, with the nearest name that it does.
pub fn check_option(scheme: &str, name: &str) -> Result<(), String> {
    let scheme = Scheme::from_str(scheme)?;
    if OURS.contains(&name) || is_theirs(scheme, name) {
        return Ok(());
    }
    let known = names(scheme);
    let nearest = known
        .into_iter()
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    let hint = nearest.map(|nearest| format!(", did you mean `{nearest}`?")).unwrap_or_default();
    Err(format!("`{name}` is no option of a `{scheme}` store{hint}"))
}

/// Refuses a value that the option cannot have; says no word of the value itself, which may be a secret.
pub fn check_value(scheme: &str, name: &str, value: &str) -> Result<(), String> {
    let scheme = Scheme::from_str(scheme)?;
    if is_one_of(scheme, SWITCHES, name) && !matches!(value, "true" | "false") {
        return Err("this must be true or false".to_owned());
    }
    if is_one_of(scheme, BASE64, name) && BASE64_STANDARD.decode(value).is_err() {
        return Err("this is no base64: copy the key again, whole, with the `=` at its end".to_owned());
    }
    Ok(())
}

/// Whether object_store knows the option, by any of its spellings, and we give it an effect.
fn is_theirs(scheme: Scheme, name: &str) -> bool {
    let own = match scheme {
        Scheme::S3 => S3,
        Scheme::Azure => AZURE,
        Scheme::Google => GOOGLE,
    };
    is_one_of(scheme, own, name)
        || CLIENT.iter().any(|key| ClientConfigKey::from_str(name).is_ok_and(|named| named == *key))
}

/// Whether `name` is a spelling of one of `known`, for a store of this kind.
fn is_one_of(scheme: Scheme, known: &[&str], name: &str) -> bool {
    match scheme {
        Scheme::S3 => same::<AmazonS3ConfigKey>(known, name),
        Scheme::Azure => same::<AzureConfigKey>(known, name),
        Scheme::Google => same::<GoogleConfigKey>(known, name),
    }
}

fn same<K: FromStr + PartialEq>(known: &[&str], name: &str) -> bool {
    let Ok(key) = K::from_str(name) else { return false };
    known.iter().any(|known| K::from_str(known).is_ok_and(|known| known == key))
}

/// Splits the options into ours and the rest.
pub(super) fn split(
    scheme: Scheme,
    options: &BTreeMap<String, String>,
) -> StoreResult<(Tuning, BTreeMap<&str, &str>)> {
    let refuse = |detail| StoreError::new(ErrorKind::Unsupported, "open", detail);
    let mut tuning = Tuning::default();
    let mut theirs = BTreeMap::new();
    for (name, value) in options {
        check_option(scheme.as_str(), name).map_err(refuse)?;
        match name.as_str() {
            "checksum" => tuning.checksums = checksums(value).map_err(refuse)?,
            "connect_timeout" => tuning.connect_timeout = duration(name, value).map_err(refuse)?,
            "stall_timeout" => tuning.stall_timeout = duration(name, value).map_err(refuse)?,
            name => {
                theirs.insert(name, value.as_str());
            }
        }
    }
    Ok((tuning, theirs))
}

fn checksums(value: &str) -> Result<Checksums, String> {
    match value {
        "auto" => Ok(Checksums::Auto),
        "none" => Ok(Checksums::None),
        other => Err(format!("`checksum` is `auto` or `none`, not `{other}`")),
    }
}

/// `3s`, `500ms`, `1m`; not 0, which would let no request through.
fn duration(name: &str, value: &str) -> Result<Duration, String> {
    let parsed = value.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    parsed
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("`{name}` is a duration such as `3s` or `500ms`, not `{value}`"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::{Checksums, SWITCHES, check_option, check_value, known_options, split};
    use crate::store::remote::address::Scheme;

    #[test]
    fn every_name_that_is_offered_is_taken() {
        for scheme in ["s3", "az", "gs"] {
            for name in known_options(scheme) {
                assert_eq!(check_option(scheme, name), Ok(()), "{scheme} {name}");
            }
        }
        assert_eq!(check_option("s3", "aws_region"), Ok(()));
        assert!(known_options("file").is_empty());
    }

    #[test]
    fn a_switch_is_true_or_false_by_any_of_its_names() {
        for name in SWITCHES {
            let takers = ["s3", "az", "gs"].into_iter().filter(|scheme| check_option(scheme, name).is_ok());
            let takers: Vec<&str> = takers.collect();
            assert!(!takers.is_empty(), "no store has the option {name}");
            for scheme in takers {
                assert_eq!(check_value(scheme, name, "true"), Ok(()), "{scheme} {name}");
                assert!(check_value(scheme, name, "maybe").is_err(), "{scheme} {name}");
            }
        }
        assert!(check_value("s3", "aws_skip_signature", "yes").is_err());
        assert_eq!(check_value("s3", "region", "maybe"), Ok(()));
    }

    #[test]
    fn a_key_that_is_no_base64_is_refused_without_being_shown() {
        for name in ["account_key", "azure_storage_account_key", "access_key"] {
            let problem = check_value("az", name, "hush!").expect_err("no base64");
            assert!(problem.contains("base64") && !problem.contains("hush"), "{problem}");
            assert_eq!(check_value("az", name, "aHVzaA=="), Ok(()));
        }
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest_one() {
        let table = [
            ("s3", "regoin", "region"),
            ("s3", "access_key", "access_key_id"),
            ("az", "acount_name", "account_name"),
            ("gs", "service_acount", "service_account"),
            ("s3", "stall_timout", "stall_timeout"),
        ];
        for (scheme, name, nearest) in table {
            let message = check_option(scheme, name).expect_err("unknown");
            assert!(message.contains(name) && message.contains(&format!("`{nearest}`")), "{message}");
        }
        assert!(check_option("s3", "timeout").is_err(), "a total timeout would end large downloads");
    }

    #[test]
    fn our_options_are_read_and_the_rest_is_passed_on() {
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let options: BTreeMap<_, _> =
            [option("stall_timeout", "500ms"), option("checksum", "none"), option("region", "x")].into();
        let (tuning, theirs) = split(Scheme::S3, &options).expect("good");
        assert_eq!(tuning.stall_timeout, Duration::from_millis(500));
        assert_eq!(tuning.checksums, Checksums::None);
        assert_eq!(theirs, [("region", "x")].into());
        for bad in
            [option("stall_timeout", "0s"), option("connect_timeout", "soon"), option("checksum", "md5")]
        {
            assert!(split(Scheme::S3, &[bad].into()).is_err());
        }
    }
}
