//! Numbers for people.

use crate::object::NanoTime;

/// `1.5 GiB`, `12 KiB`, `7 B`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [(u32, &str); 5] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")];
    let (shift, unit) = UNITS.into_iter().find(|(shift, _)| count >> shift > 0).unwrap_or((0, "B"));
    let whole = count >> shift;
    if shift == 0 || whole >= 100 {
        return format!("{whole} {unit}");
    }
    let tenth = ((count - (whole << shift)) >> (shift - 10)) * 10 / 1024;
    format!("{whole}.{tenth} {unit}")
}

/// `what (1.5 GiB)`; without the brackets when there are no bytes.
pub(super) fn with_bytes(what: String, count: u64) -> String {
    if count == 0 { what } else { format!("{what} ({})", bytes(count)) }
}

/// How long ago `then` was: `3 s`, `12 min`, `5 h`, `9 days`.
pub(super) fn age(now: NanoTime, then: NanoTime) -> String {
    let seconds = now.saturating_sub(then).max(0) / 1_000_000_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `1 change`, `2 changes`.
pub(super) fn count(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 << 20, "200 MiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn an_age_is_never_negative() {
        assert_eq!(age(0, 1_000_000_000), "0 s");
        assert_eq!(age(7_200_000_000_000, 0), "2 h");
    }
}
