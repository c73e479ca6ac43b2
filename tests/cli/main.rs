//! The command as a shell sees it: exit codes and messages, with real mounts where a verb needs one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command as Program;

use nix::sys::signal::{Signal, kill};

mod helper;
mod ledger;
mod numbers;
mod place;

use place::{Place, contains, pid_of};

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let place = Place::new();
    let (code, message) = place.run(&["moutn", "x", "y"]);
    assert_eq!(code, 2);
    contains(&message, "'mount'");
    assert_eq!(place.run(&[]).0, 2);
    assert_eq!(place.run(&["mount", "only-one"]).0, 2);
    assert_eq!(place.run(&["stage", "/", "Live"]).0, 2);
    assert_eq!(place.run(&["--version"]).0, 0);
}

#[test]
fn a_missing_or_wrong_configuration_is_named_and_nothing_is_mounted() {
    let place = Place::new();
    let (code, message) = place.run(&["mount", "/nowhere/x.toml", &place.text("mnt")]);
    assert_eq!(code, 1);
    contains(&message, "/nowhere/x.toml: cannot read the configuration");
    contains(&message, "`bridgefs init /nowhere/x.toml`");
    place.write_config(&place.standard_config().replace("state_dir", "state_dri"));
    let (code, message) = place.mount();
    assert_eq!(code, 1);
    contains(&message, "bridge.toml:10: [bridge] unknown key \"state_dri\"; did you mean \"state_dir\"?");
    assert!(!place.is_mounted());
}

#[test]
fn init_writes_a_private_file_and_never_replaces_one() {
    let place = Place::new();
    let file = place.at("fresh.toml");
    let (code, message) = place.run(&["init", &place.text("fresh.toml")]);
    assert_eq!(code, 0, "{message}");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    fs::write(&file, "mine").expect("written");
    let (code, message) = place.run(&["init", &place.text("fresh.toml")]);
    assert_eq!(code, 1);
    contains(&message, "an existing file is never replaced");
    assert_eq!(fs::read_to_string(&file).expect("there"), "mine");
}

#[test]
fn verbs_without_a_mount_say_how_to_start_one() {
    let place = Place::new();
    for verb in [["status", ""], ["findings", ""], ["stage", "/"]] {
        let mut words: Vec<&str> = verb.into_iter().filter(|word| !word.is_empty()).collect();
        if verb[0] == "stage" {
            words.push("live");
        }
        let (code, message) = place.run(&words);
        assert_eq!(code, 1, "{verb:?}");
        contains(&message, "no bridgefs is mounted");
        let config = place.text("bridge.toml");
        words.extend(["--config", &config]);
        contains(&place.run(&words).1, "no bridgefs is mounted for this state directory");
    }
    let (code, message) = place.run(&["status", &place.text("bridge.toml")]);
    assert_eq!(code, 1);
    contains(&message, "use `status --config");
    let (code, message) = place.run(&["umount", &place.text("mnt")]);
    assert_eq!(code, 1);
    contains(&message, "is no bridgefs mount; nothing was done");
}

#[test]
fn a_mountpoint_that_is_missing_or_not_empty_is_refused() {
    let place = Place::new();
    fs::write(place.at("mnt/precious"), "x").expect("written");
    let (code, message) = place.mount();
    assert_eq!(code, 1);
    contains(&message, "is not empty");
    fs::remove_file(place.at("mnt/precious")).expect("removed");
    fs::remove_dir(place.at("mnt")).expect("removed");
    let (code, message) = place.mount();
    assert_eq!(code, 1);
    contains(&message, "create it");
    fs::write(place.at("mnt"), "x").expect("written");
    let (code, message) = place.mount();
    assert_eq!(code, 1);
    contains(&message, "name another one");
}

#[test]
fn a_store_folder_that_is_not_there_is_not_made() {
    let place = Place::new();
    fs::remove_dir(place.at("new")).expect("removed");
    let (code, message) = place.mount();
    assert_eq!(code, 1);
    contains(&message, "store \"right\": the folder");
    contains(&message, "mount that disk first");
    assert!(!place.is_mounted() && !place.at("new").exists());
    let (code, message) = place.run(&["check", &place.text("bridge.toml")]);
    assert_eq!(code, 1);
    contains(&message, "BAD");
    contains(&message, "Nothing was changed");
}

