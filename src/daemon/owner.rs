//! Whose a store is. What the stores hold of each object is in one ledger; a second bridge with a ledger of its own
//! would neither see the first one's writes nor its deletions. So each store carries a small object that names
//! its bridge: a second one is refused, and so is another bucket of the same name.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use serde::Deserialize;

use super::DaemonError;
use crate::clock::{sleep, timeout};
use crate::config::StoreConfig;
use crate::object::{Attrs, Key, Kind, NanoTime, OWN_PREFIX};
use crate::store::{ByteRange, Condition, ErrorKind, ObjectMeta, Store, StoreError, StoreResult};

/// How long each trial of the stores may hold up a start.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// How often a store is asked, and the pause in between.
const TRIES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// More than a mark can have.
const MARK_BYTES_MAX: u64 = 64 << 10;

/// The bridge that a store belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Owner {
    /// The id of its ledger.
    pub(super) bridge: String,
    /// The host that marked the store.
    pub(super) host: String,
    /// Where that host keeps the ledger.
    pub(super) state_dir: String,
}

impl Owner {
    /// The bridge whose ledger is in `state_dir` on this host.
    pub(super) fn here(bridge_id: &str, state_dir: &Path) -> Owner {
        let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        Owner { bridge: bridge_id.to_owned(), host, state_dir: state_dir.display().to_string() }
    }

    /// The mark, for people too.
    fn to_text(&self) -> String {
        let about = "This store is one side of a bridgefs bridge. Two bridges on one store would not see each other's \
                     writes. Remove this object, on both stores, only when that bridge is gone for good.";
        let Owner { bridge, host, state_dir } = self;
        let mark =
            serde_json::json!({ "about": about, "bridge": bridge, "host": host, "state_dir": state_dir });
        format!("{mark:#}\n")
    }
}

/// What a store says of whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belongs {
    /// It carries this bridge's mark.
    Here,
    /// It carries none, and never carried this bridge's.
    ToNobody,
    /// It was this bridge's, and does not answer now.
    Unknown,
}

/// Finds out whose the store is, and changes nothing. Refuses one that is another bridge's, one that has lost
/// this bridge's mark, and one that was never marked and does not say.
pub(super) async fn ask(
    config: &StoreConfig,
    store: &dyn Store,
    me: &Owner,
    was_marked: bool,
) -> Result<Belongs, DaemonError> {
    match patiently(async || read(store).await).await {
        Ok(Some(owner)) if owner.bridge == me.bridge => Ok(Belongs::Here),
        Ok(Some(owner)) => Err(DaemonError::Unsafe { why: of_another(config, &owner) }),
        Ok(None) if was_marked => Err(DaemonError::Unsafe { why: without_mark(config, me) }),
        Ok(None) => Ok(Belongs::ToNobody),
        Err(source) if source.kind() == ErrorKind::Corrupt => {
            let advice = "Something else stands where bridges keep their mark: move it away, and mount again. Nothing \
                          was mounted";
            Err(DaemonError::Store { name: config.name.clone(), source, advice })
        }
        Err(error) if was_marked => {
            tracing::warn!(store = config.name, %error, "it could not be seen which bridge the store belongs to");
            Ok(Belongs::Unknown)
        }
        Err(source) => Err(first_mount(config, source)),
    }
}

/// Marks a store that is nobody's, and looks again: two may do it at the same moment. The mark has the attributes of a
/// file that was made at `now`, as every object of the bridge has: a comparison of the two stores finds it equal.
pub(super) async fn claim(
    config: &StoreConfig,
    store: &dyn Store,
    me: &Owner,
    now: NanoTime,
) -> Result<Belongs, DaemonError> {
    let condition = match store.capabilities().put_if_absent {
        true => Condition::Absent,
        false => Condition::Always,
    };
    let attrs = Attrs { mode: 0o600, uid: 0, gid: 0, mtime: now };
    let meta = ObjectMeta::of_user(attrs.to_metadata(Kind::File));
    let key = mark();
    let put = async || store.put(&key, me.to_text().into(), &meta, &condition).await.map(drop);
    match patiently(put).await {
        Err(source) if source.kind() != ErrorKind::PreconditionFailed => Err(first_mount(config, source)),
        Ok(()) | Err(_) => ask(config, store, me, false).await,
    }
}

/// A store that was never seen before has to answer: nobody knows yet whether it is the right one, whose it is,
/// and whether it is the other one under a second name.
pub(super) fn first_mount(config: &StoreConfig, source: StoreError) -> DaemonError {
    let advice = "The first mount of a bridge needs both stores; later ones do without one that is away. Look at the \
                  credentials, at `url` and `endpoint` and at the network (`bridgefs check`). Nothing was mounted";
    DaemonError::Store { name: config.name.clone(), source, advice }
}

/// Repeats a call that got no answer, but holds the start up no longer than the limit.
pub(super) async fn patiently<T>(call: impl AsyncFn() -> StoreResult<T>) -> StoreResult<T> {
    let again = async {
        let mut tries = 1;
        loop {
            match call().await {
                Err(error) if error.kind().is_unknown() && tries < TRIES_MAX => tries += 1,
                answer => return answer,
            }
            sleep(PAUSE).await;
        }
    };
    timeout(TRIAL_LIMIT, again).await.unwrap_or_else(|elapsed| {
        Err(StoreError::new(ErrorKind::Unavailable, "start", "no answer in time").caused_by(elapsed))
    })
}

