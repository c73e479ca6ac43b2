//! The stores that need no server, alone and under all decorators, against the contract of the trait.

mod support;

use std::sync::Arc;

use bridgefs::clock::Clock;
use bridgefs::store::memory::MemoryStore;
use support::contract;

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_keeps_the_contract() {
    contract::check(Arc::new(MemoryStore::new("memory", Clock::System))).await;
}