#[test]
fn check_of_a_good_configuration_is_exit_code_0() {
    let place = Place::new();
    let (code, message) = place.run(&["check", &place.text("bridge.toml"), &place.text("mnt")]);
    assert_eq!(code, 0, "{message}");
    contains(&message, "It can be mounted.");
}

#[test]
fn two_names_of_one_folder_are_found_out() {
    let place = Place::new();
    fs::remove_dir(place.at("new")).expect("removed");
    std::os::unix::fs::symlink(place.at("old"), place.at("new")).expect("a link");
    let (code, message) = place.mount();
    assert_eq!(code, 1);
    contains(&message, "are the same folder");
}

#[test]
fn a_mount_can_be_used_steered_and_unmounted() {
    let place = Place::new();
    let (code, message) = place.mount();
    assert_eq!((code, message.as_str()), (0, ""));
    fs::write(place.at("mnt/a.txt"), "hello").expect("written through the mount");
    let status = place.json(&["status", "--json"]);
    assert_eq!(status["slices"][0]["stage"], "dual-write");
    assert_eq!(status["stores"][1]["name"], "right");
    let file = place.json(&["status", "--json", &place.text("mnt/a.txt")]);
    assert_eq!(file["path"], "a.txt");
    assert_eq!(file["size"], 5);
    let change = place.json(&["stage", "/", "live", "--reason", "a test", "--json"]);
    assert_eq!((change["from"].as_str(), change["to"].as_str()), (Some("dual-write"), Some("live")));
    contains(&place.run(&["status"]).1, "live");
    contains(&place.run(&["findings"]).1, "Nothing to look at.");
    let (code, message) = place.run(&["umount", &place.text("mnt")]);
    assert_eq!(code, 0, "{message}");
    contains(&message, "nothing waits to be sent");
    assert!(!place.is_mounted());
    for side in ["old", "new"] {
        assert_eq!(fs::read_to_string(place.at(side).join("a.txt")).expect("there"), "hello", "{side}");
    }
    assert_eq!(fs::read_dir(place.at("run")).expect("the registry").count(), 0);
}

#[test]
fn a_second_daemon_for_one_state_directory_is_refused() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    fs::create_dir(place.at("other")).expect("a folder");
    let (code, message) = place.run(&["mount", &place.text("bridge.toml"), &place.text("other")]);
    assert_eq!(code, 1);
    contains(&message, &place.text("state"));
    contains(&message, "in use");
    let (code, message) = place.mount();
    assert_eq!(code, 1);
    contains(&message, "mounted already");
    assert_eq!(place.run(&["status"]).0, 0, "the first one goes on");
}

#[test]
fn a_second_bridge_on_the_same_stores_is_refused_and_told_whose_they_are() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
    place.write_config(&place.standard_config().replace("/state\"", "/second\""));
    let (code, message) = place.mount();
    assert_eq!(code, 1, "{message}");
    contains(&message, "belongs to another bridge");
    contains(&message, &place.text("state"));
    assert!(!place.is_mounted());
    for folder in ["old", "new"] {
        fs::remove_file(place.at(folder).join(".bridgefs/owner")).expect("the mark is a plain file");
    }
    assert_eq!(place.mount().0, 0, "what the message says is enough");
}

#[test]
fn check_says_whose_the_stores_are_as_mount_does() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    assert_eq!(place.check().0, 0, "also while it is mounted");
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
    let (code, message) = place.check();
    assert_eq!(code, 0, "{message}");
    contains(&message, "this bridge's");
    fs::rename(place.at("state"), place.at("moved")).expect("renamed");
    place.write_config(&place.standard_config().replace("/state\"", "/moved\""));
    let (code, message) = place.check();
    assert_eq!(code, 0, "a ledger that was moved is the same bridge: {message}");
    place.write_config(&place.standard_config().replace("/state\"", "/second\""));
    for round in ["before", "after"] {
        let (code, message) = place.check();
        assert_eq!(code, 1, "{round} a mount that was refused: {message}");
        contains(&message, "store right, owner");
        contains(
            &message,
            &format!("belongs to another bridge: the one whose state_dir is {}", place.text("state")),
        );
        let (code, message) = place.mount();
        assert_eq!(code, 1, "{message}");
        contains(&message, "belongs to another bridge: the one whose state_dir is");
    }
    for folder in ["old", "new"] {
        fs::remove_file(place.at(folder).join(".bridgefs/owner")).expect("the mark is a plain file");
    }
    contains(&place.check().1, "nobody's yet");
}

