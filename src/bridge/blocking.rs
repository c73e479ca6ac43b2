use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs a short local read (SQLite, a file) where it is called. On a worker of a multi-threaded runtime
/// the worker's other tasks are handed to another thread first, so that a slow disk never holds up the
/// network; a kernel thread, which may block, just runs it.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        Ok(_) | Err(_) => work(),
    }
}
