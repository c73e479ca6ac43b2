use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTo {
    /// A terminal or a supervisor that adds the time itself: standard error.
    Terminal,
    /// The daemon's log file, which standard error is by then.
    File,
}

/// Starts the log of this process. `BRIDGEFS_LOG` filters (default `info`), `BRIDGEFS_LOG_FORMAT=json` writes
/// one JSON object a line. A log that is already there stays.
pub fn start_log(to: LogTo) {
    let filter = EnvFilter::try_from_env("BRIDGEFS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A line that cannot be written (the disk of the log is full) is lost. Told about on standard error, which is
    // that same full file, it would be a panic in whatever thread had something to say.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false);
    let started = if std::env::var("BRIDGEFS_LOG_FORMAT").is_ok_and(|format| format == "json") {
        lines.json().finish().try_init()
    } else {
        match to {
            // journald stamps each line.
            LogTo::Terminal if std::env::var_os("JOURNAL_STREAM").is_some() => {
                lines.without_time().finish().try_init()
            }
            LogTo::Terminal | LogTo::File => lines.finish().try_init(),
        }
    };
    if let Err(error) = started {
        tracing::debug!(%error, "a log was already started");
    }
}
