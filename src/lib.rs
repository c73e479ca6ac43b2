//! bridgefs: one directory over two object stores.
//!
//! The map, in layer order; a module uses only modules of a lower layer (`tests/tidy.rs` checks it):
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | 0 | [`object`] | the names of things in a store: side, key, version, digest, ETag, attributes, receipt; pure |
//! | 0 | [`stage`] | the stages of a slice and the routes they name: the only place that knows the table |
//! | 0 | [`clock`] | the only reader of time |
//! | 0 | [`metrics`] | every metric: name, unit, labels, help |
//! | 1 | [`store`] | one object store: the trait, its errors, the real ones, the decorators |
//! | 1 | [`ledger`] | what is known and promised: SQLite, one writer, snapshot readers |
//! | 1 | [`cache`] | local blocks and staged files; knows no store |
//! | 2 | [`bridge`] | two stores as one: route, read, write, list, replicate, recover |
//! | 3 | [`fs`] | POSIX on the bridge: inodes, handles, directories; does not know there are two |
//! | 3 | [`config`] | the configuration file, validated into types |
//! | 4 | [`fuse`] | kernel requests to `fs` calls and back; the only place with errno |
//! | 4 | [`control`] | the protocol between the command line and the running mount |
//! | 5 | [`daemon`] | the composition root: builds the stacks, starts the tasks, stops them in order |
//! | 6 | [`cli`] | the command line, one file a verb |

pub mod clock;
pub mod metrics;
pub mod object;
pub mod stage;

pub mod cache;
pub mod ledger;
pub mod store;

pub mod bridge;

pub mod config;
pub mod fs;

pub mod control;
pub mod fuse;

pub mod daemon;

pub mod cli;
