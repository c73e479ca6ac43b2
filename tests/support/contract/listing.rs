//! What a listing must say.

use std::collections::BTreeSet;

use bridgefs::object::Key;
use bridgefs::store::ListPage;

use super::{Room, noise};

/// Pages of any size are together complete, without duplicates, and none is longer than asked.
pub async fn listing_pages(room: &Room) {
    let mut wanted = BTreeSet::new();
    for number in 0..23 {
        let name = format!("d{}/f{number:02}", number % 3);
        room.put(&name, noise(number, 7)).await;
        wanted.insert(room.key(&name));
    }
    for page_entries in [1, 2, 7, 23, 1000] {
        let pages = room.list("", false, page_entries).await;
        assert!(pages.iter().all(|page| page.objects.len() <= page_entries as usize), "no page is too long");
        assert!(pages.iter().all(|page| page.prefixes.is_empty()), "no prefixes without delimiter");
        let listed: Vec<Key> = pages.into_iter().flat_map(|page| page.objects).map(|o| o.key).collect();
        assert_eq!(listed.len(), wanted.len(), "no key comes twice with pages of {page_entries}");
        assert_eq!(BTreeSet::from_iter(listed), wanted, "no key is missing with pages of {page_entries}");
    }
    let partial = room.list("d1/f1", false, 1000).await;
    let names: BTreeSet<Key> = partial.into_iter().flat_map(|page| page.objects).map(|o| o.key).collect();
    let expected = wanted.into_iter().filter(|key| key.as_str().contains("/d1/f1")).collect();
    assert_eq!(names, expected, "a prefix is bytes, not a directory");
    let nothing = room.list("d1/f1/", false, 1000).await;
    assert!(nothing.iter().all(|page| page.objects.is_empty() && page.next.is_none()), "empty is an answer");
}

/// One level: objects directly below, and each prefix once, however much stands under it.
pub async fn listing_levels(room: &Room) {
    for name in ["a", "a-b", "b.txt", "b/1", "b/2", "b/deep/3", "c/deep/4", "d", "é/5"] {
        room.put(name, "x").await;
    }
    if room.store.check_key(&room.key("marker/")).is_ok() {
        room.put("marker/", "").await;
        let inside = room.list("marker/", true, 10).await;
        assert_eq!(inside[0].objects[0].key, room.key("marker/"), "a marker is listed as the key it is");
        room.store.delete(&room.key("marker/"), None).await.expect("delete");
    }
    for page_entries in [1, 2, 3, 1000] {
        let pages = room.list("", true, page_entries).await;
        for page in &pages {
            let entries = page.objects.len() + page.prefixes.len();
            assert!(entries <= page_entries as usize, "no page is too long");
        }
        let (objects, prefixes) = split(pages);
        let wanted = ["a", "a-b", "b.txt", "d"].map(|name| room.key(name).as_str().to_owned());
        assert_eq!(objects, wanted, "objects directly below, pages of {page_entries}");
        let wanted = ["b/", "c/", "é/"].map(|name| format!("{}/{name}", room.prefix));
        assert_eq!(prefixes, wanted, "each prefix once, pages of {page_entries}");
    }
    let (objects, prefixes) = split(room.list("b/", true, 1000).await);
    assert_eq!(objects, ["b/1", "b/2"].map(|name| room.key(name).as_str().to_owned()));
    assert_eq!(prefixes, [format!("{}/b/deep/", room.prefix)]);
}

/// Objects and prefixes of all pages, each sorted.
fn split(pages: Vec<ListPage>) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    for page in pages {
        objects.extend(page.objects.into_iter().map(|object| object.key.as_str().to_owned()));
        prefixes.extend(page.prefixes);
    }
    objects.sort();
    prefixes.sort();
    (objects, prefixes)
}
