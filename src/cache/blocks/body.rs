//! The open files of a version in use.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::flight::Flights;
use super::index::IndexFile;
use super::names::{Name, block_count, block_len, has_index};
use super::registry::Idle;
use super::table::{BlockState, Table};
use crate::cache::disk;
use crate::object::BLOCK_BYTES;

/// A version in use, shared by all who pinned it.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) name: Name,
    pub(super) size: u64,
    pub(super) table: Arc<Table>,
    pub(super) data: File,
    /// None where the name of the file is the index.
    index: Option<IndexFile>,
    pub(super) flights: Arc<Flights>,
}

/// A body, and the count of damaged entries in its index.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) body: Body,
    pub(super) damaged: u64,
}

impl Body {
    fn new(name: Name, size: u64, table: Arc<Table>, data: File, index: Option<IndexFile>) -> Body {
        Body { name, size, table, data, index, flights: Arc::default() }
    }

    /// An empty version. Files that are in the way are not of use: nobody knows of them.
    pub(super) fn create(blocks: &Path, name: Name, size: u64) -> io::Result<Body> {
        name.make_shard(blocks)?;
        let data = disk::create_empty(&name.data_path(blocks, None))?;
        data.set_len(size)?;
        let index = match has_index(size) {
            true => Some(IndexFile::create(&name.index_path(blocks), name, size)?),
            false => None,
        };
        let count = usize::try_from(block_count(size)).map_err(io::Error::other)?;
        let table = Table::new(vec![BlockState::Absent; count]);
        Ok(Body::new(name, size, Arc::new(table), data, index))
    }

    /// A version that is said to be there; `None` if its files are not what they are said to be.
    pub(super) fn open(blocks: &Path, name: Name, size: u64, idle: &Idle) -> io::Result<Option<Opened>> {
        let Some(data) = if_there(disk::open_existing(&name.data_path(blocks, idle.sum)))? else {
            return Ok(None);
        };
        if data.metadata()?.len() != size {
            return Ok(None);
        }
        if !has_index(size) {
            let Some(sum) = idle.sum else { return Ok(None) };
            let states = vec![BlockState::Unchecked(sum)];
            let table = idle.table.clone().unwrap_or_else(|| Arc::new(Table::new(states)));
            return Ok(Some(Opened { body: Body::new(name, size, table, data, None), damaged: 0 }));
        }
        let Some(Some(index)) = if_there(IndexFile::open(&name.index_path(blocks), name, size))? else {
            return Ok(None);
        };
        let (table, damaged) = match &idle.table {
            Some(table) => (Arc::clone(table), 0),
            None => {
                let loaded = index.load(size)?;
                (Arc::new(Table::new(loaded.states)), loaded.damaged)
            }
        };
        Ok(Some(Opened { body: Body::new(name, size, table, data, Some(index)), damaged }))
    }

    /// What is remembered when nobody uses it any more.
    pub(super) fn to_idle(&self) -> Idle {
        let first = self.table.present().first().map(|(_, sum)| *sum);
        let sum = if self.index.is_none() { first } else { None };
        Idle { sum, table: Some(Arc::clone(&self.table)) }
    }

    /// All bytes of a block, as they are on the disk.
    pub(super) fn read_block(&self, block: u64) -> io::Result<Bytes> {
        let len = usize::try_from(block_len(self.size, block)).map_err(io::Error::other)?;
        disk::read_up_to(&self.data, block * BLOCK_BYTES, len)
    }

    /// Writes a block and only then says that it is there. The caller has its state `Busy`.
    pub(super) fn write_block(&self, blocks: &Path, block: u64, data: &[u8], sum: u32) -> io::Result<()> {
        self.data.write_all_at(data, block * BLOCK_BYTES)?;
        match &self.index {
            Some(index) => index.set(block, sum),
            None => fs::rename(self.name.data_path(blocks, None), self.name.data_path(blocks, Some(sum))),
        }
    }

    /// Says that a block is not there. The caller has its state `Busy`; it had this checksum.
    pub(super) fn clear_block(&self, blocks: &Path, block: u64, sum: u32) -> io::Result<()> {
        match &self.index {
            Some(index) => index.clear(block),
            None => fs::rename(self.name.data_path(blocks, Some(sum)), self.name.data_path(blocks, None)),
        }
    }
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
