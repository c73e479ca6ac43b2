//! What goes with a file: one extended attribute, written into the temporary file before it gets its name.
//!
//! An attribute and not a file beside it, because it is in the same inode: after a crash content and metadata
//! are both the old or both the new, and `cp -a` and `rsync -X` take them along.

use std::ffi::CStr;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::call::Call;
use crate::object::{Attrs, ETag, Kind, NanoTime};
use crate::store::{ErrorKind, HttpHeader, ObjectInfo, ObjectMeta, StoreResult};

const NAME: &CStr = c"user.bridgefs.object";
/// Names and values in all, as the clouds limit it: it fits the 4 KiB that ext4 gives a file's attributes.
const META_BYTES_MAX: usize = 2048;
/// The values of HTTP headers in all.
const HEADER_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 4096;
/// What the name of an HTTP header is written behind.
const HEADER_MARK: &str = "http:";

/// The attribute's content: the id of the put that made this state, the content type (or nothing), then one a
/// line the other HTTP headers (`http:cache-control=no-store`) and the user metadata (`mode=100644`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    id: String,
    meta: ObjectMeta,
}

impl Record {
    /// The record of a new state: its id is random, so that a tag never comes twice, not after a restart either.
    pub(super) fn new(meta: &ObjectMeta) -> Record {
        Record { id: format!("{:032x}", rand::random::<u128>()), meta: meta.clone() }
    }

    /// Why the folder cannot hold this metadata, if it cannot.
    fn refusal(&self) -> Option<&'static str> {
        let ObjectMeta { headers, user } = &self.meta;
        let bytes: usize = user.iter().map(|(name, value)| name.len() + value.len()).sum();
        let header_bytes: usize = headers.values().map(String::len).sum();
        let texts = user.iter().flat_map(|(name, value)| [name, value]).chain(headers.values());
        let printable = |text: &String| text.bytes().all(|b| (b' '..=b'~').contains(&b));
        let is_mark = |name: &String| name.contains('=') || name.starts_with(HEADER_MARK);
        if bytes > META_BYTES_MAX || header_bytes > HEADER_BYTES_MAX {
            Some("the metadata is over 2 KB, or the HTTP headers are over 1 KB")
        } else if !texts.into_iter().all(printable) || user.keys().any(is_mark) {
            Some("metadata must be printable ASCII, without `=` in names, which must not begin with `http:`")
        } else {
            None
        }
    }

    fn encode(&self) -> String {
        let mut headers = self.meta.headers.clone();
        let content_type = headers.remove(&HttpHeader::ContentType).unwrap_or_default();
        let headers =
            headers.iter().map(|(header, value)| format!("\n{HEADER_MARK}{}={value}", header.name()));
        let pairs = self.meta.user.iter().map(|(name, value)| format!("\n{name}={value}"));
        format!("{}\n{content_type}{}", self.id, headers.chain(pairs).collect::<String>())
    }

    fn decode(raw: &str) -> Option<Record> {
        let mut lines = raw.split('\n');
        let id = lines.next().filter(|id| id.bytes().all(|b| b.is_ascii_hexdigit()))?.to_owned();
        let mut meta = ObjectMeta::default();
        if let Some(content_type) = lines.next().filter(|text| !text.is_empty()) {
            meta.headers.insert(HttpHeader::ContentType, content_type.to_owned());
        }
        for line in lines {
            let (name, value) = line.split_once('=')?;
            match name.strip_prefix(HEADER_MARK) {
                Some(header) => drop(meta.headers.insert(HttpHeader::from_name(header)?, value.to_owned())),
                None => drop(meta.user.insert(name.to_owned(), value.to_owned())),
            }
        }
        Some(Record { id, meta })
    }

    /// Makes `file` the object with this metadata: the attribute, then mode and mtime, so that `ls -l` in the
    /// folder says what the mount says.
    pub(super) fn apply(&self, call: &Call, file: &File) -> StoreResult<()> {
        if let Some(why) = self.refusal() {
            return Err(call.fail(ErrorKind::Unsupported, why));
        }
        let failed = |error| call.io("writing the metadata", error);
        // An attribute can only be written by who may write the file, the owner of a 0444 one included.
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        set_attribute(file, self.encode().as_bytes()).map_err(failed)?;
        let default = Attrs { mode: 0o644, uid: 0, gid: 0, mtime: 0 };
        let (attrs, kind) = Attrs::from_metadata(&self.meta.user, default);
        if self.meta.user.contains_key("mtime") {
            file.set_modified(system_time(attrs.mtime)).map_err(failed)?;
        }
        let mode = if matches!(kind, Some(Kind::File) | None) { attrs.mode } else { default.mode };
        // Never set-user-id, and always readable for ourselves.
        file.set_permissions(Permissions::from_mode((mode & 0o777) | 0o400)).map_err(failed)
    }
}

