//! The kernel's mount table.

use std::io;
use std::path::Path;

/// The type of the topmost mount exactly at `mountpoint` (for example `fuse.bridgefs`), if there is one.
/// Never touches the mount itself, which may be dead.
pub fn type_at(mountpoint: &Path) -> io::Result<Option<String>> {
    Ok(find(&std::fs::read_to_string("/proc/self/mountinfo")?, mountpoint))
}

fn find(mountinfo: &str, mountpoint: &Path) -> Option<String> {
    let mut lines = mountinfo.lines().rev().filter_map(|line| {
        let (mount, details) = line.split_once(" - ")?;
        let at = unescape(mount.split(' ').nth(4)?);
        (Path::new(&at) == mountpoint).then(|| details.split(' ').next().unwrap_or_default().to_owned())
    });
    lines.next()
}

/// Undoes the kernel's `\040` for a space, and the like.
fn unescape(field: &str) -> String {
    const ESCAPES: [(&str, &str); 4] = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    ESCAPES.iter().fold(field.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_at_a_path_counts() {
        let table = "29 1 8:1 / / rw - ext4 /dev/root rw\n\
                     41 29 0:40 / /mnt/my\\040docs rw,nosuid shared:1 - fuse.old x rw\n\
                     42 29 0:41 / /mnt/my\\040docs rw,nosuid - fuse.bridgefs bridgefs rw\n";
        assert_eq!(find(table, Path::new("/mnt/my docs")).as_deref(), Some("fuse.bridgefs"));
        assert_eq!(find(table, Path::new("/mnt")), None);
    }
}
