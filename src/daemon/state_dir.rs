//! Where the ledger is: a folder on a local disk that syncs. `check` and `mount` look at it with the same eyes.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;

use super::DaemonError;

/// What every refusal ends with.
const UNTOUCHED: &str = "Nothing was mounted and nothing was changed";

/// File systems of other hosts and of programs: what they call synced may be lost, and locks may not hold.
const NOT_LOCAL: [(i64, &str); 4] =
    [(0x6969, "NFS"), (0x6573_5546, "FUSE"), (0xff53_4d42, "SMB"), (0xfe53_4d42, "SMB")];

/// File systems that show the kernel's own things and keep no files.
const NO_FILES: [(i64, &str); 6] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x1cd1, "devpts"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
];

/// Makes the state directory, unless the ledger would not be safe in it.
pub(super) fn make(state_dir: &Path) -> Result<(), DaemonError> {
    refuse_unfit(state_dir)?;
    make_private(state_dir).map_err(|error| cannot_make(state_dir, &error))
}

/// Tries that [`make`] would do and that a file can be made there; leaves nothing behind.
pub(super) fn try_to_make(state_dir: &Path) -> Result<(), DaemonError> {
    refuse_unfit(state_dir)?;
    let mut made = Vec::new();
    let outcome = missing(state_dir).into_iter().try_for_each(|folder| {
        private().create(&folder).map_err(|error| cannot_make(&folder, &error))?;
        made.push(folder);
        Ok(())
    });
    let removed = made.iter().rev().try_for_each(|folder| {
        let why =
            |error| format!("state_dir: cannot remove {}, which was made to try: {error}", folder.display());
        fs::remove_dir(folder).map_err(|error| DaemonError::Unsafe { why: why(error) })
    });
    outcome.and(removed)
}

/// The folder itself or the nearest one above it that is there.
pub(super) fn nearest(state_dir: &Path) -> &Path {
    state_dir.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"))
}

/// Makes a folder and those above it; only its owner can look into it.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    private().recursive(true).create(path)
}

/// Writes down whose ledger is here, where it can be read without the ledger's lock.
pub(super) fn note_bridge(state_dir: &Path, bridge_id: &str) -> Result<(), DaemonError> {
    if bridge_of(state_dir).as_deref() == Some(bridge_id) {
        return Ok(());
    }
    let path = bridge_file(state_dir);
    fs::write(&path, format!("{bridge_id}\n")).map_err(|source| DaemonError::Folder { path, source })
}

/// The bridge whose ledger was opened here last.
pub(super) fn bridge_of(state_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(bridge_file(state_dir)).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

fn bridge_file(state_dir: &Path) -> PathBuf {
    state_dir.join("bridge-id")
}

fn private() -> fs::DirBuilder {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// What has to be made, from the top; a folder to try with if everything is there.
fn missing(state_dir: &Path) -> Vec<PathBuf> {
    let existing = nearest(state_dir);
    if existing == state_dir {
        return vec![state_dir.join(format!("check-{:016x}", rand::random::<u64>()))];
    }
    let missing = state_dir.ancestors().take_while(|folder| *folder != existing);
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    missing
}

fn refuse_unfit(state_dir: &Path) -> Result<(), DaemonError> {
    let existing = nearest(state_dir);
    let shown = existing.display();
    if !existing.is_dir() {
        let why = format!(
            "state_dir: {shown} is a file, and the ledger needs a folder. {UNTOUCHED}. Move the file away, or name \
             another folder"
        );
        return Err(DaemonError::Unsafe { why });
    }
    let kind = statfs(existing).map(|stat| stat.filesystem_type().0).unwrap_or_default();
    let named =
        |table: &[(i64, &'static str)]| table.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name);
    let why = match (named(&NOT_LOCAL), named(&NO_FILES)) {
        (Some(name), _) => format!("is on {name}: the journal needs a local disk that syncs"),
        (None, Some(name)) => {
            format!("is on {name}, which keeps no files: the journal needs a local disk that syncs")
        }
        (None, None) => return Ok(()),
    };
    Err(DaemonError::Unsafe {
        why: format!("state_dir: {shown} {why}. {UNTOUCHED}. Name a folder on such a disk"),
    })
}

fn cannot_make(folder: &Path, error: &io::Error) -> DaemonError {
    let why = format!(
        "state_dir: cannot make {}: {error}. {UNTOUCHED}. Name a folder that this user can make and write to",
        folder.display()
    );
    DaemonError::Unsafe { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `check` says and what `mount` says.
    fn refusals(state_dir: &Path) -> [String; 2] {
        [try_to_make(state_dir), make(state_dir)].map(|outcome| outcome.expect_err("refused").to_string())
    }

    #[test]
    fn trying_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let below = dir.path().join("a/b/state");
        try_to_make(&below).expect("it can be made");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
        make(&below).expect("made");
        try_to_make(&below).expect("it can be used");
        assert_eq!(fs::read_dir(&below).expect("listed").count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        fs::write(&file, "mine").expect("written");
        for state_dir in [file.clone(), file.join("state")] {
            let [check, mount] = refusals(&state_dir);
            assert_eq!(check, mount);
            let named = format!("{} is a file", file.display());
            assert!(check.contains(&named) && check.contains("Move the file away"), "{check}");
        }
        assert_eq!(fs::read_to_string(&file).expect("kept"), "mine");
    }

    #[test]
    fn a_place_that_keeps_no_files_is_refused() {
        for place in ["/proc/nope", "/proc", "/sys/nope/below"] {
            let [check, mount] = refusals(Path::new(place));
            assert_eq!(check, mount);
            assert!(check.contains("keeps no files") && check.contains("Name a folder"), "{check}");
        }
    }

    #[test]
    fn a_name_that_leads_nowhere_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().expect("a folder");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/nowhere/at/all", &link).expect("a link");
        let [check, mount] = refusals(&link);
        assert_eq!(check, mount);
        assert!(check.contains("cannot make"), "{check}");
    }

    #[test]
    fn the_bridge_of_a_ledger_is_remembered_until_another_ledger_is_opened() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(bridge_of(dir.path()), None);
        for id in ["one", "two"] {
            note_bridge(dir.path(), id).expect("written");
            assert_eq!(bridge_of(dir.path()).as_deref(), Some(id));
        }
    }
}
