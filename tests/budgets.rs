//! What ordinary operations cost: requests to the stores, which are billed, and waits for the local disk. Counted
//! on a real mount. A budget that is exceeded is a bill of somebody's, so a test has to say it.

#[path = "budgets/rig.rs"]
mod rig;

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;

use bridgefs::bridge::AckPolicy;
use bridgefs::object::Side;
use bridgefs::store::metered::Operation;
use rig::Rig;

const MIB: usize = 1 << 20;

/// A mount with one uploaded file, whose costs are forgotten.
fn with_file(len: usize) -> Rig {
    let rig = Rig::new();
    fs::create_dir(rig.at("dir")).expect("a directory");
    fs::write(rig.at("dir/file"), vec![7; len]).expect("a file");
    rig.forget_costs();
    rig
}

#[test]
fn a_warm_read_makes_no_request() {
    let mut rig = with_file(3 * MIB + 5);
    rig.remount();
    assert_eq!(fs::read(rig.at("dir/file")).expect("read"), vec![7; 3 * MIB + 5]);
    rig.assert_paid("a read of what was written here", &[]);
}

#[test]
fn a_cold_read_asks_once_for_the_object_and_then_never_again() {
    let keys = ["old/report".to_owned()];
    let mut rig = Rig::over(&keys);
    fs::metadata(rig.at("old/report")).expect("it is there");
    rig.forget_costs();
    assert_eq!(fs::read(rig.at("old/report")).expect("read"), keys[0].as_bytes());
    let gets = rig.paid(Side::Old).into_iter().find(|(operation, _)| *operation == Operation::Get);
    assert_eq!(gets, Some((Operation::Get, 1)));
    assert_eq!(rig.paid(Side::New), [], "nothing is asked of the secondary");
    rig.forget_costs();
    rig.remount();
    fs::read(rig.at("old/report")).expect("read again");
    rig.assert_paid("a second read", &[]);
}

#[test]
fn a_new_small_file_costs_one_put_on_each_store_and_two_syncs() {
    let rig = with_file(1);
    let syncs = rig.syncs();
    fs::write(rig.at("dir/new"), [1; 4096]).expect("written and closed");
    let syncs = rig.syncs() - syncs;
    rig.assert_paid("create, 4 KiB, close", &[(Operation::Put, 1)]);
    assert!(syncs <= 2, "{syncs} syncs of the ledger");
}

#[test]
fn an_fsync_after_a_change_of_attributes_waits_for_the_local_disk() {
    let rig = with_file(1);
    let file = OpenOptions::new().write(true).open(rig.at("dir/file")).expect("opened");
    let before = rig.syncs();
    file.set_permissions(Permissions::from_mode(0o600)).expect("changed");
    file.sync_all().expect("synced");
    assert!(rig.syncs() > before);
}

#[test]
fn a_change_in_place_costs_one_put_and_reads_nothing_back() {
    let rig = with_file(100_000);
    let file = OpenOptions::new().write(true).open(rig.at("dir/file")).expect("opened");
    file.write_all_at(b"changed", 50_000).expect("written");
    file.sync_all().expect("acknowledged");
    drop(file);
    rig.assert_paid("a write in place", &[(Operation::Put, 1)]);
    rig.forget_costs();
    let mut file = OpenOptions::new().append(true).open(rig.at("dir/file")).expect("opened");
    file.write_all(b"more").expect("appended");
    file.sync_all().expect("acknowledged");
    drop(file);
    rig.assert_paid("an append", &[(Operation::Put, 1)]);
}

#[test]
fn a_file_of_10_mib_is_sent_in_two_parts() {
    let rig = with_file(1);
    fs::write(rig.at("dir/large"), vec![3; 10 * MIB]).expect("written and closed");
    let parts = [(Operation::StartUpload, 1), (Operation::PutPart, 2), (Operation::CompleteUpload, 1)];
    rig.assert_paid("10 MiB", &parts);
}

#[test]
fn a_removal_costs_one_delete_on_each_store() {
    let rig = with_file(10);
    fs::remove_file(rig.at("dir/file")).expect("removed");
    rig.assert_paid("unlink", &[(Operation::Delete, 1)]);
}

