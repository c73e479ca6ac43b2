use std::collections::BTreeMap;

/// Nanoseconds since 1970-01-01 UTC; negative before.
pub type NanoTime = i64;

/// The number of a device, in the kernel's 32-bit form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device(pub u32);

/// What kind of node it is. All but directories are one object; what is neither a file nor a symbolic link
/// is an empty one, whose mode says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file: one object.
    File,
    /// A directory: no object; it exists in the ledger or because a key stands below it.
    Directory,
    /// A symbolic link: an object whose content is the target.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
}

impl Kind {
    /// The `S_IFMT` bits of this kind.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Kind::File => 0o100_000,
            Kind::Directory => 0o040_000,
            Kind::Symlink => 0o120_000,
            Kind::Fifo => 0o010_000,
            Kind::Socket => 0o140_000,
            Kind::CharDevice(_) => 0o020_000,
            Kind::BlockDevice(_) => 0o060_000,
        }
    }

    /// The kind that the `S_IFMT` bits of `mode` say, if they say one; `device` is that of a device node.
    pub const fn from_mode(mode: u32, device: Device) -> Option<Kind> {
        match mode & 0o170_000 {
            0o100_000 => Some(Kind::File),
            0o040_000 => Some(Kind::Directory),
            0o120_000 => Some(Kind::Symlink),
            0o010_000 => Some(Kind::Fifo),
            0o140_000 => Some(Kind::Socket),
            0o020_000 => Some(Kind::CharDevice(device)),
            0o060_000 => Some(Kind::BlockDevice(device)),
            _ => None,
        }
    }

    /// The device that a device node names.
    pub const fn device(self) -> Option<Device> {
        match self {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => Some(device),
            Kind::File | Kind::Directory | Kind::Symlink | Kind::Fifo | Kind::Socket => None,
        }
    }

    /// Whether it holds names instead of being an object.
    pub const fn is_directory(self) -> bool {
        matches!(self, Kind::Directory)
    }

    /// Whether it is an object that is complete as soon as it is made, and never changes its content.
    pub const fn is_fixed(self) -> bool {
        !matches!(self, Kind::File | Kind::Directory)
    }
}

/// The mode bits that let a program run with the rights of the file's owner or group.
pub const SET_ID_BITS: u32 = SETUID | SETGID;
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o0010;

/// What a change of a file does to what lets a program run with rights that its caller does not have: the
/// set-ID bits and the attribute [`CAPABILITY`](super::CAPABILITY). Never of a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Privileges {
    /// It stays.
    #[default]
    Keep,
    /// It goes, but for a set-group-ID bit of what the group cannot execute: that one means nothing.
    Drop,
    /// All of it goes: who makes the change is not of the file's group.
    DropAll,
}

impl Privileges {
    /// The permission bits that are left of `mode`.
    pub const fn left_of(self, mode: u32) -> u32 {
        match self {
            Privileges::Keep => mode,
            Privileges::Drop if mode & GROUP_EXECUTES == 0 => mode & !SETUID,
            Privileges::Drop | Privileges::DropAll => mode & !SET_ID_BITS,
        }
    }
}

/// The POSIX attributes that are written into an object's metadata, so that a lost ledger can be
/// rebuilt from the stores. The names (`mode`, `uid`, `gid`, `mtime`) are those of rclone and s3fs, the forms
/// rclone's: s3fs writes `mode` in decimal, which is understood too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attrs {
    /// Permission bits, without the kind: `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of content.
    pub mtime: NanoTime,
}

impl Attrs {
    /// As metadata names and values: all ASCII, names `[a-z][a-z0-9_]*`. `mode` is octal with the
    /// kind's bits (`100644`), `mtime` is seconds with nine decimals, `rdev` of a device node hexadecimal.
    pub fn to_metadata(self, kind: Kind) -> BTreeMap<String, String> {
        let sign = if self.mtime < 0 { "-" } else { "" };
        let seconds = self.mtime.unsigned_abs() / 1_000_000_000;
        let nanos = self.mtime.unsigned_abs() % 1_000_000_000;
        let mut metadata = BTreeMap::from([
            ("mode".to_owned(), format!("{:o}", self.mode | kind.mode_bits())),
            ("uid".to_owned(), self.uid.to_string()),
            ("gid".to_owned(), self.gid.to_string()),
            ("mtime".to_owned(), format!("{sign}{seconds}.{nanos:09}")),
        ]);
        metadata.extend(kind.device().map(|device| ("rdev".to_owned(), format!("{:x}", device.0))));
        metadata
    }

    /// Reads what this or another tool wrote. A field that is missing or makes no sense is taken from
    /// `default`; the kind is `None` where the mode does not tell it.
    pub fn from_metadata(metadata: &BTreeMap<String, String>, default: Attrs) -> (Attrs, Option<Kind>) {
        let number = |name: &str, radix: u32| u32::from_str_radix(metadata.get(name)?, radix).ok();
        let mode = metadata.get("mode").and_then(|raw| parse_mode(raw));
        // The largest number is nobody: the kernel keeps it for "no such owner" and refuses it.
        let owner = |name: &str| number(name, 10).filter(|id| *id != u32::MAX);
        let attrs = Attrs {
            mode: mode.map_or(default.mode, |m| m & 0o7777),
            uid: owner("uid").unwrap_or(default.uid),
            gid: owner("gid").unwrap_or(default.gid),
            mtime: metadata.get("mtime").and_then(|raw| parse_mtime(raw)).unwrap_or(default.mtime),
        };
        let device = Device(number("rdev", 16).unwrap_or(0));
        (attrs, mode.and_then(|mode| Kind::from_mode(mode, device)))
    }
}

