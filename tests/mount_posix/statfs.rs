//! The size of the whole, as `df` shows it.

use nix::sys::statvfs::statvfs;

use crate::rig::{Rig, Setup};

#[test]
fn the_size_is_that_of_the_cache_s_disk_and_no_store_is_asked_not_even_while_both_are_away() {
    let rig = Rig::with(Setup { keys: vec!["d/f".to_owned()], ..Setup::default() });
    // The bridge lists the top once by itself when it starts.
    assert_eq!(std::fs::read_dir(rig.root()).expect("listed").count(), 1);
    let before = rig.requests();
    let look = || {
        // Others use the disk meanwhile: what is free may move, but not far.
        let (here, disk) = (statvfs(rig.root()).expect("told"), statvfs(&rig.native()).expect("told"));
        let bytes = |blocks: u64, of: u64| blocks * of;
        let (shown, real) =
            (bytes(here.blocks(), here.fragment_size()), bytes(disk.blocks(), disk.fragment_size()));
        assert_eq!(shown, real / here.fragment_size() * here.fragment_size());
        let free = bytes(here.blocks_available(), here.fragment_size());
        let there = bytes(disk.blocks_available(), disk.fragment_size());
        assert!(free.abs_diff(there) < there / 10 + (1 << 30), "{free} and {there}");
        assert_eq!((here.files(), here.name_max()), (disk.files(), 255));
    };
    look();
    rig.faults.old.down();
    rig.faults.new.down();
    look();
    assert_eq!(rig.requests(), before);
}
