//! What others put beside a content from before the bridge, sent with it to the other store.

use crate::bridge::{Bridge, BridgeError, BridgeResult, blocking, router};
use crate::ledger::{Node, Origin, Replica};
use crate::object::Side;
use crate::store::{ErrorKind, ObjectInfo, ObjectMeta};

/// What a store keeps of names and values in all, in bytes: S3 has the least room.
const ENTRIES_BYTES_MAX: usize = 2048;
/// What each name counts beyond its length, to be on the safe side.
const NAME_BYTES: usize = "x-amz-meta-".len();
/// What the names of our own entries start with.
const OWN_ENTRY_PREFIX: &str = "bridgefs_";
/// Entries of ours whose names are those of other tools.
const SHARED_NAMES: [&str; 6] = ["blake3", "gid", "mode", "mtime", "rdev", "uid"];

impl Bridge {
    /// What the store has of a content that was found there, under whichever name. What was written through the
    /// mount is the mount's from its commit on, and its first receipt brings its digest; a further name makes a
    /// found file the mount's too, but nobody knows its digest before it is on both stores.
    pub(super) fn found_on(&self, side: Side, node: &Node) -> BridgeResult<Option<Replica>> {
        let replica = blocking(|| self.ledger.readable(node.ino))?[side].take();
        let is_found = |replica: &Replica| node.origin != Origin::Mount || replica.receipt.digest.is_none();
        Ok(replica.filter(|replica| router::is_current(replica, node) && is_found(replica)))
    }

    /// `ours`, and what the store has beside the copy that was `found` there: its HTTP headers, and the entries of
    /// others as far as any store can hold them. One look, once in the life of such a content; a store that cannot
    /// be asked now delays the upload, as it does where the content is there only.
    pub(super) async fn with_inherited(
        &self,
        side: Side,
        node: &Node,
        found: Option<Replica>,
        ours: ObjectMeta,
    ) -> BridgeResult<ObjectMeta> {
        let mut copy = found;
        while let Some(seen) = copy {
            match self.handle(side).store.head(&seen.receipt.key).await {
                Ok(info) if self.is_copy(node, &seen, &info) => return Ok(inherit(info.meta, ours)),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(BridgeError::from_store(side, e).on(&seen.receipt.key)),
            }
            // It may just have moved with a rename. If not, it is somebody else's now.
            let now = blocking(|| self.ledger.readable(node.ino))?[side].take();
            copy = now.filter(|now| router::is_current(now, node) && *now != seen);
        }
        Ok(ours)
    }

    /// Whether the object is still the one that the store confirmed. A change of its attributes, under way, gives it
    /// another tag; one that was only listed may have none.
    fn is_copy(&self, node: &Node, replica: &Replica, info: &ObjectInfo) -> bool {
        let known = &replica.receipt.etag;
        let op = self.op_id(node);
        *known == info.etag
            || known.as_str().is_empty() && info.size == node.size
            || info.meta.user.get("bridgefs_op").is_some_and(|raw| raw == op.as_str())
    }
}

/// `ours` with what `theirs` has beside it.
fn inherit(theirs: ObjectMeta, ours: ObjectMeta) -> ObjectMeta {
    let mut user = theirs.user;
    user.retain(|name, value| is_foreign(name) && goes_anywhere(name, value));
    user.extend(ours.user.clone());
    let bytes: usize = user.iter().map(|(name, value)| NAME_BYTES + name.len() + value.len()).sum();
    let mut headers = theirs.headers;
    headers.extend(ours.headers);
    ObjectMeta { headers, user: if bytes > ENTRIES_BYTES_MAX { ours.user } else { user } }
}

fn is_foreign(name: &str) -> bool {
    !name.starts_with(OWN_ENTRY_PREFIX) && !SHARED_NAMES.contains(&name)
}

/// Azure takes only names that are identifiers, a folder only values that are printable.
fn goes_anywhere(name: &str, value: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase();
    name.starts_with(is_letter)
        && name.chars().all(|c| is_letter(c) || c.is_ascii_digit() || c == '_')
        && value.bytes().all(|b| (b' '..=b'~').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::inherit;
    use crate::store::{HttpHeader, ObjectMeta};

    fn entries(pairs: &[(&str, &str)]) -> ObjectMeta {
        ObjectMeta::of_user(
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn entries_of_others_are_inherited_and_ours_are_not() {
        let theirs = [
            ("author", "jim"),
            ("mode", "100600"),
            ("blake3", "00"),
            ("rdev", "7"),
            ("bridgefs_xattrs", "AQ"),
            ("x-custom", "1"),
            ("title", "\u{fc}"),
        ];
        let ours = [("mode", "100644"), ("mtime", "1.000000000")];
        let both = entries(&[("author", "jim"), ("mode", "100644"), ("mtime", "1.000000000")]);
        assert_eq!(inherit(entries(&theirs), entries(&ours)), both);
    }

    #[test]
    fn what_would_be_too_much_for_a_store_stays_behind_but_for_the_headers() {
        let headers = [(HttpHeader::ContentEncoding, "gzip".to_owned())].into();
        let theirs = ObjectMeta { headers, ..entries(&[("a", &"x".repeat(2000))]) };
        let ours = entries(&[("mode", "100644"), ("mtime", "1.000000000")]);
        let both = ObjectMeta { headers: theirs.headers.clone(), ..ours.clone() };
        assert_eq!(inherit(theirs, ours), both);
    }
}
