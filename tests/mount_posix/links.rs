//! Hard links through the kernel, and what stands in the stores for them.

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::process::Command;

use bridgefs::object::{Key, Side};
use bridgefs::store::{ByteRange, Store};
use futures::TryStreamExt;

use crate::rig::Rig;

/// What both stores hold under a key, which must be the same; `None` if neither has it.
fn stored(rig: &Rig, key: &str) -> Option<String> {
    rig.drain();
    let key = Key::new(key).expect("a key");
    let held = Side::BOTH.map(|side| {
        rig.runtime.block_on(async {
            let download = rig.stores[side].get(&key, ByteRange::All, None).await.ok()?;
            let pieces: Vec<_> = download.body.try_collect().await.expect("read");
            Some(String::from_utf8(pieces.concat()).expect("text"))
        })
    });
    assert_eq!(held[0], held[1], "both stores hold the same under {key}");
    held[0].clone()
}

#[test]
fn two_names_are_one_file_and_two_objects() {
    let rig = Rig::new();
    rig.shell("echo one > a && mkdir d && ln a d/b && [ $(stat -c %i a) = $(stat -c %i d/b) ]");
    assert_eq!(rig.shell("stat -c %h a d/b"), "2\n2\n");
    rig.shell("echo two >> d/b && chmod 600 a");
    assert_eq!(rig.shell("cat a && stat -c %a d/b"), "one\ntwo\n600\n");
    for key in ["a", "d/b"] {
        assert_eq!(stored(&rig, key).as_deref(), Some("one\ntwo\n"));
        let info = rig.runtime.block_on(rig.stores.new.head(&Key::new(key).expect("a key"))).expect("there");
        assert_eq!(info.meta.user["mode"], "100600", "{key}");
    }
}

#[test]
fn a_name_that_goes_leaves_the_others_with_the_content() {
    let rig = Rig::new();
    rig.shell("echo kept > a && ln a b && ln b c");
    let number = fs::metadata(rig.at("a")).expect("there").ino();
    rig.shell("rm a && echo more >> c && mv c e");
    assert_eq!(stored(&rig, "a"), None);
    for name in ["b", "e"] {
        assert_eq!(stored(&rig, name).as_deref(), Some("kept\nmore\n"));
        let meta = fs::metadata(rig.at(name)).expect("there");
        assert_eq!((meta.ino(), meta.nlink()), (number, 2), "{name}");
    }
    rig.shell("rm b && [ $(stat -c %h e) = 1 ] && rm e && [ -z \"$(ls)\" ]");
    assert_eq!(stored(&rig, "e"), None);
}

#[test]
fn renaming_one_name_over_another_of_the_same_file_does_nothing() {
    let rig = Rig::new();
    rig.shell("echo x > a && ln a b && python3 -c 'import os; os.rename(\"a\", \"b\")' && [ a -ef b ]");
    rig.shell("echo y > c && ln c d && mv -T a c && [ $(cat c d | tr -d '\\n') = xy ] && [ c -ef b ]");
    assert_eq!(rig.shell("stat -c %h b d"), "2\n1\n");
}

#[test]
fn a_second_name_costs_the_stores_a_copy_and_no_upload() {
    let rig = Rig::new();
    let big = "0123456789abcdef".repeat(1 << 16);
    fs::write(rig.at("a"), &big).expect("written");
    rig.drain();
    rig.shell("sync && ln a b && ln a c");
    assert_eq!(stored(&rig, "b").as_deref(), Some(big.as_str()));
    rig.shell("rm a && cat b | cmp - c");
    assert_eq!(stored(&rig, "c").as_deref(), Some(big.as_str()));
    assert_eq!(stored(&rig, "a"), None);
}

#[test]
fn lock_files_and_maildir_deliveries_are_made_with_link() {
    let rig = Rig::new();
    rig.shell(
        "take() { echo $1 > .$1 && until ln .$1 lock 2>/dev/null; do :; done; }
         work() { for i in 1 2 3 4 5; do take $1; n=$(cat count); echo $((n + 1)) > count; rm lock; rm .$1; done; }
         echo 0 > count; work a & work b & wait; [ $(cat count) = 10 ]
         mkdir tmp new
         for i in $(seq 30); do echo $i > tmp/$i && ln tmp/$i new/$i && rm tmp/$i; done
         [ $(ls new | wc -l) = 30 ] && [ -z \"$(ls tmp)\" ]",
    );
    for number in ["1", "30"] {
        assert_eq!(stored(&rig, &format!("new/{number}")), Some(format!("{number}\n")));
        assert_eq!(stored(&rig, &format!("tmp/{number}")), None);
    }
    assert_eq!(stored(&rig, "lock"), None);
}

#[test]
fn times_do_not_move_by_themselves() {
    let rig = Rig::new();
    let path = rig.at("f");
    let times = |meta: fs::Metadata| (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    let made = fs::File::create(&path).expect("made");
    let first = times(fs::metadata(&path).expect("there"));
    // A change that is refused makes the kernel ask again.
    rig.shell("! setpriv --reuid 65534 --clear-groups truncate -s 9 f 2>/dev/null");
    rig.shell("! setpriv --reuid 65534 --clear-groups chmod 777 f 2>/dev/null");
    assert_eq!(times(fs::metadata(&path).expect("there")), first);
    drop(made);
    rig.drain();
    rig.shell("! setpriv --reuid 65534 --clear-groups truncate -s 9 f 2>/dev/null");
    assert_eq!(times(fs::metadata(&path).expect("there")), first);
}

#[test]
fn directories_count_their_subdirectories() {
    let rig = Rig::over(["h/a/x", "h/b/y"].map(str::to_owned).into_iter());
    rig.shell("mkdir -p d/e d/f && touch d/file");
    assert_eq!(rig.shell("stat -c %h d d/e"), "4\n2\n");
    rig.shell("rmdir d/e && mv d/f g");
    assert_eq!(rig.shell("stat -c %h d"), "2\n");
    assert_eq!(rig.shell("stat -c %h h"), "1\n", "not all of them are known: not counted");
}

#[test]
fn a_running_program_is_not_emptied_by_an_open_that_is_refused() {
    let rig = Rig::new();
    rig.shell("cp /bin/sleep s");
    let mut running = Command::new(rig.at("s")).arg("1000").spawn().expect("it starts");
    let refused = fs::OpenOptions::new().read(true).custom_flags(libc::O_TRUNC).open(rig.at("s"));
    assert_eq!(refused.expect_err("it is running").raw_os_error(), Some(libc::ETXTBSY));
    running.kill().expect("stopped");
    running.wait().expect("ended");
    rig.shell("cmp s /bin/sleep");
}

#[test]
fn times_before_1970_are_kept_to_the_nanosecond() {
    let rig = Rig::new();
    rig.shell("touch -d '1969-12-31 23:59:54.999999999 UTC' f");
    let meta = fs::metadata(rig.at("f")).expect("there");
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-6, 999_999_999));
    rig.drain();
    let info = rig.runtime.block_on(rig.stores.new.head(&Key::new("f").expect("a key"))).expect("there");
    assert_eq!(info.meta.user["mtime"], "-5.000000001");
}
