//! Which bridges are mounted on this host: one small file each, so that `status` and `umount` need no
//! configuration. Only a hint: the lock of the state directory is what keeps two daemons apart.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A mounted bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningMount {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The configuration it was started with.
    pub config: PathBuf,
    /// Where its ledger and journal are.
    pub state_dir: PathBuf,
    /// Where its daemon listens.
    pub socket: PathBuf,
    /// The daemon.
    pub pid: u32,
}

impl RunningMount {
    /// All bridges of this user whose daemon is alive.
    pub fn all() -> Vec<RunningMount> {
        all_in(&folder())
    }

    /// Writes the entry, for as long as the returned value lives.
    pub fn register(&self) -> io::Result<Registration> {
        register_in(&folder(), self)
    }

    fn is_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).map(Pid::from_raw);
        pid.is_ok_and(|pid| !matches!(signal::kill(pid, None), Err(nix::errno::Errno::ESRCH)))
    }
}

/// An entry of the registry; it goes away with this value.
#[derive(Debug)]
pub struct Registration {
    file: PathBuf,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.file) {
            tracing::debug!(%error, "the entry of the running mount was already gone");
        }
    }
}

/// `$BRIDGEFS_RUN_DIR`, else `/run/bridgefs` for root and `$XDG_RUNTIME_DIR/bridgefs` for others.
fn folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    match (set("BRIDGEFS_RUN_DIR"), set("XDG_RUNTIME_DIR")) {
        (Some(chosen), _) => chosen,
        (None, Some(runtime)) if !nix::unistd::getuid().is_root() => runtime.join("bridgefs"),
        (None, _) => PathBuf::from("/run/bridgefs"),
    }
}

fn register_in(folder: &Path, mount: &RunningMount) -> io::Result<Registration> {
    std::fs::create_dir_all(folder)?;
    let hash = blake3::hash(mount.mountpoint.as_os_str().as_encoded_bytes()).to_hex();
    let file = folder.join(format!("{}.json", &hash[..16]));
    // Renamed into place: a reader sees a whole entry or none.
    let new = folder.join(format!("{}.new", &hash[..16]));
    std::fs::write(&new, serde_json::to_vec(mount)?)?;
    std::fs::rename(&new, &file)?;
    Ok(Registration { file })
}

fn all_in(folder: &Path) -> Vec<RunningMount> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut mounts: Vec<RunningMount> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|ending| ending == "json"))
        .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok())
        .filter(RunningMount::is_alive)
        .collect();
    mounts.sort_by(|a, b| a.mountpoint.cmp(&b.mountpoint));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(mountpoint: &str, pid: u32) -> RunningMount {
        RunningMount {
            mountpoint: mountpoint.into(),
            config: "/etc/bridgefs/x.toml".into(),
            state_dir: "/var/lib/bridgefs/x".into(),
            socket: "/var/lib/bridgefs/x/control.sock".into(),
            pid,
        }
    }

    #[test]
    fn a_mount_is_listed_while_its_daemon_lives() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let living = mount("/mnt/a", std::process::id());
        let registration = register_in(dir.path(), &living).expect("written");
        let dead = register_in(dir.path(), &mount("/mnt/b", 0x3fff_fff0)).expect("written");
        assert_eq!(all_in(dir.path()), vec![living]);
        drop((registration, dead));
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0);
    }
}
