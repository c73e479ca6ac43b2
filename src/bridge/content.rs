//! Reading: a file is pinned to one version when it is opened, and read block by block through the cache.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};

use crate::bridge::fetch::RETAGGED_BYTES_MAX;
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, blocking};
use crate::cache::CachedVersion;
use crate::ledger::{FoundOn, Node, Origin, Replica};
use crate::object::{BLOCK_BYTES, ContentDigest, Ino, Kind, PerSide, Side, Version};
use crate::store::ErrorKind;

/// Blocks fetched at once for one read.
const FETCHES_MAX: usize = 4;

/// One version of a file's content: what an open file reads, whatever happens to the name meanwhile.
#[derive(Debug, Clone)]
pub struct Content {
    pub(crate) node: Arc<Node>,
    /// The replicas when it was opened: used once the node has left the tree.
    pub(crate) replicas: Arc<PerSide<Option<Replica>>>,
    /// Digest and block checksums of this version, if its bytes were ever seen here.
    pub(crate) digest: Option<Arc<ContentDigest>>,
    cached: CachedVersion,
    /// Its attributes turned out to be others than were known when it was opened.
    is_news: bool,
}

impl Content {
    /// Whose content it is.
    pub fn ino(&self) -> Ino {
        self.node.ino
    }

    /// Which version.
    pub fn version(&self) -> Version {
        self.node.version
    }

    /// Whether the look at its opening has shown other attributes than were told of it before.
    pub fn is_news(&self) -> bool {
        self.is_news
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.node.size
    }

    /// The checksum that block `index` must have, if known.
    pub(crate) fn block_sum(&self, index: u64) -> Option<u32> {
        let sums = &self.digest.as_ref()?.block_sums;
        sums.get(usize::try_from(index).ok()?).copied()
    }

    /// Where block `index` lies: first byte and length.
    pub(crate) fn block_span(&self, index: u64) -> (u64, u64) {
        let start = index * BLOCK_BYTES;
        (start, BLOCK_BYTES.min(self.size().saturating_sub(start)))
    }
}

impl Bridge {
    /// Opens the current version of a file.
    pub async fn open(&self, ino: Ino) -> BridgeResult<Content> {
        let node = self.file(ino)?;
        if !self.needs_look(&node) {
            return self.open_as_known(ino);
        }
        let before = (node.attrs, node.size);
        self.look_again(node).await?;
        let content = self.open_as_known(ino)?;
        Ok(Content { is_news: (content.node.attrs, content.node.size) != before, ..content })
    }

    /// The same, by what is known here.
    pub fn open_as_known(&self, ino: Ino) -> BridgeResult<Content> {
        blocking(|| {
            let (node, replicas) = self.ledger.readable_node(ino)?.ok_or_else(gone)?;
            let known = self.ledger.content(ino)?.filter(|(version, _)| *version == node.version);
            let cached = self
                .cache
                .version(ino, node.version, node.size)
                .map_err(|e| BridgeError::from_disk("open the block cache", e))?;
            Ok(Content {
                digest: known.map(|(_, digest)| Arc::new(digest)),
                node: Arc::new(node),
                replicas: Arc::new(replicas),
                cached,
                is_news: false,
            })
        })
    }

    /// Up to `len` bytes from `offset`; fewer only at the end of the content.
    pub async fn read(&self, content: &Content, offset: u64, len: usize) -> BridgeResult<Bytes> {
        let end = content.size().min(offset.saturating_add(len as u64));
        if offset >= end {
            return Ok(Bytes::new());
        }
        let len = usize::try_from(end - offset).expect("no longer than the buffer that was asked for");
        let hit = blocking(|| content.cached.read(offset, len));
        // A cache that cannot be read is a cache that has nothing: the stores have the bytes.
        if let Ok(Some(bytes)) = hit {
            return Ok(bytes);
        }
        let (first, last) = (offset / BLOCK_BYTES, (end - 1) / BLOCK_BYTES);
        let blocks: Vec<Bytes> = stream::iter(first..=last)
            .map(|index| self.block(content, index))
            .buffered(FETCHES_MAX)
            .try_collect()
            .await?;
        Ok(cut(&blocks, offset - first * BLOCK_BYTES, len))
    }

    /// One whole block: from the cache, or fetched once for all who wait for it.
    pub(crate) async fn block(&self, content: &Content, index: u64) -> BridgeResult<Bytes> {
        let (start, len) = content.block_span(index);
        let len = usize::try_from(len).expect("a block fits in memory");
        if let Ok(Some(bytes)) = blocking(|| content.cached.read(start, len)) {
            return Ok(bytes);
        }
        content.cached.fetch(index, || self.fetch_block(content, index)).await
    }

