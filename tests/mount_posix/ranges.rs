//! Allocation, holes and copies of ranges, against what the native disk answers.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bridgefs::object::Side;
use libc::{FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, copy_file_range, fallocate};
use nix::unistd::{Whence, lseek};

use crate::mapping::Mapping;
use crate::rig::Rig;

const KEEP: FallocateFlags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
const PUNCH: FallocateFlags = FallocateFlags::FALLOC_FL_PUNCH_HOLE;
const ZERO: FallocateFlags = FallocateFlags::FALLOC_FL_ZERO_RANGE;
const MODE_0: FallocateFlags = FallocateFlags::empty();

fn read_write(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("opened")
}

/// Size and a sum of the bytes. Not the disk space: a disk's own share in it depends on when it writes.
fn state(file: &File) -> String {
    let len = file.metadata().expect("open").len();
    let mut bytes = vec![0; usize::try_from(len).expect("small")];
    file.read_exact_at(&mut bytes, 0).expect("read");
    format!("{len} bytes, sum {}", crc32fast::hash(&bytes))
}

#[test]
fn allocated_zeroed_and_punched_ranges_are_as_on_the_native_disk() {
    let rig = Rig::new();
    rig.same_as_native(|dir| {
        let file = read_write(&dir.join("f"));
        file.write_all_at(&[7; 50_000], 0).expect("written");
        let steps = [
            (PUNCH | KEEP, 5_000, 20_000),
            (ZERO, 40_000, 30_000),
            (ZERO | KEEP, 60_000, 30_000),
            (MODE_0, 10_000, 10_000),
            (MODE_0, 65_000, 50_000),
            (KEEP, 0, 300_000),
            (PUNCH | KEEP, 100_000, 1_000_000),
            (PUNCH, 0, 10),
            (PUNCH | ZERO | KEEP, 0, 10),
            (MODE_0, 0, 0),
            (MODE_0, -1, 10),
            (MODE_0, i64::MAX, 10),
            (MODE_0, i64::MAX - 10, 10),
        ];
        let told = steps.into_iter().map(|(mode, offset, len)| {
            let done = fallocate(&file, mode, offset, len);
            format!("{mode:?} {offset} {len}: {done:?}, {}", state(&file))
        });
        told.collect()
    });
    rig.drain();
    let native = fs::read(rig.native().join("f")).expect("read");
    assert!(fs::read(rig.at("f")).expect("read") == native);
    let stored = rig.stores[Side::Old].snapshot();
    assert!(stored.values().any(|(body, _)| body[..] == native[..]), "the store has the same bytes");
}

#[test]
fn what_cannot_be_allocated_is_refused_as_on_the_native_disk() {
    let rig = Rig::new();
    rig.same_as_native(|dir| {
        fs::write(dir.join("f"), "content").expect("written");
        let read_only = File::open(dir.join("f")).expect("opened");
        let directory = File::open(dir).expect("opened");
        let append = OpenOptions::new().append(true).open(dir.join("f")).expect("opened");
        vec![
            format!("{:?}", fallocate(&read_only, MODE_0, 0, 10)),
            format!("{:?}", fallocate(&directory, MODE_0, 0, 10)),
            format!("{:?}", fallocate(&append, MODE_0, 0, 10)),
            format!("{:?}", append.metadata().expect("open").len()),
        ]
    });
    let file = read_write(&rig.at("f"));
    for mode in [FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE] {
        let refused = fallocate(&file, FallocateFlags::from_bits_retain(mode), 0, 4096);
        assert_eq!(refused, Err(Errno::EOPNOTSUPP));
    }
}

#[test]
fn a_changed_range_has_new_times_and_space_that_is_kept_in_reserve_is_shown() {
    let rig = Rig::new();
    rig.shell(
        "echo content > f; touch -d '2001-01-01' f
         before=$(stat -c '%Y' f); fallocate -l 1M f
         [ $(stat -c %s f) = 1048576 ] && [ $(stat -c %b f) = 2048 ] && [ $(stat -c %Y f) -gt $before ]
         touch -d '2001-01-01' f; fallocate -p -o 0 -l 4096 f
         [ $(stat -c %Y f) -gt $before ] && [ $(head -c 8 f | tr -d '\\0' | wc -c) = 0 ]
         exec 3> g; fallocate -n -l 1M g
         echo more >&3; [ $(stat -c %s g) = 5 ] && [ $(stat -c %b g) -ge 2048 ]
         fallocate -l 2M g; fallocate -p -o 0 -l 1M g; [ $(stat -c %b g) -lt 3000 ]
         truncate -s 32M g; [ $(du -k g | cut -f 1) -lt 1500 ]",
    );
}