fn system_time(nanos: NanoTime) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if nanos < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    time.unwrap_or(epoch)
}

/// Probes whether the file system keeps our attribute.
pub(super) fn probe_attributes(file: &File) -> io::Result<()> {
    set_attribute(file, b"0\n")
}

/// What `file` is as an object, and its record's id.
pub(super) fn describe(call: &Call, file: &File) -> StoreResult<ObjectInfo> {
    let failed = |error| call.io("reading the metadata", error);
    let stat = file.metadata().map_err(failed)?;
    let record = match attribute(file).map_err(failed)? {
        Some(raw) => {
            let raw = String::from_utf8_lossy(&raw);
            let garbage =
                || call.fail(ErrorKind::Corrupt, "the attribute user.bridgefs.object makes no sense");
            Record::decode(&raw).ok_or_else(garbage)?
        }
        None => Record { id: "0".to_owned(), meta: ObjectMeta::default() },
    };
    // A file of another program has no time but its own. What carries one in its metadata was taken when the
    // inode changed last: its mtime is only a copy of that entry.
    let modified = match record.meta.user.contains_key("mtime") {
        true => nanos(stat.ctime(), stat.ctime_nsec()),
        false => own_time(&stat),
    };
    Ok(ObjectInfo { size: stat.size(), etag: tag(&record.id, &stat), modified, meta: record.meta })
}

/// When another program changed the file last.
pub(super) fn own_time(stat: &Metadata) -> NanoTime {
    nanos(stat.mtime(), stat.mtime_nsec())
}

fn nanos(seconds: i64, nanos: i64) -> NanoTime {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// The tag of a state. The id changes with each of our puts; inode, size and mtime with what another program
/// does to the file.
fn tag(id: &str, stat: &Metadata) -> ETag {
    let (ino, size, mtime, nanos) = (stat.ino(), stat.size(), stat.mtime(), stat.mtime_nsec());
    ETag::new(&format!("{id}-{ino:x}-{size:x}-{mtime}.{nanos:09}"))
}

fn set_attribute(file: &File, value: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is open, the name ends with NUL, and the pointer is good for `value.len()` bytes.
    let result =
        unsafe { libc::fsetxattr(file.as_raw_fd(), NAME.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Ok(Errno::result(result).map(drop)?)
}

/// The attribute; `None` if the file has none, because another program wrote it.
fn attribute(file: &File) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; VALUE_BYTES_MAX];
    // SAFETY: the descriptor is open, the name ends with NUL, and the buffer is good for `value.len()` bytes.
    let result =
        unsafe { libc::fgetxattr(file.as_raw_fd(), NAME.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match Errno::result(result) {
        Ok(len) => {
            value.truncate(usize::try_from(len).expect("a count of bytes is not negative"));
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::Record;
    use crate::store::{HttpHeader, ObjectMeta};

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let user = [("mode".to_owned(), "100644".to_owned()), ("x".to_owned(), "a=b".to_owned())].into();
        let headers = HttpHeader::ALL.map(|header| (header, format!("{}=x; y", header.name()))).into();
        for meta in [ObjectMeta::default(), ObjectMeta { headers, user }] {
            let record = Record::new(&meta);
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
        assert_eq!(Record::decode("no id\n"), None);
    }

    #[test]
    fn a_record_of_earlier_versions_is_read() {
        let record = Record::decode("0a\ntext/plain\nmode=100644\nx=a=b").expect("it is one");
        let user = [("mode".to_owned(), "100644".to_owned()), ("x".to_owned(), "a=b".to_owned())].into();
        let headers = [(HttpHeader::ContentType, "text/plain".to_owned())].into();
        assert_eq!(record, Record { id: "0a".to_owned(), meta: ObjectMeta { headers, user } });
        assert_eq!(record.encode(), "0a\ntext/plain\nmode=100644\nx=a=b", "and written as it was");
    }

    #[test]
    fn metadata_that_would_not_come_back_is_refused() {
        let long = "x".repeat(3000);
        for (name, value) in [("a", "b\nc=d"), ("a=b", "c"), ("a", "ü"), ("a", &long), ("http:a", "b")] {
            let user = [(name.to_owned(), value.to_owned())].into();
            assert!(Record::new(&ObjectMeta::of_user(user)).refusal().is_some(), "{name}");
        }
        for value in ["a\nb", "ü", &long[..1025]] {
            let headers = [(HttpHeader::CacheControl, value.to_owned())].into();
            assert!(Record::new(&ObjectMeta { headers, user: [].into() }).refusal().is_some(), "{value}");
        }
    }
}
