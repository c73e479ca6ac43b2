//! One daemon per state directory: two would give the same numbers to different files (LESSONS B23).

use std::fs::{DirBuilder, File, OpenOptions, Permissions, set_permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{LedgerError, LedgerErrorKind, LedgerResult};

/// How long a holder that is on its way out may take: one that was just unmounted or killed still closes its
/// files, and `umount && mount` must not fail for that.
const LEAVING_MAX: Duration = Duration::from_secs(3);

/// The held lock; dropping it lets another daemon in.
#[derive(Debug)]
pub(super) struct StateLock {
    _file: Flock<File>,
}

impl StateLock {
    /// Makes the directory (mode 0700) if needed and takes its lock.
    pub(super) fn take(state_dir: &Path) -> LedgerResult<StateLock> {
        let failed = |what: &str, error| disk_error(format!("{what} {}", state_dir.display()), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .and_then(|()| set_permissions(state_dir, Permissions::from_mode(0o700)))
            .map_err(|error| failed("cannot make the state directory", error))?;
        let file = private_file(&state_dir.join("lock"))?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((file, Errno::EWOULDBLOCK)) => when_the_holder_left(state_dir, file)?,
            Err((_, errno)) => return Err(failed("cannot lock the state directory", errno.into())),
        };
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| failed("cannot write the lock file in", error))?;
        Ok(StateLock { _file: file })
    }
}

/// Opens or makes a file that only its owner reads and writes.
pub(super) fn private_file(path: &Path) -> LedgerResult<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
        .open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)).map(|()| file))
        .map_err(|error| disk_error(format!("cannot open {}", path.display()), error))
}

fn disk_error(what: String, error: std::io::Error) -> LedgerError {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let kind = if full { LedgerErrorKind::Full } else { LedgerErrorKind::Io };
    LedgerError::caused(kind, format!("{what}: {error}"), error)
}

/// Waits for the lock on a thread of its own, because `flock` has no deadline. A thread that comes too late
/// gets the lock some day, and drops it at once.
fn when_the_holder_left(state_dir: &Path, file: File) -> LedgerResult<Flock<File>> {
    let failed = |error| disk_error(format!("cannot wait for the lock of {}", state_dir.display()), error);
    let waiting = file.try_clone().map_err(failed)?;
    let (got, lock) = mpsc::channel();
    let wait = move || drop(got.send(Flock::lock(waiting, FlockArg::LockExclusive)));
    std::thread::Builder::new().name("state-lock".to_owned()).spawn(wait).map_err(failed)?;
    match lock.recv_timeout(LEAVING_MAX) {
        Ok(Ok(lock)) => Ok(lock),
        Ok(Err((_, errno))) => Err(failed(errno.into())),
        Err(_late) => Err(in_use(state_dir, file)),
    }
}

fn in_use(state_dir: &Path, mut file: File) -> LedgerError {
    let mut pid = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut pid));
    let holder = match (read, pid.trim()) {
        (Ok(_), pid) if !pid.is_empty() => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    let detail = format!(
        "the state directory {} is in use by {holder}: stop that bridge, or give this one its own state_dir",
        state_dir.display()
    );
    LedgerError::new(LedgerErrorKind::InUse, detail)
}

#[cfg(test)]
mod tests {
    use super::StateLock;
    use crate::ledger::LedgerErrorKind;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_daemon_is_told_the_directory_and_the_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = dir.path().join("a/state");
        let held = StateLock::take(&state_dir).expect("free");
        let error = StateLock::take(&state_dir).expect_err("held");
        assert_eq!(error.kind(), LedgerErrorKind::InUse);
        assert!(error.to_string().contains(&state_dir.display().to_string()), "{error}");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        StateLock::take(&state_dir).expect("free again");
    }

    #[test]
    fn a_holder_on_its_way_out_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = StateLock::take(dir.path()).expect("free");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| StateLock::take(dir.path()));
            drop(held);
            second.join().expect("no panic").expect("free in the end");
        });
    }

    #[test]
    fn others_cannot_read_the_state() {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = dir.path().join("state");
        let _held = StateLock::take(&state_dir).expect("free");
        let mode = |path: &std::path::Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&state_dir), 0o700);
        assert_eq!(mode(&state_dir.join("lock")), 0o600);
    }
}
