//! The body of a download: exactly the promised bytes, or an error; never a silent end.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::client::HttpError;

use super::answer::Answer;
use super::failure;
use crate::clock;
use crate::object::Key;
use crate::store::{Body, ByteRange, ErrorKind, StoreError, StoreResult};

/// Checks the header of a GET: that it is the range that was asked for. Returns the size of the object
/// and the count of bytes that must follow.
pub(super) fn check_range(answer: &Answer, range: ByteRange) -> StoreResult<(u64, u64)> {
    let corrupt = |detail: &str| answer.error(ErrorKind::Corrupt, detail);
    let promised = answer.content_length();
    let (size, body_bytes) = match range {
        ByteRange::All => {
            if answer.status() != http::StatusCode::OK {
                return Err(corrupt("a part was sent although all was asked for"));
            }
            let size = promised.ok_or_else(|| corrupt("the answer does not say its length"))?;
            (size, size)
        }
        ByteRange::Part { start, len } => {
            if answer.status() != http::StatusCode::PARTIAL_CONTENT {
                return Err(corrupt("all was sent although a part was asked for"));
            }
            let sent = answer.header("content-range").and_then(parse_content_range);
            let (first, last, size) =
                sent.ok_or_else(|| corrupt("the answer does not say which part it is"))?;
            if first != start || last.checked_sub(first).and_then(|n| n.checked_add(1)) != Some(len) {
                return Err(corrupt(&format!("bytes {first} to {last} were sent, not {len} from {start}")));
            }
            (size, len)
        }
    };
    if promised.is_some_and(|promised| promised != body_bytes) {
        return Err(corrupt("the length of the answer is not that of the part"));
    }
    Ok((size, body_bytes))
}

/// `bytes 0-499/1234`: first, last, size.
fn parse_content_range(raw: &str) -> Option<(u64, u64, u64)> {
    let (range, size) = raw.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, size.parse().ok()?))
}

/// The `Range` header for a part; none for all.
pub(super) fn range_header(range: ByteRange) -> Option<String> {
    match range {
        ByteRange::All => None,
        ByteRange::Part { start, len } => {
            Some(format!("bytes={start}-{}", start.saturating_add(len).saturating_sub(1)))
        }
    }
}

/// What the whole body must come to, where the store vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Only its length is known.
    LengthOnly,
    /// CRC-32 (IEEE) of all bytes.
    Crc32(u32),
}

/// The bytes of `answer`, `body_bytes` of them.
pub(super) fn body(answer: Answer, key: &Key, body_bytes: u64, proof: Proof, stall: Duration) -> Body {
    let state = Reading {
        chunks: answer.into_body().bytes_stream(),
        key: key.clone(),
        missing: body_bytes,
        checksum: crc32fast::Hasher::new(),
        proof,
        stall,
    };
    // After an error or the end there is nothing more: `unfold` gets no state to go on with.
    let steps = stream::unfold(Some(state), |state| async move { step(state?).await });
    steps.boxed()
}

struct Reading {
    chunks: BoxStream<'static, Result<Bytes, HttpError>>,
    key: Key,
    missing: u64,
    checksum: crc32fast::Hasher,
    proof: Proof,
    stall: Duration,
}

async fn step(mut reading: Reading) -> Option<(StoreResult<Bytes>, Option<Reading>)> {
    match reading.next().await {
        Ok(Some(chunk)) => Some((Ok(chunk), Some(reading))),
        Ok(None) => None,
        Err(error) => Some((Err(error.on(&reading.key)), None)),
    }
}

impl Reading {
    async fn next(&mut self) -> StoreResult<Option<Bytes>> {
        let Ok(next) = clock::timeout(self.stall, self.chunks.next()).await else {
            let detail = format!("the download stalled for {:?}", self.stall);
            return Err(StoreError::new(ErrorKind::Unavailable, "get", detail));
        };
        let Some(chunk) = next.transpose().map_err(|error| failure::broken("get", error))? else {
            return self.finish().map(|()| None);
        };
        let Some(missing) = self.missing.checked_sub(chunk.len() as u64) else {
            return Err(corrupt("more bytes were sent than promised".to_owned()));
        };
        self.missing = missing;
        if self.proof != Proof::LengthOnly {
            self.checksum.update(&chunk);
        }
        Ok(Some(chunk))
    }

    fn finish(&mut self) -> StoreResult<()> {
        if self.missing > 0 {
            return Err(corrupt(format!("the download ended {} bytes early", self.missing)));
        }
        let sum = std::mem::take(&mut self.checksum).finalize();
        match self.proof {
            Proof::Crc32(promised) if promised != sum => {
                Err(corrupt(format!("the bytes have CRC-32 {sum:08x}, the store promised {promised:08x}")))
            }
            Proof::LengthOnly | Proof::Crc32(_) => Ok(()),
        }
    }
}

fn corrupt(detail: String) -> StoreError {
    StoreError::new(ErrorKind::Corrupt, "get", detail)
}

#[cfg(test)]
mod tests {
    use super::{parse_content_range, range_header};
    use crate::store::ByteRange;

    #[test]
    fn ranges_are_inclusive_on_the_wire() {
        assert_eq!(range_header(ByteRange::Part { start: 5, len: 1 }).as_deref(), Some("bytes=5-5"));
        assert_eq!(range_header(ByteRange::All), None);
        assert_eq!(parse_content_range("bytes 5-5/9"), Some((5, 5, 9)));
        for nonsense in ["bytes */9", "bytes 5-5/*", "5-5/9", "bytes 5/9"] {
            assert_eq!(parse_content_range(nonsense), None, "{nonsense}");
        }
    }
}
