use std::collections::BTreeMap;

/// Nanoseconds since 1970-01-01 UTC; negative before.
pub type NanoTime = i64;

/// What kind of node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file: one object.
    File,
    /// A directory: no object; it exists in the ledger or because a key stands below it.
    Directory,
    /// A symbolic link: an object whose content is the target.
    Symlink,
}

impl Kind {
    /// The `S_IFMT` bits of this kind.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Kind::File => 0o100_000,
            Kind::Directory => 0o040_000,
            Kind::Symlink => 0o120_000,
        }
    }

    /// The kind that the `S_IFMT` bits of `mode` say, if it is one of ours.
    pub const fn from_mode(mode: u32) -> Option<Kind> {
        match mode & 0o170_000 {
            0o100_000 => Some(Kind::File),
            0o040_000 => Some(Kind::Directory),
            0o120_000 => Some(Kind::Symlink),
            _ => None,
        }
    }
}

/// The POSIX attributes that are written into an object's metadata, so that a lost ledger can be
/// rebuilt from the stores. The names are those that rclone (`mode`, `uid`, `gid`, `mtime`) and s3fs use.
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
    /// kind's bits (`100644`), `mtime` is seconds with nine decimals.
    pub fn to_metadata(self, kind: Kind) -> BTreeMap<String, String> {
        let seconds = self.mtime.div_euclid(1_000_000_000);
        let nanos = self.mtime.rem_euclid(1_000_000_000);
        BTreeMap::from([
            ("mode".to_owned(), format!("{:o}", self.mode | kind.mode_bits())),
            ("uid".to_owned(), self.uid.to_string()),
            ("gid".to_owned(), self.gid.to_string()),
            ("mtime".to_owned(), format!("{seconds}.{nanos:09}")),
        ])
    }

    /// Reads what this or another tool wrote. A field that is missing or makes no sense is taken from
    /// `default`; the kind is `None` where the mode does not tell it.
    pub fn from_metadata(metadata: &BTreeMap<String, String>, default: Attrs) -> (Attrs, Option<Kind>) {
        let number = |name: &str, radix: u32| u32::from_str_radix(metadata.get(name)?, radix).ok();
        let mode = number("mode", 8);
        let attrs = Attrs {
            mode: mode.map_or(default.mode, |m| m & 0o7777),
            uid: number("uid", 10).unwrap_or(default.uid),
            gid: number("gid", 10).unwrap_or(default.gid),
            mtime: metadata.get("mtime").and_then(|raw| parse_mtime(raw)).unwrap_or(default.mtime),
        };
        (attrs, mode.and_then(Kind::from_mode))
    }
}

/// Seconds with an optional fraction, as s3fs, rclone and we write it.
fn parse_mtime(raw: &str) -> Option<NanoTime> {
    let (seconds, fraction) = raw.split_once('.').unwrap_or((raw, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{fraction:0<9}");
    let nanos: i64 = digits.get(..9)?.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::{Attrs, Kind, parse_mtime};

    const DEFAULT: Attrs = Attrs { mode: 0o644, uid: 1, gid: 2, mtime: 3 };

    #[test]
    fn metadata_round_trip() {
        for mtime in [0, 1, -1, 1_700_000_000_123_456_789, -1_500_000_000] {
            let attrs = Attrs { mode: 0o4755, uid: 0, gid: 65534, mtime };
            let written = attrs.to_metadata(Kind::Symlink);
            assert_eq!(Attrs::from_metadata(&written, DEFAULT), (attrs, Some(Kind::Symlink)));
        }
    }

    #[test]
    fn what_others_wrote() {
        let table =
            [("12", Some(12_000_000_000)), ("12.5", Some(12_500_000_000)), ("x", None), ("1.x", None)];
        for (raw, nanos) in table {
            assert_eq!(parse_mtime(raw), nanos, "{raw}");
        }
        let nonsense = [("mode".to_owned(), "rwx".to_owned())].into();
        assert_eq!(Attrs::from_metadata(&nonsense, DEFAULT), (DEFAULT, None));
    }
}