#[test]
fn a_state_dir_that_cannot_hold_a_ledger_is_refused_by_check_and_mount_in_the_same_words() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    fs::write(place.at("file"), "mine").expect("written");
    fs::create_dir(place.at("other")).expect("a folder");
    let on_the_mount = place.text("mnt/state");
    for (state_dir, words) in [
        ("/proc/nope", "is on proc, which keeps no files"),
        (&place.text("file"), "is a file, and the ledger needs a folder"),
        (&on_the_mount, "is on FUSE: the journal needs a local disk"),
    ] {
        let stores = place.standard_config().replace("file://", "memory://");
        let config = stores.replace(&place.text("state"), state_dir);
        fs::write(place.at("wrong.toml"), config).expect("written");
        let (code, message) = place.run(&["check", &place.text("wrong.toml")]);
        assert_eq!(code, 1, "{message}");
        contains(&message, words);
        for how in ["--foreground", ""] {
            let (config, other) = (place.text("wrong.toml"), place.text("other"));
            let words_of_mount = ["mount", how, &config, &other].into_iter().filter(|word| !word.is_empty());
            let (code, message) = place.run(&words_of_mount.collect::<Vec<_>>());
            assert_eq!(code, 1, "{message}");
            contains(&message, words);
            contains(&message, "Nothing was mounted");
        }
    }
    assert_eq!(fs::read_dir(place.at("mnt")).expect("listed").count(), 0, "nothing was made on the mount");
    assert_eq!(fs::read_to_string(place.at("file")).expect("kept"), "mine");
}

#[test]
fn umount_refuses_while_a_file_is_open_unless_it_is_told_to_be_lazy() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    fs::write(place.at("mnt/open.txt"), "x").expect("written");
    let open = fs::File::open(place.at("mnt/open.txt")).expect("open");
    let (code, message) = place.run(&["umount", &place.text("mnt")]);
    assert_eq!(code, 1);
    contains(&message, "It stays mounted");
    assert!(place.is_mounted());
    let (code, message) = place.run(&["umount", "--lazy", &place.text("mnt")]);
    assert_eq!(code, 0, "{message}");
    assert!(!place.is_mounted());
    drop(open);
}

#[test]
fn a_mount_whose_daemon_was_killed_is_taken_over_with_what_it_acknowledged() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    fs::write(place.at("mnt/kept.txt"), "kept").expect("acknowledged");
    kill(place.daemon_pid(), Signal::SIGKILL).expect("killed");
    // The kernel notices the dead daemon at the latest with the next request.
    while fs::metadata(place.at("mnt")).is_ok() {}
    let (code, message) = place.mount();
    assert_eq!(code, 0, "{message}");
    assert_eq!(fs::read_to_string(place.at("mnt/kept.txt")).expect("there"), "kept");
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
}

#[test]
fn a_dead_mount_stays_until_it_can_be_replaced_so_that_nobody_writes_into_the_directory_below() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    kill(place.daemon_pid(), Signal::SIGKILL).expect("killed");
    while fs::metadata(place.at("mnt")).is_ok() {}
    let (ledger, aside) = (place.at("state/ledger.db"), place.at("state/aside"));
    fs::rename(&ledger, &aside).expect("renamed");
    fs::create_dir(&ledger).expect("made");
    assert_ne!(place.mount().0, 0, "there is no ledger");
    assert!(fs::write(place.at("mnt/lost"), "lost").is_err());
    fs::remove_dir(&ledger).expect("removed");
    fs::rename(&aside, &ledger).expect("renamed");
    assert_eq!(place.mount().0, 0);
    assert!(!place.at("mnt/lost").exists());
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
    assert_eq!(fs::read_dir(place.at("mnt")).expect("read").count(), 0);
}