/// What `readlink` needs, 0777 with the kind of a symbolic link, as s3fs writes it. In octal it would be a directory.
const SYMLINK_OF_S3FS: &str = "41471";

/// Permission bits and kind in octal, as rclone and we write them, or in decimal, as s3fs does. It is octal if that gives
/// a kind or is too short to have one, so a decimal number is taken for what it is unless nobody could tell.
fn parse_mode(raw: &str) -> Option<u32> {
    let has_kind = |mode: &u32| *mode <= 0o177_777 && Kind::from_mode(*mode, Device(0)).is_some();
    let octal = u32::from_str_radix(raw, 8).ok().filter(|_| raw != SYMLINK_OF_S3FS);
    let decimal = raw.parse().ok().filter(has_kind);
    octal.filter(|mode| *mode <= 0o7777 || has_kind(mode)).or(decimal)
}

/// Seconds with an optional fraction, as s3fs, rclone and we write it.
fn parse_mtime(raw: &str) -> Option<NanoTime> {
    let (sign, magnitude) = raw.strip_prefix('-').map_or((1, raw), |magnitude| (-1, magnitude));
    let (seconds, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    if !seconds.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{fraction:0<9}");
    let nanos: i64 = digits.get(..9)?.parse().ok()?;
    Some(sign * seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?)
}

#[cfg(test)]
mod tests {
    use super::{Attrs, Device, Kind, Privileges, parse_mtime};

    const DEFAULT: Attrs = Attrs { mode: 0o644, uid: 1, gid: 2, mtime: 3 };

    #[test]
    fn metadata_round_trip() {
        for mtime in [0, 1, -1, 1_700_000_000_123_456_789, -1_500_000_000, i64::MAX] {
            let attrs = Attrs { mode: 0o4755, uid: 0, gid: 65534, mtime };
            for kind in [Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDevice(Device(0x0103))] {
                let written = attrs.to_metadata(kind);
                assert_eq!(Attrs::from_metadata(&written, DEFAULT), (attrs, Some(kind)));
            }
        }
    }

    #[test]
    fn the_mode_is_understood_in_octal_and_as_s3fs_writes_it() {
        let table = [
            ("100644", 0o644, Some(Kind::File)),
            ("0100664", 0o664, Some(Kind::File)),
            ("755", 0o755, None),
            ("4755", 0o4755, None),
            ("40755", 0o755, Some(Kind::Directory)),
            ("120777", 0o777, Some(Kind::Symlink)),
            ("33152", 0o600, Some(Kind::File)),
            ("33184", 0o640, Some(Kind::File)),
            ("33188", 0o644, Some(Kind::File)),
            ("33261", 0o755, Some(Kind::File)),
            ("16877", 0o755, Some(Kind::Directory)),
            ("41471", 0o777, Some(Kind::Symlink)),
            ("31152", DEFAULT.mode, None),
            ("99999999", DEFAULT.mode, None),
            ("rw-r--r--", DEFAULT.mode, None),
        ];
        for (raw, mode, kind) in table {
            let metadata = [("mode".to_owned(), raw.to_owned())].into();
            let (attrs, found) = Attrs::from_metadata(&metadata, DEFAULT);
            assert_eq!((attrs.mode, found), (mode, kind), "{raw}");
        }
    }

    #[test]
    fn nobody_owns_what_says_that_minus_one_does() {
        let minus_one = u32::MAX.to_string();
        let metadata = [("uid".to_owned(), minus_one.clone()), ("gid".to_owned(), minus_one)].into();
        assert_eq!(Attrs::from_metadata(&metadata, DEFAULT).0, DEFAULT);
    }

    #[test]
    fn set_id_bits_go_as_posix_says() {
        let table = [
            (Privileges::Keep, 0o6755, 0o6755),
            (Privileges::Drop, 0o6755, 0o755),
            (Privileges::Drop, 0o6745, 0o2745),
            (Privileges::DropAll, 0o6745, 0o745),
            (Privileges::Drop, 0o1777, 0o1777),
        ];
        for (privileges, mode, left) in table {
            assert_eq!(privileges.left_of(mode), left, "{privileges:?} of {mode:o}");
        }
    }

    #[test]
    fn what_others_wrote() {
        let table = [
            ("12", Some(12_000_000_000)),
            ("-0.5", Some(-500_000_000)),
            ("x", None),
            ("--1", None),
            ("1.x", None),
        ];
        for (raw, nanos) in table {
            assert_eq!(parse_mtime(raw), nanos, "{raw}");
        }
        let nonsense = [("mode".to_owned(), "rwx".to_owned())].into();
        assert_eq!(Attrs::from_metadata(&nonsense, DEFAULT), (DEFAULT, None));
    }
}
