//! Whose directory it is: the file `volume`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::disk;
use super::error::CacheError;

/// The first line of the file; changes with the format of anything in the directory.
const FORMAT: &str = "bridgefs-cache 1";

/// The parts of a cache directory.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
    pub(super) staged: PathBuf,
    pub(super) blocks: PathBuf,
    pub(super) damaged: PathBuf,
}

impl Layout {
    /// Makes the directory ready for `volume`, and the cache of another bridge away.
    pub(super) fn prepare(dir: &Path, volume: &str) -> Result<Layout, CacheError> {
        let below = |name| dir.join(name);
        let (staged, blocks, damaged) = (below("staged"), below("blocks"), below("damaged"));
        let layout = Layout { root: dir.to_owned(), staged, blocks, damaged };
        let at = |path: &Path, result: io::Result<()>| {
            result.map_err(|source| CacheError::Io { path: path.to_owned(), source })
        };
        at(dir, fs::create_dir_all(dir).and_then(|()| restrict(dir)))?;
        at(&layout.staged, disk::make_dir(&layout.staged))?;
        at(&layout.staged, remove_parts(&layout.staged))?;
        layout.claim(volume)?;
        at(&layout.blocks, disk::make_dir(&layout.blocks))?;
        at(&layout.damaged, disk::make_dir(&layout.damaged))?;
        Ok(layout)
    }

    fn claim(&self, volume: &str) -> Result<(), CacheError> {
        let path = self.root.join("volume");
        let io_error = |source| CacheError::Io { path: path.clone(), source };
        let wanted = format!("{FORMAT}\n{volume}\n");
        let found = match fs::read(&path) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(io_error(e)),
        };
        if found == wanted {
            return Ok(());
        }
        let files = fs::read_dir(&self.staged).map_err(io_error)?.count();
        if files > 0 {
            let found = found.lines().nth(1).unwrap_or_default().to_owned();
            return Err(CacheError::Foreign { dir: self.root.clone(), found, files });
        }
        self.take_over(&path, &wanted).map_err(io_error)
    }

    /// The blocks go first: a crash in between leaves a directory that is still not ours.
    fn take_over(&self, path: &Path, wanted: &str) -> io::Result<()> {
        match fs::remove_dir_all(&self.blocks) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let part = self.root.join("volume.part");
        fs::write(&part, wanted)?;
        fs::File::open(&part)?.sync_all()?;
        fs::rename(&part, path)?;
        disk::sync_dir(&self.root)
    }
}

fn restrict(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

/// Removes what a crash left half made: fills and snapshots.
fn remove_parts(staged: &Path) -> io::Result<()> {
    for entry in fs::read_dir(staged)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "part") {
            disk::remove(&path)?;
        }
    }
    Ok(())
}