#[test]
fn extended_attributes_are_there_after_a_kill_and_in_both_folders() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    place.shell(
        "mnt",
        "mkdir d; echo content > f; setfattr -n user.a -v 1 f d; setfattr -n trusted.b -v 2 f; sync f d",
    );
    kill(place.daemon_pid(), Signal::SIGKILL).expect("killed");
    while fs::metadata(place.at("mnt")).is_ok() {}
    assert_eq!(place.mount().0, 0);
    let listed = place.shell("mnt", "getfattr -d -m - f d");
    assert_eq!(listed, "# file: f\ntrusted.b=\"2\"\nuser.a=\"1\"\n\n# file: d\nuser.a=\"1\"\n\n");
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
    // base64 of 01, then `trusted.b` with 2 and `user.a` with 1.
    let entry = "bridgefs_xattrs=AQkAAXRydXN0ZWQuYjIGAAF1c2VyLmEx\n";
    for side in ["old", "new"] {
        let record = place.shell(side, "getfattr --only-values -n user.bridgefs.object f; echo");
        contains(&record, entry);
    }
}

/// Once `getxattr` is answered, the kernel asks for `security.capability` before every write, unless it is told
/// that we look after it.
#[test]
fn a_hundred_writes_ask_for_the_capability_once() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    let requests = || place.requests();
    let before = requests();
    let mut file = fs::File::create(place.at("mnt/f")).expect("made");
    for _ in 0..100 {
        file.write_all(b"x").expect("written");
    }
    drop(file);
    let after = requests();
    let made = |operation| after(operation) - before(operation);
    assert_eq!(made("write"), 100);
    assert!(made("getxattr") <= 1, "{} requests", made("getxattr"));
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
}

#[test]
fn a_directory_rename_that_a_kill_cut_short_is_one_tree_after_it() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    place
        .shell("mnt", "mkdir -p d/sub && for i in $(seq 300); do echo $i > d/f$i; echo $i > d/sub/g$i; done");
    fs::rename(place.at("mnt/d"), place.at("mnt/e")).expect("renamed");
    kill(place.daemon_pid(), Signal::SIGKILL).expect("killed");
    assert_eq!(place.mount().0, 0);
    let seen = place.shell("mnt", "ls; for i in $(seq 300); do cat e/f$i e/sub/g$i; done | md5sum");
    let wanted = place.shell("run", "echo e; for i in $(seq 300); do echo $i; echo $i; done | md5sum");
    assert_eq!(seen, wanted);
    let (code, said) = place.run(&["umount", "--drain", "300", &place.text("mnt")]);
    assert_eq!((code, said.contains("nothing waits to be sent")), (0, true), "{said}");
    for store in ["old", "new"] {
        let found = place.shell(store, "ls; find e -type f | wc -l");
        assert_eq!(found, "e\n600\n", "{store}");
    }
}

#[test]
fn a_signal_ends_a_mount_in_order() {
    let place = Place::new();
    let (mut daemon, lines) = place.mount_in_foreground();
    fs::write(place.at("mnt/a.txt"), "hello").expect("written");
    kill(pid_of(daemon.id().into()), Signal::SIGTERM).expect("told to end");
    lines.for_each(drop);
    assert!(daemon.wait().expect("it ends").success());
    assert!(!place.is_mounted());
    assert_eq!(fs::read_to_string(place.at("new/a.txt")).expect("drained"), "hello");
}

/// A store is away while the mount ends, and comes back after the signal.
#[test]
fn a_signal_after_an_unmount_from_outside_leaves_the_queues_their_time() {
    let place = Place::new();
    place.write_config(&place.standard_config().replace("[cache]", "ack = \"journal\"\n[cache]"));
    let (mut daemon, mut lines) = place.mount_in_foreground();
    fs::rename(place.at("new"), place.at("away")).expect("taken away");
    fs::write(place.at("mnt/a.txt"), "hello").expect("written");
    assert!(Program::new("umount").arg(place.at("mnt")).status().expect("it runs").success());
    assert!(lines.any(|line| line.contains("taken away from outside")));
    kill(pid_of(daemon.id().into()), Signal::SIGTERM).expect("told to end");
    assert!(lines.any(|line| line.contains("told to stop by a signal")), "it ended at once");
    fs::rename(place.at("away"), place.at("new")).expect("brought back");
    lines.for_each(drop);
    assert!(daemon.wait().expect("it ends").success());
    assert_eq!(fs::read_to_string(place.at("new/a.txt")).expect("drained"), "hello");
}

