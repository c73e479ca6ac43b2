use std::io;

use nix::errno::Errno;

use crate::object::Key;
use crate::store::{ErrorKind, StoreError};

/// Which call is being carried out: what every error of it names.
#[derive(Debug, Clone)]
pub(super) struct Call {
    operation: &'static str,
    key: Option<Key>,
}

impl Call {
    pub(super) fn on(operation: &'static str, key: &Key) -> Call {
        Call { operation, key: Some(key.clone()) }
    }

    pub(super) fn plain(operation: &'static str) -> Call {
        Call { operation, key: None }
    }

    pub(super) fn fail(&self, kind: ErrorKind, detail: impl Into<String>) -> StoreError {
        // What the file system has answered is over.
        let error = StoreError::new(kind, self.operation, detail).settled();
        match &self.key {
            Some(key) => error.on(key),
            None => error,
        }
    }

    /// An error of the file system while `doing` something.
    pub(super) fn io(&self, doing: &str, error: impl Into<io::Error>) -> StoreError {
        let error = error.into();
        self.fail(kind_of(&error), format!("{doing}: {error}")).caused_by(error)
    }

    pub(super) fn not_found(&self) -> StoreError {
        self.fail(ErrorKind::NotFound, "no such object")
    }
}

/// What the caller does next. Never `NotFound`: that an object is not there is decided where the whole path is
/// known, because a folder whose mount is lost gives the same ENOENT.
fn kind_of(error: &io::Error) -> ErrorKind {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => ErrorKind::Denied,
        // A full disk still reads: it must not open the breaker, and it may have room later.
        Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => {
            ErrorKind::Throttled
        }
        Some(Errno::ENAMETOOLONG | Errno::EFBIG | Errno::EOPNOTSUPP | Errno::E2BIG | Errno::ERANGE) => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use nix::errno::Errno;

    use super::kind_of;
    use crate::store::ErrorKind;

    #[test]
    fn what_the_file_system_says_is_never_that_an_object_is_missing() {
        let table = [
            (Errno::ENOENT, ErrorKind::Unavailable),
            (Errno::EIO, ErrorKind::Unavailable),
            (Errno::ESTALE, ErrorKind::Unavailable),
            (Errno::ENOTCONN, ErrorKind::Unavailable),
            (Errno::EACCES, ErrorKind::Denied),
            (Errno::EROFS, ErrorKind::Denied),
            (Errno::ENOSPC, ErrorKind::Throttled),
            (Errno::ENAMETOOLONG, ErrorKind::Unsupported),
            (Errno::EOPNOTSUPP, ErrorKind::Unsupported),
        ];
        for (errno, kind) in table {
            assert_eq!(kind_of(&io::Error::from(errno)), kind, "{errno}");
        }
    }
}
