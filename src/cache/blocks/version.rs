use std::fs::File;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Blocks;
use super::body::Body;
use super::flight::{Seat, Turn};
use super::names::{block_count, block_len, disk_cost};
use super::table::BlockState;
use crate::cache::disk;
use crate::object::BLOCK_BYTES;

/// One version of one file's content, as far as it is on the local disk. While one of these lives the
/// version is not evicted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CachedVersion(Arc<Pin>);

/// One user of a version; given back by Drop.
#[derive(Debug)]
pub(super) struct Pin {
    pub(super) blocks: Arc<Blocks>,
    pub(super) body: Arc<Body>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.blocks.unpin(&self.body);
    }
}

impl CachedVersion {
    pub(super) fn new(pin: Pin) -> CachedVersion {
        CachedVersion(Arc::new(pin))
    }

    /// Bytes of the content, fewer than `len` only at its end; `None` if a block of the range is not there
    /// or was damaged (it is missing from then on).
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        let left = self.size().saturating_sub(offset);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        let bytes = if len == 0 { Some(Bytes::new()) } else { self.0.read(offset, len) };
        self.0.blocks.counters.hits.fetch_add(u64::from(bytes.is_some()), Ordering::Relaxed);
        Ok(bytes)
    }

    /// The blocks of a range that are not there, in order.
    pub fn missing(&self, offset: u64, len: u64) -> Vec<u64> {
        let end = offset.saturating_add(len).min(self.size());
        if offset >= end {
            return Vec::new();
        }
        self.0.body.table.missing(offset / BLOCK_BYTES..block_count(end))
    }

    /// Takes a whole block in. `expected` is what its CRC-32 has to be, where that is known. A block that
    /// finds no room is kept in memory for a while; that is no error.
    pub fn insert(&self, block: u64, data: Bytes, expected: Option<u32>) -> io::Result<()> {
        let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if data.len() as u64 != block_len(self.size(), block) || data.is_empty() {
            return invalid("a block has not the length that its place asks for");
        }
        let sum = crc32fast::hash(&data);
        if expected.is_some_and(|expected| expected != sum) {
            return invalid("a block has not the checksum that was expected");
        }
        if self.0.is_ready(block) {
            return Ok(());
        }
        self.0.insert(block, &data, sum)
    }

    /// The bytes of a block: those that are there, else those that `fetch` brings, which are then taken in.
    /// Of several callers one runs its `fetch` and all get its bytes. If it fails or its future is dropped
    /// the next one runs its own. `fetch` checks what it brings; bytes of a wrong length are given to its
    /// own caller only.
    pub async fn fetch<F, Fut, E>(&self, block: u64, fetch: F) -> Result<Bytes, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Bytes, E>>,
    {
        let seat = Seat::take(&self.0.body.flights, block);
        let turn = match seat.turn().await {
            Turn::Landed(bytes) => return Ok(bytes),
            Turn::Mine(turn) => turn,
        };
        if let Some(bytes) = self.stored(block).await {
            self.0.blocks.counters.hits.fetch_add(1, Ordering::Relaxed);
            seat.land(bytes.clone());
            return Ok(bytes);
        }
        self.0.blocks.counters.misses.fetch_add(1, Ordering::Relaxed);
        let bytes = fetch().await?;
        if bytes.len() as u64 == block_len(self.size(), block) {
            seat.land(bytes.clone());
            drop(turn);
            self.store(seat, bytes.clone()).await;
        }
        Ok(bytes)
    }

    /// Whether every block is there and good. Blocks that were not used since the start are read and
    /// checked for that: only then may the kernel read the file itself.
    pub fn is_complete(&self) -> bool {
        let blocks = 0..block_count(self.size());
        self.0.body.table.missing(blocks.clone()).is_empty() && blocks.into_iter().all(|b| self.0.is_ready(b))
    }

    /// Length of the content in bytes.
    pub fn size(&self) -> u64 {
        self.0.body.size
    }

    /// The file itself, as long as the content, with holes where blocks are missing.
    pub fn file(&self) -> &File {
        &self.0.body.data
    }

    async fn stored(&self, block: u64) -> Option<Bytes> {
        if matches!(self.0.body.table.get(block), BlockState::Absent | BlockState::Busy) {
            return self.0.blocks.homeless.find(self.0.body.name, block);
        }
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.0.read_block(block));
        read.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a cached block could not be looked at");
            None
        })
    }

    /// The block is taken in even if the caller goes away meanwhile; until then the seat keeps its bytes
    /// within reach of everybody else.
    async fn store(&self, seat: Seat, bytes: Bytes) {
        let this = self.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let inserted = this.insert(seat.block(), bytes, None);
            drop(seat);
            inserted
        });
        match stored.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a fetched block could not be cached"),
            Err(error) => tracing::error!(%error, "a fetched block could not be cached"),
        }
    }
}

