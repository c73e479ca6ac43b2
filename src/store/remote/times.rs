//! The two ways in which stores write times.

use crate::object::NanoTime;

/// `Sun, 06 Nov 1994 08:49:37 GMT`, as in HTTP headers and Azure listings.
pub(super) fn http_date(raw: &str) -> Option<NanoTime> {
    let time = jiff::fmt::rfc2822::parse(raw).ok()?;
    nanos(time.timestamp())
}

/// `1994-11-06T08:49:37.123Z`, as in S3 listings.
pub(super) fn iso_date(raw: &str) -> Option<NanoTime> {
    nanos(raw.parse().ok()?)
}

fn nanos(time: jiff::Timestamp) -> Option<NanoTime> {
    NanoTime::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::{http_date, iso_date};

    #[test]
    fn both_forms_name_the_same_moment() {
        let nanos = Some(784_111_777_000_000_000);
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), nanos);
        assert_eq!(iso_date("1994-11-06T08:49:37Z"), nanos);
        assert_eq!(iso_date("1994-11-06T08:49:37.500Z"), nanos.map(|n| n + 500_000_000));
        assert_eq!(http_date("yesterday"), None);
    }
}
