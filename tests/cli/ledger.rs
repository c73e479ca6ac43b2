//! `bridgefs ledger`.

use std::fs;

use crate::place::{Place, contains};

#[test]
fn the_ledger_is_checked_while_mounted_and_after() {
    let place = Place::new();
    let check = || place.run(&["ledger", "check", &place.text("bridge.toml")]);
    let (code, said) = check();
    assert_eq!(code, 1);
    contains(&said, "it is made by the first mount");
    assert!(!place.at("state/ledger.db").exists(), "nothing is made by looking");
    assert_eq!(place.mount().0, 0);
    fs::write(place.at("mnt/f"), "kept").expect("written");
    assert_eq!(check(), (0, "The ledger is sound.\n".to_owned()));
    assert_eq!(place.run(&["umount", &place.text("mnt")]).0, 0);
    assert_eq!(check(), (0, "The ledger is sound.\n".to_owned()));
    let sql = "UPDATE nodes SET name = 'a/b' WHERE name = 'f'";
    let done = std::process::Command::new("sqlite3").arg(place.at("state/ledger.db")).arg(sql).status();
    assert!(done.expect("sqlite3 runs").success());
    let (code, said) = check();
    assert_eq!(code, 1);
    contains(&said, "has a name with a slash");
}
