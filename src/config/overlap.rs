//! Which stores and folders must not be one another or lie inside one another. Each of these mistakes
//! destroys data without any error: that is why they are refused before anything is opened.

use std::path::{Path, PathBuf};

use super::options::StoreOptions;
use super::store::{Location, StoreConfig};

/// Why `a` and `b` cannot be the two sides of a bridge, if they cannot.
pub(super) fn between_stores(a: &StoreConfig, b: &StoreConfig) -> Option<String> {
    let same = |what: &str| {
        format!(
            "\"{}\" and \"{}\" are {what}: a deletion or a repair on one side would destroy the other side's \
             copy, and nothing would be left; name two different places",
            a.name, b.name
        )
    };
    match (&a.location, &b.location) {
        (Location::Folder(a), Location::Folder(b)) => {
            let (a, b) = (resolve(a), resolve(b));
            (nested(&a, &b))
                .then(|| same(if a == b { "the same folder" } else { "folders inside one another" }))
        }
        (
            Location::Remote { provider: pa, bucket: ba, prefix: xa },
            Location::Remote { provider: pb, bucket: bb, prefix: xb },
        ) => {
            let one_bucket = pa == pb && ba == bb && endpoint(&a.options) == endpoint(&b.options);
            let overlap = one_bucket && nested(Path::new(xa), Path::new(xb));
            overlap
                .then(|| same(if xa == xb { "the same store" } else { "overlapping prefixes of one bucket" }))
        }
        (Location::Folder(_) | Location::Remote { .. } | Location::Memory, _) => None,
    }
}

/// Why a folder of the bridge's own (`what` at `own`) cannot be where it is beside `store`.
pub(super) fn with_own_folder(store: &StoreConfig, what: &str, own: &Path) -> Option<String> {
    let Location::Folder(root) = &store.location else { return None };
    nested(&resolve(root), &resolve(own)).then(|| {
        format!(
            "{what} {} and the folder of store \"{}\" ({}) are inside one another: the bridge's own files would \
             become objects, be copied and be deleted; use a folder of its own",
            own.display(),
            store.name,
            root.display()
        )
    })
}

/// Whether one of the two is the other, or lies in it.
pub(super) fn nested(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// The path with links resolved as far as it exists, so that two names of one folder are found out.
pub(super) fn resolve(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(real) = existing.canonicalize() {
            return missing.iter().rev().fold(real, |path: PathBuf, name| path.join(name));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                existing = parent;
            }
            _ => return path.to_owned(),
        }
    }
}

/// What tells two buckets of one name apart: the server and the account.
fn endpoint(options: &StoreOptions) -> String {
    let tells = |name: &str| {
        let server = ["endpoint", "endpoint_url", "endpoint_url_s3", "base_url", "account_name"];
        let other = ["metadata_endpoint", "msi_endpoint"];
        server.iter().any(|ending| name.ends_with(ending))
            && !other.iter().any(|ending| name.ends_with(ending))
    };
    let parts = options.iter().filter(|(name, _)| tells(name)).map(|(_, value)| value.trim_end_matches('/'));
    parts.collect::<Vec<_>>().join(" ").to_lowercase().replace("localhost", "127.0.0.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sibling_with_a_longer_name_is_not_inside() {
        assert!(nested(Path::new("/a/b"), Path::new("/a")));
        assert!(!nested(Path::new("/a/bc"), Path::new("/a/b")));
        assert!(nested(Path::new(""), Path::new("x")), "the whole bucket holds every prefix");
    }

    #[test]
    fn a_link_to_the_same_folder_is_found_out() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).expect("a link");
        assert_eq!(resolve(&link.join("not/there")), resolve(&dir.path().join("not/there")));
    }
}
