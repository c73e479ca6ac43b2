//! The only place that knows errno.

use std::ffi::OsStr;

use fuser::Errno;

use crate::bridge::BridgeErrorKind;
use crate::fs::FsError;

/// The longest name, in bytes, that a directory holds.
const NAME_BYTES_MAX: usize = 255;

impl From<FsError> for Errno {
    fn from(error: FsError) -> Errno {
        let errno = match &error {
            FsError::Bridge(bridge) => of_bridge(bridge.kind()),
            FsError::BadHandle => Errno::EBADF,
            FsError::Refused(_) | FsError::Damaged(_) => Errno::EIO,
            FsError::TooLarge => Errno::EFBIG,
            FsError::Unsupported(_) => Errno::EOPNOTSUPP,
            FsError::Invalid(_) => Errno::EINVAL,
            FsError::NotOwner => Errno::EPERM,
            FsError::NotKept(_) => Errno::EOPNOTSUPP,
        };
        if matches!(error, FsError::Damaged(_)) {
            // Told once, when it began; there is one of these for each page.
            tracing::debug!(%error, "an operation on damaged content failed");
        } else if errno == Errno::EIO || errno == Errno::ENOSPC || errno == Errno::ESTALE {
            tracing::warn!(%error, errno = errno.code(), "an operation failed");
        } else {
            tracing::debug!(%error, errno = errno.code(), "an operation was refused");
        }
        errno
    }
}

/// Doubts, decided:
/// - `Unavailable` is `EIO`, not `ETIMEDOUT` or `EAGAIN`: programs check `close` and `fsync` for `EIO`, and
///   some take `EAGAIN` as "nothing happened, and it is not a file".
/// - `Stale` is `ESTALE`: the kernel looks the name up again and retries an `open` once by itself.
/// - `Loop` is `EINVAL`, as rename(2) says; `ELOOP` is about symbolic links.
/// - `CrossSlice` is `EXDEV`: `mv` then copies, which is what is needed.
/// - `IllegalName` is `EINVAL`, as on other file systems whose names are limited (vfat, cifs).
/// - `NoSpace` is `ENOSPC` for extended attributes too, as on ext4 when their block is full; `E2BIG` is a
///   single value over the kernel's own limit.
/// - `NotKept` is `EOPNOTSUPP`, also for attributes that the bridge keeps for itself: programs that copy
///   all attributes take it as "cannot be kept here" and go on, which they do not after `EPERM`.
/// - `Lost` is `EIO`: no new look at the name brings back what is nowhere.
/// - `Damaged` is `EIO`, not `EUCLEAN`: hardly any program knows the latter.
fn of_bridge(kind: BridgeErrorKind) -> Errno {
    match kind {
        BridgeErrorKind::NotFound => Errno::ENOENT,
        BridgeErrorKind::Exists => Errno::EEXIST,
        BridgeErrorKind::NotADirectory => Errno::ENOTDIR,
        BridgeErrorKind::IsADirectory => Errno::EISDIR,
        BridgeErrorKind::NotEmpty => Errno::ENOTEMPTY,
        BridgeErrorKind::Loop | BridgeErrorKind::IllegalName => Errno::EINVAL,
        BridgeErrorKind::CrossSlice => Errno::EXDEV,
        BridgeErrorKind::NameTooLong => Errno::ENAMETOOLONG,
        BridgeErrorKind::TooManyLinks => Errno::EMLINK,
        BridgeErrorKind::NoSpace => Errno::ENOSPC,
        BridgeErrorKind::NoAttribute => Errno::ENODATA,
        BridgeErrorKind::Stale => Errno::ESTALE,
        BridgeErrorKind::Unavailable | BridgeErrorKind::Lost | BridgeErrorKind::Damaged => Errno::EIO,
    }
}

/// A name as keys can hold it. No cloud has names that are not UTF-8.
pub(super) fn name(raw: &OsStr) -> Result<String, Errno> {
    if raw.len() > NAME_BYTES_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    raw.to_str().map(str::to_owned).ok_or(Errno::EILSEQ)
}

/// The word for an errno, for metrics.
pub(super) fn word(errno: Errno) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno.code()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use fuser::Errno;

    use super::{name, of_bridge, word};
    use crate::bridge::BridgeErrorKind;

    #[test]
    fn a_name_is_utf_8_of_at_most_255_bytes() {
        let longest = "ü".repeat(127) + "x";
        assert_eq!(name(OsStr::new(&longest)), Ok(longest.clone()));
        assert_eq!(name(OsStr::new(&(longest + "y"))), Err(Errno::ENAMETOOLONG));
        assert_eq!(name(OsStr::from_bytes(b"caf\xe9")), Err(Errno::EILSEQ));
    }

    #[test]
    fn content_that_is_lost_is_an_error_and_not_another_file() {
        assert_eq!(of_bridge(BridgeErrorKind::Lost), Errno::EIO);
        assert_eq!(of_bridge(BridgeErrorKind::Stale), Errno::ESTALE);
    }

    #[test]
    fn an_errno_has_a_word() {
        assert_eq!(word(Errno::ENOSPC), "ENOSPC");
    }
}
