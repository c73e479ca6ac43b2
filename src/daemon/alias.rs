//! Two names for one place. URLs that differ can lead to one bucket (a second endpoint, a bind mount); then
//! a repair or a deletion on one side would destroy both copies. Only a trial tells: what is put into one
//! store must not appear in the other.

use bytes::Bytes;

use super::DaemonError;
use super::owner::{first_mount, patiently};
use crate::config::StoreConfig;
use crate::object::{Key, PerSide};
use crate::store::remote::PROBE_PREFIX;
use crate::store::{Condition, ErrorKind, ObjectMeta, SharedStore, StoreResult};

/// Refuses two stores that are one. A store that does not answer now cannot be tried; the bridge starts
/// without it, unless this is the first mount, which is when it must be tried.
pub(super) async fn refuse_aliases(
    config: &PerSide<StoreConfig>,
    stores: &PerSide<SharedStore>,
    bridge_id: &str,
    is_first: bool,
) -> Result<(), DaemonError> {
    let trial = async || appears_in_both(&stores.old, &stores.new, bridge_id).await;
    match patiently(trial).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(DaemonError::Unsafe {
            why: format!(
                "\"{}\" and \"{}\" are the same place under two names: what was put into one appeared in the other. A \
                 deletion or a repair on one side would destroy both copies; name two different places",
                config.old.name, config.new.name
            ),
        }),
        Err(source) if is_first => Err(first_mount(&config.new, source)),
        Err(error) => {
            tracing::warn!(%error, "it could not be tried whether the two stores are one");
            Ok(())
        }
    }
}

/// Whether an object that is put into `a` is there in `b`. Removes it again. `who` names the object: one bridge
/// always takes the same name, so that a trial which was killed leaves nothing that the next one does not remove.
pub(super) async fn appears_in_both(a: &SharedStore, b: &SharedStore, who: &str) -> StoreResult<bool> {
    let key = Key::new(format!("{PROBE_PREFIX}same-place-{who}"));
    let key = key.expect("it has a prefix, so it is not empty");
    let body = Bytes::from_static(b"bridgefs looks whether two stores are one; may be deleted\n");
    a.put(&key, body, &ObjectMeta::default(), &Condition::Always).await?;
    let seen = b.head(&key).await;
    a.delete(&key, None).await?;
    match seen {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn one_store_under_two_names_is_found_out_and_nothing_is_left() {
        let store = Arc::new(MemoryStore::new("a", Clock::System));
        let a: SharedStore = Arc::<MemoryStore>::clone(&store);
        let other: SharedStore = Arc::new(MemoryStore::new("b", Clock::System));
        assert!(appears_in_both(&a, &a, "x").await.expect("answers"));
        assert!(!appears_in_both(&a, &other, "x").await.expect("answers"));
        assert!(store.snapshot().is_empty());
    }
}
