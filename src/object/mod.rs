//! The names of things in a store. Pure: no I/O, no clock.

mod attrs;
mod digest;
mod etag;
mod key;
mod receipt;
mod side;
mod version;
mod xattrs;

pub use attrs::{Attrs, Device, Kind, NanoTime, Privileges, SET_ID_BITS};
pub use digest::{BLOCK_BYTES, ContentDigest, ContentHasher, Digest};
pub use etag::ETag;
pub use key::{Key, KeyError, OWN_PREFIX};
pub use receipt::{OpId, Receipt};
pub use side::{PerSide, Side};
pub use version::{Ino, LinkId, Position, Version};
pub use xattrs::{CAPABILITY, NotXattrs, XATTRS_ENTRY, XattrMode, XattrName, XattrRefusal, Xattrs};
