//! The small languages inside the values: durations, sizes, `${NAME}`, words, and the nearest of a list.

use std::fmt;
use std::time::Duration;

use super::document::Environment;

type Parsed<T> = Result<T, String>;

/// An amount of disk: a number of bytes, or a part of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAmount {
    /// So many bytes.
    Bytes(u64),
    /// So many percent of the file system that the directory is on, 0 to 100.
    Percent(u8),
}

impl DiskAmount {
    /// In bytes, on a file system of `total` bytes.
    pub fn bytes_of(self, total: u64) -> u64 {
        match self {
            DiskAmount::Bytes(bytes) => bytes,
            DiskAmount::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

impl fmt::Display for DiskAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskAmount::Bytes(bytes) => write!(f, "{bytes} bytes"),
            DiskAmount::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// `250ms`, `3s`, `10m`, `2h`, `1d`; not 0.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let (number, unit) = split_unit(text);
    let wrong = || format!("\"{text}\" is no duration; write for example \"250ms\", \"3s\", \"10m\", \"2h\"");
    let count: u64 = number.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    count.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// `20GiB`, `500MB`, `4096`.
pub(super) fn size(text: &str) -> Parsed<u64> {
    let (number, unit) = split_unit(text);
    let wrong = || format!("\"{text}\" is no size; write for example \"512MiB\", \"20GiB\", \"100GB\"");
    let count: u64 = number.parse().ok().ok_or_else(wrong)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    count.checked_mul(factor).ok_or_else(wrong)
}

/// A size, or `5%`.
pub(super) fn disk_amount(text: &str) -> Parsed<DiskAmount> {
    let Some(percent) = text.strip_suffix('%') else { return size(text).map(DiskAmount::Bytes) };
    let percent = percent.trim().parse().ok().filter(|percent| *percent <= 100);
    percent.map(DiskAmount::Percent).ok_or_else(|| format!("\"{text}\" is no percentage from 0% to 100%"))
}

/// The value of the word `text` in `table`; `what` names the list in the message.
pub(super) fn word<T: Copy>(text: &str, what: &str, table: &[(&str, T)]) -> Parsed<T> {
    let found = table.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = table.iter().map(|(word, _)| *word).collect();
        format!("\"{text}\" is no {what}; it is one of {}", words.join(", "))
    })
}

/// Replaces each `${NAME}`; `$${` is a literal `${`.
pub(super) fn substitute(raw: &str, environment: Environment<'_>) -> Parsed<String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = after;
            continue;
        }
        let end = after.find('}').ok_or_else(|| "`${` without its `}`".to_owned())?;
        let name = &after[..end];
        out.push_str(before);
        out.push_str(&environment(name).ok_or_else(|| missing(name))?);
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn missing(name: &str) -> String {
    format!("the environment has no variable {name}; set it, or write the value here")
}

/// `; did you mean "..."?` with the nearest of `known`, else the whole list when it is short.
pub fn suggestion(word: &str, known: &[&str]) -> String {
    let near = known.iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate));
    match near.min_by_key(|(distance, _)| *distance) {
        Some((distance, candidate)) if distance <= word.len().max(3) / 3 + 1 => {
            format!("; did you mean \"{candidate}\"?")
        }
        _ if known.len() <= 12 => format!("; the keys here are {}", known.join(", ")),
        _ => String::new(),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "3", "0s", "s", "-1s", "1.5s", "99999999999999999999d", "3 weeks"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_a_part_of_the_disk() {
        assert_eq!(disk_amount("20GiB"), Ok(DiskAmount::Bytes(20 << 30)));
        assert_eq!(disk_amount("1 kB"), Ok(DiskAmount::Bytes(1000)));
        assert_eq!(disk_amount("5%"), Ok(DiskAmount::Percent(5)));
        assert_eq!(DiskAmount::Percent(5).bytes_of(1000), 50);
        for wrong in ["", "5 percent", "101%", "-1%", "20Gib", "99999999TiB"] {
            assert!(disk_amount(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables_are_replaced_and_can_be_escaped() {
        let environment = |name: &str| (name == "A").then(|| "x${A}".to_owned());
        assert_eq!(substitute("1${A}2${A}", &environment), Ok("1x${A}2x${A}".to_owned()));
        assert_eq!(substitute("$${A} $A", &environment), Ok("${A} $A".to_owned()));
        assert!(substitute("${B}", &environment).is_err());
        assert!(substitute("${A", &environment).is_err());
    }

    #[test]
    fn a_suggestion_is_near_or_not_made() {
        assert_eq!(suggestion("regoin", &["region", "endpoint"]), "; did you mean \"region\"?");
        assert_eq!(suggestion("zzzzzz", &["old", "new"]), "; the keys here are old, new");
    }
}
