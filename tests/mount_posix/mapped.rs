//! What programs store through a shared mapping: the kernel sends it when they have long gone on.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use bridgefs::bridge::BridgeSettings;
use bridgefs::fs::FsOptions;
use bridgefs::ledger::FindingKind;
use bridgefs::object::Side;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::mapping::Mapping;
use crate::rig::{Rig, Setup};

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

fn read_write(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("opened")
}

/// Makes a file of zeros so long, and maps it.
fn mapped(path: &Path, len: usize) -> (File, Mapping) {
    let file = read_write(path);
    let mapping = Mapping::lengthened(&file, len);
    (file, mapping)
}

/// Stores one byte in each page.
fn store_everywhere(mapping: &mut Mapping, len: usize) {
    mapping.set_each((0, len), PAGE, 7);
}

fn pages_without_it(bytes: &[u8]) -> usize {
    bytes.chunks(PAGE).filter(|page| page[0] != 7).count()
}

/// What both stores hold under a key.
fn stored(rig: &Rig, key: &str) -> Vec<u8> {
    rig.drain();
    let held = Side::BOTH.map(|side| {
        let objects = rig.stores[side].snapshot();
        objects.into_iter().find(|(k, _)| k.as_str() == key).map(|(_, (body, _))| body.to_vec())
    });
    assert!(held[0] == held[1], "both stores hold the same");
    held.into_iter().next().flatten().expect("stored")
}

fn errno<T>(outcome: io::Result<T>) -> Option<i32> {
    outcome.err().and_then(|error| error.raw_os_error())
}

/// Waits until the kernel has let go of a file that was closed: it does not wait for that itself.
fn wait_until_closed(rig: &Rig) {
    while rig.fs.open_inodes() > 0 {
        thread::yield_now();
    }
}

fn impatient() -> Setup {
    let soon = Duration::from_millis(200);
    let settings = BridgeSettings { op_deadline: soon, ..BridgeSettings::default() };
    Setup { settings, files: FsOptions { deadline: soon, ..FsOptions::default() }, ..Setup::default() }
}

#[test]
fn what_was_stored_beyond_the_limit_of_staged_content_is_stored_whole() {
    let rig = Rig::with(Setup { staged_bytes_max: Some(MIB as u64), ..impatient() });
    let len = 16 * MIB;
    for (name, is_closed_first) in [("closed-first", true), ("unmapped-first", false)] {
        let (file, mut mapping) = mapped(&rig.at(name), len);
        store_everywhere(&mut mapping, len);
        if is_closed_first {
            drop(file);
            mapping.close();
            store_everywhere(&mut mapping, len);
            drop(mapping);
        } else {
            drop(mapping);
            file.sync_all().expect("it is all there");
            drop(file);
        }
        wait_until_closed(&rig);
        let there = stored(&rig, name);
        assert_eq!((there.len(), pages_without_it(&there)), (len, 0), "{name}");
    }
    assert_eq!(rig.bridge.findings(false, 10).expect("read").len(), 0);
}

#[test]
fn a_store_after_the_close_is_committed_when_the_mapping_ends() {
    let rig = Rig::new();
    let (file, mut mapping) = mapped(&rig.at("f"), 2 * PAGE);
    mapping.set(0, 7);
    drop(file);
    mapping.close();
    mapping.set(PAGE, 7);
    drop(mapping);
    wait_until_closed(&rig);
    assert_eq!(pages_without_it(&stored(&rig, "f")), 0);
}

/// Lengthens a file, and has a process store in all of it and end, or be ended by SIGBUS because the disk is
/// full before it is done, as on ext4. No descriptor of the test can write to it: such a one is closed in each process
/// that any test starts, which commits what has arrived until then.
fn store_all_or_die(path: &Path, len: usize) -> File {
    let file = File::open(path).expect("opened");
    Mapping::lengthened(&file, len).set_each_or_die((0, len), PAGE, 7);
    file
}

/// A file that is stored, and is being changed through a mapping by more than the disk can hold.
fn overfilled(rig: &Rig) -> File {
    fs::write(rig.at("f"), b"before").expect("written");
    assert!(stored(rig, "f") == b"before");
    let _open = store_all_or_die(&rig.at("f"), 32 * MIB);
    read_write(&rig.at("f"))
}

#[test]
fn what_the_disk_cannot_take_is_told_to_all_and_the_version_before_stays() {
    let rig = Rig::with(Setup { disk_bytes: Some(8 << 20), ..impatient() });
    let file = overfilled(&rig);
    let reader = File::open(rig.at("f")).expect("opened");
    assert!(file.sync_all().is_err(), "who syncs is told");
    assert_eq!(errno(file.sync_all()), Some(libc::EIO), "again, and by whatever means");
    assert!(reader.sync_all().is_err(), "and whoever else has it open");
    // The kernel drops its pages in the background.
    while reader.read_at(&mut [0; 10], 0).is_ok() {
        thread::yield_now();
    }
    assert_eq!(errno(reader.read_at(&mut [0; 10], 0)), Some(libc::EIO), "nobody reads what is lost");
    assert_eq!(errno(file.write_at(b"x", 0)), Some(libc::EIO));
    drop((file, reader));
    wait_until_closed(&rig);
    let finding = rig.bridge.findings(false, 10).expect("read").remove(0);
    assert_eq!((finding.kind, finding.key.as_deref()), (FindingKind::Damage, Some("f")));
    assert!(fs::read(rig.at("f")).expect("read") == b"before");
    assert_eq!(fs::metadata(rig.at("f")).expect("there").len(), 6);
    assert!(stored(&rig, "f") == b"before");
    fs::write(rig.at("g"), vec![1; 4 * MIB]).expect("the disk has room again");
}

