use std::fmt;

/// What a store calls one state of one object: opaque, compared for equality only, never taken for a
/// checksum. Kept without quotes and without `W/`, because stores quote it in some answers and not in
/// others (Azure: bare in lists, quoted in headers).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// Takes the tag as a store sent it, quoted or not.
    pub fn new(raw: &str) -> ETag {
        let strong = raw.trim().strip_prefix("W/").unwrap_or(raw.trim());
        ETag(strong.trim_matches('"').to_owned())
    }

    /// The bare tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag in quotes, as `If-Match` wants it.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ETag;

    #[test]
    fn quotes_do_not_make_another_tag() {
        for raw in ["0x8D1", "\"0x8D1\"", "W/\"0x8D1\"", " \"0x8D1\" "] {
            assert_eq!(ETag::new(raw), ETag::new("0x8D1"), "{raw}");
        }
        assert_eq!(ETag::new("0x8D1").quoted(), "\"0x8D1\"");
    }
}
