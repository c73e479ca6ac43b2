//! What the integration tests share.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

pub mod compare;
pub mod contract;
pub mod gcs_shim;
pub mod mount;
pub mod proxy;
pub mod servers;
