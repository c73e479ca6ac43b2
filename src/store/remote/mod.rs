//! The cloud stores: S3 and what imitates it, Azure Blob Storage, Google Cloud Storage (XML API).
//!
//! object_store reads the options, finds the credentials, signs, and gives the HTTP client; every request is
//! built here. Its own `ObjectStore` is not used, because its hidden retries make a conditional put ambiguous,
//! its paths cannot express every key, and it has no conditional completion, delete or copy.
//!
//! | module | what it is |
//! |---|---|
//! | `address`, `options`, `connect` | from a URL and options to a line |
//! | `sign`, `request`, `answer`, `download`, `failure` | one request: signed, under a deadline, judged |
//! | `encode`, `keys`, `times`, `xml` | what is written on the wire |
//! | `bucket`, `azure` | the two dialects |
//! | `probe` | what a server really does |

mod address;
mod answer;
mod azure;
mod bucket;
mod connect;
mod download;
mod encode;
mod failure;
mod keys;
mod options;
mod probe;
mod request;
mod sign;
mod times;
mod xml;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use options::{check_option, check_value, known_options};
pub use probe::{PROBE_PREFIX, ProbeReport};

use super::{Capabilities, SharedStore, StoreResult};
use azure::Container;
use bucket::Bucket;
use options::Checksums;

/// A cloud store that is set up but not yet asked anything.
#[derive(Debug, Clone)]
pub struct RemoteStore {
    dialect: Dialect,
}

#[derive(Debug, Clone)]
enum Dialect {
    Bucket(Arc<Bucket>),
    Container(Arc<Container>),
}

impl Dialect {
    fn shared(&self) -> SharedStore {
        match self {
            Dialect::Bucket(bucket) => Arc::<Bucket>::clone(bucket),
            Dialect::Container(container) => Arc::<Container>::clone(container),
        }
    }
}

impl RemoteStore {
    /// Prepares the store `name` at `url` (`s3://bucket/prefix`, `az://container/prefix`, `gs://bucket/prefix`).
    /// Options stand above the environment (`AWS_*`, `AZURE_*`, `GOOGLE_*`). Nothing is sent, so that a bridge can
    /// start while the store is away. Fails on a bad URL or option.
    pub fn connect(name: &str, url: &str, options: &BTreeMap<String, String>) -> StoreResult<RemoteStore> {
        Ok(RemoteStore { dialect: connect::connect(name, url.parse()?, options)? })
    }

    /// The store. Until it is probed it promises what its protocol promises.
    pub fn shared(&self) -> SharedStore {
        self.dialect.shared()
    }

    /// Tries what the store can do on an object of its own, which it removes, and remembers it. Fails with
    /// one sentence for a person if the store cannot be reached or does not let us read and write.
    pub async fn probe_capabilities(&self) -> StoreResult<ProbeReport> {
        Box::pin(probe::probe(&self.dialect)).await
    }

    /// Remembers what an earlier probe found, for a start while the store is away.
    pub fn assume(&self, capabilities: Capabilities) {
        self.dialect.learn(capabilities, None);
    }
}

/// [`RemoteStore::connect`] and [`RemoteStore::probe_capabilities`] in one.
pub async fn open(
    name: &str,
    url: &str,
    options: &BTreeMap<String, String>,
) -> StoreResult<(SharedStore, ProbeReport)> {
    let remote = RemoteStore::connect(name, url, options)?;
    let report = remote.probe_capabilities().await?;
    Ok((remote.shared(), report))
}
