//! Which slice a key belongs to, and what its stage says of it.

use arc_swap::ArcSwap;

use crate::ledger::{Node, Replica, ReplicaState, Slice, covers};
use crate::object::{Key, PerSide, Side};
use crate::stage::{Route, Stage};

/// The slices, longest prefix first. Swapped as one when a stage changes.
#[derive(Debug)]
pub struct Router {
    slices: ArcSwap<Vec<Slice>>,
}

/// What the slice of one key says, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// The slice's prefix.
    pub prefix: String,
    /// Where new content goes and who acknowledges.
    pub route: Route,
    /// The side that reads prefer.
    pub preferred: Side,
    /// The side that knows every name of the slice: old, until its history is proven to be on new.
    pub authority: Side,
    /// Both sides know every name.
    pub history_on_both: bool,
}

impl Routing {
    /// The sides that may serve `node`, best first: a store is asked only for what its receipt says it
    /// has in the current version, whatever the stage is, so that no flip can serve an older one.
    pub(crate) fn read_order(&self, node: &Node, replicas: &PerSide<Option<Replica>>) -> Vec<Side> {
        let current = |side: &Side| replicas[*side].as_ref().is_some_and(|r| is_current(r, node));
        [self.preferred, self.preferred.other()].into_iter().filter(current).collect()
    }
}

/// Whether a replica has the node's current content, under whatever key and with whatever attributes.
pub(crate) fn is_current(replica: &Replica, node: &Node) -> bool {
    replica.receipt.version == node.version && replica.state != ReplicaState::Mismatched
}

impl Router {
    /// A router of these slices.
    pub fn new(slices: Vec<Slice>) -> Router {
        let router = Router { slices: ArcSwap::default() };
        router.replace(slices);
        router
    }

    /// Takes a new set of slices for every routing from now on.
    pub fn replace(&self, mut slices: Vec<Slice>) {
        slices.sort_by_key(|slice| std::cmp::Reverse(slice.prefix.len()));
        self.slices.store(slices.into());
    }

    /// The routing of a key; `None` is the root.
    pub fn routing(&self, key: Option<&Key>) -> Routing {
        let path = key.map_or("", Key::as_str);
        let slices = self.slices.load();
        let slice = slices.iter().find(|slice| covers(&slice.prefix, path));
        slice.map_or_else(
            || of_stage(Stage::Off, "", 100, path, false),
            |s| of_stage(s.stage, &s.prefix, s.read_percent, path, s.backfill_complete),
        )
    }

    /// Whether another slice begins at or below `key`.
    pub(crate) fn splits(&self, key: &Key) -> bool {
        self.slices.load().iter().any(|slice| covers(key.as_str(), &slice.prefix) && !slice.prefix.is_empty())
    }

    /// The slice with exactly this prefix.
    pub(crate) fn slice(&self, prefix: &str) -> Option<Slice> {
        self.slices.load().iter().find(|slice| slice.prefix == prefix).cloned()
    }
}

fn of_stage(stage: Stage, prefix: &str, read_percent: u8, path: &str, history_on_both: bool) -> Routing {
    let preferred = match stage {
        Stage::Off | Stage::DualWrite | Stage::Shadow => Side::Old,
        Stage::Live => {
            if crc32fast::hash(path.as_bytes()) % 100 < u32::from(read_percent) {
                Side::New
            } else {
                Side::Old
            }
        }
        Stage::RampDown | Stage::Complete => Side::New,
    };
    let authority = if history_on_both { preferred } else { Side::Old };
    Routing { prefix: prefix.to_owned(), route: stage.route(), preferred, authority, history_on_both }
}

#[cfg(test)]
mod tests {
    use super::{Router, covers};
    use crate::ledger::Slice;
    use crate::object::{Key, Side};
    use crate::stage::Stage;

    fn slice(prefix: &str, stage: Stage, read_percent: u8) -> Slice {
        Slice { prefix: prefix.to_owned(), stage, read_percent, since: 0, backfill_complete: false }
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let slices = vec![
            slice("", Stage::Off, 100),
            slice("a", Stage::DualWrite, 100),
            slice("a/b", Stage::Live, 100),
        ];
        let router = Router::new(slices);
        for (path, prefix) in
            [("x", ""), ("ab", ""), ("a", "a"), ("a/x", "a"), ("a/b", "a/b"), ("a/b/c", "a/b"), ("a/bc", "a")]
        {
            assert_eq!(router.routing(Some(&Key::new(path).expect("key"))).prefix, prefix, "{path}");
        }
        assert!(router.splits(&Key::new("a").expect("key")));
        assert!(!router.splits(&Key::new("a/b/c").expect("key")));
        assert!(covers("", "anything"));
    }

    #[test]
    fn read_percent_splits_by_key_and_stays() {
        let router = Router::new(vec![slice("", Stage::Live, 30)]);
        let keys: Vec<Key> = (0..1000).map(|i| Key::new(format!("file-{i}")).expect("key")).collect();
        let on_new = |r: &Router| keys.iter().filter(|k| r.routing(Some(k)).preferred == Side::New).count();
        let first = on_new(&router);
        assert!((200..400).contains(&first), "{first} of 1000 keys prefer new at 30 %");
        assert_eq!(on_new(&router), first);
    }
}
