//! Uploads in parts: a directory each under `.bridgefs/uploads`, a file each part. The name of a part holds its
//! receipt's tag, so that of a part that was sent twice the one is taken whose receipt is given.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::call::Call;
use super::path::{open_directory, open_file};
use super::root::OpenRoot;
use super::write::TempFile;
use crate::object::Key;
use crate::store::{ErrorKind, PartReceipt, StoreResult, UploadId};

/// The file that says which key an upload is for.
const KEY: &str = "key";

/// Begins an upload.
pub(super) fn start(call: &Call, root: &OpenRoot, key: &Key) -> StoreResult<UploadId> {
    let id = format!("{:032x}", rand::random::<u128>());
    let uploads = root.uploads(call)?;
    let failed = |error: Errno| call.io("making the upload's directory", error);
    mkdirat(&uploads, id.as_str(), Mode::from_bits_truncate(0o700)).map_err(failed)?;
    let directory = open_directory(&uploads, &id).map_err(failed)?;
    let note = |file: &mut File| {
        file.write_all(key.as_str().as_bytes()).map_err(|error| call.io("noting the upload's key", error))
    };
    TempFile::write(call, root, None, note)?.move_to(call, &directory, KEY)?;
    fsync(&directory).and_then(|()| fsync(&uploads)).map_err(failed)?;
    Ok(UploadId(id))
}

/// The directory of an upload of `key`.
fn open(call: &Call, root: &OpenRoot, key: &Key, id: &UploadId) -> StoreResult<OwnedFd> {
    let missing = || call.fail(ErrorKind::NotFound, "no such upload");
    if !is_ours(&id.0) {
        return Err(missing());
    }
    let directory = match open_directory(&root.uploads(call)?, &id.0) {
        Ok(directory) => directory,
        Err(Errno::ENOENT) => return Err(missing()),
        Err(error) => return Err(call.io("opening the upload", error)),
    };
    let mut noted = String::new();
    let mut note = open_file(&directory, KEY)
        .map_err(|error| call.io("opening the upload", error))?
        .ok_or_else(missing)?;
    note.read_to_string(&mut noted).map_err(|error| call.io("reading the upload's key", error))?;
    if noted == key.as_str() { Ok(directory) } else { Err(missing()) }
}

/// Whether `raw` is a name that we gave: nothing else may become a part of a path.
fn is_ours(raw: &str) -> bool {
    raw.len() == 32 && raw.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Keeps a part.
pub(super) fn put_part(
    call: &Call,
    root: &OpenRoot,
    (key, id): (&Key, &UploadId),
    number: u32,
    body: &[u8],
) -> StoreResult<PartReceipt> {
    let directory = open(call, root, key, id)?;
    let tag = format!("{:032x}", rand::random::<u128>());
    let fill = |file: &mut File| file.write_all(body).map_err(|error| call.io("writing the part", error));
    let temp = TempFile::write(call, root, None, fill)?;
    temp.move_to(call, &directory, &format!("{number}.{tag}"))?;
    fsync(&directory).map_err(|error| call.io("syncing the upload", error))?;
    Ok(PartReceipt { number, tag })
}

/// Writes the parts one after the other into `whole`.
pub(super) fn assemble(
    call: &Call,
    root: &OpenRoot,
    (key, id): (&Key, &UploadId),
    parts: &[PartReceipt],
    whole: &mut File,
) -> StoreResult<()> {
    let directory = open(call, root, key, id)?;
    for (receipt, number) in parts.iter().zip(1..) {
        let not_that = || {
            let detail = format!("part {number} is not the one that the receipt names");
            call.fail(ErrorKind::PreconditionFailed, detail)
        };
        if receipt.number != number || !is_ours(&receipt.tag) {
            return Err(not_that());
        }
        let part = open_file(&directory, &format!("{number}.{}", receipt.tag));
        let mut part = part.map_err(|error| call.io("opening a part", error))?.ok_or_else(not_that)?;
        io::copy(&mut part, whole).map_err(|error| call.io("joining the parts", error))?;
    }
    Ok(())
}

/// Removes an upload and its parts.
pub(super) fn remove(call: &Call, root: &OpenRoot, key: &Key, id: &UploadId) -> StoreResult<()> {
    open(call, root, key, id)?;
    remove_directory(call, &root.uploads(call)?, &id.0)
}

/// Removes every upload, also one that a crash left without its key.
pub(super) fn remove_all(call: &Call, root: &OpenRoot) -> StoreResult<()> {
    let failed = |error: Errno| call.io("listing the uploads", error);
    let uploads = root.uploads(call)?;
    let mut listing = Dir::from_fd(open_directory(&uploads, ".").map_err(failed)?).map_err(failed)?;
    for entry in listing.iter() {
        let entry = entry.map_err(failed)?;
        if let Some(id) = entry.file_name().to_str().ok().filter(|name| is_ours(name)) {
            remove_directory(call, &uploads, id)?;
        }
    }
    Ok(())
}

fn remove_directory(call: &Call, uploads: &OwnedFd, id: &str) -> StoreResult<()> {
    let failed = |error: Errno| call.io("removing the upload", error);
    let directory = open_directory(uploads, id).map_err(failed)?;
    let mut listing = Dir::from_fd(open_directory(&directory, ".").map_err(failed)?).map_err(failed)?;
    for entry in listing.iter() {
        match unlinkat(&directory, entry.map_err(failed)?.file_name(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::EISDIR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    unlinkat(uploads, id, UnlinkatFlags::RemoveDir).map_err(failed)
}
