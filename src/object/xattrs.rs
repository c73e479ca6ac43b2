//! The extended attributes of one node, and how they stand in an object's metadata: one entry
//! `bridgefs_xattrs`, base64 (standard alphabet, no padding) of
//!
//! ```text
//! 01                                          the version of this format
//! name length (1 byte)  value length (2 bytes, big endian)  name  value     one for each, by name
//! ```
//!
//! Names and values are arbitrary bytes; a name has its namespace, as in `user.comment`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use thiserror::Error;

use super::Kind;

/// What lets a program run with rights that its caller does not have; goes whenever the file changes.
pub const CAPABILITY: &[u8] = b"security.capability";

/// The name of the metadata entry.
pub const XATTRS_ENTRY: &str = "bridgefs_xattrs";

const FORMAT: u8 = 1;
/// Name length and value length of one attribute.
const HEAD_BYTES: usize = 3;
/// The longest name, with its namespace: what the kernel allows.
const NAME_BYTES_MAX: usize = 255;
/// The namespaces that there are. `system.` is for access control lists, which are not done.
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Attributes that the bridge answers itself.
const RESERVED: &[u8] = b"user.bridgefs.";

/// The most that the attributes of an object take, encoded, before base64.
///
/// S3 counts 2048 bytes of names and values in all; whether a name counts with its `x-amz-meta-` (11 bytes)
/// is not said, so it does here. Our other entries at their longest: `mode` 10, `uid` 13, `gid` 13, `mtime`
/// 26, `rdev` 12, `bridgefs_op` 89, `blake3` 70, the tag of a further name 60, the name of this entry 15, and
/// nine times 11: 407. In base64 these are 1366 bytes; 275 are left for what others wrote.
const OBJECT_BYTES_MAX: usize = 1024;
/// The same of a directory, which has no object: about what the kernel allows for one value, or one list.
const DIRECTORY_BYTES_MAX: usize = 64 << 10;

/// Whether an attribute must be there already when it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// It may be there or not.
    Set,
    /// It must not be there.
    Create,
    /// It must be there.
    Replace,
}

/// Why attributes were not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum XattrRefusal {
    /// It is there already.
    #[error("the extended attribute is there already")]
    Exists,
    /// It is not there.
    #[error("there is no such extended attribute")]
    Missing,
    /// They would be more than a store holds beside an object.
    #[error("the extended attributes would take {needed} bytes; {max} is the most")]
    Full {
        /// Bytes of all of them, encoded.
        needed: usize,
        /// The most.
        max: usize,
    },
}

/// What a name says of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrName {
    /// It can be set.
    Plain,
    /// It is the bridge's own.
    Reserved,
    /// A namespace and nothing behind it, a NUL, or too long.
    Malformed,
    /// Of a namespace that is not kept here.
    Foreign,
}

impl XattrName {
    /// What `name` says.
    pub fn of(name: &[u8]) -> XattrName {
        let Some(namespace) = NAMESPACES.iter().find(|namespace| name.starts_with(namespace)) else {
            return XattrName::Foreign;
        };
        if name.len() == namespace.len() || name.len() > NAME_BYTES_MAX || name.contains(&0) {
            XattrName::Malformed
        } else if name.starts_with(RESERVED) {
            XattrName::Reserved
        } else {
            XattrName::Plain
        }
    }
}

