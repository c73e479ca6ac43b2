//! Ordinary programs on both clouds.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bridgefs::clock::Instant;

use super::tree::{Shape, Tree, assert_same_tree};
use super::{alone, block_on, table};
use crate::support::compare::{compare, metadata};
use crate::support::mount::{Mount, Site, run};
use crate::support::servers::{Kind, Place, Server};

const MIB: usize = 1 << 20;
/// How long the queues may need at the end.
const DRAIN: Duration = Duration::from_secs(600);

#[test]
fn a_tree_of_5000_files_is_copied_by_ordinary_programs_and_both_clouds_hold_the_same() {
    let _alone = alone();
    let (s3, azurite) = (Server::start(Kind::SeaweedFs), Server::start(Kind::Azurite));
    let (old, new) = block_on(async { (s3.fresh_bucket().await, azurite.fresh_bucket().await) });
    let site = Site::new(table(&old, None), table(&new, None));
    let shape = Shape {
        files: 5000,
        large: vec![64 * MIB, 20 * MIB, 8 * MIB, 8 * MIB + 1, 5 * MIB],
        small_max: 64 << 10,
    };
    let tree = timed("make the tree", || Tree::make(site.home().join("tree"), &shape, 1));
    let mount = site.mount();
    timed("cp -a", || run(Command::new("cp").arg("-a").arg(&tree.root).arg(mount.path().join("copy"))));
    timed("rsync", || a_second_rsync_transfers_nothing(&tree.root, &mount.path().join("copy")));
    timed("git", || git_works_inside(&mount, site.home()));
    timed("tar", || a_tar_round_trip_changes_nothing(&mount, &tree.root));
    timed("drain", || mount.settle(DRAIN));
    mount.unmount();
    let objects = timed("rclone check --download", || compare(&old, &new)).assert_equal();
    println!("{objects} objects on each side");
    assert!(objects > tree.files.len(), "all of them are there");
    timed("metadata", || block_on(assert_metadata(&old, &new, &tree)));
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    println!("{what}: {:.1} s", start.elapsed().as_secs_f64());
    done
}

fn a_second_rsync_transfers_nothing(tree: &Path, copy: &Path) {
    let (from, to) = (format!("{}/", tree.display()), format!("{}/", copy.display()));
    let said = run(Command::new("rsync").args(["-a", "--checksum", "--itemize-changes"]).args([from, to]));
    assert_eq!(said, "", "rsync finds something to do after cp -a");
}

fn git_works_inside(mount: &Mount<'_>, home: &Path) {
    let (origin, clone) = (home.join("origin"), mount.path().join("clone"));
    let git = |directory: &Path, arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]);
        run(git.arg("-C").arg(directory).args(arguments))
    };
    std::fs::create_dir(&origin).expect("a directory");
    git(&origin, &["init", "--quiet"]);
    for commit in 0..20 {
        for file in 0..10 {
            let text = format!("{commit} {file}\n").repeat(commit * 50 + file);
            std::fs::write(origin.join(format!("file {file}.txt")), text).expect("a file");
        }
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "--quiet", "-m", "more"]);
    }
    run(Command::new("git").args(["clone", "--quiet", "--no-local"]).args([&origin, &clone]));
    git(&clone, &["fsck", "--full", "--strict"]);
    assert_eq!(git(&clone, &["status", "--porcelain"]), "");
    std::fs::write(clone.join("new.txt"), "written in the mount\n").expect("a file in the mount");
    git(&clone, &["add", "."]);
    git(&clone, &["commit", "--quiet", "-m", "in the mount"]);
    git(&clone, &["gc", "--quiet"]);
    git(&clone, &["fsck", "--full", "--strict"]);
}

fn a_tar_round_trip_changes_nothing(mount: &Mount<'_>, tree: &Path) {
    let (archive, out) = (mount.path().join("tree.tar"), mount.path().join("untarred"));
    let parts = ["names", "plain", "#hash", "100%"];
    run(Command::new("tar").arg("-C").arg(mount.path().join("copy")).arg("-cf").arg(&archive).args(parts));
    std::fs::create_dir(&out).expect("a directory in the mount");
    run(Command::new("tar").arg("-C").arg(&out).arg("-xpf").arg(&archive));
    for part in parts {
        assert_same_tree(&tree.join(part), &out.join(part));
    }
}

/// `mode` and `mtime` of every file, on both sides, are those of the tree on the disk.
async fn assert_metadata(old: &Place, new: &Place, tree: &Tree) {
    for place in [old, new] {
        let found = metadata(place).await;
        for (key, mode, mtime, xattrs) in tree.expected("copy") {
            let known = found.get(&key).unwrap_or_else(|| panic!("{} has no {key}", place.url));
            let says = |name: &str| known.get(name).map(String::as_str);
            assert_eq!(
                (says("mode"), says("mtime"), says("bridgefs_xattrs")),
                (Some(&*mode), Some(&*mtime), xattrs.as_deref()),
                "{key} on {}",
                place.url
            );
        }
        let bare = found.iter().find(|(_, says)| !(says.contains_key("mode") && says.contains_key("mtime")));
        assert_eq!(bare, None, "every object has mode and mtime");
    }
}