/// The owner that the store's mark names, if it has a mark.
pub(super) async fn read(store: &dyn Store) -> StoreResult<Option<Owner>> {
    let download = match store.get(&mark(), ByteRange::All, None).await {
        Ok(download) => download,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let broken = || StoreError::new(ErrorKind::Corrupt, "get", "this is no mark of a bridge").on(&mark());
    if download.info.size > MARK_BYTES_MAX {
        return Err(broken());
    }
    let pieces: Vec<Bytes> = download.body.try_collect().await?;
    let text = String::from_utf8(pieces.concat()).map_err(|error| broken().caused_by(error))?;
    serde_json::from_str(&text).map(Some).map_err(|error| broken().caused_by(error))
}

fn mark() -> Key {
    Key::new(format!("{OWN_PREFIX}owner")).expect("a prefix is not empty")
}

fn of_another(config: &StoreConfig, owner: &Owner) -> String {
    format!(
        "store \"{}\" ({}) belongs to another bridge: the one whose state_dir is {} on host {}. Two bridges on one store \
         do not see each other's writes and deletions. Nothing was mounted and nothing was changed. Mount that \
         bridge, or give this one a prefix of its own. If that bridge and its state_dir are gone for good, delete \
         the object `{}` on both stores and mount again",
        config.name,
        config.location,
        owner.state_dir,
        owner.host,
        mark()
    )
}

fn without_mark(config: &StoreConfig, me: &Owner) -> String {
    format!(
        "store \"{}\" ({}) does not carry the mark of this bridge, but did before: it is another place of the same name (another \
         account or endpoint), or it was emptied. What the ledger knows of the one would be believed of the other. \
         Nothing was mounted and nothing was changed. If it is the right place, put the object `{}` back, with this \
         content:\n{}",
        config.name,
        config.location,
        mark(),
        me.to_text()
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::store::faulty::{Fault, Faulty, Rule};
    use crate::store::memory::MemoryStore;

    fn store() -> MemoryStore {
        MemoryStore::new("a", Clock::System)
    }

    fn owner(bridge: &str) -> Owner {
        Owner { bridge: bridge.into(), host: "web1".into(), state_dir: "/var/lib/bridgefs/docs".into() }
    }

    fn config() -> StoreConfig {
        let text = "[stores.a]\nurl = \"memory:///a\"\n[stores.b]\nurl = \"memory:///b\"\n[bridge]\nold = \"a\"\n\
                    new = \"b\"\nstate_dir = \"/var/lib/bridgefs/docs\"\n";
        Config::parse(Path::new("test.toml"), text, &|_: &str| None).expect("a configuration").stores.old
    }

    async fn why(store: &MemoryStore, me: &str, was_marked: bool) -> String {
        ask(&config(), store, &owner(me), was_marked).await.expect_err("refused").to_string()
    }

    #[tokio::test]
    async fn a_store_belongs_to_the_bridge_that_marked_it_first() {
        let store = store();
        let (config, one) = (config(), owner("one"));
        assert_eq!(ask(&config, &store, &one, false).await.expect("answers"), Belongs::ToNobody);
        assert!(store.snapshot().is_empty(), "asking changes nothing");
        assert_eq!(claim(&config, &store, &one, 0).await.expect("nobody's"), Belongs::Here);
        assert_eq!(ask(&config, &store, &one, true).await.expect("answers"), Belongs::Here);
        claim(&config, &store, &owner("two"), 0).await.expect_err("it came second");
        let refusal = why(&store, "two", false).await;
        assert!(
            refusal.contains("belongs to another bridge") && refusal.contains("on host web1"),
            "{refusal}"
        );
        assert_eq!(read(&store).await.expect("read"), Some(owner("one")), "nothing was changed");
    }

    #[tokio::test]
    async fn another_place_of_the_same_name_is_found_out_and_what_the_message_says_mends_it() {
        let store = store();
        let refusal = why(&store, "one", true).await;
        let (_, content) = refusal.split_once("content:\n").expect("it says what to put back");
        let content = Bytes::from(content.to_owned());
        store.put(&mark(), content, &ObjectMeta::default(), &Condition::Always).await.expect("put back");
        assert_eq!(ask(&config(), &store, &owner("one"), true).await.expect("answers"), Belongs::Here);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_say_is_asked_again_and_only_believed_if_it_was_marked() {
        let (store, faults) = Faulty::new(Arc::new(store()), 1);
        faults.push(Rule::always(Fault::Fail(ErrorKind::Unavailable)).within(0..2));
        assert_eq!(
            ask(&config(), &store, &owner("one"), false).await.expect("in the end"),
            Belongs::ToNobody
        );
        faults.push(Rule::always(Fault::Fail(ErrorKind::Denied)));
        let refusal = ask(&config(), &store, &owner("one"), false).await.expect_err("fails closed");
        assert!(refusal.to_string().contains("The first mount of a bridge needs both stores"), "{refusal}");
        assert_eq!(ask(&config(), &store, &owner("one"), true).await.expect("known"), Belongs::Unknown);
    }

    #[tokio::test]
    async fn what_is_no_mark_is_left_alone() {
        let store = store();
        let text = Bytes::from_static(b"my notes");
        store.put(&mark(), text, &ObjectMeta::default(), &Condition::Always).await.expect("put");
        assert!(why(&store, "one", false).await.contains("no mark of a bridge"));
    }
}
