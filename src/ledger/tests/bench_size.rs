//! How much disk a known object takes. Run with `--ignored --nocapture`.

use super::*;
use crate::object::ContentDigest;

const DIRECTORIES: u64 = 200;
const FILES_EACH: u64 = 1000;
const BYTES_PER_OBJECT_MAX: u64 = 400;

/// Names, tags and sizes as in a real bucket: 30 bytes of name, an MD5 as tag on old, Azure's on new.
fn realistic(number: u64) -> Found {
    let object = FoundObject {
        size: 1 << 20,
        etag: ETag::new(&format!("{:032x}", u128::from(number) * 0x9e37_79b9_0000_0001_85eb_ca6b)),
        attrs: Attrs { mtime: 1_700_000_000_123_456_789, ..ATTRS },
        ..found_object()
    };
    Found { name: format!("invoice-2024-11-{number:010}.pdf").into(), what: FoundKind::Object(object) }
}

fn confirm_all(fixture: &Fixture, dir: &Node, nodes: &[Node]) {
    for node in nodes {
        let at = format!("{}/{}", dir.name, node.name);
        let mut receipt = receipt_of(node, &at);
        receipt.receipt.etag = ETag::new(&format!("0x8DC{:014X}", node.ino.0));
        receipt.now = 1_700_000_000_123_456_789;
        run(fixture.receipt((node.ino, node.link), Side::New, receipt)).expect("recorded");
    }
}

fn disk_bytes(fixture: &Fixture) -> u64 {
    ["ledger.db", "ledger.db-wal"]
        .iter()
        .filter_map(|name| fixture.dir.path().join(name).metadata().ok())
        .map(|file| file.len())
        .sum()
}

#[test]
#[ignore = "writes 200,000 objects: minutes without optimisation"]
fn an_object_with_two_replicas_takes_less_than_400_bytes() {
    let mut fixture = Fixture::new();
    let mut inos = Vec::new();
    for dir in 0..DIRECTORIES {
        let dir_node = fixture.dir(&format!("directory-{dir:05}"));
        let scan = fixture.begin_scan();
        let found = (0..FILES_EACH).map(|i| realistic(dir * FILES_EACH + i)).collect();
        let on = FoundOn { side: Side::Old, origin: Origin::Listed, now: 1_700_000_000_123_456_789 };
        let nodes = run(fixture.adopt(dir_node.ino, found, on, scan.id())).expect("adopted");
        confirm_all(&fixture, &dir_node, &nodes);
        inos.extend(nodes.iter().map(|node| node.ino));
    }
    fixture.reopen();
    let each = disk_bytes(&fixture) / (DIRECTORIES * FILES_EACH);
    println!("{each} bytes per object with two replicas");
    assert!(each < BYTES_PER_OBJECT_MAX, "{each}");
    for ino in inos {
        run(fixture.content_seen(ino, Version::FIRST, ContentDigest::of(b"x"))).expect("seen");
    }
    fixture.reopen();
    let each = disk_bytes(&fixture) / (DIRECTORIES * FILES_EACH);
    println!("{each} bytes with its digest and one block sum too");
    assert!(each < BYTES_PER_OBJECT_MAX, "{each}");
}
