//! Every metric: name, unit, labels, help. Nothing else in the program spells a metric's name.
//!
//! A module records with the constant, `counter!(STORE_REQUESTS.name, "store" => ...)`, and uses exactly
//! the labels that the table says. Names follow Prometheus: base units, `_total` for what only grows.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name, with the prefix `bridgefs_`.
    pub name: &'static str,
    /// How it behaves.
    pub shape: Shape,
    /// What one unit of it is.
    pub unit: Unit,
    /// The names of its labels, all of which are given each time.
    pub labels: &'static [&'static str],
    /// What it means, for who reads the dashboard.
    pub help: &'static str,
}

/// Writes the constants and, from the same lines, the table.
macro_rules! table {
    ($($id:ident = $shape:ident $name:literal, $unit:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                name: concat!("bridgefs_", $name),
                shape: Shape::$shape,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// All of them.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

table! {
    STORE_REQUESTS = Counter "store_requests_total", Count, ["store", "operation", "result"],
        "Requests to a store by operation and result (`ok`, `cancelled` or the kind of error).";
    STORE_SECONDS = Histogram "store_request_seconds", Seconds, ["store", "operation"],
        "Time until a store answered; for a download, until its body began.";
    STORE_BYTES_IN = Counter "store_received_bytes_total", Bytes, ["store"],
        "Bytes of content received from a store.";
    STORE_BYTES_OUT = Counter "store_sent_bytes_total", Bytes, ["store"],
        "Bytes of content sent to a store, whether or not it took them.";
    STORE_IN_FLIGHT = Gauge "store_requests_in_flight", Count, ["store"],
        "Requests to a store that are not answered yet.";
    STORE_BREAKER = Gauge "store_breaker_state", Count, ["store"],
        "The circuit breaker of a store: 0 closed, 1 half open, 2 open.";
    LEDGER_SYNCS = Counter "ledger_syncs_total", Count, [],
        "Times the ledger waited for the disk.";
    LEDGER_TRANSACTIONS = Counter "ledger_transactions_total", Count, [],
        "Transactions that the ledger committed; group commit puts many operations in one.";
    LEDGER_ROWS = Gauge "ledger_rows", Count, ["table"],
        "Rows in a table of the ledger.";
    CACHE_HITS = Counter "cache_hits_total", Count, [],
        "Blocks that were read from the cache.";
    CACHE_MISSES = Counter "cache_misses_total", Count, [],
        "Blocks that had to be fetched from a store.";
    CACHE_BYTES = Gauge "cache_bytes", Bytes, ["kind"],
        "Bytes on the local disk by kind: `cached` can be evicted, `staged` cannot.";
    CACHE_EVICTIONS = Counter "cache_evicted_bytes_total", Bytes, [],
        "Bytes that were evicted to keep the cache within its limits.";
    REPLICATION_QUEUE = Gauge "replication_queue_length", Count, ["store"],
        "Intents that are not carried out on a store yet.";
    REPLICATION_LAG = Gauge "replication_lag_seconds", Seconds, ["store"],
        "Age of the oldest intent that is not carried out on a store yet.";
    REPLICATION_RETRIES = Counter "replication_retries_total", Count, ["store"],
        "Attempts of an intent after its first one.";
    REPLICATION_BLOCKED = Gauge "replication_blocked", Count, ["store"],
        "Objects that a store cannot take and a person must look at.";
    FINDINGS = Gauge "findings", Count, ["kind"],
        "Open findings: things that a person must know.";
    FUSE_SECONDS = Histogram "fuse_operation_seconds", Seconds, ["operation"],
        "Time from the kernel's request to our answer.";
    FUSE_ERRORS = Counter "fuse_errors_total", Count, ["operation", "errno"],
        "Requests of the kernel that were answered with an errno.";
    READS_UNPROVEN = Counter "unproven_reads_total", Count, ["store"],
        "Reads served by a store although no receipt proves that it is current.";
    READS_FALLBACK = Counter "fallback_reads_total", Count, ["store"],
        "Reads served by this store because the preferred one gave no usable answer.";
    ACKS_DEGRADED = Counter "degraded_acks_total", Count, ["store"],
        "Writes acknowledged by this store because the primary could not.";
}

/// Tells the recorder the unit and the help of every metric; once, after it is installed.
pub fn describe_all() {
    for metric in ALL {
        let Metric { name, unit, help, .. } = *metric;
        match metric.shape {
            Shape::Counter => describe_counter!(name, unit, help),
            Shape::Gauge => describe_gauge!(name, unit, help),
            Shape::Histogram => describe_histogram!(name, unit, help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metrics::Unit;

    use super::{ALL, Shape};

    #[test]
    fn every_name_follows_prometheus_and_is_there_once() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            assert!(seen.insert(metric.name), "{} is there twice", metric.name);
            let legal = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(
                metric.name.starts_with("bridgefs_") && metric.name.chars().all(legal),
                "{}",
                metric.name
            );
            let total = metric.name.ends_with("_total");
            assert_eq!(total, metric.shape == Shape::Counter, "{}: only counters are totals", metric.name);
            let bare = metric.name.trim_end_matches("_total");
            assert_eq!(bare.ends_with("_seconds"), metric.unit == Unit::Seconds, "{}", metric.name);
            assert_eq!(bare.ends_with("_bytes"), metric.unit == Unit::Bytes, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{} has a sentence", metric.name);
        }
    }
}
