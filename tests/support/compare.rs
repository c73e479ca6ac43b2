//! Two stores compared by clients that are not ours: content by rclone, metadata by object_store.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::{Attribute, GetOptions, ObjectStore, ObjectStoreExt, path};

use super::servers::Place;

/// User metadata of one object.
pub type Metadata = BTreeMap<String, String>;

/// What rclone found after it read every byte of two buckets.
#[derive(Debug)]
pub struct Comparison {
    /// Keys that both have with the same bytes.
    pub same: usize,
    /// The others: `+` only on the second, `-` only on the first, `*` with other bytes, `!` unreadable.
    pub differences: Vec<String>,
    log: String,
}

impl Comparison {
    /// rclone ended well and found no difference.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.log.contains(" 0 differences found")
    }

    /// Asserts that, and returns how many objects there are.
    pub fn assert_equal(&self) -> usize {
        assert!(self.is_equal(), "the stores differ: {:#?}\n{}", self.differences, self.log);
        self.same
    }
}

/// Compares two buckets, byte by byte.
pub fn compare(first: &Place, second: &Place) -> Comparison {
    let mut rclone = rclone();
    configure(&mut rclone, "FIRST", first);
    configure(&mut rclone, "SECOND", second);
    rclone.args(["check", "--download", "--checkers=16", "--combined=-"]);
    rclone.arg(format!("FIRST:{}", bucket(first))).arg(format!("SECOND:{}", bucket(second)));
    let output = rclone.output().expect("rclone runs");
    let report = String::from_utf8_lossy(&output.stdout);
    let (same, differences): (Vec<_>, Vec<_>) =
        report.lines().map(str::to_owned).partition(|line| line.starts_with("= "));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    Comparison { same: same.len(), differences, log }
}

/// rclone, as `scripts/servers install` put it beside the servers.
fn rclone() -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/venv/bin/rclone");
    let mut command = Command::new(path);
    command.env("RCLONE_CONFIG", "/dev/null");
    command
}

fn bucket(place: &Place) -> &str {
    place.url.split_once("://").expect("a place is a URL").1
}

/// Names are compared as they are: rclone's own encodings would map two names to one.
fn configure(rclone: &mut Command, name: &str, place: &Place) {
    let option = |key: &str| place.options[key].clone();
    let values = if place.url.starts_with("az://") {
        vec![
            ("TYPE", "azureblob".to_owned()),
            ("ACCOUNT", option("account_name")),
            ("KEY", option("account_key")),
            ("ENDPOINT", option("endpoint")),
        ]
    } else {
        vec![
            ("TYPE", "s3".to_owned()),
            ("PROVIDER", "SeaweedFS".to_owned()),
            ("ACCESS_KEY_ID", option("access_key_id")),
            ("SECRET_ACCESS_KEY", option("secret_access_key")),
            ("REGION", option("region")),
            ("ENDPOINT", option("endpoint")),
        ]
    };
    for (key, value) in values {
        rclone.env(format!("RCLONE_CONFIG_{name}_{key}"), value);
    }
    rclone.env(format!("RCLONE_CONFIG_{name}_ENCODING"), "None");
}

/// The user metadata of every object, by key.
pub async fn metadata(place: &Place) -> BTreeMap<String, Metadata> {
    let user = |attribute: &Attribute| {
        if let Attribute::Metadata(name) = attribute { Some(name.to_string()) } else { None }
    };
    attributes(place, user).await
}

/// The HTTP headers of every object, by key and lower-case name.
pub async fn headers(place: &Place) -> BTreeMap<String, Metadata> {
    let known = [
        (Attribute::CacheControl, "cache-control"),
        (Attribute::ContentDisposition, "content-disposition"),
        (Attribute::ContentEncoding, "content-encoding"),
        (Attribute::ContentLanguage, "content-language"),
        (Attribute::ContentType, "content-type"),
    ];
    let header = |attribute: &Attribute| {
        known.iter().find(|(header, _)| header == attribute).map(|(_, name)| (*name).to_owned())
    };
    attributes(place, header).await
}

async fn attributes(
    place: &Place,
    name_of: impl Fn(&Attribute) -> Option<String>,
) -> BTreeMap<String, Metadata> {
    let store = client(place);
    let objects: Vec<path::Path> = store
        .list(None)
        .map_ok(|object| object.location)
        .try_collect()
        .await
        .expect("the bucket can be listed");
    let heads = objects.into_iter().map(|key| head(Arc::clone(&store), key, &name_of));
    stream::iter(heads).buffer_unordered(16).collect().await
}

async fn head(
    store: Arc<dyn ObjectStore>,
    key: path::Path,
    name_of: &impl Fn(&Attribute) -> Option<String>,
) -> (String, Metadata) {
    let options = GetOptions { head: true, ..GetOptions::default() };
    let answer = store.get_opts(&key, options).await.unwrap_or_else(|error| panic!("{key}: {error}"));
    let attributes = answer.attributes.iter();
    let named = attributes.filter_map(|(name, value)| Some((name_of(name)?, value.to_string())));
    (key.to_string(), named.collect())
}

/// Every byte of one object.
pub async fn content(place: &Place, key: &str) -> Vec<u8> {
    let key = path::Path::parse(key).expect("a key");
    let answer = client(place).get(&key).await.expect("the object is there");
    answer.bytes().await.expect("the object can be read").to_vec()
}

fn client(place: &Place) -> Arc<dyn ObjectStore> {
    rustls::crypto::ring::default_provider().install_default().ok();
    if place.url.starts_with("az://") {
        let mut builder = MicrosoftAzureBuilder::new().with_url(&place.url);
        for (key, value) in &place.options {
            builder = builder.with_config(key.parse().expect("an option of the store"), value);
        }
        return Arc::new(builder.build().expect("a client"));
    }
    let mut builder = AmazonS3Builder::new().with_url(&place.url);
    for (key, value) in &place.options {
        builder = builder.with_config(key.parse().expect("an option of the store"), value);
    }
    Arc::new(builder.build().expect("a client"))
}
