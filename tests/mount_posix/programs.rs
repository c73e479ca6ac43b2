//! Programs that nobody here wrote.

use crate::rig::Rig;

#[test]
fn cp_mv_sed_and_tar_do_what_they_do_elsewhere() {
    let rig = Rig::new();
    rig.shell(
        "mkdir src && for i in $(seq 50); do mkdir -p src/d$((i % 5)) && echo line $i > src/d$((i % 5))/f$i; done
         cp -a src copy && diff -r src copy
         mv copy moved && diff -r src moved && [ ! -e copy ]
         sed -i s/line/LINE/ moved/d1/f1 && grep -q 'LINE 1' moved/d1/f1
         tar cf all.tar src && mkdir out && tar xpf all.tar -C out && diff -r src out/src
         rm -r src moved out && [ $(ls) = all.tar ]",
    );
    rig.drain();
    for side in bridgefs::object::Side::BOTH {
        let keys: Vec<_> = rig.stores[side].snapshot().into_keys().map(|key| key.to_string()).collect();
        assert_eq!(keys, ["all.tar"], "{side}");
    }
}

#[test]
fn times_set_before_close_survive_it() {
    let rig = Rig::new();
    rig.shell(
        "mkdir src && echo hello > src/a && touch -d '2001-02-03 04:05:06.789' src/a && cp -a src copy
         [ $(stat -c %.9Y copy/a) = $(stat -c %.9Y src/a) ]
         [ $(stat -c %y copy/a | cut -c1-10) = 2001-02-03 ]",
    );
}

#[test]
fn an_rsync_that_runs_twice_transfers_nothing_the_second_time() {
    let rig = Rig::new();
    let printed = rig.shell(
        "mkdir /tmp/bridgefs-rsync.$$ && trap 'rm -r /tmp/bridgefs-rsync.$$' EXIT
         for i in $(seq 20); do head -c $((i * 1000)) /dev/urandom > /tmp/bridgefs-rsync.$$/f$i; done
         rsync -a /tmp/bridgefs-rsync.$$/ copy/
         rsync -ai --checksum /tmp/bridgefs-rsync.$$/ copy/",
    );
    assert_eq!(printed, "");
}

#[test]
fn dd_with_fsync_and_a_mapping_see_the_same_bytes() {
    let rig = Rig::new();
    rig.shell(
        "dd if=/dev/urandom of=big bs=1M count=5 conv=fsync status=none
         [ $(stat -c %s big) = $((5 << 20)) ]
         python3 - <<'END'
import mmap
plain = open('big', 'rb').read()
with open('big', 'rb') as f:
    assert mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:] == plain
with open('big', 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0)
    m[100:105] = b'HELLO'
    m.flush()
    m.close()
assert open('big', 'rb').read()[100:105] == b'HELLO'
END",
    );
    rig.drain();
    let stored = rig.stores[bridgefs::object::Side::New].snapshot();
    let (bytes, _) = stored.values().next().expect("the file");
    assert_eq!(&bytes[100..105], b"HELLO", "what a mapping wrote reaches the stores");
}

#[test]
fn sqlite_works_with_a_rollback_journal_and_with_a_wal() {
    let rig = Rig::new();
    for mode in ["delete", "wal"] {
        let printed = rig.shell(&format!(
            "sqlite3 {mode}.db 'pragma journal_mode={mode}; create table t (n);'
             for i in $(seq 20); do sqlite3 {mode}.db \"insert into t values ($i);\"; done
             sqlite3 {mode}.db 'select count(*), sum(n) from t; pragma integrity_check;'",
        ));
        assert_eq!(printed, format!("{mode}\n20|210\nok\n"));
    }
}

#[test]
fn git_clones_and_checks_a_repository() {
    let rig = Rig::new();
    rig.shell(
        "export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1
         git init -q repo && cd repo && for i in $(seq 30); do echo $i > f$i; done
         git add . && git -c user.name=t -c user.email=t@t commit -qm one && cd ..
         git clone -q repo clone && cd clone && git fsck --full 2>&1 && [ -z \"$(git status --porcelain)\" ]",
    );
}
