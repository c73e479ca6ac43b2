//! The cloud stores against real servers: the contract, and what only a real server can show.

#![allow(clippy::print_stdout, reason = "a failed run shows what each server did")]

mod support;

#[path = "store_servers/copies.rs"]
mod copies;
#[path = "store_servers/faults.rs"]
mod faults;
#[path = "store_servers/google.rs"]
mod google;
#[path = "store_servers/keys.rs"]
mod keys;
#[path = "store_servers/liar.rs"]
mod liar;
#[path = "store_servers/objects.rs"]
mod objects;
#[path = "store_servers/refusals.rs"]
mod refusals;

use std::collections::BTreeSet;

use bridgefs::store::SharedStore;
use support::contract::{self, Room};
use support::gcs_shim;
use support::servers::{self, Kind, Server};

/// The checks of the contract, so that each can be judged alone.
const CHECKS: [&str; 17] = [
    "missing_objects",
    "round_trips",
    "odd_keys",
    "ranges",
    "pinned_reads",
    "tags",
    "conditional_puts",
    "create_race",
    "replace_race",
    "metadata",
    "uploads",
    "conditional_uploads",
    "aborted_uploads",
    "copies",
    "deletions",
    "listing_pages",
    "listing_levels",
];

/// Where a server, not we, breaks the contract: server, check, why. A lie that is no longer told fails the
/// test too, so that this table stays true.
const SERVER_LIES: &[(Kind, &str, &str)] = &[
    (
        Kind::SeaweedFs,
        "odd_keys",
        "a key with a slash at its end is a directory there: `keys.rs` has each key",
    ),
    (Kind::Moto, "odd_keys", "its router answers 404 to a line break: `keys.rs` has each key"),
];

async fn run_check(check: &'static str, room: Room) {
    match check {
        "missing_objects" => contract::missing_objects(&room).await,
        "round_trips" => contract::round_trips(&room).await,
        "odd_keys" => contract::odd_keys(&room).await,
        "ranges" => contract::ranges(&room).await,
        "pinned_reads" => contract::pinned_reads(&room).await,
        "tags" => contract::tags(&room).await,
        "conditional_puts" => contract::conditional_puts(&room).await,
        "create_race" => contract::create_race(&room).await,
        "replace_race" => contract::replace_race(&room).await,
        "metadata" => contract::metadata(&room).await,
        "uploads" => contract::uploads::uploads(&room).await,
        "conditional_uploads" => contract::uploads::conditional_uploads(&room).await,
        "aborted_uploads" => contract::uploads::aborted_uploads(&room).await,
        "copies" => contract::copies(&room).await,
        "deletions" => contract::deletions(&room).await,
        "listing_pages" => contract::listing::listing_pages(&room).await,
        "listing_levels" => contract::listing::listing_levels(&room).await,
        other => panic!("no such check: {other}"),
    }
}

/// Runs every check and compares the failures with the lies that are known.
async fn keeps_the_contract(name: &str, lies: &[&str], store: SharedStore) {
    let mut broken = BTreeSet::new();
    for check in CHECKS {
        let room = Room { store: SharedStore::clone(&store), prefix: format!("contract/{check}") };
        if let Err(panic) = tokio::spawn(run_check(check, room)).await {
            println!("{name} {check}: {panic}");
            broken.insert(check);
        }
    }
    let lies: BTreeSet<&str> = lies.iter().copied().collect();
    assert_eq!(broken, lies, "{name}: the checks that fail are the known lies");
}

async fn contract_on(kind: Kind) {
    // A race of 16 on a busy machine may keep a server longer than a stall is allowed in ordinary life.
    let place = Server::shared(kind).fresh_bucket().await.with("stall_timeout", "30s");
    let (store, report) = place.open().await;
    println!("{kind:?}: {report:?}");
    let lies = SERVER_LIES.iter().filter(|(server, ..)| *server == kind).map(|(_, check, _)| *check);
    keeps_the_contract(kind.as_str(), &lies.collect::<Vec<_>>(), store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_keeps_the_contract() {
    contract_on(Kind::SeaweedFs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_the_contract() {
    contract_on(Kind::Moto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_keeps_the_contract() {
    contract_on(Kind::Azurite).await;
}
