//! Extended attributes: sizes and flags as the kernel speaks of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, INodeNo, ReplyEmpty, ReplyXattr, Request};

use super::ops::{Adapter, caller};
use crate::fs::Fs;
use crate::object::{Ino, XattrMode};

/// What the kernel is told: how long it is, or the bytes.
enum Answer {
    Size(u32),
    Bytes(Box<[u8]>),
}

impl Answer {
    /// A buffer of no bytes asks for the length.
    fn to(buffer: u32, bytes: Box<[u8]>) -> Result<Answer, Errno> {
        match u32::try_from(bytes.len()) {
            Ok(size) if buffer == 0 => Ok(Answer::Size(size)),
            Ok(size) if size <= buffer => Ok(Answer::Bytes(bytes)),
            Ok(_) | Err(_) => Err(Errno::ERANGE),
        }
    }

    fn send(self, reply: ReplyXattr) {
        match self {
            Answer::Size(size) => reply.size(size),
            Answer::Bytes(bytes) => reply.data(&bytes),
        }
    }
}

/// How to set it. With both flags at once it must be there and must not: nothing succeeds.
async fn mode(fs: &Fs, ino: Ino, name: &[u8], flags: i32) -> Result<XattrMode, Errno> {
    const BOTH: i32 = libc::XATTR_CREATE | libc::XATTR_REPLACE;
    match flags {
        0 => Ok(XattrMode::Set),
        libc::XATTR_CREATE => Ok(XattrMode::Create),
        libc::XATTR_REPLACE => Ok(XattrMode::Replace),
        BOTH => fs.getxattr(ino, name).await.map_or_else(|error| Err(error.into()), |_| Err(Errno::EEXIST)),
        _ => Err(Errno::EINVAL),
    }
}

impl Adapter {
    pub(super) fn get_xattr(&self, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (fs, name) = (self.fs(), Box::<[u8]>::from(name.as_bytes()));
        let work = async move { Answer::to(size, fs.getxattr(Ino(ino.0), &name).await?) };
        self.serve("getxattr", reply, work, |reply, answer| answer.send(reply));
    }

    pub(super) fn list_xattrs(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let (fs, caller) = (self.fs(), caller(request, 0));
        let work = async move { Answer::to(size, fs.listxattr(Ino(ino.0), caller).await?.into()) };
        self.serve("listxattr", reply, work, |reply, answer| answer.send(reply));
    }

    pub(super) fn set_xattr(&self, ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, reply: ReplyEmpty) {
        let (fs, name, value) = (self.fs(), Box::<[u8]>::from(name.as_bytes()), Box::<[u8]>::from(value));
        let work = async move {
            let mode = mode(&fs, Ino(ino.0), &name, flags).await?;
            Ok(fs.setxattr(Ino(ino.0), &name, &value, mode).await?)
        };
        self.serve("setxattr", reply, work, |reply, ()| reply.ok());
    }

    pub(super) fn remove_xattr(&self, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (self.fs(), Box::<[u8]>::from(name.as_bytes()));
        let work = async move { Ok(fs.removexattr(Ino(ino.0), &name).await?) };
        self.serve("removexattr", reply, work, |reply, ()| reply.ok());
    }
}