#[test]
fn nobody_needs_to_be_told_for_the_version_before_to_stay() {
    let rig = Rig::with(Setup { disk_bytes: Some(8 << 20), ..impatient() });
    drop(overfilled(&rig));
    fs::write(rig.at("new"), b"").expect("made");
    drop(store_all_or_die(&rig.at("new"), 32 * MIB));
    wait_until_closed(&rig);
    assert!(fs::read(rig.at("f")).expect("read") == b"before");
    assert!(stored(&rig, "f") == b"before");
    assert!(fs::read(rig.at("new")).expect("read").is_empty());
    assert!(stored(&rig, "new").is_empty());
    assert_eq!(rig.bridge.findings(false, 10).expect("read").len(), 2);
}

#[test]
fn who_cuts_a_damaged_file_to_nothing_and_writes_it_anew_has_a_whole_one() {
    let rig = Rig::with(Setup { disk_bytes: Some(8 << 20), ..impatient() });
    let file = overfilled(&rig);
    assert!(file.sync_all().is_err());
    file.set_len(0).expect("cut");
    // Its space may be free a moment later.
    while errno(file.write_all_at(b"anew", 0)) == Some(libc::ENOSPC) {
        thread::yield_now();
    }
    file.sync_all().expect("whole");
    assert_eq!(stored(&rig, "f"), b"anew");
}

#[test]
fn a_write_that_the_disk_cannot_take_fails_alone() {
    let rig = Rig::with(Setup { disk_bytes: Some(8 << 20), ..impatient() });
    let file = read_write(&rig.at("f"));
    file.write_all_at(&[1; PAGE], 0).expect("written");
    assert_eq!(errno(file.write_all_at(&vec![2; 32 * MIB], PAGE as u64)), Some(libc::ENOSPC));
    let len = file.metadata().expect("open").len();
    file.sync_all().expect("what was written is there");
    assert_eq!(file.read_at(&mut [0; 10], 0).expect("read"), 10);
    drop(file);
    assert_eq!(stored(&rig, "f").len() as u64, len);
    assert_eq!(rig.bridge.findings(false, 10).expect("read").len(), 0);
}

#[test]
fn a_time_that_is_set_after_a_store_holds_and_a_store_after_it_is_seen() {
    let rig = Rig::new();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let mtime = || fs::metadata(rig.at("f")).expect("there").modified().expect("known");
    let (file, mut mapping) = mapped(&rig.at("f"), 2 * PAGE);
    mapping.set(0, 7);
    file.set_times(FileTimes::new().set_modified(long_ago)).expect("set");
    mapping.sync();
    assert_eq!(mtime(), long_ago);
    mapping.set(PAGE, 7);
    mapping.sync();
    assert!(mtime() > long_ago);
    File::open(rig.at("f")).expect("opened").set_times(FileTimes::new().set_modified(long_ago)).expect("set");
    drop((file, mapping));
    wait_until_closed(&rig);
    assert_eq!(mtime(), long_ago, "whoever set it");
    assert_eq!(pages_without_it(&stored(&rig, "f")), 0);
}

/// The one difference from a local disk that the kernel leaves no way around: if this fails, the kernel has
/// become better, and the sentence can go.
#[test]
fn bytes_that_a_mapping_put_behind_the_end_become_content_when_the_file_grows() {
    type Grow = fn(&File);
    let ways: [(&str, Grow); 3] = [
        ("cut", |file| file.set_len(PAGE as u64).expect("lengthened")),
        ("write", |file| file.write_all_at(b"z", PAGE as u64 - 1).expect("written")),
        ("allocate", |file| fallocate(file, FallocateFlags::empty(), 0, PAGE as i64).expect("allocated")),
    ];
    let rig = Rig::new();
    for (way, grow) in ways {
        let file = read_write(&rig.at(way));
        file.write_all_at(&[1; 100], 0).expect("written");
        let mut mapping = Mapping::shared(&file, PAGE);
        mapping.set(200, 7);
        file.sync_all().expect("synced");
        assert_eq!(stored(&rig, way), [1; 100], "as long as it does not grow, it has its length");
        mapping.set(200, 7);
        grow(&file);
        let mut byte = [0];
        file.read_exact_at(&mut byte, 200).expect("read");
        assert_eq!(byte, [7], "{way}");
    }
}
