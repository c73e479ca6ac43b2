//! Keys on the wire. Every byte but the unreserved ones of RFC 3986 (and the slash in a path) is
//! percent-encoded, so that no library on the way finds anything to rewrite.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but `A-Z a-z 0-9 - . _ ~`.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same, with the slash left as it is.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// A key as it stands in the path of a URL.
pub(super) fn path(key: &str) -> String {
    utf8_percent_encode(key, PATH).to_string()
}

/// A query string: names and values in the order given, an empty value as `name=`.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| {
        format!("{}={}", utf8_percent_encode(name, QUERY), utf8_percent_encode(value, QUERY))
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// How a server encodes names in a listing that was asked for with `encoding-type=url`. Servers
/// differ in what a plus means, and the answer does not say: the probe finds out by listing a key that has
/// both a space and a plus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlusSign {
    /// `+` is a space, as in HTML forms (S3 itself).
    IsSpace,
    /// `+` is a plus (servers that encode as in a URL path).
    IsPlus,
}

/// Decodes a name of such a listing; `None` if it is not UTF-8 then.
pub(super) fn listed(raw: &str, plus: PlusSign) -> Option<String> {
    let spaced = match plus {
        PlusSign::IsSpace => raw.replace('+', " "),
        PlusSign::IsPlus => raw.to_owned(),
    };
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.ok().map(std::borrow::Cow::into_owned)
}

/// Whether an HTTP client would rewrite the path of this key: it drops `.` and `..` segments before the
/// request is signed, so another object would be touched.
pub(super) fn has_dot_segment(key: &str) -> bool {
    key.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::{PlusSign, has_dot_segment, listed, path, query};

    #[test]
    fn keys_keep_every_byte_on_the_wire() {
        let table = [
            ("a//b", "a//b"),
            ("/a/", "/a/"),
            ("a b+c%d#e?f", "a%20b%2Bc%25d%23e%3Ff"),
            ("ü\u{1}\n\\", "%C3%BC%01%0A%5C"),
            ("-._~", "-._~"),
        ];
        for (key, wire) in table {
            assert_eq!(path(key), wire);
            assert_eq!(listed(wire, PlusSign::IsPlus).as_deref(), Some(key));
        }
    }

    #[test]
    fn queries_encode_slashes_too() {
        assert_eq!(query(&[("uploads", ""), ("prefix", "a/b &c")]), "uploads=&prefix=a%2Fb%20%26c");
    }

    #[test]
    fn a_plus_in_a_listing_is_what_the_server_means_by_it() {
        assert_eq!(listed("a+b%2Bc", PlusSign::IsSpace).as_deref(), Some("a b+c"));
        assert_eq!(listed("a+b%2Bc", PlusSign::IsPlus).as_deref(), Some("a+b+c"));
        assert_eq!(listed("%FF", PlusSign::IsPlus), None);
    }

    #[test]
    fn only_whole_segments_of_dots_are_rewritten() {
        for (key, dots) in
            [("a/../b", true), ("./a", true), ("a/..", true), ("a/..b", false), ("a...", false)]
        {
            assert_eq!(has_dot_segment(key), dots, "{key}");
        }
    }
}