/// A metadata entry that no bridge of this version wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the entry `{XATTRS_ENTRY}` {0}")]
pub struct NotXattrs(&'static str);

/// The extended attributes of one node, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xattrs(BTreeMap<Box<[u8]>, Box<[u8]>>);

impl Xattrs {
    /// The value of one of them.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.get(name).map(|value| &**value)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what was read from where it was kept, unchecked.
    pub fn insert(&mut self, name: Box<[u8]>, value: Box<[u8]>) {
        self.0.insert(name, value);
    }

    /// Sets one of a node of this kind, or leaves all as they are.
    pub fn set(
        &mut self,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        kind: Kind,
    ) -> Result<(), XattrRefusal> {
        let before = self.0.get(name).map(|value| value.len());
        match (mode, before) {
            (XattrMode::Create, Some(_)) => return Err(XattrRefusal::Exists),
            (XattrMode::Replace, None) => return Err(XattrRefusal::Missing),
            (XattrMode::Set | XattrMode::Create | XattrMode::Replace, _) => {}
        }
        let replaced = before.map_or(0, |value| HEAD_BYTES + name.len() + value);
        let needed = self.encoded_bytes() - replaced + HEAD_BYTES + name.len() + value.len();
        let max = if kind.is_directory() { DIRECTORY_BYTES_MAX } else { OBJECT_BYTES_MAX };
        if needed > max {
            return Err(XattrRefusal::Full { needed, max });
        }
        self.0.insert(name.into(), value.into());
        Ok(())
    }

    /// Removes one.
    pub fn remove(&mut self, name: &[u8]) -> Result<(), XattrRefusal> {
        self.0.remove(name).map(drop).ok_or(XattrRefusal::Missing)
    }

    fn encoded_bytes(&self) -> usize {
        1 + self.iter().map(|(name, value)| HEAD_BYTES + name.len() + value.len()).sum::<usize>()
    }

    /// The value of the metadata entry; `None` if there are no attributes, and so no entry.
    pub fn to_entry(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let mut bytes = vec![FORMAT];
        for (name, value) in self.iter() {
            bytes.push(u8::try_from(name.len()).expect("a name has at most 255 bytes"));
            let len = u16::try_from(value.len()).expect("all values of an object are at most 1 KiB");
            bytes.extend(len.to_be_bytes());
            bytes.extend(name);
            bytes.extend(value);
        }
        Some(BASE64.encode(bytes))
    }

    /// Reads the metadata of an object, which anybody may have written: an entry is understood whole or not
    /// at all. No entry is no attributes.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Xattrs, NotXattrs> {
        let Some(entry) = metadata.get(XATTRS_ENTRY) else { return Ok(Xattrs::default()) };
        let bytes = BASE64.decode(entry).ok().ok_or(NotXattrs("is not base64"))?;
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(NotXattrs("is too long"));
        }
        let Some((&FORMAT, mut rest)) = bytes.split_first() else {
            return Err(NotXattrs("is of another version"));
        };
        let mut xattrs = Xattrs::default();
        while !rest.is_empty() {
            let (name, value, tail) = take_one(rest).ok_or(NotXattrs("is cut short"))?;
            if XattrName::of(name) != XattrName::Plain {
                return Err(NotXattrs("has a name that cannot be one"));
            }
            if xattrs.0.last_key_value().is_some_and(|(last, _)| **last >= *name) {
                return Err(NotXattrs("has names out of order"));
            }
            xattrs.0.insert(name.into(), value.into());
            rest = tail;
        }
        Ok(xattrs)
    }
}

