//! The HTTP headers that a store keeps for an object and sends with it: what a web client sees of it.

use std::collections::BTreeMap;

/// A header of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpHeader {
    /// What it is; a store has a default of its own.
    ContentType,
    /// How long it may be kept by caches.
    CacheControl,
    /// Whether it is shown or saved, and under which name.
    ContentDisposition,
    /// How the bytes are packed: a web client unpacks them, so without it what it gets is unreadable.
    ContentEncoding,
    /// The language of its reader.
    ContentLanguage,
    /// When caches drop it. Azure and Google have no such header: they do not keep it.
    Expires,
}

/// Headers and their values, as they go over the wire.
pub type HttpHeaders = BTreeMap<HttpHeader, String>;

impl HttpHeader {
    /// All of them.
    pub const ALL: [HttpHeader; 6] = [
        HttpHeader::ContentType,
        HttpHeader::CacheControl,
        HttpHeader::ContentDisposition,
        HttpHeader::ContentEncoding,
        HttpHeader::ContentLanguage,
        HttpHeader::Expires,
    ];

    /// Its name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            HttpHeader::ContentType => "content-type",
            HttpHeader::CacheControl => "cache-control",
            HttpHeader::ContentDisposition => "content-disposition",
            HttpHeader::ContentEncoding => "content-encoding",
            HttpHeader::ContentLanguage => "content-language",
            HttpHeader::Expires => "expires",
        }
    }

    /// The header of a lower-case name.
    pub fn from_name(name: &str) -> Option<HttpHeader> {
        HttpHeader::ALL.into_iter().find(|header| header.name() == name)
    }
}
