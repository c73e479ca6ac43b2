use std::fmt;

/// The block of the cache and of the block checksums, in bytes.
pub const BLOCK_BYTES: u64 = 1 << 20;

/// BLAKE3 of a whole content: our own proof of equality, in the ledger and in the object's metadata.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Digest {
        Digest(*blake3::hash(content).as_bytes())
    }

    /// Lower-case hexadecimal, 64 characters.
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// Reads what [`Digest::to_hex`] wrote.
    pub fn from_hex(hex: &str) -> Option<Digest> {
        Some(Digest(*blake3::Hash::from_hex(hex).ok()?.as_bytes()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// What is known of a content after one pass over it: its digest and the CRC-32 (IEEE) of each block of
/// [`BLOCK_BYTES`], so that a part of it can be checked without the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest {
    /// Length in bytes.
    pub size: u64,
    /// Digest of the whole.
    pub digest: Digest,
    /// CRC-32 of each block, in order; the last block may be short.
    pub block_sums: Box<[u32]>,
}

impl ContentDigest {
    /// One pass over a content in memory.
    pub fn of(content: &[u8]) -> ContentDigest {
        let mut hasher = ContentHasher::default();
        hasher.update(content);
        hasher.finish()
    }
}

/// What holes read as.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Computes a [`ContentDigest`] from pieces of any length, in order.
#[derive(Debug, Default)]
pub struct ContentHasher {
    size: u64,
    whole: blake3::Hasher,
    block: crc32fast::Hasher,
    block_sums: Vec<u32>,
}

impl ContentHasher {
    /// Adds the next piece.
    pub fn update(&mut self, mut piece: &[u8]) {
        self.whole.update(piece);
        while !piece.is_empty() {
            let room = BLOCK_BYTES - self.size % BLOCK_BYTES;
            let take = piece.len().min(usize::try_from(room).expect("a block fits in memory"));
            let (head, rest) = piece.split_at(take);
            self.block.update(head);
            self.size += take as u64;
            if self.size.is_multiple_of(BLOCK_BYTES) {
                self.close_block();
            }
            piece = rest;
        }
    }

    /// Adds so many zero bytes.
    pub fn update_zeros(&mut self, mut len: u64) {
        while len > 0 {
            let take = len.min(ZEROS.len() as u64);
            self.update(&ZEROS[..usize::try_from(take).expect("no longer than the buffer")]);
            len -= take;
        }
    }

    /// The digest of all that was added.
    pub fn finish(mut self) -> ContentDigest {
        if !self.size.is_multiple_of(BLOCK_BYTES) {
            self.close_block();
        }
        ContentDigest {
            size: self.size,
            digest: Digest(*self.whole.finalize().as_bytes()),
            block_sums: self.block_sums.into(),
        }
    }

    fn close_block(&mut self) {
        self.block_sums.push(std::mem::take(&mut self.block).finalize());
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, ContentDigest, ContentHasher, Digest};

    #[test]
    fn pieces_do_not_matter() {
        let block = usize::try_from(BLOCK_BYTES).expect("fits");
        for size in [0, 1, block - 1, block, block + 1, 2 * block + 7] {
            let content: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).expect("small")).collect();
            let mut hasher = ContentHasher::default();
            content.chunks(4093).for_each(|piece| hasher.update(piece));
            let digest = hasher.finish();
            assert_eq!(digest, ContentDigest::of(&content));
            assert_eq!(digest.block_sums.len(), size.div_ceil(block));
            assert_eq!(digest.digest, Digest::of(&content));
            let mut hasher = ContentHasher::default();
            hasher.update(&content);
            hasher.update_zeros(size as u64 + 1);
            let longer = [content.clone(), vec![0; size + 1]].concat();
            assert_eq!(hasher.finish(), ContentDigest::of(&longer));
            assert_eq!(Digest::from_hex(&digest.digest.to_hex()), Some(digest.digest));
        }
    }
}
