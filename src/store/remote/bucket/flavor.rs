//! Where the XML API of Google Cloud Storage differs from that of S3: names of headers, and what
//! identifies a state of an object.

use crate::object::ETag;
use crate::store::remote::answer::Answer;
use crate::store::{Condition, ErrorKind, HttpHeader, StoreResult};

/// Whose dialect a bucket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::remote) enum Flavor {
    /// S3 and all that imitate it.
    Aws,
    /// Google Cloud Storage. Its conditions compare generations and ignore ETags, so the generation *is*
    /// our [`ETag`] there.
    Google,
}

/// A header to send.
pub(super) type Header = (&'static str, String);

impl Flavor {
    /// What the names of user metadata start with.
    pub(super) fn meta_prefix(self) -> &'static str {
        match self {
            Flavor::Aws => "x-amz-meta-",
            Flavor::Google => "x-goog-meta-",
        }
    }

    /// The header that makes a write conditional.
    pub(super) fn write_condition(self, condition: &Condition) -> Option<Header> {
        match (self, condition) {
            (_, Condition::Always) => None,
            (Flavor::Aws, Condition::Absent) => Some(("if-none-match", "*".to_owned())),
            (Flavor::Google, Condition::Absent) => Some(("x-goog-if-generation-match", "0".to_owned())),
            (_, Condition::Matches(etag)) => Some(self.state_condition(etag)),
        }
    }

    /// The header that makes a read or a delete conditional.
    pub(super) fn state_condition(self, etag: &ETag) -> Header {
        match self {
            Flavor::Aws => ("if-match", etag.quoted()),
            Flavor::Google => ("x-goog-if-generation-match", generation_of(etag)),
        }
    }

    /// The headers that name the source of a copy (its encoded `/bucket/key`) in exactly one state.
    pub(super) fn copy_source(self, source: String, etag: &ETag) -> [Header; 2] {
        match self {
            Flavor::Aws => [("x-amz-copy-source", source), ("x-amz-copy-source-if-match", etag.quoted())],
            Flavor::Google => [
                ("x-goog-copy-source", source),
                ("x-goog-copy-source-if-generation-match", generation_of(etag)),
            ],
        }
    }

    /// The header that makes a copy take new metadata instead of the source's.
    pub(super) fn replace_metadata(self) -> Header {
        let name = match self {
            Flavor::Aws => "x-amz-metadata-directive",
            Flavor::Google => "x-goog-metadata-directive",
        };
        (name, "REPLACE".to_owned())
    }

    /// Whether an object can have the header. Google has no `Expires`: the one in its answers is made up.
    pub(super) fn keeps(self, header: HttpHeader) -> bool {
        match (self, header) {
            (Flavor::Aws, _) => true,
            (Flavor::Google, HttpHeader::Expires) => false,
            (
                Flavor::Google,
                HttpHeader::ContentType
                | HttpHeader::CacheControl
                | HttpHeader::ContentDisposition
                | HttpHeader::ContentEncoding
                | HttpHeader::ContentLanguage,
            ) => true,
        }
    }

    /// What a copy loses although it is told to keep everything, unless it is named again: the headers to send,
    /// out of those that a look at the source answered. Access lists are not among them.
    pub(super) fn named_again<'a>(
        self,
        answered: impl Fn(&str) -> Option<&'a str>,
    ) -> Vec<(&'static str, String)> {
        // Encryption with a key of the owner's must not become that with a default key. Any other is the
        // bucket's own rule.
        let has_key =
            answered("x-amz-server-side-encryption").is_some_and(|kind| kind.starts_with("aws:kms"));
        let names: &[&'static str] = match self {
            Flavor::Aws if has_key => &[
                "x-amz-storage-class",
                "x-amz-website-redirect-location",
                "x-amz-server-side-encryption",
                "x-amz-server-side-encryption-aws-kms-key-id",
                "x-amz-server-side-encryption-bucket-key-enabled",
            ],
            Flavor::Aws => &["x-amz-storage-class", "x-amz-website-redirect-location"],
            Flavor::Google => &["x-goog-storage-class", "x-goog-custom-time"],
        };
        names.iter().filter_map(|name| Some((*name, answered(name)?.to_owned()))).collect()
    }

    /// The identity of the object that an answer is about.
    pub(super) fn etag(self, answer: &Answer) -> StoreResult<ETag> {
        match self {
            Flavor::Aws => answer.etag(),
            Flavor::Google => self
                .generation(answer)
                .ok_or_else(|| answer.error(ErrorKind::Corrupt, "the answer has no x-goog-generation")),
        }
    }

    /// The generation, if the answer has one.
    pub(super) fn generation(self, answer: &Answer) -> Option<ETag> {
        answer.header("x-goog-generation").map(ETag::new)
    }
}

/// The generation to compare with. A tag that is none must match nothing: left out, it would match everything,
/// and 0 would mean "absent". Generations are microseconds since 1970, so 1 is no object's.
fn generation_of(etag: &ETag) -> String {
    match etag.as_str().parse::<u64>() {
        Ok(0) | Err(_) => "1".to_owned(),
        Ok(generation) => generation.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::Flavor;
    use crate::object::ETag;
    use crate::store::Condition;

    #[test]
    fn conditions_are_by_tag_or_by_generation() {
        let (absent, matches) = (Condition::Absent, Condition::Matches(ETag::new("17")));
        let table = [
            (Flavor::Aws, &Condition::Always, None),
            (Flavor::Aws, &absent, Some(("if-none-match", "*"))),
            (Flavor::Aws, &matches, Some(("if-match", "\"17\""))),
            (Flavor::Google, &absent, Some(("x-goog-if-generation-match", "0"))),
            (Flavor::Google, &matches, Some(("x-goog-if-generation-match", "17"))),
        ];
        for (flavor, condition, header) in table {
            let header = header.map(|(name, value)| (name, value.to_owned()));
            assert_eq!(flavor.write_condition(condition), header, "{flavor:?} {condition:?}");
        }
    }

    #[test]
    fn a_copy_names_the_storage_class_the_redirect_and_the_owners_key_again() {
        let with = |encryption: &'static str| {
            move |name: &str| match name {
                "x-amz-storage-class" => Some("STANDARD_IA"),
                "x-amz-website-redirect-location" => Some("/there"),
                "x-amz-server-side-encryption" => Some(encryption),
                "x-amz-server-side-encryption-aws-kms-key-id" => Some("key"),
                "x-goog-storage-class" => Some("NEARLINE"),
                _ => None,
            }
        };
        let names = |flavor: Flavor, encryption| -> Vec<&str> {
            flavor.named_again(with(encryption)).into_iter().map(|(name, _)| name).collect()
        };
        let plain = ["x-amz-storage-class", "x-amz-website-redirect-location"];
        assert_eq!(names(Flavor::Aws, "AES256"), plain);
        let keyed = ["x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"];
        assert_eq!(names(Flavor::Aws, "aws:kms"), [plain, keyed].concat());
        assert_eq!(names(Flavor::Google, "AES256"), ["x-goog-storage-class"]);
    }

    #[test]
    fn a_tag_that_is_no_generation_never_matches_and_never_means_absent() {
        for raw in ["", "0", "0x1F", "abc-2"] {
            assert_eq!(Flavor::Google.state_condition(&ETag::new(raw)).1, "1", "{raw}");
        }
    }
}
