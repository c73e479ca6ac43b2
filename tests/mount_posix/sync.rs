//! Descriptors that promise more than others: `O_SYNC`, `O_DSYNC`, `O_DIRECT`.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use bridgefs::object::Side;

use crate::mapping::Mapping;
use crate::rig::Rig;

/// What the stores hold under the only key.
fn stored(rig: &Rig, side: Side) -> Vec<u8> {
    let objects = rig.stores[side].snapshot();
    objects.into_values().next().map(|(body, _)| body.to_vec()).unwrap_or_default()
}

#[test]
fn a_write_through_a_synchronous_descriptor_is_acknowledged_when_it_returns() {
    let rig = Rig::new();
    for flag in [libc::O_SYNC, libc::O_DSYNC, libc::O_SYNC | libc::O_DIRECT] {
        let path = rig.at("f");
        let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flag).open(&path);
        let file = file.expect("opened");
        let mut expected = Vec::new();
        for i in 1..=5_u8 {
            file.write_all_at(&[i; 4096], u64::from(i - 1) * 4096).expect("written");
            expected.extend_from_slice(&[i; 4096]);
            // The policy is that the preferred store acknowledges: it has the bytes before the next line.
            assert!(stored(&rig, Side::Old) == expected, "flags {flag:o}, write {i}");
        }
        drop(file);
    }
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i / 7 + seed) % 251).expect("small")).collect()
}

/// Lengths and places around every border: sectors, pages, and the largest request of the kernel.
const PIECES: [(u64, usize); 8] = [
    (0, 4096),
    (4096, 1),
    (4097, 511),
    (1000, 512),
    (100_000, 1 << 20),
    (777_777, (3 << 20) + 123),
    (4 << 20, 4096),
    (9_000_001, 65_537),
];

#[test]
fn direct_reads_and_writes_of_any_length_and_place_are_right_beside_buffered_ones_and_a_mapping() {
    let rig = Rig::new();
    let path = rig.at("f");
    let open = |flag| OpenOptions::new().read(true).write(true).create(true).custom_flags(flag).open(&path);
    let (direct, buffered) = (open(libc::O_DIRECT).expect("opened"), open(0).expect("opened"));
    let mapping_len = 12 << 20;
    buffered.set_len(u64::try_from(mapping_len).expect("fits")).expect("lengthened");
    let mut mapping = Mapping::shared(&buffered, mapping_len);
    let mut expected = vec![0; mapping_len];
    for (seed, (offset, len)) in PIECES.into_iter().enumerate() {
        let at = usize::try_from(offset).expect("fits");
        // Each way of writing is seen by the other two ways of reading.
        for (way, writer) in [&direct, &buffered].into_iter().enumerate() {
            let bytes = pattern(3 * seed + way, len);
            writer.write_all_at(&bytes, offset).expect("written");
            expected[at..at + len].copy_from_slice(&bytes);
            let mut read = vec![0; len + 100];
            for reader in [&direct, &buffered] {
                reader.read_exact_at(&mut read, offset).expect("read");
                assert!(read[..] == expected[at..at + len + 100], "way {way} of {len} at {offset}");
            }
            assert!(mapping.bytes(at, at + len) == expected[at..at + len], "mapping, {len} at {offset}");
        }
        mapping.set(at, 99);
        expected[at] = 99;
        let mut read = vec![0; len];
        direct.read_exact_at(&mut read, offset).expect("read");
        assert!(read[..] == expected[at..at + len], "a store through the mapping, at {offset}");
    }
    drop((mapping, direct, buffered));
    assert!(fs::read(&path).expect("read") == expected);
    rig.drain();
    assert!(stored(&rig, Side::Old) == expected && stored(&rig, Side::New) == expected);
}

/// The kernel sends the pieces of one large direct write at once, in any order.
#[test]
fn large_direct_appends_stay_in_order() {
    let rig = Rig::new();
    let path = rig.at("log");
    let append = |flag| OpenOptions::new().append(true).create(true).custom_flags(flag).open(&path);
    let (one, two): (File, File) = (append(libc::O_DIRECT).expect("opened"), append(0).expect("opened"));
    let mut expected = Vec::new();
    for round in 0..8 {
        for (file, len) in [(&one, 5 << 20), (&two, 12_345)] {
            let bytes = pattern(round, len);
            std::io::Write::write_all(&mut &*file, &bytes).expect("appended");
            expected.extend_from_slice(&bytes);
        }
    }
    drop((one, two));
    assert!(fs::read(&path).expect("read") == expected);
}