/// Name, value, and what follows them.
fn take_one(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [name_len, high, low] = *head;
    let (name, rest) = rest.split_at_checked(usize::from(name_len))?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((name, value, rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine;
    use proptest::prelude::*;

    use super::*;
    use crate::object::{Attrs, Device, Digest, Ino, OpId, Version};

    fn metadata(entry: String) -> BTreeMap<String, String> {
        [(XATTRS_ENTRY.to_owned(), entry)].into()
    }

    fn xattrs(pairs: &[(&[u8], &[u8])]) -> Xattrs {
        let mut xattrs = Xattrs::default();
        for (name, value) in pairs {
            xattrs.set(name, value, XattrMode::Set, Kind::File).expect("there is room");
        }
        xattrs
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let all =
            xattrs(&[(b"user.a", b""), (b"user.\xff\n=", b"\0\xfe"), (b"security.capability", &[1; 20])]);
        let entry = all.to_entry().expect("there are some");
        assert!(entry.is_ascii());
        assert_eq!(Xattrs::from_metadata(&metadata(entry)), Ok(all));
        assert_eq!(Xattrs::default().to_entry(), None);
        assert_eq!(Xattrs::from_metadata(&BTreeMap::new()), Ok(Xattrs::default()));
    }

    #[test]
    fn the_format_is_this_one_for_ever() {
        let entry = xattrs(&[(b"user.b", b"v"), (b"user.a", b"")]).to_entry().expect("there are some");
        let bytes = BASE64.decode(&entry).expect("base64");
        assert_eq!(bytes, b"\x01\x06\0\0user.a\x06\0\x01user.bv");
        assert_eq!(entry, "AQYAAHVzZXIuYQYAAXVzZXIuYnY");
    }

    #[test]
    fn what_makes_no_sense_is_refused_whole() {
        let long = [b"\x01\x06\x04\0user.a".as_slice(), &[0; 1024]].concat();
        let table: [(&[u8], &str); 9] = [
            (b"", "is of another version"),
            (b"\x02\x06\0\0user.a", "is of another version"),
            (b"\x01\x06\0", "is cut short"),
            (b"\x01\x06\0\x05user.aabc", "is cut short"),
            (b"\x01\x06\0\0user.b\x06\0\0user.a", "has names out of order"),
            (b"\x01\x06\0\0user.a\x06\0\0user.a", "has names out of order"),
            (b"\x01\x05\0\0user.", "has a name that cannot be one"),
            (b"\x01\x17\0\0system.posix_acl_access", "has a name that cannot be one"),
            (&long, "is too long"),
        ];
        for (bytes, why) in table {
            let read = Xattrs::from_metadata(&metadata(BASE64.encode(bytes)));
            assert_eq!(read, Err(NotXattrs(why)), "{bytes:?}");
        }
        assert_eq!(Xattrs::from_metadata(&metadata("ü".to_owned())), Err(NotXattrs("is not base64")));
    }

    #[test]
    fn names_are_of_three_namespaces_and_not_the_bridges_own() {
        let table: [(&[u8], XattrName); 9] = [
            (b"user.x", XattrName::Plain),
            (b"trusted.overlay.opaque", XattrName::Plain),
            (CAPABILITY, XattrName::Plain),
            (b"user.bridgefs", XattrName::Plain),
            (b"user.bridgefs.object", XattrName::Reserved),
            (b"user.", XattrName::Malformed),
            (b"user.a\0b", XattrName::Malformed),
            (b"system.posix_acl_default", XattrName::Foreign),
            (b"comment", XattrName::Foreign),
        ];
        for (name, says) in table {
            assert_eq!(XattrName::of(name), says, "{}", name.escape_ascii());
        }
        assert_eq!(XattrName::of(&[b"user.".as_slice(), &[b'x'; 251]].concat()), XattrName::Malformed);
    }

    #[test]
    fn setting_and_removing_say_what_the_kernel_expects() {
        let mut all = xattrs(&[(b"user.a", b"1")]);
        let set = |all: &mut Xattrs, name: &[u8], mode| all.set(name, b"2", mode, Kind::File);
        assert_eq!(set(&mut all, b"user.a", XattrMode::Create), Err(XattrRefusal::Exists));
        assert_eq!(set(&mut all, b"user.b", XattrMode::Replace), Err(XattrRefusal::Missing));
        assert_eq!(set(&mut all, b"user.a", XattrMode::Replace), Ok(()));
        assert_eq!(set(&mut all, b"user.b", XattrMode::Create), Ok(()));
        assert_eq!(all.get(b"user.a"), Some(b"2".as_slice()));
        assert_eq!(all.remove(b"user.c"), Err(XattrRefusal::Missing));
        assert_eq!(all.remove(b"user.a"), Ok(()));
        assert_eq!(all, xattrs(&[(b"user.b", b"2")]));
    }

    #[test]
    fn a_full_object_takes_no_more_and_a_smaller_value_still_fits() {
        let mut all = Xattrs::default();
        let biggest = vec![7; OBJECT_BYTES_MAX - 1 - HEAD_BYTES - 6];
        all.set(b"user.a", &biggest, XattrMode::Set, Kind::File).expect("just fits");
        let full = all.clone();
        let refused = all.set(b"user.b", b"", XattrMode::Set, Kind::File);
        assert_eq!(refused, Err(XattrRefusal::Full { needed: OBJECT_BYTES_MAX + 9, max: OBJECT_BYTES_MAX }));
        assert_eq!(all, full, "a refused change changes nothing");
        all.set(b"user.a", &biggest, XattrMode::Replace, Kind::File).expect("it takes its own place");
        all.set(b"user.b", b"", XattrMode::Set, Kind::Directory).expect("a directory has room");
    }

    #[test]
    fn the_largest_metadata_of_an_object_fits_into_s3() {
        let attrs = Attrs { mode: 0o7777, uid: u32::MAX, gid: u32::MAX, mtime: i64::MIN };
        let mut user = attrs.to_metadata(Kind::BlockDevice(Device(u32::MAX)));
        let op = OpId::new(&"x".repeat(36), Ino(u64::MAX), Version(u64::MAX));
        user.insert("bridgefs_op".to_owned(), op.as_str().to_owned());
        user.insert("blake3".to_owned(), Digest::of(b"").to_hex());
        user.insert("bridgefs_link".to_owned(), "x".repeat(60 - "bridgefs_link".len()));
        let mut all = Xattrs::default();
        let biggest = vec![7; OBJECT_BYTES_MAX - 1 - HEAD_BYTES - 6];
        all.set(b"user.a", &biggest, XattrMode::Set, Kind::File).expect("just fits");
        user.insert(XATTRS_ENTRY.to_owned(), all.to_entry().expect("not empty"));
        let bytes: usize =
            user.iter().map(|(name, value)| "x-amz-meta-".len() + name.len() + value.len()).sum();
        assert!(bytes <= 2048 - 256, "{bytes}");
    }

    proptest! {
        #[test]
        fn no_bytes_from_outside_do_harm(bytes: Vec<u8>, raw: String) {
            for entry in [BASE64.encode([&[FORMAT], &*bytes].concat()), BASE64.encode(&bytes), raw] {
                if let Ok(all) = Xattrs::from_metadata(&metadata(entry.clone())) {
                    // What is understood is written again as it was, but for an empty list.
                    prop_assert!(all.to_entry().is_none_or(|again| again == entry));
                }
            }
        }

        #[test]
        fn a_damaged_entry_is_refused_or_another_list(at: usize, flip in 1..=255_u8) {
            let all = xattrs(&[(b"user.first", b"some value"), (b"user.second", b"\0\x01\x02")]);
            let mut bytes = BASE64.decode(all.to_entry().expect("not empty")).expect("base64");
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let read = Xattrs::from_metadata(&metadata(BASE64.encode(bytes)));
            prop_assert_ne!(read, Ok(all));
        }
    }
}
