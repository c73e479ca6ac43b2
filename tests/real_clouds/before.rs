//! What was in the old store before the bridge, and names that were something else before.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use bridgefs::object::Key;
use bridgefs::store::{Condition, HttpHeader, ObjectMeta};

use super::{alone, block_on, table};
use crate::support::compare::{Metadata, compare, content, headers, metadata};
use crate::support::mount::Site;
use crate::support::servers::{Kind, Place, Server};

const DRAIN: Duration = Duration::from_secs(120);

/// What a web client sees of an object that somebody packed.
const PACKED: [(HttpHeader, &str); 5] = [
    (HttpHeader::ContentType, "text/html; charset=utf-8"),
    (HttpHeader::CacheControl, "max-age=77"),
    (HttpHeader::ContentDisposition, "attachment"),
    (HttpHeader::ContentEncoding, "gzip"),
    (HttpHeader::ContentLanguage, "de"),
];

async fn put(place: &Place, names: &[&str]) {
    let store = place.connect().shared();
    let headers = PACKED.map(|(header, value)| (header, value.to_owned())).into();
    let meta = ObjectMeta { headers, user: [].into() };
    for name in names {
        let (key, body) = (Key::new(*name).expect("a key"), name.repeat(100));
        let put = store.put(&key, body.into(), &meta, &Condition::Always).await;
        put.expect("the server takes it");
    }
}

#[test]
fn both_clouds_say_the_same_of_what_was_changed_that_was_there_before() {
    let _alone = alone();
    let (s3, azurite) = (Server::shared(Kind::SeaweedFs), Server::shared(Kind::Azurite));
    let (old, new) = block_on(async { (s3.fresh_bucket().await, azurite.fresh_bucket().await) });
    block_on(put(&old, &["changed", "moved", "linked", "untouched"]));
    let site = Site::new(table(&old, None), table(&new, None));
    let mount = site.mount();
    let at = |name: &str| mount.path().join(name);
    let before = fs::metadata(at("changed")).expect("it is there").mtime();
    fs::set_permissions(at("changed"), Permissions::from_mode(0o600)).expect("changed");
    fs::rename(at("moved"), at("moved away")).expect("renamed");
    fs::hard_link(at("linked"), at("further name")).expect("linked");
    mount.settle(DRAIN);
    assert_eq!(fs::metadata(at("changed")).expect("it is there").mtime(), before);
    mount.unmount();
    let packed: Metadata = PACKED.map(|(header, value)| (header.name().to_owned(), value.to_owned())).into();
    let (on_old, on_new) = block_on(async { (headers(&old).await, headers(&new).await) });
    for key in ["changed", "moved away", "further name"] {
        assert_eq!((&on_old[key], &on_new[key]), (&packed, &packed), "{key}");
    }
    assert_eq!((&on_old["linked"], &on_old["untouched"]), (&packed, &packed));
    let (old, new) = block_on(async { (metadata(&old).await, metadata(&new).await) });
    for key in ["changed", "moved away", "further name"] {
        assert_eq!(old[key], new[key], "{key}");
        assert!(["blake3", "mode", "mtime", "uid"].iter().all(|name| old[key].contains_key(*name)), "{key}");
    }
    assert!(old["untouched"].is_empty() && !new.contains_key("untouched"));
}

/// SeaweedFS keeps the directory of keys that are gone, and refuses a put below its name that expects nothing.
#[test]
fn a_file_takes_the_name_of_a_directory_that_is_gone() {
    let _alone = alone();
    let server = Server::shared(Kind::SeaweedFs);
    let (old, new) = block_on(async { (server.fresh_bucket().await, server.fresh_bucket().await) });
    let site = Site::new(table(&old, None), table(&new, None));
    let mount = site.mount();
    let at = |name: &str| mount.path().join(name);
    for name in ["written", "renamed", "linked"] {
        fs::create_dir(at(name)).expect("a directory");
        fs::write(at(name).join("below"), "gone soon").expect("a file below it");
    }
    fs::write(at("source"), "renamed").expect("a file");
    mount.settle(DRAIN);
    for name in ["written", "renamed", "linked"] {
        fs::remove_dir_all(at(name)).expect("removed");
    }
    mount.settle(DRAIN);
    fs::write(at("written"), "written").expect("a file");
    fs::rename(at("source"), at("renamed")).expect("renamed");
    fs::hard_link(at("written"), at("linked")).expect("linked");
    mount.settle(DRAIN);
    mount.unmount();
    compare(&old, &new).assert_equal();
    for (key, is) in [("written", "written"), ("renamed", "renamed"), ("linked", "written")] {
        assert_eq!(block_on(content(&old, key)), is.as_bytes(), "{key}");
    }
}

#[test]
fn a_file_of_a_folder_has_its_own_time_in_the_mount_and_keeps_it() {
    let _alone = alone();
    let site = Site::folders();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let folder = |side: &str, name: &str| site.home().join(side).join(name);
    for name in ["read", "changed", "moved"] {
        fs::write(folder("old", name), name).expect("a file in the folder");
        File::options()
            .write(true)
            .open(folder("old", name))
            .and_then(|file| file.set_modified(long_ago))
            .expect("a time");
    }
    let mount = site.mount();
    let at = |name: &str| mount.path().join(name);
    let time = |path| fs::metadata(path).and_then(|stat| stat.modified()).expect("a time");
    assert_eq!(time(at("read")), long_ago, "before it was read");
    assert_eq!(fs::read_to_string(at("read")).expect("read"), "read");
    fs::set_permissions(at("changed"), Permissions::from_mode(0o600)).expect("changed");
    fs::rename(at("moved"), at("away")).expect("renamed");
    mount.settle(DRAIN);
    for name in ["read", "changed", "away"] {
        assert_eq!(time(at(name)), long_ago, "{name} in the mount");
        assert_eq!(time(folder("old", name)), long_ago, "{name} in the old folder");
    }
    for name in ["changed", "away"] {
        assert_eq!(time(folder("new", name)), long_ago, "{name} in the new folder");
    }
    mount.unmount();
}
