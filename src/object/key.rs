use std::fmt;

use thiserror::Error;

/// The exact name of an object in a store: non-empty UTF-8, kept byte for byte, no leading slash added
/// or removed. Not every key is a path; [`Key::is_path`] tells.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

/// Why bytes are no key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The root has no object.
    #[error("a key cannot be empty")]
    Empty,
    /// No store can hold a name that is not UTF-8.
    #[error("a key must be UTF-8: no object store can hold other bytes")]
    NotUtf8,
}

/// Where a bridge keeps what is its own in every store. Nothing below it is a file of the mount.
pub const OWN_PREFIX: &str = ".bridgefs/";

impl Key {
    /// Takes a key exactly as it is.
    pub fn new(raw: impl Into<Box<str>>) -> Result<Key, KeyError> {
        let raw = raw.into();
        if raw.is_empty() { Err(KeyError::Empty) } else { Ok(Key(raw)) }
    }

    /// Takes the bytes of a path below the mount, without leading slash.
    pub fn from_bytes(raw: &[u8]) -> Result<Key, KeyError> {
        Key::new(std::str::from_utf8(raw).ok().ok_or(KeyError::NotUtf8)?)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of `name` in the directory whose key is `self`.
    #[must_use]
    pub fn join(&self, name: &str) -> Key {
        Key(format!("{}/{name}", self.0).into())
    }

    /// The prefix under which everything in this directory stands: the key with a slash.
    pub fn as_prefix(&self) -> String {
        format!("{}/", self.0)
    }

    /// Whether the key is, or lies below, the name that every bridge keeps for itself ([`OWN_PREFIX`]).
    pub fn is_own(&self) -> bool {
        self.0.starts_with(OWN_PREFIX) || OWN_PREFIX.strip_suffix('/') == Some(&self.0)
    }

    /// Whether the key can be shown as a path of a mount: no empty, `.` or `..` segment, no NUL, no
    /// segment over 255 bytes. Other keys are findings, never shown and never lost.
    pub fn is_path(&self) -> bool {
        self.0.split('/').all(is_name)
    }
}

/// Whether `segment` can be the name of a directory entry.
fn is_name(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..") && segment.len() <= 255 && !segment.contains('\0')
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, KeyError};

    #[test]
    fn paths_and_other_keys() {
        let long = "x".repeat(256);
        let table = [
            ("a", true),
            ("a/b c/ü+%#", true),
            (".hidden", true),
            ("a\nb", true),
            ("a//b", false),
            ("/a", false),
            ("a/", false),
            ("a/./b", false),
            ("a/../b", false),
            ("a\0", false),
            (long.as_str(), false),
        ];
        for (raw, is_path) in table {
            assert_eq!(Key::new(raw).expect("not empty").is_path(), is_path, "{raw:?}");
        }
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert_eq!(Key::from_bytes(&[0xff]), Err(KeyError::NotUtf8));
    }
}
