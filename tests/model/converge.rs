//! The end of a case: everything is well again, and both stores must hold what the mount shows (P3, P5).

use std::time::Duration;

use bridgefs::clock::sleep;
use bridgefs::object::{Attrs, Ino, Key, Kind, Side};
use bridgefs::store::ObjectMeta;
use bytes::Bytes;

use crate::run::{Check, Run};
use crate::step::{Setup, Step};
use crate::tree::{Entry, File};

/// Virtual time until both stores must be equal.
const PATIENCE: Duration = Duration::from_secs(600);

/// Longer than any doubt of the bridge about lost requests.
const AFTER_DOUBTS: Duration = Duration::from_secs(130);

/// One case, from the seed to the end. An error is a broken promise.
pub async fn case(setup: Setup, steps: &[Step]) -> Check {
    let mut run = Box::pin(Run::new(setup)).await?;
    for (number, step) in steps.iter().enumerate() {
        tracing::info!(number, ?step);
        Box::pin(run.step(step)).await.map_err(|why| format!("at step {number}, {step:?}: {why}"))?;
    }
    Box::pin(converge(&mut run, setup)).await.map_err(|why| format!("at the end: {why}"))
}

async fn converge(run: &mut Run, setup: Setup) -> Check {
    Side::BOTH.into_iter().for_each(|side| run.heal(side));
    run.world.release_late().await;
    run.close_all().await?;
    run.set_stage(setup.last_stage, 100).await?;
    sleep(AFTER_DOUBTS).await;
    let left = run.bridge().drain(PATIENCE).await.map_err(|e| format!("drain: {e}"))?;
    sleep(AFTER_DOUBTS).await;
    let status = run.bridge().status().map_err(|e| format!("status: {e}"))?;
    if left.pending > 0 || run.bridge().left().is_ok_and(|left| left.pending > 0) {
        return Err(format!("P5: {} changes never reach the stores: {:?}", left.pending, status.stores));
    }
    run.check_all().await?;
    let wrong = run.bridge().check().map_err(|e| format!("check: {e}"))?;
    if !wrong.is_empty() {
        return Err(format!("the ledger's own check says: {wrong:?}"));
    }
    if status.staged_files > 0 {
        return Err(format!(
            "P5: {} files are still staged though both stores have all",
            status.staged_files
        ));
    }
    for side in Side::BOTH {
        check_store(run, setup, side).await?;
    }
    Ok(())
}

/// P3, P5: a store holds what the mount shows, and nothing else.
async fn check_store(run: &mut Run, setup: Setup, side: Side) -> Check {
    let mut objects = run.world.stores[side].objects();
    let entries = run.tree.entries.clone();
    for (path, entry) in entries {
        let key = Key::new(path.as_str()).expect("a path is a key");
        let object = objects.remove(&key);
        match entry {
            Entry::Dir => drop(object),
            Entry::Symlink(target) => check_bytes(side, &path, object, &target).map(drop)?,
            Entry::File(name) => {
                let file = run.tree.file_of(&name).clone();
                if !file.written && !name.linked && side == Side::New && object.is_none() {
                    continue;
                }
                let found = check_bytes(side, &path, object, &file.latest().0)?;
                if file.written {
                    check_attrs(run, side, &path, &file, &found).await?;
                }
            }
        }
    }
    if setup.history {
        objects.retain(|key, _| !key.as_str().contains(".bridgefs-kept-"));
    }
    let extra: Vec<String> = objects.keys().map(ToString::to_string).collect();
    if extra.is_empty() {
        Ok(())
    } else {
        Err(format!("P3: {side} still holds {extra:?}, which are gone from the mount"))
    }
}

fn check_bytes(
    side: Side,
    path: &str,
    object: Option<(Bytes, ObjectMeta)>,
    expected: &[u8],
) -> Check<ObjectMeta> {
    let Some((bytes, meta)) = object else { return Err(format!("P5: {side} does not have `{path}`")) };
    if bytes == expected {
        Ok(meta)
    } else {
        Err(format!("P5: {side} has other bytes of `{path}`: {} instead of {}", bytes.len(), expected.len()))
    }
}

async fn check_attrs(run: &mut Run, side: Side, path: &str, file: &File, meta: &ObjectMeta) -> Check {
    let bridge = run.bridge();
    let mut ino = Ino::ROOT;
    let mut attrs = None;
    for name in path.split('/') {
        let node = bridge.lookup(ino, name).await.map_err(|e| format!("lookup of `{path}`: {e}"))?;
        let node = node.ok_or_else(|| format!("P1: `{path}` is not there"))?;
        ino = node.ino;
        attrs = Some(node.attrs);
    }
    let attrs = attrs.ok_or("no path is empty")?;
    let nothing = Attrs { mode: 0, uid: 0, gid: 0, mtime: 0 };
    let stored = Attrs::from_metadata(&meta.user, nothing);
    if stored != (attrs, Some(Kind::File)) {
        return Err(format!("P5: {side} has the attributes {stored:?} of `{path}`, the mount has {attrs:?}"));
    }
    if file.mode.is_some_and(|mode| mode != attrs.mode) || file.mtime.is_some_and(|m| m != attrs.mtime) {
        return Err(format!("P1: the attributes of `{path}` are {attrs:?}, set were {file:?}"));
    }
    Ok(())
}
