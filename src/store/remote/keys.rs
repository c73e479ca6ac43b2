//! Which keys a store can hold.

use super::encode;
use crate::object::Key;
use crate::store::{ErrorKind, StoreError, StoreResult};

/// Why a full key is refused.
pub(super) type Rules = fn(&str) -> Result<(), String>;

/// Checks the full key of `key` (with the prefix of the store) by the rules of the store.
pub(super) fn check(key: &Key, full: &str, rules: Rules) -> StoreResult<()> {
    let refuse = |why: String| StoreError::new(ErrorKind::Unsupported, "check_key", why).on(key);
    if encode::has_dot_segment(full) {
        let why = "a `.` or `..` between slashes cannot be sent: HTTP clients and proxies remove it";
        return Err(refuse(why.to_owned()));
    }
    rules(full).map_err(refuse)
}

fn at_most(count: usize, max: usize, unit: &str) -> Result<(), String> {
    if count <= max { Ok(()) } else { Err(format!("{count} {unit} with the prefix, the limit is {max}")) }
}

/// The rules of S3.
pub(super) fn s3(full: &str) -> Result<(), String> {
    at_most(full.len(), 1024, "bytes")
}

/// The rules of Google Cloud Storage.
pub(super) fn google(full: &str) -> Result<(), String> {
    at_most(full.len(), 1024, "bytes")?;
    if full.contains(['\r', '\n']) {
        return Err("Google Cloud Storage has no line breaks in names".to_owned());
    }
    if full.starts_with(".well-known/acme-challenge/") {
        return Err("Google Cloud Storage reserves `.well-known/acme-challenge/`".to_owned());
    }
    Ok(())
}

/// The rules of Azure Blob Storage.
pub(super) fn azure(full: &str) -> Result<(), String> {
    at_most(full.encode_utf16().count(), 1024, "characters")?;
    at_most(full.split('/').count(), 254, "path segments")?;
    if full.ends_with(['.', '/']) || full.split('/').any(|segment| segment.ends_with('.')) {
        return Err("Azure drops a dot or a slash at the end of a name".to_owned());
    }
    if full.contains('\\') {
        return Err("Azure takes a backslash for a slash".to_owned());
    }
    if full.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) {
        return Err("Azure has no control characters in names".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Rules, azure, check, google, s3};
    use crate::object::Key;
    use crate::store::ErrorKind;

    #[test]
    fn each_store_refuses_what_it_would_change_or_lose() {
        let long = "x".repeat(1024);
        let deep = vec!["x"; 255].join("/");
        let wide = "ü".repeat(600);
        // key, S3, Azure, Google
        let table = [
            ("a b+c%d#e?f&ü", true, true, true),
            ("a//b", true, true, true),
            (long.as_str(), true, true, true),
            (wide.as_str(), false, true, false),
            (deep.as_str(), true, false, true),
            ("dir/", true, false, true),
            ("a.", true, false, true),
            ("a\\b", true, false, true),
            ("a\u{1}b", true, false, true),
            ("a\nb", true, false, false),
            (".well-known/acme-challenge/x", true, true, false),
            ("a/../b", false, false, false),
            (".", false, false, false),
        ];
        for (key, on_s3, on_azure, on_google) in table {
            let rules: [(Rules, bool); 3] = [(s3, on_s3), (azure, on_azure), (google, on_google)];
            for (rules, allowed) in rules {
                let checked = check(&Key::new(key).expect("not empty"), key, rules);
                assert_eq!(checked.is_ok(), allowed, "{key:?}");
                assert!(checked.is_ok() || checked.expect_err("refused").kind() == ErrorKind::Unsupported);
            }
        }
    }
}