#[test]
fn the_demo_ends_well() {
    let place = Place::new();
    let (code, message) = place.run(&["demo", "--dir", &place.text("demo"), "--keep"]);
    assert_eq!(code, 0, "{message}");
    contains(&message, "byte for byte");
    let same = Program::new("diff")
        .args(["-r", "--exclude=.bridgefs"])
        .args([place.at("demo/cloud-old"), place.at("demo/cloud-new")])
        .status()
        .expect("diff");
    assert!(same.success());
    let (code, message) = place.run(&["demo", "--dir", &place.text("old")]);
    assert_eq!(code, 0, "an empty folder is taken: {message}");
}

#[test]
fn the_demo_never_removes_a_folder_that_is_not_its_own() {
    let place = Place::new();
    fs::write(place.at("old/precious"), "x").expect("written");
    let (code, message) = place.run(&["demo", "--dir", &place.text("old")]);
    assert_eq!(code, 1);
    contains(&message, "is no earlier tour");
    assert!(Path::new(&place.at("old/precious")).exists());
}

#[test]
fn a_dead_mount_is_taken_away_and_the_same_bridge_elsewhere_goes_on() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    kill(place.daemon_pid(), Signal::SIGKILL).expect("killed");
    let other = place.at("other");
    fs::create_dir(&other).expect("a folder");
    let (code, message) = place.run(&["mount", &place.text("bridge.toml"), &place.text("other")]);
    assert_eq!(code, 0, "{message}");
    let (code, message) = place.run(&["umount", &place.text("mnt")]);
    assert_eq!(code, 0, "{message}");
    contains(&message, "already gone");
    assert!(!place.is_mounted());
    fs::write(other.join("file"), "still served").expect("written");
    // And at once again: what is ending is waited for.
    assert_eq!(place.run(&["umount", &place.text("other")]).0, 0);
    assert_eq!(place.mount().0, 0);
}

#[test]
fn a_ledger_is_never_used_with_other_stores_than_its_own() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
    let standard = place.standard_config();
    place.write_config(
        &standard.replace("old = \"left\"\nnew = \"right\"", "old = \"right\"\nnew = \"left\""),
    );
    let (code, message) = place.mount();
    assert_eq!(code, 1, "{message}");
    contains(&message, "was made with `old` = file://");
    fs::create_dir(place.at("another")).expect("a folder");
    place.write_config(&standard.replace("/new\"", "/another\""));
    let (code, message) = place.mount();
    assert_eq!(code, 1, "{message}");
    contains(&message, "was made with `new` = file://");
    assert!(!place.is_mounted());
    fs::rename(place.at("new"), place.at("moved")).expect("renamed");
    place.write_config(&standard.replace("/new\"", "/moved\""));
    let (code, message) = place.mount();
    assert_eq!(code, 0, "a folder that was moved is the same store: {message}");
}

/// A folder cannot hold `a` beside `a/b`, so the order in which the stores follow matters.
#[test]
fn names_that_turn_from_file_to_directory_and_back_reach_both_folders() {
    let place = Place::new();
    assert_eq!(place.mount().0, 0);
    let at = |name: &str| place.at("mnt").join(name);
    for round in 0..10 {
        fs::write(at("a"), format!("first {round}")).expect("written");
        fs::remove_file(at("a")).expect("removed");
        fs::create_dir(at("a")).expect("a directory");
        fs::write(at("a/x"), "below").expect("written");
        fs::rename(at("a/x"), at("t")).expect("renamed");
        fs::remove_dir(at("a")).expect("removed");
        fs::rename(at("t"), at("a")).expect("a file again");
        fs::rename(at("a"), at("t")).expect("renamed");
        fs::create_dir(at("a")).expect("a directory again");
        fs::rename(at("t"), at("a/t")).expect("renamed below its old name");
        fs::write(at("b"), format!("last {round}")).expect("written");
        fs::remove_dir_all(at("a")).expect("removed");
        fs::rename(at("b"), at("a")).expect("renamed");
        fs::remove_file(at("a")).expect("removed");
    }
    fs::create_dir(at("a")).expect("a directory");
    fs::write(at("a/end"), "end").expect("written");
    let (code, message) = place.run(&["umount", &place.text("mnt")]);
    assert_eq!(code, 0);
    contains(&message, "nothing waits to be sent");
    for folder in ["old", "new"] {
        assert_eq!(fs::read_to_string(place.at(folder).join("a/end")).expect("there"), "end");
        let names = fs::read_dir(place.at(folder)).expect("listed").filter_map(Result::ok);
        let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, [".bridgefs", "a"]);
    }
}
