use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::blocking;
use super::call::Call;
use super::record::describe;
use crate::object::ETag;
use crate::store::{Body, ByteRange, ErrorKind, StoreResult};

/// Bytes that one download holds in memory.
const PIECE_BYTES: u64 = 256 << 10;

/// A download under way.
struct Reading {
    call: Call,
    file: Arc<File>,
    etag: ETag,
    at: u64,
    end: u64,
}

/// Where `range` begins and ends in a file of `size` bytes.
pub(super) fn bounds(call: &Call, range: ByteRange, size: u64) -> StoreResult<(u64, u64)> {
    let ByteRange::Part { start, len } = range else { return Ok((0, size)) };
    let end = start.checked_add(len).filter(|end| start < *end && *end <= size);
    let outside = || {
        let detail = format!("{len} bytes from {start} are not within the {size} of the object");
        call.fail(ErrorKind::PreconditionFailed, detail)
    };
    Ok((start, end.ok_or_else(outside)?))
}

/// The bytes between the bounds, a piece at a time. The open file is the state: a put gives the name to another.
pub(super) fn stream(call: Call, file: File, etag: ETag, (at, end): (u64, u64)) -> Body {
    let reading = Reading { call, file: Arc::new(file), etag, at, end };
    let step = |state: Option<Reading>| async move {
        let reading = state.filter(|reading| reading.at < reading.end)?;
        match reading.piece().await {
            Ok((piece, rest)) => Some((Ok(piece), Some(rest))),
            Err(error) => Some((Err(error), None)),
        }
    };
    stream::unfold(Some(reading), step).boxed()
}

impl Reading {
    async fn piece(self) -> StoreResult<(Bytes, Reading)> {
        let call = self.call.clone();
        blocking(&call, move || self.read()).await
    }

    fn read(mut self) -> StoreResult<(Bytes, Reading)> {
        let len = PIECE_BYTES.min(self.end - self.at);
        let mut piece = vec![0; usize::try_from(len).expect("a piece fits in memory")];
        self.file.read_exact_at(&mut piece, self.at).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                let detail = "the file was cut by another program while it was read";
                return self.call.fail(ErrorKind::Corrupt, detail);
            }
            self.call.io("reading the content", error)
        })?;
        self.at += len;
        if self.at == self.end {
            self.check_unchanged()?;
        }
        Ok((piece.into(), self))
    }

    /// Another program may have written into the very file: then the pieces are of different states. Only
    /// our own changes of the metadata give it another id.
    fn check_unchanged(&self) -> StoreResult<()> {
        let id = |etag: &ETag| etag.as_str().split('-').next().map(str::to_owned);
        let now = describe(&self.call, &self.file)?.etag;
        if now != self.etag && id(&now) == id(&self.etag) {
            let detail = "the file was written by another program while it was read";
            return Err(self.call.fail(ErrorKind::Corrupt, detail));
        }
        Ok(())
    }
}
