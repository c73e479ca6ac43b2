//! Names that the ledger does not know yet: looked up and listed on the store that is the authority for
//! the slice. The answer has three values: present, absent (a positive answer), unknown (an error).

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt;
use parking_lot::Mutex;

use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, Coherence, Routing, blocking};
use crate::ledger::{FindingKind, Found, FoundKind, FoundObject, FoundOn, NewFinding, Node, Origin};
use crate::object::{Attrs, Digest, Ino, Key, Kind, NanoTime, OWN_PREFIX, Position, Side, Xattrs};
use crate::store::{
    ByteRange, ErrorKind, ListPage, ListRequest, ListToken, ListedObject, ObjectInfo, StoreError, Stranger,
};

/// Names on one page of a listing.
const PAGE_ENTRIES: u32 = 1000;

/// The longest target of a symlink, in bytes (`PATH_MAX`).
const TARGET_BYTES_MAX: u64 = 4096;

/// Attributes of an object that says nothing of them.
pub(crate) const DEFAULT_FILE_MODE: u32 = 0o644;

/// How far the listings of incomplete directories are.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    directories: Mutex<HashMap<Ino, Arc<tokio::sync::Mutex<Progress>>>>,
}

/// A listing under way.
#[derive(Debug, Default)]
struct Progress {
    /// Where it goes on, and on which store: tokens and order are each store's own.
    next: Option<(Side, ListToken)>,
    pages: u64,
}

impl Progress {
    /// The store to ask for the next page, and where it goes on there. A listing begins anew where the store that
    /// it began on may not answer any more, as the stage was changed.
    fn next_page(&mut self, routing: &Routing) -> (Side, Option<ListToken>) {
        match &self.next {
            Some((side, token)) if *side == routing.authority || routing.history_on_both => {
                (*side, Some(token.clone()))
            }
            Some(_) | None => {
                *self = Progress::default();
                (routing.authority, None)
            }
        }
    }
}

impl Discovery {
    fn progress(&self, dir: Ino) -> Arc<tokio::sync::Mutex<Progress>> {
        Arc::clone(self.directories.lock().entry(dir).or_default())
    }

    /// Drops what is remembered of a directory.
    pub(crate) fn forget(&self, dir: Ino) {
        self.directories.lock().remove(&dir);
    }
}

/// What one store says of one name.
pub(super) enum Sight {
    Absent,
    Present(Found),
}

/// What is known of a name.
enum Known {
    /// It is there.
    Present(Node),
    /// It is not there.
    Absent,
    /// A store has to be asked; its directory.
    NotYet(Node),
}

impl Bridge {
    /// The node under a name. `Ok(None)` is a positive absence; what cannot be known is an error.
    pub async fn lookup(&self, parent: Ino, name: &str) -> BridgeResult<Option<Node>> {
        if let Some(node) = blocking(|| self.ledger.child(parent, name))?
            && (node.origin != Origin::Unproven || !Box::pin(self.prove(&node)).await?)
        {
            return Ok(Some(node));
        }
        loop {
            let dir = match self.known(parent, name)? {
                Known::Present(node) => return Ok(Some(node)),
                Known::Absent => return Ok(None),
                Known::NotYet(dir) => dir,
            };
            let key = self.child_key(parent, name)?;
            // Most directories fit on one page: one request then answers for every name in it.
            if self.discovery.progress(parent).lock().await.pages == 0 && self.load_page(&dir).await.is_ok() {
                match self.known(parent, name)? {
                    Known::Present(node) => return Ok(Some(node)),
                    Known::Absent => return Ok(None),
                    Known::NotYet(_) => {}
                }
            }
            if let Some(node) = self.discover(&dir, name, &key).await? {
                return Ok(Some(node));
            }
            // Nothing is under that key: but is it still the key of the name? Whatever moves is known before.
            if self.child_key(parent, name)? == key {
                return Ok(blocking(|| self.ledger.child(parent, name))?);
            }
        }
    }

    /// What is known of a name without asking a store. The directory is looked at before the name: one that somebody
    /// else makes complete in between would have the name, and answer for it that it is not there.
    fn known(&self, parent: Ino, name: &str) -> BridgeResult<Known> {
        let dir = self.directory(parent)?;
        Ok(match blocking(|| self.ledger.child(parent, name))? {
            Some(node) => Known::Present(node),
            None if self.knows_all(&dir) => Known::Absent,
            None if parent == Ino::ROOT && Key::new(name).is_ok_and(|key| key.is_own()) => Known::Absent,
            None => Known::NotYet(dir),
        })
    }