#[test]
fn a_mapping_sees_what_was_punched_zeroed_and_copied() {
    let rig = Rig::new();
    rig.same_as_native(|dir| {
        let (file, other) = (read_write(&dir.join("f")), read_write(&dir.join("g")));
        file.write_all_at(&[7; 65_536], 0).expect("written");
        other.write_all_at(&[9; 65_536], 0).expect("written");
        let (mut mapping, mut theirs) = (Mapping::shared(&file, 65_536), Mapping::shared(&other, 65_536));
        mapping.set(5_000, 1);
        mapping.set(30_000, 2);
        theirs.set(100, 3);
        let mut told = vec![];
        fallocate(&file, PUNCH | KEEP, 4_000, 10_000).expect("punched");
        told.push(crc32fast::hash(&mapping.bytes(0, 65_536)).to_string());
        mapping.set(5_000, 4);
        fallocate(&file, ZERO, 20_000, 10_000).expect("zeroed");
        told.push(crc32fast::hash(&mapping.bytes(0, 65_536)).to_string());
        let (mut from, mut to) = (50, 41_001);
        let copied = copy_file_range(&other, Some(&mut from), &file, Some(&mut to), 20_000);
        told.push(format!("{copied:?} {from} {to}"));
        told.push(crc32fast::hash(&mapping.bytes(0, 65_536)).to_string());
        mapping.sync();
        told.push(state(&file));
        told
    });
}

#[test]
fn holes_and_data_are_found_as_on_the_native_disk() {
    let rig = Rig::new();
    rig.same_as_native(|dir| {
        let file = read_write(&dir.join("f"));
        file.set_len(1 << 20).expect("lengthened");
        file.write_all_at(&[1; 5_000], 200_000).expect("written");
        file.write_all_at(&[1; 5_000], 600_000).expect("written");
        fallocate(&file, PUNCH | KEEP, 601_000, 100_000).expect("punched");
        let places = [0, 1, 200_000, 203_000, 210_000, 600_500, 610_000, (1 << 20) - 1, 1 << 20, 1 << 30, -1];
        let told = places.into_iter().flat_map(|offset| {
            [Whence::SeekData, Whence::SeekHole]
                .map(|whence| format!("{whence:?} {offset}: {:?}", lseek(&file, offset, whence)))
        });
        told.collect()
    });
}

/// The kernel does not write pages back before it asks for holes: who copied by them lost what a mapping
/// had changed.
#[test]
fn what_a_mapping_wrote_into_a_hole_is_data_at_once() {
    let rig = Rig::new();
    rig.same_as_native(|dir| {
        let file = read_write(&dir.join("f"));
        file.set_len(1 << 20).expect("lengthened");
        let mut mapping = Mapping::shared(&file, 1 << 20);
        mapping.set(500_000, 1);
        let first = lseek(&file, 0, Whence::SeekData);
        mapping.set(900_000, 1);
        vec![
            format!("{first:?}"),
            format!("{:?}", lseek(&file, 510_000, Whence::SeekData)),
            format!("{:?}", lseek(&file, 500_000, Whence::SeekHole)),
            format!("{:?}", lseek(&file, 900_000, Whence::SeekHole)),
            format!("{:?}", (mapping.get(500_000), mapping.get(900_000), mapping.get(1))),
        ]
    });
}

#[test]
fn ranges_are_copied_between_files_whether_they_are_stored_or_being_written() {
    let rig = Rig::new();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    fs::write(rig.at("stored"), &bytes).expect("written");
    rig.drain();
    let (stored, written) = (File::open(rig.at("stored")).expect("opened"), read_write(&rig.at("written")));
    written.write_all_at(&bytes[..100_000], 0).expect("written");
    let to = read_write(&rig.at("to"));
    let mut expected = vec![];
    for (from, all) in [(&stored, &bytes[..]), (&written, &bytes[..100_000])] {
        let (mut source, mut target) = (1_234, i64::try_from(expected.len()).expect("small"));
        while copy_file_range(from, Some(&mut source), &to, Some(&mut target), 1 << 30).expect("copied") > 0 {
        }
        expected.extend_from_slice(&all[1_234..]);
    }
    drop(to);
    assert!(fs::read(rig.at("to")).expect("read") == expected);
    rig.same_as_native(|dir| {
        fs::write(dir.join("a"), [1; 100]).expect("written");
        let (a, append) = (read_write(&dir.join("a")), OpenOptions::new().append(true).open(dir.join("a")));
        let copy = |from: &File, mut at: i64, to: &File, mut target: i64, len: usize| {
            format!("{:?}", copy_file_range(from, Some(&mut at), to, Some(&mut target), len))
        };
        vec![
            copy(&a, 0, &a, 50, 51),
            copy(&a, 0, &a, 50, 50),
            copy(&a, 100, &a, 200, 10),
            copy(&a, 0, append.as_ref().expect("opened"), 0, 10),
            copy(&a, 0, &File::open(dir.join("a")).expect("opened"), 200, 10),
            copy(&a, -1, &a, 200, 10),
            state(&a),
        ]
    });
}

#[test]
fn cp_and_tar_keep_sparse_files_right() {
    let rig = Rig::new();
    rig.shell(
        "truncate -s 4M image; printf data | dd of=image bs=1 seek=3000000 conv=notrunc status=none
         cp --sparse=always image copy; cp --reflink=auto image other; cmp image copy; cmp image other
         exec 3<> image; printf more | dd of=/dev/fd/3 bs=1 seek=1000 conv=notrunc status=none
         tar -Scf all.tar image; mkdir out; tar -C out -xf all.tar; cmp image out/image
         cp --sparse=always image again; cmp image again",
    );
}
