//! A tree with everything that names and sizes can do to a migration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Directories, some of them awkward; one is deep.
const DIRECTORIES: [&str; 12] = [
    "plain",
    "with spaces/and more  spaces",
    "unicode/日本語/ünïcödé/🦀",
    "plus+sign/a+b",
    "100%/%41%2F",
    "#hash/a#b",
    ".hidden/..leading dots",
    "question?mark/a&b=c;d",
    "quotes'\"/$HOME",
    "(brackets)/[x]{y}",
    "comma,tilde~/at@colon:",
    "d/e/e/p/p/a/t/h/s/a/r/e/f/i/n/e/t/o/o/1/2/3/4/5/6/7/8/9/0",
];

/// What every tenth file has, with its own name as value.
const XATTR: &str = "user.bridge";

/// A tree on the local disk.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// Regular files and symlinks, below the root.
    pub(crate) files: Vec<PathBuf>,
}

/// What it is made of.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) files: usize,
    /// Lengths of the large ones among them, in bytes.
    pub(crate) large: Vec<usize>,
    pub(crate) small_max: usize,
}

impl Tree {
    /// Makes it in `root`.
    pub(crate) fn make(root: PathBuf, shape: &Shape, seed: u64) -> Tree {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut tree = Tree { root, files: Vec::new() };
        for (at, len) in shape.large.iter().enumerate() {
            tree.add(format!("large/{at}.bin"), *len, &mut rng);
        }
        for name in longest_names() {
            tree.add(format!("names/{name}"), 100, &mut rng);
        }
        tree.add("empty".to_owned(), 0, &mut rng);
        tree.link("plain/link", "../large/0.bin");
        tree.link("plain/dangling link", "no such file ü");
        while tree.files.len() < shape.files {
            let at = tree.files.len();
            let directory = DIRECTORIES[at % DIRECTORIES.len()];
            let len =
                if at.is_multiple_of(50) { 0 } else { rng.random_range(0..shape.small_max) >> (at % 5) };
            tree.add(format!("{directory}/{at} {}", name(at)), len, &mut rng);
        }
        tree
    }

    fn add(&mut self, name: String, len: usize, rng: &mut SmallRng) {
        let path = self.root.join(&name);
        fs::create_dir_all(path.parent().expect("it is below the root")).expect("a directory");
        let mut bytes = vec![0; len];
        rng.fill(&mut bytes[..]);
        fs::write(&path, bytes).expect("a file");
        let modes = [0o644, 0o600, 0o755, 0o440, 0o664];
        let mode = modes[rng.random_range(0..modes.len())];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        let nanos = rng.random_range(1_000_000_000_000_000_000..1_750_000_000_000_000_000);
        let modified = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        fs::File::open(&path).expect("it is there").set_modified(modified).expect("its time");
        if self.files.len().is_multiple_of(10) {
            crate::support::mount::run(Command::new("setfattr").args(["-n", XATTR, "-v", &name]).arg(&path));
        }
        self.files.push(name.into());
    }

    fn link(&mut self, name: &str, target: &str) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().expect("it is below the root")).expect("a directory");
        std::os::unix::fs::symlink(target, path).expect("a symlink");
        self.files.push(name.into());
    }

    /// What the metadata of each file's object must say: its key below `prefix`, mode, time and extended
    /// attributes.
    pub(crate) fn expected(&self, prefix: &str) -> Vec<(String, String, String, Option<String>)> {
        let one = |(at, name): (usize, &PathBuf)| {
            let meta = fs::symlink_metadata(self.root.join(name)).expect("the tree is still there");
            let since =
                meta.modified().expect("a time").duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
            let mtime = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
            let mode = format!("{:o}", meta.permissions().mode());
            let entry = (at.is_multiple_of(10) && meta.is_file()).then(|| entry(&name.display().to_string()));
            (format!("{prefix}/{}", name.display()), mode, mtime, entry)
        };
        self.files.iter().enumerate().map(one).collect()
    }
}

/// The metadata entry of one attribute, put together by hand.
fn entry(value: &str) -> String {
    let name_len = [u8::try_from(XATTR.len()).expect("short")];
    let value_len = u16::try_from(value.len()).expect("short").to_be_bytes();
    STANDARD_NO_PAD.encode([&[1], &name_len[..], &value_len, XATTR.as_bytes(), value.as_bytes()].concat())
}

/// The longest names that Linux takes: 255 bytes.
fn longest_names() -> [String; 3] {
    ["n".repeat(255), format!("{}x", "ü".repeat(127)), format!("{}end", "%+#".repeat(84))]
}

fn name(at: usize) -> &'static str {
    [
        "a.txt",
        "b+c.log",
        "50% done",
        "#1.csv",
        ".profile",
        "Ä Ö Ü.pdf",
        "x=y&z.json",
        "tab'quote",
        "no-extension",
    ][at % 9]
}

/// Compares two trees as `diff` sees them.
pub(crate) fn assert_same_tree(first: &Path, second: &Path) {
    let mut diff = std::process::Command::new("diff");
    crate::support::mount::run(diff.args(["-r", "--no-dereference"]).args([first, second]));
}