    pub(crate) fn file(&self, ino: Ino) -> BridgeResult<Node> {
        match blocking(|| self.ledger.node(ino))? {
            None => Err(gone()),
            Some(node) if node.kind == Kind::Directory => {
                Err(BridgeError::new(BridgeErrorKind::IsADirectory, "it is a directory"))
            }
            Some(node) => Ok(node),
        }
    }

    /// Objects that were only listed or are unproven have attributes that were never read; under a TTL
    /// everything is asked again after it.
    fn needs_look(&self, node: &Node) -> bool {
        match node.origin {
            Origin::Listed | Origin::Unproven => true,
            Origin::Read | Origin::Mount => self.is_stale(node.checked_at),
        }
    }

    /// Asks the preferred store that has the version what it has now, and for what is unproven the one that knows every
    /// name. What cannot be asked is left as it is known: a read is still checked against the receipt.
    pub(crate) async fn look_again(&self, node: Node) -> BridgeResult<Node> {
        if node.origin == Origin::Unproven {
            Box::pin(self.prove(&node)).await?;
            return blocking(|| self.ledger.named(node.link))?.ok_or_else(gone);
        }
        let Some(key) = blocking(|| self.ledger.key_of(node.link))? else { return Ok(node) };
        let replicas = blocking(|| self.ledger.replicas(node.link))?;
        let routing = self.routing(Some(&key));
        let Some(side) = routing.read_order(&node, &replicas).first().copied() else { return Ok(node) };
        let Some(replica) = &replicas[side] else { return Ok(node) };
        let info = match self.handle(side).store.head(&replica.receipt.key).await {
            Ok(info) => info,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // The object may just have moved with a rename: then the next look finds it.
                let now = blocking(|| self.ledger.replicas(node.link))?;
                if now[side].as_ref().is_some_and(|r| r.receipt == replica.receipt) {
                    self.report_missing(node.link, side, &replica.receipt).await?;
                }
                return Ok(node);
            }
            Err(_) => return Ok(node),
        };
        if info.etag != replica.receipt.etag && !replica.receipt.etag.as_str().is_empty() {
            return Box::pin(self.changed_outside(node, side, replica, &info)).await;
        }
        // A symbolic link is only one with its target.
        let Ok(object) = self.found_with_target(side, &replica.receipt.key, &info).await else {
            return Ok(node);
        };
        let on = FoundOn { side, origin: Origin::Read, now: self.clock.now() };
        Ok(self.ledger.looked_at(node.link, object, on).await?.unwrap_or(node))
    }

    /// Somebody replaced the object behind the mount. Unless content of ours is still on its way there,
    /// what stands there now is the next version, and the other store follows.
    async fn changed_outside(
        &self,
        node: Node,
        side: Side,
        replica: &Replica,
        info: &crate::store::ObjectInfo,
    ) -> BridgeResult<Node> {
        let key = &replica.receipt.key;
        if blocking(|| self.ledger.intent(node.link, side))?.is_some() {
            return Ok(node);
        }
        // What is too large to be read for an open is somebody's: that loses nothing, and costs a copy at most.
        if info.size <= RETAGGED_BYTES_MAX {
            match self.is_version(&node, side, &replica.receipt, info).await {
                Ok(Some(true)) => {
                    self.take_tag(&node, replica, side, info.etag.clone()).await?;
                    return Ok(node);
                }
                // One that cannot be read now is looked at another time.
                Ok(None) if self.is_our_upload(side, key, info).await.unwrap_or(true) => return Ok(node),
                Ok(Some(false) | None) => {}
                Err(_) => return Ok(node),
            }
        }
        let Ok(found) = self.found_with_target(side, key, info).await else { return Ok(node) };
        let _no_fill_ends = self.staging.outside.write().await;
        if blocking(|| self.cache.is_staged(node.ino)) {
            return Ok(node);
        }
        let taken = self.ledger.replaced_outside(side, replica, found, self.clock.now()).await?;
        let Some(taken) = taken else { return Ok(node) };
        self.report_bypass(side, key, info, "It was taken as the next version of the file.").await?;
        self.replicator.wake_all();
        Ok(taken)
    }
}

fn gone() -> BridgeError {
    BridgeError::new(BridgeErrorKind::NotFound, "the file is gone")
}

/// `len` bytes from `skip` on, out of adjacent blocks.
fn cut(blocks: &[Bytes], skip: u64, len: usize) -> Bytes {
    let skip = usize::try_from(skip).expect("less than a block");
    match blocks {
        [only] => only.slice(skip..skip + len),
        many => {
            let mut all = BytesMut::with_capacity(len);
            let mut skip = skip;
            for block in many {
                let take = (block.len() - skip).min(len - all.len());
                all.extend_from_slice(&block[skip..skip + take]);
                skip = 0;
            }
            all.freeze()
        }
    }
}