impl Pin {
    fn read(&self, offset: u64, len: usize) -> Option<Bytes> {
        let blocks = offset / BLOCK_BYTES..=(offset + len as u64 - 1) / BLOCK_BYTES;
        if !blocks.clone().all(|block| self.is_ready(block)) {
            return self.read_homeless(blocks, offset, len);
        }
        match disk::read_up_to(&self.body.data, offset, len) {
            Ok(bytes) if bytes.len() == len => Some(bytes),
            Ok(_) | Err(_) => {
                blocks.for_each(|block| self.reject(block));
                None
            }
        }
    }

    fn read_homeless(&self, blocks: std::ops::RangeInclusive<u64>, offset: u64, len: usize) -> Option<Bytes> {
        if blocks.start() != blocks.end() {
            return None;
        }
        let data = self.blocks.homeless.find(self.body.name, *blocks.start())?;
        let start = usize::try_from(offset % BLOCK_BYTES).ok()?;
        Some(data.slice(start..start + len))
    }

    /// Whether a block is there and good; looks at it if this process has not yet.
    fn is_ready(&self, block: u64) -> bool {
        match self.body.table.get(block) {
            BlockState::Good(_) => true,
            BlockState::Absent | BlockState::Busy => false,
            BlockState::Unchecked(_) => self.read_block(block).is_some(),
        }
    }

    /// All bytes of a good block. One that cannot be read, or is not what was written, is dropped.
    fn read_block(&self, block: u64) -> Option<Bytes> {
        let state = self.body.table.get(block);
        let (BlockState::Good(sum) | BlockState::Unchecked(sum)) = state else { return None };
        match self.body.read_block(block) {
            Ok(bytes) if crc32fast::hash(&bytes) == sum => {
                self.body.table.change(block, BlockState::Unchecked(sum), BlockState::Good(sum));
                Some(bytes)
            }
            Ok(_) | Err(_) => {
                self.reject(block);
                None
            }
        }
    }

    /// A block turned out to be damaged.
    fn reject(&self, block: u64) {
        let (body, table) = (&self.body, &self.body.table);
        let state = table.get(block);
        let (BlockState::Good(sum) | BlockState::Unchecked(sum)) = state else { return };
        if !table.change(block, state, BlockState::Busy) {
            return;
        }
        self.blocks.counters.bad_blocks.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(name = %body.name, block, "a cached block was damaged; it is fetched again");
        if let Err(error) = body.clear_block(&self.blocks.dir, block, sum) {
            tracing::warn!(name = %body.name, block, %error, "a damaged block stays in the index");
        }
        self.give_back(block);
        table.change(block, BlockState::Busy, BlockState::Absent);
    }

    fn insert(&self, block: u64, data: &Bytes, sum: u32) -> io::Result<()> {
        let (body, table) = (&self.body, &self.body.table);
        if !table.change(block, BlockState::Absent, BlockState::Busy) {
            // Somebody else brings the same bytes in.
            return Ok(());
        }
        let result = self.write_admitted(block, data, sum);
        let state = if matches!(result, Ok(true)) { BlockState::Good(sum) } else { BlockState::Absent };
        if state == BlockState::Absent {
            self.blocks.homeless.keep(body.name, block, data.clone());
        }
        table.change(block, BlockState::Busy, state);
        result.map(drop)
    }

    /// -> whether there was room.
    fn write_admitted(&self, block: u64, data: &[u8], sum: u32) -> io::Result<bool> {
        let (body, blocks) = (&self.body, &self.blocks);
        let len = data.len() as u64;
        if !blocks.admit(body.name, disk_cost(len))? {
            return Ok(false);
        }
        let mut written = body.write_block(&blocks.dir, block, data, sum);
        if written.as_ref().is_err_and(disk::is_full) && blocks.free_disk(len) > 0 {
            written = body.write_block(&blocks.dir, block, data, sum);
        }
        let Err(error) = written else { return Ok(true) };
        // Whatever part of it was written is not to take room that nobody counts.
        disk::punch(&body.data, block * BLOCK_BYTES, len)?;
        self.give_back(block);
        if disk::is_full(&error) { Ok(false) } else { Err(error) }
    }

    fn give_back(&self, block: u64) {
        let bytes = disk_cost(block_len(self.body.size, block));
        self.blocks.registry.lock().give_back(self.body.name, bytes);
    }
}
