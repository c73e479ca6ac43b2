//! Cached versions against the contents that they are of: eviction, crashes, damage on the disk.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{MIB, block_of, content, disk_used, files_below, options};
use crate::cache::{Cache, CachedVersion};
use crate::object::{BLOCK_BYTES, Ino, Version};

const BYTES_MAX: u64 = 5 * MIB;
const SIZES: [u64; 8] =
    [0, 1, 100_000, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5, BLOCK_BYTES - 1, 2 * BLOCK_BYTES];

#[derive(Debug, Clone)]
enum Step {
    Pin(usize),
    Unpin(usize),
    Read {
        which: usize,
        offset: u64,
        len: usize,
    },
    Insert {
        which: usize,
        block: u64,
    },
    Forget(usize),
    /// The process dies; then the disk changes bytes, or loses the end of a file.
    Crash(Vec<Damage>),
}

#[derive(Debug, Clone)]
enum Damage {
    Flip { file: prop::sample::Index, offset: prop::sample::Index },
    Cut { file: prop::sample::Index, len: prop::sample::Index },
    Lose { file: prop::sample::Index },
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), index()).prop_map(|(file, offset)| Damage::Flip { file, offset }),
        1 => (index(), index()).prop_map(|(file, len)| Damage::Cut { file, len }),
        1 => index().prop_map(|file| Damage::Lose { file }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0..SIZES.len();
    prop_oneof![
        2 => which().prop_map(Step::Pin),
        2 => which().prop_map(Step::Unpin),
        6 => (which(), 0..4 * BLOCK_BYTES, 0..2_000_000usize)
            .prop_map(|(which, offset, len)| Step::Read { which, offset, len }),
        8 => (which(), 0..4u64).prop_map(|(which, block)| Step::Insert { which, block }),
        1 => which().prop_map(Step::Forget),
        2 => prop::collection::vec(damage(), 0..3).prop_map(Step::Crash),
    ]
}

struct World {
    dir: TempDir,
    cache: Arc<Cache>,
    pins: Vec<Option<CachedVersion>>,
    contents: Vec<Bytes>,
}

impl World {
    fn new() -> World {
        let dir = TempDir::new().unwrap();
        let cache = Cache::open(dir.path(), options(BYTES_MAX)).unwrap();
        let contents = (0..).zip(SIZES).map(|(seed, size)| content(seed, size)).collect();
        World { dir, cache, pins: vec![None; SIZES.len()], contents }
    }

    /// Two versions of each inode.
    fn version(&self, which: usize) -> CachedVersion {
        let number = which as u64;
        let opened = self.cache.version(Ino(number / 2), Version(1 + number % 2), SIZES[which]);
        opened.unwrap()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Pin(which) => self.pins[which] = Some(self.version(which)),
            Step::Unpin(which) => self.pins[which] = None,
            Step::Read { which, offset, len } => self.read(which, offset, len),
            Step::Insert { which, block } => {
                let data = block_of_or_empty(&self.contents[which], block);
                if !data.is_empty() {
                    let version = self.version(which);
                    version.insert(block, data.clone(), Some(crc32fast::hash(&data))).unwrap();
                    let read = version.read(block * BLOCK_BYTES, data.len()).unwrap();
                    assert_eq!(read, Some(data), "what was just inserted is there, on disk or in memory");
                }
            }
            Step::Forget(which) => self.cache.forget(Ino(which as u64 / 2)),
            Step::Crash(damages) => self.crash(&damages),
        }
    }

    fn read(&self, which: usize, offset: u64, len: usize) {
        let version = self.version(which);
        let all = &self.contents[which];
        let start = all.len().min(usize::try_from(offset).unwrap());
        let expected = all.slice(start..all.len().min(start + len));
        let missing = version.missing(offset, len as u64);
        match version.read(offset, len).unwrap() {
            Some(bytes) => assert_eq!(bytes, expected),
            None if missing.is_empty() => assert!(!version.missing(offset, len as u64).is_empty()),
            None => {}
        }
    }

    /// The next process finds a copy of the directory as it is at this moment, with everything in use.
    fn crash(&mut self, damages: &[Damage]) {
        let copy = TempDir::new().unwrap();
        copy_tree(self.dir.path(), copy.path());
        let files = files_below(&copy.path().join("blocks"));
        if !files.is_empty() {
            damages.iter().for_each(|damage| apply(damage, &files));
        }
        self.pins.fill(None);
        self.cache = Cache::open(copy.path(), options(BYTES_MAX)).unwrap();
        self.dir = copy;
    }

    fn check(&self) {
        assert!(self.cache.stats().bytes <= BYTES_MAX);
        assert!(disk_used(&self.dir.path().join("blocks")) <= BYTES_MAX + MIB);
        if let Some(pinned) = self.pins.iter().flatten().next() {
            assert!(pinned.is_complete() == pinned.missing(0, u64::MAX).is_empty());
        }
    }
}

fn block_of_or_empty(content: &Bytes, block: u64) -> Bytes {
    if block * BLOCK_BYTES < content.len() as u64 { block_of(content, block) } else { Bytes::new() }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("blocks")).unwrap();
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let (source, target) = (fs::File::open(file).unwrap(), fs::File::create(target).unwrap());
        let len = source.metadata().unwrap().len();
        target.set_len(len).unwrap();
        crate::cache::disk::copy_written(&source, &target, 0..len).unwrap();
    }
}

fn apply(damage: &Damage, files: &[std::path::PathBuf]) {
    match damage {
        Damage::Flip { file, offset } => {
            // An earlier damage may have removed it.
            let Ok(file) = OpenOptions::new().read(true).write(true).open(file.get(files)) else { return };
            let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
            if len > 0 {
                let offset = offset.index(len) as u64;
                let mut byte = [0];
                file.read_exact_at(&mut byte, offset).unwrap();
                file.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
            }
        }
        Damage::Cut { file, len } => {
            let Ok(file) = OpenOptions::new().write(true).open(file.get(files)) else { return };
            let old = usize::try_from(file.metadata().unwrap().len()).unwrap();
            file.set_len(len.index(old + 1) as u64).unwrap();
        }
        Damage::Lose { file } => drop(fs::remove_file(file.get(files))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_wrong_byte_is_served_whatever_happens_to_the_disk(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check();
        }
    }
}

#[test]
fn each_kind_of_damage_is_found_counted_and_mended_by_the_next_insert() {
    let mut world = World::new();
    for which in [2, 5] {
        let offsets = [0, 9, 60, 64, 68, 71, 2_000_000, SIZES[5] - 1];
        for offset in offsets.into_iter().filter(|offset| which == 5 || *offset < SIZES[2]) {
            for suffix in ["", ".i"] {
                [2, 5].into_iter().for_each(|old| world.step(Step::Forget(old)));
                (0..4).for_each(|block| world.step(Step::Insert { which, block }));
                world.crash(&[]);
                let files = files_below(&world.dir.path().join("blocks"));
                let Some(path) =
                    files.iter().find(|f| f.to_string_lossy().ends_with(".i") == (suffix == ".i"))
                else {
                    continue;
                };
                let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
                let mut byte = [0];
                if file.read_at(&mut byte, offset).unwrap() == 0 {
                    continue;
                }
                file.write_all_at(&[!byte[0]], offset).unwrap();
                assert!(!world.version(which).is_complete(), "{path:?} {offset}");
                assert!(world.cache.stats().bad_blocks > 0, "{path:?} {offset}");
                (0..4).for_each(|block| world.step(Step::Insert { which, block }));
                assert!(world.version(which).is_complete(), "{path:?} {offset}");
            }
        }
    }
}
