//! Going into the background: the parent lives until the mount can be used or has failed, so that the exit
//! code of `mount` is the truth.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe, setsid};

use super::{DaemonError, state_dir};

/// The word that the daemon sends when the mount can be used.
const READY: &str = "ready";

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Detached {
    /// The one that the user started.
    Parent(Waiting),
    /// The daemon.
    Child(Report),
}

/// The parent's end.
#[derive(Debug)]
pub struct Waiting {
    pipe: File,
    log: PathBuf,
}

impl Waiting {
    /// Returns when the mount can be used, or with the reason why it cannot.
    pub fn wait_until_ready(mut self) -> Result<(), DaemonError> {
        let mut said = String::new();
        self.pipe.read_to_string(&mut said).map_err(|error| DaemonError::Detach { source: error })?;
        match said.as_str() {
            READY => Ok(()),
            "" => Err(DaemonError::Died { log: self.log }),
            reason => Err(DaemonError::Reported { reason: reason.to_owned() }),
        }
    }
}

/// The daemon's end.
#[derive(Debug)]
pub struct Report {
    pipe: Option<File>,
}

impl Report {
    /// Lets the parent go: the mount can be used.
    pub fn ready(&mut self) {
        self.say(READY);
    }

    /// Gives the parent the reason why there is no mount. After [`Report::ready`] nobody listens any more.
    pub fn failed(&mut self, reason: &str) {
        self.say(reason);
    }

    fn say(&mut self, text: &str) {
        let Some(mut pipe) = self.pipe.take() else { return };
        if let Err(error) = pipe.write_all(text.as_bytes()) {
            tracing::warn!(%error, "whoever started the mount is gone");
        }
    }
}

/// Splits into parent and daemon. The daemon has no terminal, and writes to `bridgefs.log` in `state_dir`,
/// which is made if it is missing. Must be called while the process has one thread: only the calling
/// thread lives on in the daemon, and a lock that another one held would stay held for ever.
pub fn detach(state_dir: &Path) -> Result<Detached, DaemonError> {
    let failed = |source: io::Error| DaemonError::Detach { source };
    state_dir::make(state_dir)?;
    let log_path = state_dir.join("bridgefs.log");
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&log_path);
    let log = log.map_err(|source| DaemonError::Folder { path: log_path.clone(), source })?;
    let (read, write) = pipe().map_err(|errno| failed(errno.into()))?;
    // SAFETY: the process has one thread (see above), so the child may use everything it inherits.
    match unsafe { fork() }.map_err(|errno| failed(errno.into()))? {
        ForkResult::Parent { .. } => {
            drop(write);
            Ok(Detached::Parent(Waiting { pipe: read.into(), log: log_path }))
        }
        ForkResult::Child => {
            drop(read);
            leave_terminal(log.into()).map_err(failed)?;
            Ok(Detached::Child(Report { pipe: Some(write.into()) }))
        }
    }
}

fn leave_terminal(log: OwnedFd) -> io::Result<()> {
    setsid()?;
    // A daemon that stays in a directory keeps its file system from being unmounted.
    std::env::set_current_dir("/")?;
    let nothing = File::open("/dev/null")?;
    dup2_stdin(nothing.as_fd())?;
    dup2_stdout(log.as_fd())?;
    dup2_stderr(log.as_fd())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(said: &str) -> Result<(), DaemonError> {
        let (read, write) = pipe().expect("a pipe");
        let mut report = Report { pipe: Some(write.into()) };
        match said {
            "" => drop(report),
            READY => report.ready(),
            reason => report.failed(reason),
        }
        Waiting { pipe: read.into(), log: PathBuf::from("/x/bridgefs.log") }.wait_until_ready()
    }

    #[test]
    fn the_parent_repeats_what_the_daemon_said() {
        assert!(waiting(READY).is_ok());
        let reason = waiting("the bucket does not exist").expect_err("refused").to_string();
        assert_eq!(reason, "the bucket does not exist");
        let died = waiting("").expect_err("no word").to_string();
        assert!(died.contains("/x/bridgefs.log"), "{died}");
    }
}
