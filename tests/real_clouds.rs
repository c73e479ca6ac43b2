//! The mount over a real S3 server (SeaweedFS) and Azurite: ordinary programs, and each of the two taken away in
//! each way while they work (P2, P5, P9). The last word is that of clients which are not ours.

#![allow(clippy::print_stdout, reason = "the times and the stalls are what a reader wants to know")]

mod support;

#[path = "real_clouds/before.rs"]
mod before;
#[path = "real_clouds/copy.rs"]
mod copy;
#[path = "real_clouds/outage.rs"]
mod outage;
#[path = "real_clouds/probe.rs"]
mod probe;
#[path = "real_clouds/tree.rs"]
mod tree;

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use support::mount::StoreTable;
use support::servers::Place;

/// One test at a time: a stall is measured, and must not be another test's load.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The table of a store that is reached at `endpoint`, and not where the server is.
fn table(place: &Place, endpoint: Option<String>) -> StoreTable {
    let mut options = place.options.clone();
    if let Some(endpoint) = endpoint {
        options.insert("endpoint".to_owned(), endpoint);
    }
    StoreTable { url: place.url.clone(), options }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(future)
}