#[test]
fn a_rename_of_an_uploaded_file_costs_one_copy_and_one_delete_on_each_store() {
    let rig = with_file(10);
    fs::rename(rig.at("dir/file"), rig.at("dir/other")).expect("renamed");
    rig.assert_paid("rename", &[(Operation::Copy, 1), (Operation::Delete, 1)]);
}

#[test]
fn a_temporary_file_is_never_uploaded_under_its_name_when_the_journal_acknowledges() {
    let rig = Rig::acked_by(AckPolicy::Journal);
    fs::create_dir(rig.at("dir")).expect("a directory");
    rig.forget_costs();
    fs::write(rig.at("dir/.report.tmp"), [1; 4096]).expect("written and closed");
    fs::rename(rig.at("dir/.report.tmp"), rig.at("dir/report")).expect("renamed");
    // The look is for an upload under the first name: after a crash nobody knows whether one had begun.
    rig.assert_paid("write, close, rename", &[(Operation::Head, 1), (Operation::Put, 1)]);
    rig.forget_costs();
    fs::write(rig.at("dir/.lock"), "me").expect("written and closed");
    fs::hard_link(rig.at("dir/.lock"), rig.at("dir/lock")).expect("linked");
    fs::remove_file(rig.at("dir/lock")).expect("removed");
    fs::remove_file(rig.at("dir/.lock")).expect("removed");
    assert_eq!(rig.paid(Side::Old).iter().find(|(operation, _)| *operation == Operation::Put), None);
}

#[test]
fn a_temporary_file_costs_a_copy_when_the_primary_acknowledges() {
    let rig = with_file(1);
    fs::write(rig.at("dir/.report.tmp"), [1; 4096]).expect("written and closed");
    rig.drain();
    fs::rename(rig.at("dir/.report.tmp"), rig.at("dir/report")).expect("renamed");
    let paid = [(Operation::Put, 1), (Operation::Copy, 1), (Operation::Delete, 1)];
    rig.assert_paid("write, close, rename", &paid);
}

#[test]
fn mode_owner_and_times_that_are_set_together_are_sent_once() {
    let rig = with_file(10);
    let path = rig.at("dir/file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    std::os::unix::fs::chown(&path, Some(1000), Some(1000)).expect("chown");
    let file = OpenOptions::new().append(true).open(&path).expect("opened");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("touch");
    drop(file);
    rig.assert_paid("cp -a's last calls", &[(Operation::Head, 1), (Operation::SetMeta, 1)]);
}

#[test]
fn a_change_of_mode_never_sends_content() {
    let rig = with_file(10);
    fs::set_permissions(rig.at("dir/file"), fs::Permissions::from_mode(0o600)).expect("chmod");
    // The look before it is for metadata of others, which must be kept.
    rig.assert_paid("chmod", &[(Operation::Head, 1), (Operation::SetMeta, 1)]);
}

#[test]
fn a_listing_costs_one_request_per_thousand_keys_and_none_per_file() {
    for (files, pages) in [(1000, 1), (2500, 3)] {
        let keys: Vec<String> = (0..files).map(|n| format!("old/file {n:05}")).collect();
        let mut rig = Rig::over(&keys);
        fs::metadata(rig.at("old")).expect("it is there");
        rig.forget_costs();
        assert_eq!(ls_l(&rig), files);
        assert_eq!(rig.paid(Side::Old), [(Operation::List, pages)], "ls -l of {files} files");
        assert_eq!(rig.paid(Side::New), [], "nothing is asked of the secondary");
        rig.forget_costs();
        rig.remount();
        assert_eq!(ls_l(&rig), files);
        rig.assert_paid("a second ls -l", &[]);
    }
}

fn ls_l(rig: &Rig) -> usize {
    let output = Command::new("ls").arg("-l").arg(rig.at("old")).output().expect("ls runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains("file ")).count()
}

#[test]
fn what_is_known_of_a_directory_costs_nothing_to_ask_again() {
    let keys: Vec<String> = (0..50).map(|n| format!("old/{n}")).collect();
    let mut rig = Rig::over(&keys);
    assert_eq!(fs::read_dir(rig.at("old")).expect("listed").count(), 50);
    rig.remount();
    rig.forget_costs();
    for n in 0..50 {
        fs::metadata(rig.at(&format!("old/{n}"))).expect("it is there");
        fs::metadata(rig.at(&format!("old/missing {n}"))).expect_err("it is not there");
    }
    rig.assert_paid("stat of what is there and of what is not", &[]);
}