    /// Up to `limit` entries of a directory whose position is above `after`, in that order. Empty is
    /// the end. Entries that a store shows for the first time get higher positions than all before, so a
    /// huge directory streams page by page.
    pub async fn list(&self, dir: Ino, after: Position, limit: usize) -> BridgeResult<Vec<Node>> {
        loop {
            let directory = self.directory(dir)?;
            let nodes = self.children(dir, after, limit).await?;
            if !nodes.is_empty() || self.knows_all(&directory) {
                return Ok(nodes);
            }
            self.load_page(&directory).await?;
        }
    }

    /// Makes the ledger know everything below a directory. `Unavailable` if something there is unproven.
    pub(crate) async fn load_tree(&self, root: Ino) -> BridgeResult<()> {
        let mut todo = vec![root];
        while let Some(dir) = todo.pop() {
            while !self.knows_all(&self.directory(dir)?) {
                self.load_page(&self.directory(dir)?).await?;
            }
            let mut after = Position::START;
            loop {
                let children = self.children(dir, after, 1000).await?;
                let Some(last) = children.last() else { break };
                after = last.position;
                children.iter().try_for_each(Bridge::require_proven_name)?;
                todo.extend(children.iter().filter(|c| c.kind == Kind::Directory).map(|c| c.ino));
            }
        }
        Ok(())
    }

    pub(crate) fn directory(&self, ino: Ino) -> BridgeResult<Node> {
        match blocking(|| self.ledger.node(ino))? {
            Some(node) if node.kind == Kind::Directory => Ok(node),
            Some(_) => Err(BridgeError::new(BridgeErrorKind::NotADirectory, "not a directory")),
            None => Err(BridgeError::new(BridgeErrorKind::NotFound, "the directory is gone")),
        }
    }

    /// Whether every name in the directory is in the ledger.
    pub(crate) fn knows_all(&self, dir: &Node) -> bool {
        dir.complete && !self.is_stale(dir.checked_at)
    }

    /// Whether what a store said at `checked_at` must be asked again.
    pub(crate) fn is_stale(&self, checked_at: NanoTime) -> bool {
        match self.settings.coherence {
            Coherence::Exclusive => false,
            Coherence::Ttl(ttl) => {
                let age = self.clock.now().abs_diff(checked_at);
                u128::from(age) > ttl.as_nanos()
            }
        }
    }

    /// Asks for one name of a directory that is not known completely.
    async fn discover(&self, dir: &Node, name: &str, key: &Key) -> BridgeResult<Option<Node>> {
        let routing = self.routing(Some(key));
        let scan = self.ledger.begin_scan();
        let patience = self.patience(routing.authority, &routing);
        let answer = loop {
            match self.sight(routing.authority, name, key).await {
                Err(e) if patience.asks_again(&e).await => {}
                answer => break answer,
            }
        };
        let (side, origin, sight) = match answer {
            Ok(sight) => (routing.authority, Origin::Read, sight),
            Err(e) if e.kind().is_unknown() => self.sight_elsewhere(&routing, name, key, e).await?,
            Err(e) => return Err(BridgeError::from_store(routing.authority, e).on(key)),
        };
        let Sight::Present(found) = sight else { return Ok(None) };
        let on = FoundOn { side, origin, now: self.clock.now() };
        let nodes = self.ledger.adopt(dir.ino, vec![found], on, scan.id()).await?;
        Ok(nodes.into_iter().next())
    }

    /// What one store has under a name: an object, or keys below it, in which case it is a directory.
    pub(super) async fn sight(&self, side: Side, name: &str, key: &Key) -> Result<Sight, StoreError> {
        let (object, below) = tokio::join!(self.head_visible(side, key), self.any_below(side, key));
        let what = if below? {
            FoundKind::Directory
        } else {
            match object? {
                Some(info) => FoundKind::Object(self.found_with_target(side, key, &info).await?),
                None => return Ok(Sight::Absent),
            }
        };
        Ok(Sight::Present(Found { name: name.into(), what }))
    }

