//! What the integration tests share.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

pub mod contract;
pub mod gcs_shim;
pub mod servers;
