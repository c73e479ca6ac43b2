//! The URL of a store: scheme, bucket or container, prefix.

use std::fmt;
use std::str::FromStr;

use crate::store::{ErrorKind, StoreError, StoreResult};

/// Whose store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `s3://`
    S3,
    /// `az://`
    Azure,
    /// `gs://`
    Google,
}

impl Scheme {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Scheme::S3 => "s3",
            Scheme::Azure => "az",
            Scheme::Google => "gs",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(raw: &str) -> Result<Scheme, String> {
        match raw {
            "s3" | "s3a" => Ok(Scheme::S3),
            "az" | "azure" => Ok(Scheme::Azure),
            "gs" | "gcs" => Ok(Scheme::Google),
            other => Err(format!("`{other}://` is no cloud store: `s3://`, `az://` and `gs://` are")),
        }
    }
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) scheme: Scheme,
    /// Bucket or container.
    pub(super) bucket: String,
    /// What all keys start with: empty, or ends with a slash.
    pub(super) prefix: String,
}

impl FromStr for Address {
    type Err = StoreError;

    fn from_str(url: &str) -> StoreResult<Address> {
        let refuse = |detail: String| StoreError::new(ErrorKind::Unsupported, "open", detail);
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| refuse(format!("`{url}` is no URL such as `s3://bucket`")))?;
        let scheme = scheme.parse().map_err(refuse)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || !bucket.chars().all(|c| c.is_ascii_alphanumeric() || "-_.$".contains(c)) {
            return Err(refuse(format!("`{url}`: `{bucket}` cannot be the name of a bucket or container")));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() && prefix.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(refuse(format!("`{url}`: the prefix `{prefix}` has an empty, `.` or `..` part")));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Address { scheme, bucket: bucket.to_owned(), prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Scheme};

    #[test]
    fn a_url_names_bucket_and_prefix() {
        let table = [
            ("s3://b-1", Scheme::S3, "b-1", ""),
            ("s3://b/", Scheme::S3, "b", ""),
            ("az://c/some/prefix", Scheme::Azure, "c", "some/prefix/"),
            ("gs://b/p/", Scheme::Google, "b", "p/"),
        ];
        for (url, scheme, bucket, prefix) in table {
            let address: Address = url.parse().expect(url);
            assert_eq!((address.scheme, &*address.bucket, &*address.prefix), (scheme, bucket, prefix));
        }
        for bad in ["b", "s3://", "ftp://b", "s3://b/a//b", "s3://b/../c", "s3://b?x=1", "https://b.s3.x"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