    async fn head_visible(&self, side: Side, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let store = &self.handle(side).store;
        // A name that the store cannot hold is not there. A refusal for another reason says nothing.
        if store.check_key(key).is_err() {
            return Ok(None);
        }
        match store.head(key).await {
            Ok(info) => Ok(Some(info)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether the store shows a key below `key/` that was not removed through the mount.
    async fn any_below(&self, side: Side, key: &Key) -> Result<bool, StoreError> {
        let store = &self.handle(side).store;
        if store.check_key(key).is_err() {
            return Ok(false);
        }
        let mut request =
            ListRequest { prefix: key.as_prefix(), one_level: false, max_entries: 100, token: None };
        loop {
            let page = store.list(&request).await?;
            let hidden = |o: &ListedObject| blocking(|| self.ledger.is_hidden(side, &o.key)).unwrap_or(true);
            if page.objects.iter().any(|o| !hidden(o)) {
                return Ok(true);
            }
            request.token = page.next;
            if request.token.is_none() {
                return Ok(false);
            }
        }
    }

    /// An object whose metadata says that it is a symlink has its target read.
    pub(crate) async fn found_with_target(
        &self,
        side: Side,
        key: &Key,
        info: &ObjectInfo,
    ) -> Result<FoundObject, StoreError> {
        let mut found = found_object(key, info);
        if claimed_kind(info) == Some(Kind::Symlink) && info.size <= TARGET_BYTES_MAX {
            let download = self.handle(side).store.get(key, ByteRange::All, Some(&info.etag)).await?;
            let target: Vec<u8> = download
                .body
                .try_fold(Vec::new(), async |mut all, piece| {
                    all.extend_from_slice(&piece);
                    Ok(all)
                })
                .await?;
            found.kind = Kind::Symlink;
            found.target = Some(target.into());
        }
        Ok(found)
    }

    /// Brings one more page of a directory into the ledger.
    async fn load_page(&self, dir: &Node) -> BridgeResult<()> {
        let progress = self.discovery.progress(dir.ino);
        let mut progress = progress.lock().await;
        if self.knows_all(&self.directory(dir.ino)?) {
            return Ok(());
        }
        let key = if dir.ino == Ino::ROOT { None } else { blocking(|| self.ledger.key_of(dir.link))? };
        let routing = self.routing(key.as_ref());
        let prefix = key.as_ref().map_or_else(String::new, Key::as_prefix);
        // Names that are removed while this page is on its way must not come back with it.
        let scan = self.ledger.begin_scan();
        let (side, token) = progress.next_page(&routing);
        let request =
            ListRequest { prefix: prefix.clone(), one_level: true, max_entries: PAGE_ENTRIES, token };
        let (side, page) = match self.list_page(&routing, side, &request).await {
            Ok(page) => page,
            Err(e) => {
                *progress = Progress::default();
                return Err(e);
            }
        };
        let next = page.next.clone();
        let found = self.found_on_page(side, &prefix, page).await?;
        let on = FoundOn { side, origin: Origin::Listed, now: self.clock.now() };
        self.ledger.adopt(dir.ino, found, on, scan.id()).await?;
        progress.pages += 1;
        progress.next = next.map(|token| (side, token));
        if progress.next.is_none() {
            self.ledger.directory_complete(dir.ino, scan.id(), self.clock.now()).await?;
            *progress = Progress::default();
            self.discovery.forget(dir.ino);
        }
        Ok(())
    }

    /// One page from this store; from the other one only where history is proven to be on both and the listing
    /// has not begun yet.
    async fn list_page(
        &self,
        routing: &Routing,
        side: Side,
        request: &ListRequest,
    ) -> BridgeResult<(Side, ListPage)> {
        let patience = self.patience(side, routing);
        let answer = loop {
            match self.handle(side).store.list(request).await {
                Err(e) if patience.asks_again(&e).await => {}
                answer => break answer,
            }
        };
        match answer {
            Ok(page) => Ok((side, page)),
            Err(e) if e.kind().is_unknown() && routing.history_on_both && request.token.is_none() => {
                let other = side.other();
                let page = self.handle(other).store.list(request).await;
                page.map(|page| (other, page)).map_err(|e| BridgeError::from_store(other, e))
            }
            Err(e) => Err(BridgeError::from_store(side, e)),
        }
    }

    /// The entries of a page that can be shown; the others become findings.
    async fn found_on_page(&self, side: Side, prefix: &str, page: ListPage) -> BridgeResult<Vec<Found>> {
        let mut found = Vec::with_capacity(page.objects.len() + page.prefixes.len());
        let mut directories = std::collections::HashSet::new();
        for below in page.prefixes.into_iter().filter(|below| below != OWN_PREFIX) {
            let name = below.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('/'));
            match name.filter(|name| is_name(name)) {
                Some(name) => {
                    directories.insert(name.to_owned());
                    found.push(Found { name: name.into(), what: FoundKind::Directory });
                }
                None => self.report_no_path(side, &below).await?,
            }
        }
        for stranger in page.strangers {
            self.report_stranger(side, &stranger).await?;
        }
        for object in page.objects {
            let name = object.key.as_str().strip_prefix(prefix);
            match name {
                // The marker object of this directory itself.
                Some("") => {}
                Some(name) if is_name(name) && !directories.contains(name) => {
                    found.push(Found { name: name.into(), what: FoundKind::Object(listed_object(&object)) });
                }
                Some(_) | None => self.report_no_path(side, object.key.as_str()).await?,
            }
        }
        Ok(found)
    }

    async fn report_stranger(&self, side: Side, stranger: &Stranger) -> BridgeResult<()> {
        let Stranger { place, what } = stranger;
        let detail = format!(
            "`{place}` in the folder of the {side} store is {what}, which can be no object. It is not shown in the mount \
             and does not go to the other store. It stays as it is: make it an ordinary file, or move what needs it."
        );
        self.report_illegal(side, place, detail).await
    }

    async fn report_no_path(&self, side: Side, key: &str) -> BridgeResult<()> {
        let detail = format!(
            "the {side} store holds `{key}`, which cannot be a path here (an empty, `.` or `..` segment, a \
             trailing slash, or a file beside a directory of the same name). It is not shown in the mount. \
             Nothing is lost: the object stays as it is. Rename it in the store to see it."
        );
        self.report_illegal(side, key, detail).await
    }

    async fn report_illegal(&self, side: Side, key: &str, detail: String) -> BridgeResult<()> {
        let finding =
            NewFinding { kind: FindingKind::IllegalKey, side: Some(side), key: Key::new(key).ok(), detail };
        Ok(self.ledger.find(finding).await?)
    }
}

/// What the metadata says that it is.
fn claimed_kind(info: &ObjectInfo) -> Option<Kind> {
    Attrs::from_metadata(&info.meta.user, default_attrs(info.modified)).1
}

fn default_attrs(modified: NanoTime) -> Attrs {
    Attrs { mode: DEFAULT_FILE_MODE, uid: 0, gid: 0, mtime: modified }
}

/// An object as its metadata describes it. What has content is a file, whatever it says; a symlink is only
/// known as one when its target is read.
fn found_object(key: &Key, info: &ObjectInfo) -> FoundObject {
    let (attrs, claimed) = Attrs::from_metadata(&info.meta.user, default_attrs(info.modified));
    let kind = match claimed {
        Some(kind @ (Kind::Fifo | Kind::Socket | Kind::CharDevice(_) | Kind::BlockDevice(_)))
            if info.size == 0 =>
        {
            kind
        }
        Some(_) | None => Kind::File,
    };
    let digest = info.meta.user.get("blake3").and_then(|hex| Digest::from_hex(hex));
    let xattrs = Xattrs::from_metadata(&info.meta.user).unwrap_or_else(|error| {
        tracing::warn!(%key, etag = %info.etag, %error, "the extended attributes of an object are ignored: another program wrote them");
        Xattrs::default()
    });
    FoundObject { kind, target: None, size: info.size, etag: info.etag.clone(), attrs, digest, xattrs }
}

fn is_name(name: &str) -> bool {
    !name.contains('/') && Key::new(name).is_ok_and(|key| key.is_path())
}

fn listed_object(object: &ListedObject) -> FoundObject {
    let attrs = default_attrs(object.modified);
    let etag = object.etag.clone().unwrap_or_else(|| crate::object::ETag::new(""));
    let xattrs = Xattrs::default();
    FoundObject { kind: Kind::File, target: None, size: object.size, etag, attrs, digest: None, xattrs }
}

#[cfg(test)]
mod tests {
    use super::Progress;
    use crate::bridge::router::Router;
    use crate::ledger::Slice;
    use crate::object::Side;
    use crate::stage::Stage;
    use crate::store::ListToken;

    #[test]
    fn a_listing_goes_on_where_it_began_or_begins_anew() {
        let next = |began: Side, stage: Stage, backfill_complete: bool| {
            let slice =
                Slice { prefix: String::new(), stage, read_percent: 100, since: 0, backfill_complete };
            let token = ListToken("theirs".to_owned());
            let mut progress = Progress { next: Some((began, token)), pages: 3 };
            let (side, token) = progress.next_page(&Router::new(vec![slice]).routing(None));
            assert_eq!(token.is_none(), progress.pages == 0);
            (side, token.is_some())
        };
        let table = [
            (Side::Old, Stage::DualWrite, false, (Side::Old, true)),
            (Side::Old, Stage::Complete, true, (Side::Old, true)),
            (Side::New, Stage::DualWrite, true, (Side::New, true)),
            (Side::New, Stage::DualWrite, false, (Side::Old, false)),
        ];
        for (began, stage, backfill_complete, expected) in table {
            assert_eq!(
                next(began, stage, backfill_complete),
                expected,
                "{began} {stage} {backfill_complete}"
            );
        }
    }
}
