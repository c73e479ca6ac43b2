//! The cloud stores against real servers.

#[path = "support/contract.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries")]
mod contract;
#[path = "support/servers.rs"]
mod servers;

use servers::{Kind, Server};

async fn contract_on(kind: Kind) {
    let (store, report) = Server::shared(kind).fresh_bucket().await.open().await;
    println!("{kind:?}: {report:?}");
    contract::check(store).await;
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
